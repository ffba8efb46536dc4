"""What several test files share: made records, frozen runs, clusters and servers of their own."""
