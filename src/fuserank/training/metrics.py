"""Metrics in plain numpy: how well observed pairs are told apart, and how well items are ranked.

Micro averages are not among them: with one label a pair, micro F1 is accuracy.
"""

import numpy as np
import numpy.typing as npt

__all__ = [
    "accuracy",
    "best_threshold",
    "f1",
    "log_loss",
    "ndcg",
    "precision",
    "recall",
    "recall_at_k",
    "roc_auc",
    "sigmoid",
    "top_items",
]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


def sigmoid(logits: Floats) -> Doubles:
    """Return σ(z) as float64, without overflow.

    >>> sigmoid(np.array([-1e4, 0.0]))
    array([0. , 0.5])
    """
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def accuracy(labels: Bools, predicted: Bools) -> float:
    """Return the share of pairs predicted as they are."""
    return float((labels == predicted).mean())


def precision(labels: Bools, predicted: Bools) -> float:
    """Return the share of positives among those predicted; 0 where none is predicted."""
    return _ratio((labels & predicted).sum(), predicted.sum())


def recall(labels: Bools, predicted: Bools) -> float:
    """Return the share of positives that are predicted; 0 where there is none."""
    return _ratio((labels & predicted).sum(), labels.sum())


def f1(labels: Bools, predicted: Bools) -> float:
    """Return the harmonic mean of precision and recall, 2tp / (2tp + fp + fn)."""
    return _ratio(2 * (labels & predicted).sum(), labels.sum() + predicted.sum())


def best_threshold(labels: Bools, scores: Floats) -> float:
    """Return the threshold t for which predicting scores ≥ t has the best F1.

    It lies halfway between two scores, the highest such one where several do equally well.
    Choose it on validation data, never on the data that judge.

    >>> best_threshold(np.array([False, True, True]), np.array([0.1, 0.3, 0.7]))
    0.2

    Args:
        labels: (n,) whether each pair is positive, n ≥ 1.
        scores: (n,) finite scores.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(labels[order])
    f1_at = 2 * hits / (np.arange(1, len(ranked) + 1) + max(int(labels.sum()), 1))
    last_of_tie = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(last_of_tie, f1_at, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    return float((ranked[best] + below) / 2)


def roc_auc(labels: Bools, scores: Floats) -> float:
    """Return the chance that a positive scores above a negative, ties counting one half.

    NaN where one of the classes is empty.

    Source: Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 27(8), 2006,
    section 7 (the area equals the Wilcoxon rank statistic).
    """
    n_positive = int(labels.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # of each distinct score, from 1
    above = mean_rank[inverse][labels].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def log_loss(labels: Bools, logits: Floats) -> float:
    """Return the mean cross-entropy −[r log σ(z) + (1−r) log(1−σ(z))] in nats."""
    z = logits.astype(np.float64)
    return float((np.logaddexp(0.0, z) - labels * z).mean())


def top_items(scores: Floats, eligible: Bools, k: int) -> npt.NDArray[np.int64]:
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


def recall_at_k(top: npt.NDArray[np.int64], relevant: Bools) -> Doubles:
    """Return (n_users,) shares of the relevant items that are among the top ones.

    Args:
        top: (n_users, k) item rows, −1 for none.
        relevant: (n_users, n_items), one or more in each row.
    """
    found: Doubles = _hits(top, relevant).sum(axis=1) / relevant.sum(axis=1)
    return found


def ndcg(top: npt.NDArray[np.int64], relevant: Bools) -> Doubles:
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


def _hits(top: npt.NDArray[np.int64], relevant: Bools) -> Bools:
    return np.take_along_axis(relevant, np.maximum(top, 0), axis=1) & (top >= 0)


def _ratio(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else 0.0
