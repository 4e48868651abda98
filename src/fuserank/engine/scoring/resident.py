"""The scorers whose item states stay in a device's memory, in float32 or in half of that."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.providers import Device
from fuserank.engine.scoring.candidates import MAX_SHARE, Irregular, kth_best
from fuserank.engine.scoring.device_scan import DeviceScan
from fuserank.engine.scoring.fused import FusedScorer
from fuserank.engine.scoring.generic import GenericScorer
from fuserank.engine.scoring.half_queries import HalfQueries, HalfQueryMaker
from fuserank.engine.scoring.half_states import HalfStates
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.session import GraphSession

__all__ = ["HalfResidentScorer", "ResidentScorer"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

logger = logging.getLogger(__name__)

_ASKED = 4
"""Results asked for first for each item wanted: on normal numbers, candidates are fewer."""


class ResidentScorer:
    """Float32 scores of every item through the graph that selects, tile by tile."""

    def __init__(
        self,
        select: GraphSession,
        joint: GraphSession,
        item_states: Mapping[str, Array],
        device: Device,
    ) -> None:
        """Copy the item states to the device.

        Args:
            select: the joint graph with selection.
            joint: the joint graph, for the scores of named items.
            item_states: by name, (n, …).
            device: where both graphs run.
        """
        self._named = GenericScorer(joint, item_states)
        self._scan = DeviceScan(
            select,
            self.n_items,
            lambda first, last: {name: state[first:last] for name, state in item_states.items()},
            device,
        )

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self._named.n_items

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        if k == 0:
            return TopK.empty(len(next(iter(users.values()))), 0)
        size = next(iter(self._scan.sizes(k)), self._scan.tile)
        return TopK.merge([part.first(k) for part in self._scan.best(users, words, size)], k)

    def score(self, users: Mapping[str, Array], rows: Rows) -> FloatArray:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        return self._named.score(users, rows)

    def close(self) -> None:
        """Hold no threads of its own: nothing to release."""


class HalfResidentScorer:
    """The items and scores of a `FusedScorer`, out of float16 states on a device.

    The device finds what could be among the best; that alone is rescored on the CPU, from the
    float32 states, so that scores are those of the float32 scan to the bit. `candidates` says why
    none is missed, `half_queries` how far float16 can be off. That scan itself answers, on the CPU,
    for users of whom nothing bounds it (states that are not finite, sums that could overflow), for
    those with more candidates than a run of the graph returns, and where k is a large share of
    the catalogue.
    """

    def __init__(
        self,
        select: GraphSession,
        item_states: Mapping[str, Array],
        device: Device,
        *,
        weights: FloatArray | None = None,
        threads: int = 1,
    ) -> None:
        """Copy the item states to the device, rounded.

        Args:
            select: a graph with selection over float16 states.
            item_states: as for `FusedScorer`.
            device: where the graph runs.
            weights: (width,) float32 of a perceptron with relu; None for an inner product.
            threads: threads that rescoring may use.
        """
        activation = None if weights is None else "relu"
        self._exact = FusedScorer(
            item_states, weights=weights, activation=activation, threads=threads
        )
        states = HalfStates.measure(
            item_states["item_state"], item_states["item_constant"], weights
        )
        self._irregular = Irregular(states.irregular, self.n_items)
        self._queries = HalfQueryMaker(states)
        self._scan = DeviceScan(
            select,
            self.n_items,
            lambda first, last: {
                "item_state": states.rounded(item_states["item_state"], first, last),
                "item_constant": item_states["item_constant"][first:last],
            },
            device,
            fixed={"groups": states.groups},
        )

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self._exact.n_items

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        if k == 0 or k > self.n_items // MAX_SHARE:
            return self._exact.top_k(users, words, k)
        queries = self._queries.make(users)
        candidates = self._candidates(queries, words, k)
        found = TopK.empty(len(queries.margins), k)
        known = np.array(sorted(candidates), dtype=np.int64)
        if len(known):
            mine = [candidates[q] for q in known]
            found.put(known, self._exact.top_k_of(_of(users, known), mine, k))
        others = np.setdiff1d(np.arange(len(queries.margins)), known)
        if len(others):
            logger.debug("the float32 scan answers %d of %d users", len(others), len(found.sizes))
            found.put(others, self._exact.top_k(_of(users, others), _words_of(words, others), k))
        return found

    def score(self, users: Mapping[str, Array], rows: Rows) -> FloatArray:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        return self._exact.score(users, rows)

    def close(self) -> None:
        """Release the threads that rescore."""
        self._exact.close()

    def _candidates(self, queries: HalfQueries, words: Words, k: int) -> dict[int, Rows]:
        """Return, ascending, the rows that could be among a user's k best, where all are known."""
        regular = self._irregular.left_out(words)
        pending = np.flatnonzero(np.isfinite(queries.margins))
        found: dict[int, Rows] = {}
        for size in self._scan.sizes(_ASKED * k):
            if not len(pending):
                break
            parts = self._scan.best(_of(queries.inputs, pending), _words_of(regular, pending), size)
            scores = np.concatenate([part.scores for part in parts], axis=1)
            rows = np.concatenate([part.rows for part in parts], axis=1)
            least = kth_best(scores, k) - queries.margins[pending]
            kept = (scores >= least[:, None]) & (scores > -np.inf)
            # A tile whose last result is a candidate may hold more of them.
            is_all = np.all(
                [(part.sizes < size) | (part.scores[:, -1] < least) for part in parts], axis=0
            ) | (size == self._scan.tile)
            mine = [np.sort(rows[at, kept[at]]) for at in np.flatnonzero(is_all)]
            done, pending = pending[is_all], pending[~is_all]
            mine = self._irregular.added(mine, _words_of(words, done))
            found.update(zip(done.tolist(), mine, strict=True))
        return found


def _of(users: Mapping[str, Array], chosen: Rows) -> dict[str, Array]:
    return {name: value[chosen] for name, value in users.items()}


def _words_of(words: Words, chosen: Rows) -> Words:
    return words if len(words) == 1 else words[chosen]
