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

from fuserank.training.ranking import Ranking, judge_ranking

if TYPE_CHECKING:
    from fuserank.training.splits import Parts

__all__ = ["BASELINES", "Judged", "ease", "item_knn", "judge_baselines", "popularity"]

FloatArray = npt.NDArray[np.float64]


def popularity(likes: FloatArray) -> FloatArray:
    """Score an item by how many liked it, the same for everyone.

    Args:
        likes: (n_users, n_items) 1 where a user liked an item, else 0.

    Returns:
        (n_users, n_items) scores.
    """
    return np.broadcast_to(likes.sum(axis=0), likes.shape)


def item_knn(likes: FloatArray, neighbours: float) -> FloatArray:
    """Score an item by the cosines between it and what the user liked: S = X·C.

    C keeps, for every item, its most similar others. `likes` and result as in `popularity`.

    Source: Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 22(1), 2004,
    section 4.
    """
    norms = np.sqrt(likes.sum(axis=0))
    divisors = np.where(norms > 0, norms, 1.0)
    cosines = (likes / divisors).T @ (likes / divisors)
    np.fill_diagonal(cosines, 0.0)
    dropped = len(cosines) - int(neighbours)
    if dropped > 0:
        least = np.argpartition(cosines, dropped - 1, axis=0)[:dropped]
        np.put_along_axis(cosines, least, 0.0, axis=0)
    return likes @ cosines


def ease(likes: FloatArray, penalty: float) -> FloatArray:
    """Score by the linear model of every item on all others: S = X·B, diag(B) = 0.

    B minimises ‖X - XB‖² + λ‖B‖²: with P = (XᵀX + λI)⁻¹, B_ij = -P_ij / P_jj. `likes` and result
    as in `popularity`.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8.
    """
    gram = likes.T @ likes
    gram[np.diag_indices_from(gram)] += penalty
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return likes @ weights


BASELINES: Mapping[str, tuple[Callable[..., FloatArray], tuple[float, ...]]] = {
    "popularity": (popularity, ()),
    "item-kNN": (item_knn, (10, 20, 40, 80, 160, 320)),
    "EASE": (ease, (10, 30, 100, 200, 300, 500, 1000, 2000)),
}
"""By name: what scores, and the values of its one option to choose from."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A baseline on the test part.

    Attributes:
        option: the value that ranked the validation part best; None where none is to be chosen.
        ranking: on the test part.
    """

    option: float | None
    ranking: Ranking


def judge_baselines(parts: Parts, n_users: int, n_items: int, *, k: int = 10) -> dict[str, Judged]:
    """Choose each baseline's option by NDCG on the validation part, and judge it on the test part.

    As a model's, the scores are learned from the training part alone.

    Args:
        parts: the interactions.
        n_users: users of the data set.
        n_items: items of the data set.
        k: length of a list.

    Raises:
        DataError: a part has no positive interaction.
    """
    positives = parts.train.select(parts.train.positive)
    likes = np.zeros((n_users, n_items))
    likes[positives.user, positives.item] = 1.0
    both = parts.train.joined(parts.validation)

    def judge(scores: FloatArray, seen: Any, held_out: Any) -> Ranking:
        return judge_ranking(
            lambda users: scores[users], seen=seen, held_out=held_out, n_items=n_items, k=k
        )

    judged = {}
    for name, (score, options) in BASELINES.items():
        best, best_ndcg, scores = None, -1.0, np.empty(0)
        for option in options or (None,):
            tried = score(likes) if option is None else score(likes, option)
            ndcg = judge(tried, parts.train, parts.validation).ndcg
            if ndcg > best_ndcg:
                best, best_ndcg, scores = option, ndcg, tried
        judged[name] = Judged(option=best, ranking=judge(scores, both, parts.test))
    return judged
