"""Splits cover all interactions once, keep their shares and depend on the seed alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import ConfigError, DataError
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.splits import SplitConfig, split

SHARES = st.tuples(st.floats(0, 0.98), st.floats(0, 0.98)).filter(lambda s: sum(s) <= 0.98)


def interactions(users: list[int], times: list[int] | None = None) -> Interactions:
    n = len(users)
    return Interactions(
        user=np.array(users, np.int32),
        item=np.arange(n, dtype=np.int32),
        rating=np.ones(n, np.float32),
        timestamp=None if times is None else np.array(times, np.int64),
        positive=np.ones(n, np.bool_),
    )


def within_rounding(count: int, share: float, n: int) -> bool:
    return math.floor(share * n + 1e-9) <= count <= max(1, math.ceil(share * n))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60),
    SHARES,
    st.sampled_from(["per_user", "time", "random"]),
    st.integers(0, 3),
)
def test_parts_are_disjoint_cover_all_and_repeat(rows, shares, strategy, seed):
    data = interactions([user for user, _ in rows], [time for _, time in rows])
    config = SplitConfig(strategy=strategy, validation=shares[0], test=shares[1])
    found = split(data, config, seed)
    parts = (found.train, found.validation, found.test)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(rows)))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    again = split(data, config, seed)
    np.testing.assert_array_equal(again.train, found.train)
    np.testing.assert_array_equal(again.test, found.test)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), SHARES, st.integers(0, 3))
def test_every_user_keeps_their_shares(users, shares, seed):
    data = interactions(users)
    found = split(data, SplitConfig(validation=shares[0], test=shares[1]), seed)
    for user in set(users):
        train, validation, test = (
            int((data.user[part] == user).sum())
            for part in (found.train, found.validation, found.test)
        )
        n = train + validation + test
        if n < 3:
            assert train == n
        else:
            assert train >= 1
            assert within_rounding(validation, shares[0], n)
            assert within_rounding(test, shares[1], n)


@given(st.integers(3, 300), SHARES, st.sampled_from(["time", "random"]))
def test_global_strategies_keep_their_shares(n, shares, strategy):
    data = interactions([0] * n, list(range(n)))
    config = SplitConfig(strategy=strategy, validation=shares[0], test=shares[1])
    found = split(data, config, seed=0)
    assert len(found.train) >= 1
    assert within_rounding(len(found.validation), shares[0], n)
    assert within_rounding(len(found.test), shares[1], n)


@given(st.lists(st.integers(0, 20), min_size=10, max_size=80))
def test_time_judges_on_the_latest(times):
    data = interactions([0] * len(times), times)
    found = split(data, SplitConfig(strategy="time"), seed=0)
    assert data.timestamp is not None
    train, validation, test = (
        data.timestamp[part] for part in (found.train, found.validation, found.test)
    )
    assert train.max() <= validation.min()
    assert validation.max() <= test.min()


@pytest.mark.parametrize("n", [3, 9])
def test_a_user_with_few_rows_is_still_judged(n):
    found = split(interactions([0] * n), SplitConfig(), seed=0)
    assert (len(found.train), len(found.validation), len(found.test)) == (n - 2, 1, 1)


def test_no_validation_share_leaves_that_part_empty():
    found = split(interactions([0] * 30), SplitConfig(validation=0, test=0.29), seed=0)
    assert (len(found.train), len(found.validation), len(found.test)) == (22, 0, 8)


def test_a_share_that_floats_cannot_hold_is_not_one_row_short():
    found = split(interactions([0] * 100), SplitConfig(validation=0, test=0.29), seed=0)
    assert len(found.test) == 29


@pytest.mark.parametrize("strategy", ["per_user", "random"])
def test_seeds_divide_differently(strategy):
    data = interactions([0, 1] * 50)
    config = SplitConfig(strategy=strategy)
    first, second = (split(data, config, seed).test.tolist() for seed in (0, 1))
    assert first != second


def test_time_needs_times():
    with pytest.raises(DataError, match="the interactions have no times"):
        split(interactions([0] * 9), SplitConfig(strategy="time"), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "user"},
            "strategy is 'user', expected one of per_user, per_item, time, random, users, items",
        ),
        ({"test": 1.0}, "test is 1.0, expected a share from 0 to below 1"),
        ({"validation": -0.1}, "validation is -0.1, expected a share"),
        ({"validation": float("nan")}, "validation is nan, expected a share"),
        ({"validation": 0.5, "test": 0.5}, r"validation \+ test is 1, expected at most 0.99"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        SplitConfig(**options)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=80),
    st.sampled_from(["users", "items"]),
    st.integers(0, 3),
)
def test_whole_users_or_items_are_held_out(pairs, strategy, seed):
    data = replace(
        interactions([user for user, _ in pairs]),
        item=np.array([item for _, item in pairs], np.int32),
    )
    found = split(data, SplitConfig(strategy=strategy, validation=0.2, test=0.2), seed)
    whose = data.user if strategy == "users" else data.item
    held = [set(whose[part].tolist()) for part in (found.train, found.validation, found.test)]
    assert sum(map(len, held)) == len(set().union(*held)) == len(set(whose.tolist()))
    assert held[0]
    assert len(held[2]) >= (len(set(whose.tolist())) >= 3)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 6), st.integers(0, 3))
def test_every_row_is_judged_in_one_fold(users, folds, seed):
    data = interactions(users)
    tested = []
    for fold in range(folds):
        config = SplitConfig(validation=0.1, folds=folds, fold=fold)
        found = split(data, config, seed)
        tested.append(found.test)
        together = np.concatenate([found.train, found.validation, found.test])
        assert np.sort(together).tolist() == list(range(len(users)))
    enough = np.bincount(data.user)[data.user] >= 3
    assert np.sort(np.concatenate(tested)).tolist() == np.flatnonzero(enough).tolist()
