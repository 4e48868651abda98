"""Float16 states: what is promised of them, how far a device can be off, and who answers if it is.

That the answer is the float32 scan's, to the bit, is in `test_candidates`.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.providers import Device
from fuserank.engine.scoring import Eligibility, FusedScorer, HalfResidentScorer
from fuserank.engine.scoring.half_queries import HalfQueryMaker
from fuserank.engine.scoring.half_states import LARGEST, SMALLEST, HalfStates, to_half

BOTH = pytest.mark.parametrize("perceptron", [False, True], ids=["dot", "relu"])


def make(n_items=3000, n_users=3, width=64, *, seed=0, draw="normal"):
    """Return items, users and weights of ordinary numbers, of one sign or of unequal dimensions."""
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        values = rng.standard_normal(shape)
        if draw == "one sign":
            values = np.abs(values)
        if draw == "unequal":
            values *= 10.0 ** rng.uniform(-8, 8, shape[-1])
        return values.astype(np.float32)

    items = {"item_state": numbers(n_items, width), "item_constant": numbers(n_items)}
    users = {"user_state": numbers(n_users, width), "user_constant": numbers(n_users)}
    return items, users, numbers(width)


@pytest.fixture
def pair(half_graphs):
    """Return what makes the float32 scorer and the one of float16 states."""

    def scorers(items, weights):
        given = {} if weights is None else {"weights": weights, "activation": "relu"}
        return (
            FusedScorer(items, **given),
            HalfResidentScorer(
                half_graphs[weights is not None], items, Device.CPU, weights=weights
            ),
        )

    return scorers


def everything(n_items):
    return Eligibility(n_items).words([(np.empty(0, dtype=np.int64), None)])


@given(
    n_items=st.integers(0, 300),
    width=st.integers(1, 30),
    perceptron=st.booleans(),
    draw=st.sampled_from(["normal", "unequal"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_states_keep_their_promises(n_items, width, perceptron, draw, seed):
    items, _, weights = make(n_items, width=width, seed=seed, draw=draw)
    weights[::5] = 0.0
    states, constants = items["item_state"], items["item_constant"]
    states[1::7, 0] = np.inf
    constants[2::9] = np.nan
    made = HalfStates.measure(states, constants, weights if perceptron else None)
    regular = np.isfinite(states).all(axis=1) & np.isfinite(constants)
    np.testing.assert_array_equal(made.irregular, np.flatnonzero(~regular))
    scaled = states[regular].astype(np.float64) * made.factors
    assert np.all(np.abs(scaled) <= made.largest)
    assert np.all(made.largest <= LARGEST)
    assert np.linalg.norm(scaled, axis=1).max(initial=0.0) <= made.norm
    halves = made.rounded(states, 0, n_items)
    assert not halves[~regular].any()
    np.testing.assert_array_equal(halves[regular], to_half(scaled))
    np.testing.assert_array_equal(
        made.rounded(states, n_items // 2, n_items), halves[n_items // 2 :]
    )
    off = np.abs(halves[regular] - scaled)
    assert np.all(off <= np.abs(scaled) * 2.0**-11 + SMALLEST)
    if perceptron:
        folded = made.unit * made.factors * made.signs
        np.testing.assert_allclose(folded, weights, rtol=1e-15)
    else:
        assert np.all(np.frexp(made.factors)[0][made.factors > 0] == 0.5)


def nearest(values, _):
    return to_half(values)


def upwards(values, _):
    halves = values.astype(np.float16)
    return np.where(halves < values, np.nextafter(halves, np.float16(np.inf)), halves)


def any_way(values, rng):
    """Round to one of the two neighbours, and what is not normal to zero now and then."""
    halves = values.astype(np.float16)
    other = np.nextafter(halves, np.where(halves < values, np.inf, -np.inf).astype(np.float16))
    exact = halves == values
    halves = np.where(exact | (rng.random(values.shape) < 0.5), halves, other)
    flushed = (np.abs(halves) < SMALLEST) & (rng.random(values.shape) < 0.5)
    return np.where(flushed, np.float16(0), halves)


def wide(values, _):
    return values.astype(np.float32)


def scores_of(states, halves, constants, inputs, rounded, rng):
    """Return (q, n) float32: what a device may make of float16 inputs."""
    found = np.empty((len(inputs["user_state"]), len(halves)), dtype=np.float32)
    for q, user in enumerate(inputs["user_state"]):
        total = np.zeros(len(halves), dtype=np.float32)
        for group in states.groups:
            sums = np.zeros(len(halves))
            for j in rng.permutation(np.flatnonzero(group)):
                mixed = np.maximum(user[j], halves[:, j]) if states.perceptron else halves[:, j]
                factor = group[j] if states.perceptron else user[j]
                term = rounded(mixed.astype(np.float64) * np.float64(factor), rng)
                sums = rounded(sums + term.astype(np.float64), rng).astype(np.float64)
            total += upwards(sums, rng) if rounded is upwards else nearest(sums, rng)
        found[q] = total * inputs["user_unit"][q] + inputs["user_constant"][q] + constants
    return found


@BOTH
@pytest.mark.parametrize("rounded", [nearest, upwards, any_way, wide])
@pytest.mark.parametrize("draw", ["normal", "one sign", "unequal"])
@pytest.mark.parametrize("width", [5, 64])
def test_no_device_is_further_off_than_the_margin_says(perceptron, rounded, draw, width):
    items, users, weights = make(width=width, draw=draw)
    given = {"weights": weights, "activation": "relu"} if perceptron else {}
    scores = FusedScorer(items, **given).score(users, np.arange(3000))
    states = HalfStates.measure(*items.values(), weights if perceptron else None)
    queries = HalfQueryMaker(states).make(users)
    found = scores_of(
        states,
        states.rounded(items["item_state"], 0, 3000),
        items["item_constant"],
        queries.inputs,
        rounded,
        np.random.default_rng(1),
    )
    off = np.abs(found.astype(np.float64) - scores).max(axis=1)
    assert np.all(off > 0)
    assert np.all(2 * off <= queries.margins)


@BOTH
def test_the_graph_is_as_near_as_the_margin_says_and_that_is_worth_having(perceptron, pair):
    items, users, weights = make()
    exact, half = pair(items, weights if perceptron else None)
    scores = exact.score(users, np.arange(3000))
    queries = half._queries.make(users)
    (found,) = half._scan.best(queries.inputs, everything(3000), half._scan.tile)
    of_rows = np.take_along_axis(scores, found.rows[:, :3000], axis=1)
    assert np.all(2 * np.abs(found.scores[:, :3000] - of_rows).max(axis=1) <= queries.margins)
    assert np.all(queries.margins < 0.5 * scores.std(axis=1))


class Refused(AssertionError):
    """The float32 scan was asked."""


def refuse(*_):
    raise Refused


@BOTH
@pytest.mark.parametrize("k", [1, 10, 100])
def test_ordinary_numbers_need_no_float32_scan(perceptron, k, pair, check_same, monkeypatch):
    items, users, weights = make(100_000)
    exact, half = pair(items, weights if perceptron else None)
    monkeypatch.setattr(half._exact, "top_k", refuse)
    words = Eligibility(100_000).words([(np.arange(0, 100_000, 7), None)])
    check_same(exact.top_k(users, words, k), half.top_k(users, words, k))


def test_the_device_is_asked_for_more_until_no_candidate_can_be_missing(pair, check_same):
    items, users, _ = make(40_000)
    items["item_state"][:] = items["item_state"][0]  # alike, but for the constants
    items["item_constant"] = np.linspace(1, 0, 40_000, dtype=np.float32)
    users["user_state"] *= np.array([[0.001], [0.05], [1.0]], dtype=np.float32)
    exact, half = pair(items, None)
    words = everything(40_000)
    candidates = half._candidates(half._queries.make(users), words, 4)
    assert {q: len(rows) > 128 for q, rows in candidates.items()} == {0: False, 1: True}
    check_same(exact.top_k(users, words, 4), half.top_k(users, words, 4))
    answered = []
    scan = half._exact.top_k

    def noted(users, words, k):
        answered.append(len(users["user_state"]))
        return scan(users, words, k)

    half._exact.top_k = noted
    half.top_k(users, words, 4)
    assert answered == [1]  # the user whose candidates were more than a run returns


def test_where_nothing_bounds_a_user_the_float32_scan_answers_it_alone(pair, check_same):
    items, users, _ = make(4000, n_users=5)
    users["user_state"][1] = np.nan
    users["user_state"][2, 0] = np.inf
    users["user_constant"][3] = 3e38
    exact, half = pair(items, None)
    words = Eligibility(4000).words([(np.arange(q, 4000, 3), None) for q in range(5)])
    candidates = half._candidates(half._queries.make(users), words, 10)
    assert sorted(candidates) == [0, 4]
    check_same(exact.top_k(users, words, 10), half.top_k(users, words, 10))


@BOTH
def test_items_that_are_not_finite_are_always_candidates(perceptron, pair, check_same):
    items, users, weights = make(4000)
    items["item_state"][[7, 3999], 0] = np.nan, np.inf
    items["item_constant"][[70, 71]] = np.inf, -np.inf
    exact, half = pair(items, weights if perceptron else None)
    words = Eligibility(4000).words([(np.array([71]), None)])
    candidates = half._candidates(half._queries.make(users), words, 10)
    assert all({7, 70, 3999} <= set(rows.tolist()) for rows in candidates.values())
    assert not any(71 in rows for rows in candidates.values())
    check_same(exact.top_k(users, words, 10), half.top_k(users, words, 10))


def test_several_tiles_hold_their_candidates_apart(pair, check_same, monkeypatch):
    monkeypatch.setattr("fuserank.engine.scoring.device_scan._TILE", 512)
    items, users, _ = make(3000, n_users=70)
    items["item_constant"][512:1024] += 50  # the best all stand in one tile
    exact, half = pair(items, None)
    words = everything(3000)
    check_same(exact.top_k(users, words, 200), half.top_k(users, words, 200))
    check_same(exact.top_k(users, words, 3), half.top_k(users, words, 3))
