from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fuserank.errors import DataError
from fuserank.training.evaluation import significance
from fuserank.training.evaluation.significance import MeanStd, compare, mean_and_std


def normal(n, mean, seed):
    return np.random.default_rng(seed).normal(mean, 0.1, n)


def test_equal_systems_do_not_differ():
    figures = normal(50, 0.3, 0)
    found = compare(figures, figures)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.n_users == 50


@given(hnp.arrays(np.float64, st.integers(1, 8), elements=st.integers(-3, 3).map(float)))
def test_the_p_value_is_near_that_of_all_signs(differences):
    """Against enumeration; of few distinct values, so that ties are common."""
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    exact = np.mean(np.array(sums) >= abs(differences.sum()))
    found = compare(differences, np.zeros_like(differences), samples=4000)
    assert found.p_value == pytest.approx(exact, abs=0.05)


def test_the_interval_is_near_that_of_the_normal_law():
    first = normal(2000, 0.05, 1)
    found = compare(first, np.zeros(2000))
    error = first.std() / np.sqrt(2000)
    assert found.low == pytest.approx(first.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(first.mean() + 1.96 * error, abs=0.1 * error)


def test_pairs_are_what_is_compared():
    hard = normal(100, 0.3, 2) * 3
    found = compare(hard + normal(100, 0.05, 3), hard)
    assert found.low > 0
    assert found.p_value < 0.01


def test_swapping_the_systems_swaps_the_sign():
    one, two = normal(80, 0.32, 4), normal(80, 0.3, 5)
    there, back = compare(one, two), compare(two, one)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-12)
    assert back.p_value == there.p_value


def test_the_same_seed_gives_the_same_figures():
    one, two = normal(80, 0.32, 4), normal(80, 0.3, 5)
    assert compare(one, two, seed=1) == compare(one, two, seed=1)
    assert compare(one, two, seed=1) != compare(one, two, seed=2)


def test_samples_are_drawn_in_portions_of_bounded_size(monkeypatch):
    monkeypatch.setattr(significance, "_DRAWN", 64)
    assert list(significance._portions(10, 16)) == [4, 4, 2]
    assert list(significance._portions(2, 1000)) == [1, 1]
    found = compare(normal(30, 0.5, 6), np.zeros(30), samples=100)
    assert found.p_value == 1 / 101
    assert found.low < found.difference < found.high


@pytest.mark.parametrize(
    ("first", "second"),
    [(np.zeros(3), np.zeros(2)), (np.zeros(0), np.zeros(0)), (np.zeros((2, 2)), np.zeros((2, 2)))],
)
def test_figures_of_other_users_are_refused(first, second):
    with pytest.raises(DataError, match="expected one figure a user and the same users"):
        compare(first, second)


def test_figures_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="found 1 of 2 users with a figure that is not finite"):
        compare(np.array([0.5, np.nan]), np.zeros(2))


def test_a_single_run_has_no_standard_deviation():
    assert mean_and_std([0.5]) == MeanStd(mean=0.5, std=None)
    assert mean_and_std([0.1, 0.2, 0.3]) == MeanStd(mean=pytest.approx(0.2), std=pytest.approx(0.1))
