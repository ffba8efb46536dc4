"""Names of what a run records, the same in records and table files.

=====================  ==================================  =========================================
metric                 rows                                value
=====================  ==================================  =========================================
``test/<measure>``     all of :data:`METHODS`              a loss; ``ours_train`` is ours on the
                                                           training half, the others on the test
                                                           half; ``references`` and
                                                           ``references_std`` mean and deviation
                                                           (ddof 0) over the reference sets
``test/<measure>``     ``ours_margin``                     ours on the training half + 1 / alpha:
                                                           references beyond it are no support
                                                           vectors
``test/<measure>``     ``reference_set``                   of one set; the step is its number
``test/dominated``     those of :data:`METHODS` but        share of the reference sets that are
                       ``references*``                     dominated on all measures at once
``test/gamma``         the measures                        share dominated on this measure, by ours
                                                           on the training half
``test/margin``        the measures                        final ``1 / alpha``
``test/bound``         none                                ``1 - |union of support vectors| / N``
``test/fresh_gamma``   none                                joint share of fresh sets of the same
                                                           source that ours dominates
``test/bound_slack``   none                                ``fresh_gamma - bound``
=====================  ==================================  =========================================

With ``<measure>`` one of :data:`~retable.papers.superhuman_fairness.losses.MEASURES`.
"""

from __future__ import annotations

OURS = "ours"
OURS_TRAIN = "ours_train"
REFERENCES = "references"
REFERENCES_STD = "references_std"
OURS_MARGIN = "ours_margin"
REFERENCE_SET = "reference_set"
BASELINE_ROWS = (
    "post_proc_dp",
    "post_proc_eqodds",
    "fair_logloss_dp",
    "fair_logloss_eqodds",
    "fair_logloss_eqopp",
)
METHODS = (OURS, OURS_TRAIN, *BASELINE_ROWS, REFERENCES, REFERENCES_STD)
