"""How much two rankings of the same items agree."""

import numpy as np
import numpy.typing as npt

__all__ = ["overlap", "rank_biased_overlap"]

Items = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


def overlap(one: Items, other: Items, k: int) -> Doubles:
    """Return (n_users,) shares of the k best that two lists have in common, in any order.

    Where the longer list holds fewer than k items, the share is of those; lists that are both
    empty agree.

    Args:
        one: (n_users, at least k unless there are fewer items) item rows, −1 for none.
        other: the same of the other ranking.
        k: how many of each list count.

    >>> overlap(np.array([[4, 7, 2]]), np.array([[7, 4, 9]]), 2)
    array([1.])
    """
    one, other = one[:, :k], other[:, :k]
    common = _meetings(one, other) >= 0
    longest = np.maximum((one >= 0).sum(axis=1), (other >= 0).sum(axis=1))
    return np.where(longest > 0, common.sum(axis=1) / np.maximum(longest, 1), 1.0)


def rank_biased_overlap(one: Items, other: Items, p: float = 0.9) -> Doubles:
    """Return (n_users,) rank-biased overlaps: agreement in which the first places weigh most.

    The overlap X_d / d at depth d weighs (1 − p) p^(d − 1); behind the last place k it is taken to
    stay what it is there (RBO_ext): X_k/k · p^k + (1 − p)/p · Σ_{d ≤ k} X_d/d · p^d. With p = .9
    the first ten places have 86 % of the weight. Lists that are both empty agree.

    Args:
        one: (n_users, k) item rows, best first, −1 for none.
        other: the same of the other ranking.
        p: how far a reader goes on from each place, above 0 and below 1.

    Source: Webber, Moffat and Zobel, "A Similarity Measure for Indefinite Rankings", TOIS 28(4),
    2010, equations 7 and 30.
    """
    depth = np.maximum((one >= 0).sum(axis=1), (other >= 0).sum(axis=1))
    place = np.arange(one.shape[1])
    # An item counts from the depth at which both lists hold it.
    met_at = _meetings(one, other)
    common = np.cumsum(
        (met_at[:, :, None] == place).sum(axis=1), axis=1, dtype=np.float64
    )  # X_d, (n_users, k)
    shares = common / (place + 1)
    within = place < depth[:, None]
    summed = (1 - p) / p * (np.where(within, shares, 0.0) * p ** (place + 1)).sum(axis=1)
    last = np.take_along_axis(shares, np.maximum(depth - 1, 0)[:, None], axis=1)[:, 0]
    return np.where(depth > 0, last * p**depth + summed, 1.0)


def _meetings(one: Items, other: Items) -> Items:
    """Return, for each place of a list, the later of its item's places in both; −1 in one alone."""
    same = (one[:, :, None] == other[:, None, :]) & (one >= 0)[:, :, None]
    later = np.maximum(np.arange(one.shape[1]), same.argmax(axis=2))
    return np.where(same.any(axis=2), later, -1)
