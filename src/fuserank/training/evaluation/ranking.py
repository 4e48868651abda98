"""Ranking the whole catalogue for users, seen items left out, against what they liked later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError
from fuserank.training.evaluation import list_metrics
from fuserank.training.evaluation.label_metrics import (
    Averages,
    LabelCounts,
    macro_average,
    micro_average,
)
from fuserank.training.evaluation.metrics import Bools, Doubles, Floats

if TYPE_CHECKING:
    from fuserank.training.data.interactions import Interactions

__all__ = ["Cut", "JudgedUsers", "Ranking", "judge_users", "share_of_users"]

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
        micro: precision, recall and F1 of the lists as sets of labels, where a user's held-out
            positives are the labels that are true: of all users and items taken together.
        macro: the same of each item over all users, averaged over the items that may be ranked.
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
    micro: Averages
    macro: Averages


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
    met_by: Doubles | None = None,
) -> JudgedUsers:
    """Rank all items that each user has not seen and compare with the held-out positives.

    Cold items are judged by themselves with `candidates` that are true where no interaction
    trained, cold users with `users` of whom none did.

    Args:
        scores: from (n,) user rows to (n, n_items) scores.
        seen: interactions whose items are never recommended to their users.
        held_out: interactions of which the positive ones are to be found.
        n_items: items of the catalogue.
        k: length of the lists that the headline figures are of.
        ks: further lengths to judge.
        candidates: (n_items,) whether an item may be ranked, and is to be found; all items unless
            given.
        users: (n,) rows of the users to judge, in any order; all users unless given.
        item_vectors: (n_items, dim) what the lists' diversity is measured by.
        met_by: (n_items,) what their novelty is measured by, see `share_of_users`; where it is not
            given, `seen` says it.

    Raises:
        DataError: no held-out interaction is positive, or none of them is of such an item and such
            a user.
    """
    ranked = np.ones(n_items, dtype=np.bool_) if candidates is None else candidates
    liked = _to_be_found(held_out, ranked, users)
    judged = np.unique(liked.user)
    lengths = sorted({k, *ks})
    if met_by is None:
        met_by = share_of_users((seen,), n_items)
    met = seen.of_users(judged)  # which leaves little of what may be larger than memory
    figures = {length: _Figures(length, met_by, item_vectors) for length in lengths}
    for first in range(0, len(judged), _USERS):
        some = judged[first : first + _USERS]
        relevant = _mask(some, liked, n_items)
        eligible = ranked & ~_mask(some, met, n_items)
        longest = list_metrics.top_items(scores(some), eligible, lengths[-1])
        for found in figures.values():
            found.add(longest, relevant)
    cuts = tuple(found.cut(ranked) for found in figures.values())
    return JudgedUsers(
        ranking=Ranking(k=k, n_users=len(judged), cuts=cuts),
        users=judged,
        recall=figures[k].by_user("recall"),
        ndcg=figures[k].by_user("ndcg"),
    )


def share_of_users(parts: Sequence[Interactions], n_items: int) -> Doubles:
    """Return (n_items,) the share of users who met each item; one met by nobody counts as one.

    Args:
        parts: interactions that no two of them share.
        n_items: items of the catalogue.
    """
    n_users = 1 + max(int(part.user.max(initial=-1)) for part in parts)
    met = np.sum([part.item_counts(n_items) for part in parts], axis=0)
    counts = np.sum([part.user_counts(n_users) for part in parts], axis=0)
    share: Doubles = np.maximum(met, 1) / max(np.count_nonzero(counts), 1)
    return share


class _Figures:
    """What lists of one length come to, lot after lot of users."""

    def __init__(self, length: int, met_by: Doubles, item_vectors: Floats | None) -> None:
        self._length = length
        self._met_by = met_by
        self._item_vectors = item_vectors
        self._by_user: dict[str, list[Doubles]] = {}
        self._labels = LabelCounts(*np.zeros((3, len(met_by)), dtype=np.int64))

    def add(self, longest: list_metrics.Items, relevant: Bools) -> None:
        """Judge the lists of some users; longer ones are cut."""
        top = longest[:, : self._length]
        figures = {name: metric(top, relevant) for name, metric in _BY_USER.items()}
        figures["novelty"] = list_metrics.novelty(top, self._met_by)
        if self._item_vectors is not None:
            figures["diversity"] = list_metrics.diversity(top, self._item_vectors)
        for name, values in figures.items():
            self._by_user.setdefault(name, []).append(values)
        self._labels += list_metrics.label_counts(top, relevant)

    def by_user(self, name: str) -> Doubles:
        """Return (n_users,) a figure of each user."""
        return np.concatenate(self._by_user.get(name, [np.empty(0)]))

    def cut(self, ranked: Bools) -> Cut:
        """Return the figures over all users; (n_items,) says which items may be ranked."""
        labels = self._labels.of_labels(ranked)
        return Cut(
            k=self._length,
            **{name: float(self.by_user(name).mean()) for name in _BY_USER},
            coverage=list_metrics.coverage(labels),
            novelty=_mean(self.by_user("novelty")),
            diversity=_mean(self.by_user("diversity")),
            micro=micro_average(labels),
            macro=macro_average(labels),
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
