"""Baselines: recommenders that any model has to beat, tuned by the same validation part.

Each takes who liked what in training and scores every item for every user. They know ids alone, and
none is served; they say what a model's figures are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from fuserank.training.evaluation.ranking import JudgedUsers, judge_users
from fuserank.training.model.collaborative import (
    ease_weights,
    graph_factors,
    ials_factors,
    likes_of,
)

if TYPE_CHECKING:
    from fuserank.training.data.splits import Parts

__all__ = [
    "BASELINES",
    "Judged",
    "bpr",
    "ease",
    "ials",
    "item_knn",
    "judge_baselines",
    "popularity",
]

Scores = npt.NDArray[np.floating[Any]]

_DIM = 64


def popularity(likes: csr_array) -> Scores:
    """Score an item by how many liked it, the same for everyone.

    Args:
        likes: (n_users, n_items), 1 where a user liked an item.

    Returns:
        (n_users, n_items) scores.
    """
    return np.broadcast_to(likes.sum(axis=0), likes.shape)


def item_knn(likes: csr_array, *, neighbours: int) -> Scores:
    """Score an item by the cosines between it and what the user liked: S = X·C.

    C keeps, for every item, its most similar others. `likes` and result as in `popularity`.

    Source: Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 22(1), 2004,
    section 4.
    """
    norms = np.sqrt(likes.sum(axis=0))
    divisors = np.where(norms > 0, norms, 1.0)
    cosines = (likes.T @ likes).toarray() / np.outer(divisors, divisors)
    np.fill_diagonal(cosines, 0.0)
    dropped = len(cosines) - neighbours
    if dropped > 0:
        least = np.argpartition(cosines, dropped - 1, axis=0)[:dropped]
        np.put_along_axis(cosines, least, 0.0, axis=0)
    scores: Scores = likes @ cosines
    return scores


def ease(likes: csr_array, *, penalty: float) -> Scores:
    """Score by the linear model of every item on all others: S = X·B, see `ease_weights`."""
    scores: Scores = likes @ ease_weights(likes, penalty)
    return scores


def ials(likes: csr_array, *, weight: float, penalty: float) -> Scores:
    """Score by implicit alternating least squares of width 64, see `ials_factors`."""
    found = ials_factors(likes, _DIM, weight=weight, penalty=penalty)
    return found.users @ found.items.T


def bpr(likes: csr_array, *, penalty: float, epochs: int) -> Scores:
    """Score by matrix factorisation of width 64, learned with BPR, see `graph_factors`."""
    found = graph_factors(likes, _DIM, layers=0, penalty=penalty, epochs=epochs)
    return found.users @ found.items.T


BASELINES: Mapping[str, tuple[Callable[..., Scores], tuple[dict[str, Any], ...]]] = {
    "popularity": (popularity, ({},)),
    "item-kNN": (item_knn, tuple({"neighbours": n} for n in (10, 20, 40, 80, 160, 320))),
    "iALS": (
        ials,
        tuple({"weight": w, "penalty": p} for w in (1.0, 3.0) for p in (3.0, 10.0, 20.0, 30.0)),
    ),
    "BPR": (
        bpr,
        tuple({"penalty": p, "epochs": e} for p in (0.01, 0.03) for e in (15, 30, 60)),
    ),
    "EASE": (ease, tuple({"penalty": p} for p in (30.0, 100.0, 200.0, 300.0, 500.0, 1000.0))),
}
"""By name: what scores, and the options to choose from."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A baseline on the test part.

    Attributes:
        options: those that ranked the validation part best.
        found: how users were served on the test part.
    """

    options: dict[str, Any]
    found: JudgedUsers


def judge_baselines(parts: Parts, n_users: int, n_items: int, *, k: int = 10) -> dict[str, Judged]:
    """Choose each baseline's options by NDCG on the validation part, and judge it on the test part.

    As a model's, the scores are learned from the training part alone.

    Args:
        parts: the interactions.
        n_users: users of the data set.
        n_items: items of the data set.
        k: length of a list.

    Raises:
        DataError: a part has no positive interaction.
    """
    likes = likes_of(parts.train, n_users, n_items)
    both = parts.train.joined(parts.validation)

    def judge(scores: Scores, seen: Any, held_out: Any) -> JudgedUsers:
        return judge_users(
            lambda users: scores[users], seen=seen, held_out=held_out, n_items=n_items, k=k
        )

    judged = {}
    for name, (score, choices) in BASELINES.items():
        tried = []
        for options in choices:
            scores = score(likes, **options)
            ndcg = judge(scores, parts.train, parts.validation).ranking.ndcg
            tried.append((ndcg, options, scores))
        _, options, scores = max(tried, key=lambda one: one[0])
        judged[name] = Judged(options=options, found=judge(scores, both, parts.test))
    return judged
