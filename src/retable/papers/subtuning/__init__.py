"""Which layers to fine-tune: SubTuning (Kaplun et al., arXiv 2302.06354)."""
