"""Metrics of ranked lists: what users find in them, and what the lists hold."""

import numpy as np
import numpy.typing as npt

from fuserank.training.evaluation.label_metrics import LabelCounts
from fuserank.training.evaluation.metrics import Bools, Doubles, Floats

__all__ = [
    "Items",
    "average_precision_at_k",
    "coverage",
    "diversity",
    "hit_at_k",
    "label_counts",
    "ndcg",
    "novelty",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank",
    "top_items",
]

Items = npt.NDArray[np.int64]


def top_items(scores: Floats, eligible: Bools, k: int) -> Items:
    """Return (n_users, min(k, n_items)) item rows, best first, ties in the order of items.

    Where a user has fewer eligible items, −1 fills the rest; NaN is never eligible.

    Args:
        scores: (n_users, n_items).
        eligible: (n_users, n_items) whether the item may be recommended.
        k: items a user.
    """
    usable = eligible & ~np.isnan(scores)
    order = np.argsort(np.where(usable, -scores, np.inf), axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(usable, order, axis=1), order, -1)


def recall_at_k(top: Items, relevant: Bools) -> Doubles:
    """Return (n_users,) shares of the relevant items that are among the top ones.

    Args:
        top: (n_users, k) item rows, −1 for none.
        relevant: (n_users, n_items), one or more in each row.
    """
    found: Doubles = _hits(top, relevant).sum(axis=1) / relevant.sum(axis=1)
    return found


def ndcg(top: Items, relevant: Bools) -> Doubles:
    """Return (n_users,) discounted gains over those of an ideal order, with gains of 0 and 1.

    Args:
        top: (n_users, k) item rows, best first, −1 for none.
        relevant: (n_users, n_items), one or more in each row.

    Source: Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", TOIS
    20(4), 2002, with the discount 1 / log₂(rank + 1).
    """
    discount = 1 / np.log2(np.arange(2, top.shape[1] + 2))
    ideal = np.cumsum(discount)[np.minimum(relevant.sum(axis=1), top.shape[1]) - 1]
    gained: Doubles = _hits(top, relevant) @ discount / ideal
    return gained


def precision_at_k(top: Items, relevant: Bools) -> Doubles:
    """Return (n_users,) shares of the places that hold a relevant item; −1 is a miss.

    Arguments as in `recall_at_k`.
    """
    found: Doubles = _hits(top, relevant).mean(axis=1)
    return found


def hit_at_k(top: Items, relevant: Bools) -> Doubles:
    """Return (n_users,) 1 where a relevant item is among the top ones, else 0: the hit rate.

    Arguments as in `recall_at_k`.
    """
    return np.asarray(_hits(top, relevant).any(axis=1), dtype=np.float64)


def reciprocal_rank(top: Items, relevant: Bools) -> Doubles:
    """Return (n_users,) 1 / the rank of the first relevant item, 0 where there is none.

    Its mean over users is MRR. Arguments as in `ndcg`.

    Source: Voorhees, "The TREC-8 Question Answering Track Report", TREC 1999.
    """
    hits = _hits(top, relevant)
    found: Doubles = hits.any(axis=1) / (1.0 + hits.argmax(axis=1))
    return found


def average_precision_at_k(top: Items, relevant: Bools) -> Doubles:
    """Return (n_users,) means of the precision at the rank of each relevant item: MAP's parts.

    Relevant items outside the list count as 0, and the sum is divided by min(k, number of
    relevant items), so that a list of relevant items alone has 1. Arguments as in `ndcg`.

    Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008,
    section 8.4, which divides by the number of relevant items, lists being of any length there.
    """
    hits = _hits(top, relevant)
    k = top.shape[1]
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    found: Doubles = (precisions * hits).sum(axis=1) / np.minimum(relevant.sum(axis=1), k)
    return found


def label_counts(top: Items, relevant: Bools) -> LabelCounts:
    """Return how often each item is in a list, is relevant, and both: items as labels of users.

    A user's list is the set of labels that is predicted, in whatever order, and the relevant items
    are the true one.

    Args:
        top: (n_users, k) item rows, −1 for none.
        relevant: (n_users, n_items).
    """
    n_items = relevant.shape[1]
    return LabelCounts(
        right=np.bincount(top[_hits(top, relevant)], minlength=n_items),
        predicted=np.bincount(top[top >= 0], minlength=n_items),
        true=relevant.sum(axis=0),
    )


def coverage(counts: LabelCounts) -> float:
    """Return the share of the items that are in one list or more.

    Args:
        counts: of the items that could be in a list, see `label_counts`.

    Source: Herlocker et al., "Evaluating Collaborative Filtering Recommender Systems", TOIS
    22(1), 2004 (catalogue coverage).
    """
    return float((counts.predicted > 0).mean())


def novelty(top: Items, share: Doubles) -> Doubles:
    """Return (n_users,) means over a list of −log₂(share of users who met the item), in bits.

    NaN where a list is empty.

    Args:
        top: (n_users, k) item rows, −1 for none.
        share: (n_items,) above 0, at most 1.

    Source: Zhou et al., "Solving the Apparent Diversity-Accuracy Dilemma of Recommender Systems",
    PNAS 107(10), 2010 (self-information, which they call surprisal).
    """
    there = top >= 0
    bits = np.where(there, -np.log2(share)[np.maximum(top, 0)], 0.0)
    return _quotients(bits.sum(axis=1), there.sum(axis=1))


def diversity(top: Items, vectors: Floats) -> Doubles:
    """Return (n_users,) 1 − the mean cosine similarity of two items of a list, from 0 to 2.

    A zero vector is similar to nothing. NaN where a list holds fewer than two items. Memory is
    n_users × k × dim doubles.

    Args:
        top: (n_users, k) item rows, −1 for none.
        vectors: (n_items, dim).

    Source: Smyth and McClave, "Similarity vs. Diversity", ICCBR 2001.
    """
    there = top >= 0
    theirs = np.where(there[..., None], vectors[np.maximum(top, 0)].astype(np.float64), 0.0)
    lengths = np.linalg.norm(theirs, axis=2, keepdims=True)
    units = np.divide(theirs, lengths, out=np.zeros_like(theirs), where=lengths > 0)
    # ‖Σu‖² holds every pair twice, and each item with itself.
    cosines = np.square(units.sum(axis=1)).sum(axis=1) - np.square(units).sum(axis=(1, 2))
    held = there.sum(axis=1)
    return 1 - _quotients(cosines, held * (held - 1))


def _quotients(part: Doubles, whole: npt.NDArray[np.integer]) -> Doubles:
    quotients = np.full(len(part), np.nan)
    np.divide(part, whole, out=quotients, where=whole > 0)
    return quotients


def _hits(top: Items, relevant: Bools) -> Bools:
    return np.take_along_axis(relevant, np.maximum(top, 0), axis=1) & (top >= 0)
