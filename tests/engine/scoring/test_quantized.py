"""The scan over codes returns what the float32 scan returns, to the bit, whatever the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from fuserank.engine.scoring import Eligibility, FusedScorer, QuantizedScorer, quantize

NO_ROWS = np.empty(0, dtype=np.int64)


def pair(items, weights, threads=1):
    """Return the float32 scorer and the quantized one."""
    given = {} if weights is None else {"weights": weights, "activation": "relu"}
    codes = quantize(items["item_state"], items["item_constant"], weights)
    return (
        FusedScorer(items, threads=threads, **given),
        QuantizedScorer(items, codes, threads=threads, **given),
    )


def make_normal(n_items=30_000, n_users=3, width=64, seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    items = {"item_state": draw(n_items, width), "item_constant": draw(n_items)}
    users = {"user_state": draw(n_users, width), "user_constant": draw(n_users)}
    return items, users, draw(width)


@pytest.mark.parametrize("perceptron", [False, True], ids=["dot", "relu"])
def test_no_score_of_codes_is_further_off_than_the_margin_says(perceptron, monkeypatch):
    items, users, weights = make_normal()
    exact, quantized = pair(items, weights if perceptron else None)
    words = Eligibility(30_000).words([(NO_ROWS, None)])
    scores = exact.score(users, np.arange(30_000))
    queries = replace(quantized._queries.make(users), margins=np.full(3, 1e30))
    monkeypatch.setattr("fuserank.engine.scoring.quantized._ROOM", 30_000)
    nothing = np.full(3, -np.inf, dtype=np.float32)
    found = quantized._scan(queries, words, 1, nothing)
    margins = quantized._queries.make(users).margins
    np.testing.assert_array_equal(found.rows, np.broadcast_to(np.arange(30_000), (3, 30_000)))
    off = np.abs(found.scores - scores).max(axis=1)
    assert np.all(2 * off <= margins)
    assert np.all(off > 0)
    # And the margin is worth having: a fraction of how far scores lie apart.
    assert np.all(margins < 0.6 * scores.std(axis=1))


@pytest.mark.parametrize("perceptron", [False, True], ids=["dot", "relu"])
def test_ordinary_numbers_are_found_through_the_codes(perceptron, monkeypatch, check_same):
    items, users, weights = make_normal(100_000)
    exact, quantized = pair(items, weights if perceptron else None, threads=2)
    words = Eligibility(100_000).words([(np.arange(0, 100_000, 7), None)])
    expected = exact.top_k(users, words, 100)

    def refuse(*_):
        raise AssertionError("the float32 scan answered")

    monkeypatch.setattr(quantized._exact, "top_k", refuse)
    check_same(expected, quantized.top_k(users, words, 100))
    quantized.close()
    exact.close()


@pytest.mark.parametrize("perceptron", [False, True], ids=["dot", "relu"])
def test_where_codes_tell_nothing_apart_the_float32_scan_answers(perceptron, check_same):
    items, users, weights = make_normal(20_000)
    items["item_state"][:] = items["item_state"][0]
    items["item_state"] += np.random.default_rng(1).standard_normal((20_000, 64)) * 1e-6
    items["item_state"][5, 0] = 1e6  # one item sets the scale of a dimension
    exact, quantized = pair(items, weights if perceptron else None)
    words = Eligibility(20_000).words([(NO_ROWS, None)])
    check_same(exact.top_k(users, words, 10), quantized.top_k(users, words, 10))
    assert quantized._candidates(quantized._queries.make(users), words, 10) is None


def test_a_guess_that_is_too_high_is_noticed(monkeypatch, check_same):
    items, users, _ = make_normal()
    exact, quantized = pair(items, None)
    words = Eligibility(30_000).words([(NO_ROWS, None)])
    scores = -np.sort(-exact.score(users, np.arange(30_000)), axis=1)
    asked = []

    def guess(*_):
        asked.append(1)
        return scores[:, 5].copy()  # six items reach it, ten are wanted

    monkeypatch.setattr(quantized, "_guess", guess)
    check_same(exact.top_k(users, words, 10), quantized.top_k(users, words, 10))
    assert asked


def test_a_sample_that_misses_the_best_does_no_harm(check_same):
    items, users, _ = make_normal(64 * 64)
    sampled = np.arange(64 * 64) // 64 % 16 == 0
    items["item_constant"][sampled] += 1000.0  # the best stand in the sample alone
    exact, quantized = pair(items, None)
    words = Eligibility(64 * 64).words([(NO_ROWS, None)])
    check_same(exact.top_k(users, words, 300), quantized.top_k(users, words, 300))
    items["item_constant"][sampled] -= 2000.0  # and now the worst
    exact, quantized = pair(items, None)
    check_same(exact.top_k(users, words, 300), quantized.top_k(users, words, 300))


@pytest.mark.parametrize("n_users", [1, 6])
@pytest.mark.parametrize("perceptron", [False, True], ids=["dot", "relu"])
def test_codes_alone_find_items_within_the_margin(perceptron, n_users):
    items, users, weights = make_normal(60_000, n_users)
    exact, quantized = pair(items, weights if perceptron else None, threads=2)
    words = Eligibility(60_000).words([(np.arange(0, 60_000, 7), None)] * n_users)
    margins = quantized._queries.make(users).margins
    best = exact.top_k(users, words, 50)
    found = quantized.near_top_k(users, words, 50)
    for at, (rows, scores) in enumerate(zip(found.rows, found.scores, strict=True)):
        assert found.sizes[at] == len(set(rows)) == 50
        assert np.all(rows % 7 != 0)
        assert np.all(np.diff(scores) <= 0)
        true = exact.score({name: state[[at]] for name, state in users.items()}, rows)[0]
        assert np.all(np.abs(true - scores) <= margins[at] / 2)
        assert np.all(true >= best.scores[at, -1] - margins[at])
        assert np.any(true != scores)  # not rescored
        assert len(set(rows) & set(best.rows[at])) >= 40
    quantized.close()
    exact.close()


def test_codes_alone_return_as_many_as_are_eligible():
    items, users, _ = make_normal(2_000)
    items["item_state"][[3, 700]] = np.inf
    items["item_constant"][5] = np.inf
    _, quantized = pair(items, None)
    allowed = [np.array([1, 3, 5, 9]), np.array([2]), np.array([], dtype=np.int64)]
    words = Eligibility(2_000).words([(NO_ROWS, rows) for rows in allowed])
    exact = quantized.top_k(users, words, 10)
    found = quantized.near_top_k(users, words, 10)
    np.testing.assert_array_equal(found.sizes, exact.sizes)
    for mine, rows, size in zip(found.rows, allowed, found.sizes, strict=True):
        assert set(mine[:size]) <= set(rows)
    at = list(found.rows[0]).index(5)
    assert found.scores[0, at] == np.inf


def test_equal_codes_stand_in_catalogue_order():
    items, users, _ = make_normal(5_000, 2)
    items["item_state"][:] = items["item_state"][0]
    items["item_constant"][:] = -np.arange(5_000)
    items["item_constant"][[4_000, 17, 2_500]] = 1
    items["item_constant"][[4_001, 18, 2_501, 3_000]] = 0.5
    _, quantized = pair(items, None)
    words = Eligibility(5_000).words([(NO_ROWS, None)] * 2)
    found = quantized.near_top_k(users, words, 7)
    for rows in found.rows:
        np.testing.assert_array_equal(rows, [17, 2_500, 4_000, 18, 2_501, 3_000, 4_001])


def test_codes_that_do_not_tell_are_no_answer():
    items, users, _ = make_normal(5_000)
    words = Eligibility(5_000).words([(NO_ROWS, None)] * 3)
    _, quantized = pair(items, None)
    assert quantized.near_top_k(users, words, 626) is None  # a large share of the catalogue
    assert quantized.near_top_k(users, words, 0) is None
    huge = users | {"user_state": np.full_like(users["user_state"], 1e38)}
    assert quantized.near_top_k(huge, words, 10) is None
    items["item_state"][:] = items["item_state"][0]
    items["item_constant"][:] = 0
    _, quantized = pair(items, None)
    assert quantized.near_top_k(users, words, 10) is None  # all score the same
