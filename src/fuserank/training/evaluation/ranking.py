"""Ranking the whole catalogue for users, seen items left out, against what they liked later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError
from fuserank.training.evaluation import list_metrics
from fuserank.training.evaluation.metrics import Bools, Doubles, Floats

if TYPE_CHECKING:
    from fuserank.training.data.dataset import Interactions

__all__ = ["Cut", "JudgedUsers", "Ranking", "judge_users"]

Rows = npt.NDArray[np.integer]
Scores = Callable[[Rows], npt.NDArray[np.floating[Any]]]

_USERS = 256
"""Users ranked at once."""

_BY_USER = {
    "recall": list_metrics.recall_at_k,
    "precision": list_metrics.precision_at_k,
    "ndcg": list_metrics.ndcg,
    "map": list_metrics.average_precision_at_k,
    "hit_rate": list_metrics.hit_at_k,
    "mrr": list_metrics.reciprocal_rank,
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How good lists of one length are: means over users, unless said otherwise.

    Attributes:
        k: length of a list.
        recall: share of a user's held-out positives that are in the list.
        precision: share of the list's places that hold one.
        ndcg: discounted gain of the list over the best possible.
        map: precision at the rank of each held-out positive, over min(k, number of them).
        hit_rate: share of users with one in the list or more.
        mrr: 1 / rank of the first, 0 where there is none.
        coverage: share of the items that may be ranked that are in anyone's list.
        novelty: −log₂ of the share of users who had met an item of the list, in bits; an item that
            nobody had met counts as met by one. None where nothing could be listed.
        diversity: 1 − cosine similarity of two items of the list; None without item vectors, and
            where no list holds two items.
    """

    k: int
    recall: float
    precision: float
    ndcg: float
    map: float
    hit_rate: float
    mrr: float
    coverage: float
    novelty: float | None
    diversity: float | None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How well held-out positives are ranked.

    Attributes:
        k: length of the lists that `recall` and `ndcg` are of.
        n_users: users with one held-out positive or more, the others not counting.
        cuts: figures of every length of a list, in ascending order.
    """

    k: int
    n_users: int
    cuts: tuple[Cut, ...]

    @property
    def recall(self) -> float:
        """Share of a user's held-out positives that are in a list of k."""
        return self.at(self.k).recall

    @property
    def ndcg(self) -> float:
        """Discounted gain of a list of k over the best possible."""
        return self.at(self.k).ndcg

    def at(self, k: int) -> Cut:
        """Return the figures of lists of k.

        Raises:
            DataError: lists of that length were not judged.
        """
        for cut in self.cuts:
            if cut.k == k:
                return cut
        raise DataError(
            f"ranking: found no figures of lists of {k}, expected one of "
            f"{', '.join(str(cut.k) for cut in self.cuts)}; name it among the cut-offs to judge"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedUsers:
    """A ranking, and what it came to for each user: what significance is computed from.

    Attributes:
        ranking: means over users.
        users: (n_users,) their rows, ascending; the same for every system judged alike.
        recall: (n_users,) float64, of lists of the ranking's k.
        ndcg: (n_users,) float64, of the same.
    """

    ranking: Ranking
    users: Rows
    recall: Doubles
    ndcg: Doubles


def judge_users(
    scores: Scores,
    *,
    seen: Interactions,
    held_out: Interactions,
    n_items: int,
    k: int = 10,
    ks: Sequence[int] = (5, 10, 20),
    candidates: Bools | None = None,
    users: Rows | None = None,
    item_vectors: Floats | None = None,
) -> JudgedUsers:
    """Rank all items that each user has not seen and compare with the held-out positives.

    Cold items are judged by themselves with `candidates` that are true where no interaction
    trained, cold users with `users` of whom none did.

    Args:
        scores: from (n,) user rows to (n, n_items) scores.
        seen: interactions whose items are never recommended to their users; novelty counts them.
        held_out: interactions of which the positive ones are to be found.
        n_items: items of the catalogue.
        k: length of the lists that the headline figures are of.
        ks: further lengths to judge.
        candidates: (n_items,) whether an item may be ranked, and is to be found; all items unless
            given.
        users: (n,) rows of the users to judge, in any order; all users unless given.
        item_vectors: (n_items, dim) what the lists' diversity is measured by.

    Raises:
        DataError: no held-out interaction is positive, or none of them is of such an item and such
            a user.
    """
    ranked = np.ones(n_items, dtype=np.bool_) if candidates is None else candidates
    liked = _to_be_found(held_out, ranked, users)
    judged = np.unique(liked.user)
    lengths = sorted({k, *ks})
    met = np.bincount(seen.item, minlength=n_items)
    share = np.maximum(met, 1) / max(len(np.unique(seen.user)), 1)

    tops: list[list_metrics.Items] = []
    found: dict[tuple[int, str], list[Doubles]] = {}
    for first in range(0, len(judged), _USERS):
        some = judged[first : first + _USERS]
        relevant = _mask(some, liked, n_items)
        eligible = ranked & ~_mask(some, seen, n_items)
        longest = list_metrics.top_items(scores(some), eligible, lengths[-1])
        tops.append(longest)
        for length in lengths:
            top = longest[:, :length]
            figures = {name: metric(top, relevant) for name, metric in _BY_USER.items()}
            figures["novelty"] = list_metrics.novelty(top, share)
            if item_vectors is not None:
                figures["diversity"] = list_metrics.diversity(top, item_vectors)
            for name, values in figures.items():
                found.setdefault((length, name), []).append(values)
    by_user = {key: np.concatenate(values) for key, values in found.items()}
    top = np.concatenate(tops)
    return JudgedUsers(
        ranking=Ranking(
            k=k,
            n_users=len(judged),
            cuts=tuple(
                Cut(
                    k=length,
                    **{name: float(by_user[length, name].mean()) for name in _BY_USER},
                    coverage=list_metrics.coverage(top[:, :length], int(ranked.sum())),
                    novelty=_mean(by_user[length, "novelty"]),
                    diversity=_mean(by_user.get((length, "diversity"), np.empty(0))),
                )
                for length in lengths
            ),
        ),
        users=judged,
        recall=by_user[k, "recall"],
        ndcg=by_user[k, "ndcg"],
    )


def _to_be_found(held_out: Interactions, candidates: Bools, users: Rows | None) -> Interactions:
    """Return the held-out positives of these items and users."""
    liked = held_out.select(held_out.positive)
    if not len(liked):
        raise DataError(
            "judging: found no positive interaction in the held-out part, expected one or more; "
            "raise the share of the split that is held out"
        )
    wanted = candidates[liked.item]
    if users is not None:
        wanted &= np.isin(liked.user, users)
    if not wanted.any():
        asked = "all users" if users is None else f"{len(users)} users"
        raise DataError(
            f"judging: found none of {len(liked)} held-out positives among {candidates.sum()} "
            f"candidate items and {asked}, expected one or more; hold out by item or by user "
            "where those that never trained are to be judged"
        )
    return liked.select(wanted)


def _mean(values: Doubles) -> float | None:
    """Return the mean of what is known, None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _mask(users: Rows, interactions: Interactions, n_items: int) -> npt.NDArray[np.bool_]:
    """Return (len(users), n_items): whether the interactions hold the pair; users ascend."""
    found = np.zeros((len(users), n_items), dtype=np.bool_)
    theirs = np.isin(interactions.user, users)
    row = np.searchsorted(users, interactions.user[theirs])
    found[row, interactions.item[theirs]] = True
    return found
