"""Bins are LightGBM's, and so is what vectors compute."""

import hashlib
import os
from pathlib import Path

import lightgbm
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retable.papers.r_learner.learners.boosting import kernel
from retable.papers.r_learner.learners.boosting.bins import tabulate, upper_bounds
from retable.papers.r_learner.learners.boosting.histograms import FOUR, best_cut
from retable.papers.r_learner.learners.boosting.kernel import inner
from retable.papers.r_learner.learners.boosting.simd import (
    at_least,
    choose,
    floor,
    fused,
    larger,
    load,
    some,
    splat,
    store,
)


def column(seed, n):
    """A column of one of many kinds."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    kinds = [
        z, rng.random(n), -rng.exponential(size=n), z + 1.5, np.round(z, 1), np.round(50 * z),
        (z > 0) * 1.0, (z > 1.3) * 1.0, np.where(z > 0.5, z, 0.0), np.repeat(z, 6)[:n],
        np.repeat(z, 2)[:n], np.full(n, 2.0), np.round(z, 2) + 1e-3, np.zeros(n),
    ]  # fmt: skip
    return np.ascontiguousarray(kinds[seed % len(kinds)])


@given(st.integers(0, 10**6), st.integers(4, 1200))
@settings(max_examples=80, deadline=None)
def test_as_many_bins_as_lightgbm(seed, n):
    values = column(seed, n)
    options = {"verbosity": -1, "num_threads": 1, "feature_pre_filter": False}
    data = lightgbm.Dataset(values[:, None], values, params=options).construct()
    assert len(upper_bounds(values)) == max(data.feature_num_bin(0), 1)


@given(st.integers(0, 10**6), st.integers(4, 1200))
@settings(max_examples=60, deadline=None)
def test_bins_have_three_rows_and_cuts_lie_midway(seed, n):
    values = column(seed, n)
    bounds = upper_bounds(values)
    assert (np.diff(bounds) > 0).all()
    assert bounds[-1] == np.inf
    assert len(bounds) <= 255
    counts = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds))
    if len(np.unique(values)) <= 100:  # with more than there is room for it is a mean size
        closed = np.isfinite(bounds) & (np.abs(bounds) > 1e-35)  # the last of a side may have fewer
        assert (counts[closed] >= 3).all()
    for bound in bounds[:-1]:
        if abs(bound) > 1e-35:
            below, above = values[values <= bound].max(), values[values > bound].min()
            assert bound == np.nextafter((below + above) / 2, np.inf)


def test_zero_has_its_own_bin():
    bounds = upper_bounds(np.repeat([-2.0, -1.0, 0.0, 1.0, 2.0], 4))
    assert bounds == pytest.approx([-1.5, -1e-35, 1e-35, 1.5, np.inf])
    assert upper_bounds(np.zeros(9)).tolist() == [np.inf]


@pytest.mark.slow
def test_the_table_numbers_bins_from_the_top():
    rng = np.random.default_rng(0)
    seen, held = rng.standard_normal((90, 3)), 3 * rng.standard_normal((20, 3))
    table = tabulate(seen, held)
    assert table.counts[:, :3].sum(axis=0).tolist() == [90] * 3
    assert not table.counts[:, 3].any()
    for f in range(3):
        bounds = upper_bounds(np.ascontiguousarray(seen[:, f]))
        for entries, x in ((table.seen, seen), (table.held, held)):
            bins = len(bounds) - 1 - np.searchsorted(bounds, x[:, f])
            assert (entries[:, f] == 8 * bins + f).all()
        zero = len(bounds) - 1 - np.searchsorted(bounds, 0.0)
        assert table.rest[f] == 8 * zero + f
    assert table.rest[3] == -1
    most_ones = (rng.random((90, 1)) < 0.9) * 1.0
    assert tabulate(most_ones, held[:, :1]).rest[0] == 0  # ones are more than 70 %


@pytest.mark.slow
def test_a_fifth_covariate_begins_a_block():
    rng = np.random.default_rng(1)
    five = rng.random((60, 5))
    table, last = tabulate(five, five[:2]), tabulate(five[:, 4:], five[:2, 4:])
    assert table.counts.shape[1] == len(table.rest) == 8
    assert (table.seen[:, 4] - 8 * len(table.counts) == last.seen[:, 0]).all()
    assert (table.held[:, 4] - 8 * len(table.counts) == last.held[:, 0]).all()


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_best_cut_is_that_of_brute_force(seed, bins, least):
    rng = np.random.default_rng(seed)
    n_bin = rng.integers(0, 6, (bins, 4)).astype(float)
    n_bin[0] += n_bin.sum(axis=0).max() - n_bin.sum(axis=0)  # each covariate has all rows
    g = rng.standard_normal((bins, 4)) * (n_bin > 0)
    g[0] -= g.sum(axis=0) - 1.5
    n, total = n_bin[:, 0].sum(), 1.5
    table = np.stack([g, n_bin], 1).ravel()
    sibling = rng.standard_normal(table.shape).round(1)
    parent = table + sibling
    open_ = np.array([True, True, False, True])
    rule = (total, n, int(n), least, 1e-9)
    work = np.full((4, 4 * bins + 4), 1e9)
    found = best_cut(table, table[:0], *rule, open_, work)
    again = best_cut(parent, sibling, *rule, np.array([True, True, False, True]), work)
    assert again == pytest.approx(found, rel=1e-6, abs=1e-9)
    assert parent == pytest.approx(table, abs=1e-12)
    gain, feature, cut, left_g, left_h = found
    best = (1e-9, -1)
    for f in (0, 1, 3):
        for k in range(bins):
            right_n, right_g = n_bin[: k + 1, f].sum(), g[: k + 1, f].sum()
            if min(right_n, n - right_n) >= least:
                value = (total - right_g) ** 2 / (n - right_n) + right_g**2 / right_n
                value -= total**2 / n
                if value > best[0] * (1 + 1e-9):
                    best = (value, 8 * k + f)
    assert cut == best[1]
    if cut >= 0:
        assert gain == pytest.approx(best[0] - 1e-9, rel=1e-6, abs=1e-9)
        f, k = cut % 8, cut // 8
        assert feature == f
        assert (left_g, left_h) == pytest.approx((g[k + 1 :, f].sum(), n_bin[k + 1 :, f].sum()))
    assert not open_[2]


@inner
def _vectors(values, out):
    a, b = load(values, 1, FOUR), load(values, 5, FOUR)
    two = splat(2.0, FOUR)
    store(out, 0, (a + b) * two - a / b)
    store(out, 4, floor(a * two))
    mask = at_least(a, b) & at_least(b, splat(0.0, FOUR))
    store(out, 8, choose(mask, a, two))
    store(out, 14, fused(a, b, two))
    store(out, 18, larger(a, b))
    out[12], out[13] = some(mask), some(at_least(a, splat(1e9, FOUR)))


def test_vectors_compute_as_numbers_do():
    values = np.array([9.0, 1.25, -2.5, 3.1, 0.7, 1.0, -4.0, 4.5, 0.7, 9.0])
    out = np.zeros(22)
    _vectors(values, out)
    a, b = values[1:5], values[5:9]
    assert (out[:4] == (a + b) * 2.0 - a / b).all()
    assert out[4:8].tolist() == np.floor(2 * a).tolist()
    assert out[8:12].tolist() == [1.25, 2.0, 2.0, 0.7]
    assert out[12:14].tolist() == [1.0, 0.0]
    assert out[14:18] == pytest.approx(a * b + 2, rel=1e-15)
    assert out[18:].tolist() == np.maximum(a, b).tolist()


def test_compiled_code_is_kept_by_the_state_of_all_sources():
    folder = Path(kernel.__file__).parent
    sources = b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))
    kept = Path(tabulate._cache.cache_path)  # numba has no public name for it
    assert hashlib.sha256(sources).hexdigest()[:16] in kept.parts
    assert os.environ.get("NUMBA_CACHE_DIR", "") == numba.config.CACHE_DIR
