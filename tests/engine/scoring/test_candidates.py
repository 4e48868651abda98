"""Coarse numbers, rescored, give what the float32 scan gives, to the bit, whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.engine.providers import Device
from fuserank.engine.scoring import (
    Eligibility,
    FusedScorer,
    HalfResidentScorer,
    QuantizedScorer,
    quantize,
)

NO_ROWS = np.empty(0, dtype=np.int64)


@pytest.fixture(scope="module", params=["int8", "float16"])
def pair(request, half_graphs):
    """Return what makes the float32 scorer and a coarse one."""

    def make(items, weights):
        given = {} if weights is None else {"weights": weights, "activation": "relu"}
        exact = FusedScorer(items, **given)
        if request.param == "int8":
            codes = quantize(items["item_state"], items["item_constant"], weights)
            return exact, QuantizedScorer(items, codes, **given)
        select = half_graphs[weights is not None]
        return exact, HalfResidentScorer(select, items, Device.CPU, weights=weights)

    return make


def draw(kind, shape, rng):
    """Draw numbers that are hard on coarse ones in one way or another."""
    normal = rng.standard_normal(shape)
    return {
        "normal": lambda: normal,
        "heavy tails": lambda: rng.standard_cauchy(shape) ** 3,
        "unequal dimensions": lambda: normal * 10.0 ** rng.uniform(-12, 6, shape[-1]),
        "far from zero": lambda: 1000.0 + 1e-3 * normal,
        "ties": lambda: rng.integers(-1, 2, shape),
        "signed zeros": lambda: np.where(rng.random(shape) < 0.5, 0.0, -0.0),
        "subnormal": lambda: normal * 1e-42,
        "beyond float16": lambda: normal * 10.0 ** rng.choice([-9, 5], shape),
        "huge": lambda: normal * 1e25,
        "overflowing": lambda: normal * 1e38,
        "not finite": lambda: np.where(
            rng.random(shape) < 0.02, rng.choice([np.nan, np.inf, -np.inf], shape), normal
        ),
    }[kind]().astype(np.float32)


KINDS = st.sampled_from(
    [
        "normal", "heavy tails", "unequal dimensions", "far from zero", "ties", "signed zeros",
        "subnormal", "beyond float16", "huge", "overflowing", "not finite",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)  # the first call compiles
@given(
    kinds=st.tuples(KINDS, KINDS, KINDS, KINDS),
    n_items=st.integers(1, 2000),
    n_users=st.integers(1, 4),
    width=st.integers(1, 70),
    perceptron=st.booleans(),
    k=st.integers(1, 60),
    share=st.sampled_from([0.01, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_the_same_to_the_bit(
    pair, check_same, kinds, n_items, n_users, width, perceptron, k, share, seed
):
    rng = np.random.default_rng(seed)
    items = {
        "item_state": draw(kinds[0], (n_items, width), rng),
        "item_constant": draw(kinds[1], (n_items,), rng),
    }
    users = {
        "user_state": draw(kinds[2], (n_users, width), rng),
        "user_constant": draw("normal", (n_users,), rng),
    }
    weights = draw(kinds[3], (width,), rng) if perceptron else None
    eligible = rng.random((n_users, n_items)) < share
    words = Eligibility(n_items).words([(NO_ROWS, np.flatnonzero(row)) for row in eligible])
    exact, coarse = pair(items, weights)
    check_same(exact.top_k(users, words, k), coarse.top_k(users, words, k))


def test_a_hidden_sum_that_overflows_under_a_weight_of_zero(pair, check_same):
    rng = np.random.default_rng(0)
    states = np.zeros((2000, 2), dtype=np.float32)
    states[:, 0] = rng.standard_normal(2000)
    states[:1900, 1] = 3e38
    items = {"item_state": states, "item_constant": np.zeros(2000, dtype=np.float32)}
    users = {
        "user_state": np.array([[0.1, 3e38]], dtype=np.float32),
        "user_constant": np.zeros(1, dtype=np.float32),
    }
    exact, coarse = pair(items, np.array([1, 0], dtype=np.float32))
    words = Eligibility(2000).words([(NO_ROWS, None)])
    expected = exact.top_k(users, words, 10)  # infinity times zero: 1900 scores are no numbers
    assert expected.rows.min() >= 1900
    check_same(expected, coarse.top_k(users, words, 10))


def test_equal_items_come_in_catalogue_order(pair, check_same):
    rng = np.random.default_rng(0)
    items = {
        "item_state": np.tile(rng.standard_normal((200, 64)), (20, 1)).astype(np.float32),
        "item_constant": np.tile(rng.standard_normal(200), 20).astype(np.float32),
    }
    users = {
        "user_state": rng.standard_normal((3, 64)).astype(np.float32),
        "user_constant": rng.standard_normal(3).astype(np.float32),
    }
    exact, coarse = pair(items, None)
    words = Eligibility(4000).words([(NO_ROWS, None)])
    found = coarse.top_k(users, words, 30)
    check_same(exact.top_k(users, words, 30), found)
    assert np.all(np.diff(found.rows[:, :20], axis=1) == 200)
