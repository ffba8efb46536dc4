"""BinaryConnect: networks whose weights are binary during propagations (NIPS 2015)."""
