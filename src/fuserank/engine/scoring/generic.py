"""The scorer for any joint graph: ONNX Runtime tile by tile, the same selection behind it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.kernels import BLOCK, offer_scores, sort_heaps
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.session import GraphSession

__all__ = ["GenericScorer"]

Array = npt.NDArray[Any]

_TILE = 64 * BLOCK
"""Items a run of the joint graph: its intermediate values stay in the cache."""


class GenericScorer:
    """Exact scores of every item through the joint graph."""

    def __init__(self, joint: GraphSession, item_states: Mapping[str, Array]) -> None:
        """Take the joint graph, whose only output is (q, m) scores, and the item states."""
        self._joint = joint
        self._states = dict(item_states)
        (self._n_items,) = {len(state) for state in self._states.values()}

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self._n_items

    def top_k(self, users: Mapping[str, Array], words: npt.NDArray[np.uint64], k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        n_users = len(next(iter(users.values())))
        found = TopK.empty(n_users, min(k, self.n_items))
        if not found.scores.size:
            return found
        for first in range(0, self.n_items, _TILE):
            tile_words = words[:, first // BLOCK : (first + _TILE) // BLOCK]
            if not tile_words.any():
                continue
            tile = self._scores(users, slice(first, first + _TILE))
            offer_scores(tile, first, words, found.scores, found.rows, found.sizes)
        sort_heaps(found.scores, found.rows, found.sizes)
        return found

    def score(
        self, users: Mapping[str, Array], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        if len(rows) == 0:
            n_users = len(next(iter(users.values())))
            return np.empty((n_users, 0), dtype=np.float32)
        return self._scores(users, rows)

    def close(self) -> None:
        """Hold no threads of its own: nothing to release."""

    def _scores(
        self, users: Mapping[str, Array], rows: "slice | npt.NDArray[np.int64]"
    ) -> npt.NDArray[np.float32]:
        items = {name: state[rows] for name, state in self._states.items()}
        (scores,) = self._joint.run({**users, **items}).values()
        return np.ascontiguousarray(scores, dtype=np.float32)
