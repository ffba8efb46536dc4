"""Methods that the paper compares with; MFOpt is quoted only, nobody has published its code."""
