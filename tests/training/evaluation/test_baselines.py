"""Baselines against their definitions."""

import numpy as np
from scipy.sparse import csr_array

from fuserank.training.data.splits import Parts, SplitConfig, split
from fuserank.training.evaluation.baselines import (
    BASELINES,
    ease,
    item_knn,
    judge_baselines,
    popularity,
)

RNG = np.random.default_rng(0)
LIKES = (RNG.random((997, 12)) < 0.3).astype(float)  # enough that no two cosines are equal
LIKES[:, 5] = 0.0  # nobody likes it
SPARSE = csr_array(LIKES)


def test_popularity_counts():
    scores = popularity(SPARSE)
    assert scores.shape == LIKES.shape
    np.testing.assert_array_equal(scores[3], LIKES.sum(axis=0))


def test_item_knn_sums_the_cosines_of_the_nearest():
    expected = np.zeros_like(LIKES)
    for j in range(12):
        cosine = np.zeros(12)
        for i in range(12):
            norm = np.linalg.norm(LIKES[:, i]) * np.linalg.norm(LIKES[:, j])
            if i != j and norm:
                cosine[i] = LIKES[:, i] @ LIKES[:, j] / norm
        cosine[np.argsort(-cosine)[4:]] = 0.0
        expected[:, j] = LIKES @ cosine
    np.testing.assert_allclose(item_knn(SPARSE, neighbours=4), expected, atol=1e-12)


def test_item_knn_of_more_neighbours_than_items_keeps_all():
    np.testing.assert_allclose(item_knn(SPARSE, neighbours=12), item_knn(SPARSE, neighbours=1000))


def test_ease_is_the_ridge_regression_of_every_item_on_the_others():
    scores = ease(SPARSE, penalty=3.0)
    for j in range(12):
        others = np.delete(LIKES, j, axis=1)
        gram = others.T @ others + 3.0 * np.eye(11)
        weights = np.linalg.solve(gram, others.T @ LIKES[:, j])
        np.testing.assert_allclose(scores[:, j], others @ weights, atol=1e-10)


def test_options_are_chosen_and_judged_on_parts_of_their_own(dataset):
    rows = split(dataset.interactions, SplitConfig(), 42)
    parts = Parts(
        **{
            n: dataset.interactions.select(getattr(rows, n))
            for n in ("train", "validation", "test")
        }
    )
    judged = judge_baselines(parts, len(dataset.users.ids), len(dataset.items.ids))
    assert judged.keys() == BASELINES.keys()
    for name, found in judged.items():
        assert found.found.ranking.k == 10
        assert found.options in BASELINES[name][1]
    # Users like the items of one genre: who looks at items together must find them.
    for name in ("item-kNN", "iALS", "BPR", "EASE"):
        assert judged[name].found.ranking.ndcg > judged["popularity"].found.ranking.ndcg
