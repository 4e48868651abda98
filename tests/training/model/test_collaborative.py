"""Collaborative factors against their definitions."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from fuserank.training.model.collaborative import (
    COLLABORATIVE,
    ease_factors,
    ease_weights,
    graph_factors,
    ials_factors,
    likes_of,
)

RNG = np.random.default_rng(0)
# Two kinds of users, each of whom likes one half of the items.
TASTE = np.arange(60)[:, None] % 2 == np.arange(20) % 2
LIKES = csr_array((TASTE & (RNG.random(TASTE.shape) < 0.6)).astype(np.float32))


def test_likes_are_the_positive_interactions(dataset):
    interactions = dataset.interactions
    found = likes_of(interactions, len(dataset.users), len(dataset.items)).toarray()
    assert found.dtype == np.float32
    assert found.sum() == interactions.positive.sum()
    assert (found[interactions.user, interactions.item] == interactions.positive).all()


def test_factors_of_full_rank_are_ease_itself():
    found = ease_factors(LIKES, 20, penalty=5.0)
    weights = ease_weights(LIKES, 5.0)
    np.testing.assert_allclose(found.events @ found.items.T, weights, atol=1e-5)
    np.testing.assert_allclose(found.users @ found.items.T, LIKES @ weights, atol=1e-4)


def test_no_factors_of_a_rank_are_nearer_to_ease():
    found = ease_factors(LIKES, 3, penalty=5.0)
    weights = ease_weights(LIKES, 5.0)
    sizes = np.linalg.svd(weights, compute_uv=False)
    left = np.linalg.norm(found.events @ found.items.T - weights)
    np.testing.assert_allclose(left, np.linalg.norm(sizes[3:]), rtol=1e-4)


def test_least_squares_are_solved():
    """Each user's vector is the minimum for the items' vectors: the gradient there is zero."""
    found = ials_factors(LIKES, 4, weight=3.0, penalty=2.0, iterations=200)
    liked = LIKES.toarray()
    items = found.items.astype(np.float64)
    for row, user in zip(liked, found.users.astype(np.float64), strict=True):
        weights = np.where(row > 0, 3.0, 1.0)
        gradient = items.T @ (weights * (items @ user - row)) + 2.0 * user
        np.testing.assert_allclose(gradient, 0.0, atol=0.05)


@pytest.mark.parametrize("name", COLLABORATIVE)
def test_what_was_not_seen_is_told_apart(name):
    found = COLLABORATIVE[name](LIKES, 8, **({"epochs": 40} if name == "lightgcn" else {}))
    assert found.users.shape == (60, 8)
    assert found.items.shape == found.events.shape == (20, 8)
    for scores in (found.users @ found.items.T, LIKES @ found.events @ found.items.T):
        unseen = LIKES.toarray() == 0
        assert scores[TASTE & unseen].mean() > scores[~TASTE & unseen].mean() + scores.std() / 2


def test_a_graph_passes_on_what_neighbours_are_like():
    """Who has no likes keeps a share of the first vector; who has any is drawn to them."""
    likes = LIKES.toarray()
    likes[0] = 0
    without = graph_factors(csr_array(likes), 4, layers=0, epochs=1, learning_rate=1e-9)
    with_layers = graph_factors(csr_array(likes), 4, layers=1, epochs=1, learning_rate=1e-9)
    np.testing.assert_allclose(with_layers.users[0], without.users[0] / 2, atol=1e-6)
    degrees = np.outer(likes.sum(axis=1), likes.sum(axis=0))
    links = np.divide(likes, np.sqrt(degrees), where=degrees > 0, out=np.zeros_like(likes))
    expected = (without.users + links @ without.items) / 2
    np.testing.assert_allclose(with_layers.users, expected, atol=1e-5)
