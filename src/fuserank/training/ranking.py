"""Ranking the whole catalogue for users, seen items left out, against what they liked later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError
from fuserank.training.metrics import ndcg, recall_at_k, top_items

if TYPE_CHECKING:
    from fuserank.training.dataset import Interactions

__all__ = ["Ranking", "judge_ranking"]

Rows = npt.NDArray[np.integer]

_USERS = 256
"""Users ranked at once."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well held-out positives are ranked, as means over users.

    Attributes:
        k: length of a list.
        n_users: users with one held-out positive or more, the others not counting.
        recall: share of a user's held-out positives that are in the list.
        ndcg: discounted gain of the list over the best possible.
    """

    k: int
    n_users: int
    recall: float
    ndcg: float


def judge_ranking(
    scores: Callable[[Rows], npt.NDArray[np.floating[Any]]],
    *,
    seen: Interactions,
    held_out: Interactions,
    n_items: int,
    k: int = 10,
) -> Ranking:
    """Rank all items that a user has not seen and compare with the held-out positives.

    Args:
        scores: from (n,) user rows to (n, n_items) scores.
        seen: interactions whose items are never recommended to their users.
        held_out: interactions of which the positive ones are to be found.
        n_items: items of the catalogue.
        k: length of a list.

    Raises:
        DataError: no held-out interaction is positive.
    """
    if not held_out.positive.any():
        raise DataError(
            "judging: found no positive interaction in the held-out part, expected one or more; "
            "raise the share of the split that is held out"
        )
    liked = held_out.select(held_out.positive)
    users = np.unique(liked.user)
    recalls, ndcgs = [], []
    for first in range(0, len(users), _USERS):
        some = users[first : first + _USERS]
        hidden = _mask(some, seen, n_items)
        relevant = _mask(some, liked, n_items)
        top = top_items(scores(some), ~hidden, k)
        recalls.append(recall_at_k(top, relevant))
        ndcgs.append(ndcg(top, relevant))
    return Ranking(
        k=k,
        n_users=len(users),
        recall=float(np.concatenate(recalls).mean()),
        ndcg=float(np.concatenate(ndcgs).mean()),
    )


def _mask(users: Rows, interactions: Interactions, n_items: int) -> npt.NDArray[np.bool_]:
    """Return (len(users), n_items): whether the interactions hold the pair; users ascend."""
    found = np.zeros((len(users), n_items), dtype=np.bool_)
    theirs = np.isin(interactions.user, users)
    row = np.searchsorted(users, interactions.user[theirs])
    found[row, interactions.item[theirs]] = True
    return found
