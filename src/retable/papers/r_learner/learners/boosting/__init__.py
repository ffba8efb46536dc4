"""Gradient boosting of small trees as machine code, for the cross-validation of the grid.

A tuning fits thousands of forests of tiny trees to a few hundred rows, for which LightGBM spends
its time on what does not depend on the number of rows. Here the bins of a fold are shared by all
candidates, and one compiled call fits all of them and predicts the rows held out. The fits are
those of LightGBM 4 with one thread, to the last bit as far as tests have gone: its bins, its sums
in the same order and precision, its rules for ties.

What is here is least squares and the log loss of two classes, with or without weights, on finite
covariates, with LightGBM's defaults for all that the grid does not set.
"""
