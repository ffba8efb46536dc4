"""Starting runs: frozen runs, leases, attempts, and the pool that keeps them going."""
