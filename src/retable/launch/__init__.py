"""Starting runs: frozen runs, leases, attempts, and the engine that drives them."""
