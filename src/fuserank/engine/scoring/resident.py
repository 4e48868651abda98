"""The scorer whose item states stay in a device's memory: the joint graph selects there."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.providers import Device, place
from fuserank.engine.scoring.generic import GenericScorer
from fuserank.engine.scoring.kernels import BLOCK
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.session import BoundRun, GraphSession

__all__ = ["SELECTION_BLOCK", "ResidentScorer"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

SELECTION_BLOCK = 128
"""Items whose best score stands for them in the graph; its count of items is a multiple of it."""

_TILE = 2048 * SELECTION_BLOCK
"""Items a run: what lies between users and items is that much at a time."""

_USERS = (1, 4, 16, 64)
_RESULTS = (16, 128, 1024)
"""The shapes that are run: of users, and of results for each. Others are padded, or take turns."""

_LOWEST = np.finfo(np.float32).min


class ResidentScorer:
    """Exact scores of every item through the graph that selects, tile by tile."""

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
        self._select = select
        self._named = GenericScorer(joint, item_states)
        self._tile = min(_TILE, -(-self.n_items // SELECTION_BLOCK) * SELECTION_BLOCK)
        self._tiles = [
            {
                name: place(self._padded(state[at : at + _TILE]), device)
                for name, state in item_states.items()
            }
            for at in range(0, self.n_items, _TILE)
        ]
        self._runs: dict[tuple[int, ...], BoundRun] = {}
        self._lock = threading.Lock()

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self._named.n_items

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        n_users = len(next(iter(users.values())))
        if k == 0:
            return TopK.empty(n_users, 0)
        found = []
        for first in range(0, n_users, _USERS[-1]):
            count = min(_USERS[-1], n_users - first)
            size = next(size for size in _USERS if size >= count)
            mine = {
                name: _repeated(value[first : first + count], size) for name, value in users.items()
            }
            theirs = words if len(words) == 1 else words[first : first + count]
            parts = [self._part(mine, count, theirs, k, tile) for tile in range(len(self._tiles))]
            found.append(TopK.merge(parts, k))
        return TopK.join(found)

    def score(self, users: Mapping[str, Array], rows: Rows) -> npt.NDArray[np.float32]:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        return self._named.score(users, rows)

    def close(self) -> None:
        """Hold no threads of its own: nothing to release."""

    def _part(
        self, users: Mapping[str, Array], n_users: int, words: Words, k: int, tile: int
    ) -> TopK:
        """Return the k best of one tile, for users who are repeated up to a shape that is run."""
        wanted = min(next((size for size in _RESULTS if size >= k), self._tile), self._tile)
        first = tile * _TILE
        q = len(next(iter(users.values())))
        eligible = self._eligible(words, first, q if len(words) > 1 else 1)
        inputs = {**users, "eligible": eligible}
        found = self._run(inputs, wanted, tile).run(inputs)
        scores, rows = found["best_scores"][:n_users], found["best_rows"][:n_users] + first
        sizes = np.minimum((scores > -np.inf).sum(axis=1), k)
        scores[scores == _LOWEST] = -np.inf  # what the graph raised, to tell it from nothing
        return TopK(scores=scores[:, :k], rows=rows[:, :k], sizes=sizes)

    def _run(self, inputs: Mapping[str, Array], wanted: int, tile: int) -> BoundRun:
        """Return the run of these shapes on a tile, made when it is first asked for."""
        q = len(next(iter(inputs.values())))
        key = (tile, q, len(inputs["eligible"]), wanted)
        with self._lock:
            if key not in self._runs:
                blocks = min(wanted, self._tile // SELECTION_BLOCK)
                # Counts are read on the CPU, wherever the graph runs.
                counts = {
                    "blocks": place(np.array([blocks]), Device.CPU),
                    "k": place(np.array([wanted]), Device.CPU),
                }
                outputs: dict[str, Array] = {
                    "best_scores": np.empty((q, wanted), dtype=np.float32),
                    "best_rows": np.empty((q, wanted), dtype=np.int64),
                }
                self._runs[key] = self._select.bind(
                    {**self._tiles[tile], **counts}, inputs, outputs
                )
            return self._runs[key]

    def _eligible(self, words: Words, first: int, count: int) -> npt.NDArray[np.bool_]:
        """Return (count, tile) bool, from the bits of a tile."""
        mine = np.ascontiguousarray(words[:, first // BLOCK : (first + self._tile) // BLOCK])
        bits = np.unpackbits(mine.view(np.uint8), axis=1, bitorder="little")
        eligible = np.zeros((count, self._tile), dtype=np.bool_)
        eligible[: len(bits), : bits.shape[1]] = bits
        return eligible

    def _padded(self, state: Array) -> Array:
        """Return a tile's states, zeros behind the last item."""
        missing = self._tile - len(state)
        return np.pad(state, [(0, missing)] + [(0, 0)] * (state.ndim - 1)) if missing else state


def _repeated(value: Array, size: int) -> Array:
    """Return `size` rows: those there are, and the first over again."""
    rows = np.zeros(size, dtype=np.int64)
    rows[: len(value)] = np.arange(len(value))
    return value[rows]
