"""Learning GFlowNets from partial episodes (arXiv 2209.12782)."""
