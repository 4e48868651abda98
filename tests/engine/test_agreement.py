"""Properties of the measures by which rankings are compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.engine.agreement import overlap, rank_biased_overlap

N_ITEMS = 12


@st.composite
def lists(draw, n_users=3, k=8):
    """Lists of distinct items, some of them shorter than others."""
    rows = []
    for _ in range(n_users):
        items = draw(st.permutations(range(N_ITEMS)))[:k]
        length = draw(st.integers(0, k))
        rows.append(items[:length] + [-1] * (k - length))
    return np.array(rows)


def series(one, other, p):
    """RBO_ext by its definition, of two lists without gaps."""
    k = max(len(one), len(other))
    if not k:
        return 1.0
    common = [len(set(one[:d]) & set(other[:d])) for d in range(1, k + 1)]
    summed = sum(x / d * p**d for d, x in enumerate(common, start=1))
    return common[-1] / k * p**k + (1 - p) / p * summed


@settings(deadline=None)  # machines are busy
@given(lists(), lists(), st.integers(1, 8))
def test_overlap_is_that_of_the_sets(one, other, k):
    for a, b, found in zip(one, other, overlap(one, other, k), strict=True):
        sets = [{item for item in row[:k] if item >= 0} for row in (a, b)]
        longest = max(map(len, sets))
        assert found == (len(sets[0] & sets[1]) / longest if longest else 1)


@settings(deadline=None)  # machines are busy
@given(lists(), lists(), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_rank_biased_overlap_is_its_series(one, other, p):
    found = rank_biased_overlap(one, other, p)
    expected = [
        series(*([item for item in row if item >= 0] for row in rows), p)
        for rows in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()


@settings(deadline=None)  # machines are busy
@given(lists())
def test_equal_lists_agree_and_disjoint_ones_do_not(one):
    shifted = np.where(one >= 0, one + N_ITEMS, -1)
    held = (one >= 0).any(axis=1)
    for measure in (lambda a, b: overlap(a, b, 5), rank_biased_overlap):
        np.testing.assert_allclose(measure(one, one), 1)
        np.testing.assert_array_equal(measure(one, shifted)[held], 0)


def test_the_first_places_weigh_most():
    best = np.arange(10)[None]
    first, last = best.copy(), best.copy()
    first[0, [0, 1]], last[0, [8, 9]] = [1, 0], [9, 8]
    assert rank_biased_overlap(best, first) < rank_biased_overlap(best, last) < 1
    assert overlap(best, first, 10) == 1


def test_an_item_that_is_missing_counts_as_one_that_differs():
    assert overlap(np.array([[3, 4]]), np.array([[3, -1]]), 2) == pytest.approx(0.5)
