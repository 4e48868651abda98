"""Item states that stay in a device's memory, and the graph that selects among them there."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.providers import Device, place
from fuserank.engine.scoring.kernels import BLOCK
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.session import BoundRun, GraphSession

__all__ = ["SELECTION_BLOCK", "DeviceScan"]

Array = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]

SELECTION_BLOCK = 128
"""Items whose best score stands for them in the graph; its count of items is a multiple of it."""

_TILE = 2048 * SELECTION_BLOCK
"""Items a run: what lies between users and items is that much at a time."""

_USERS = (1, 4, 16, 64)
_RESULTS = (16, 128, 1024, 8192)
"""The shapes that are run: of users, and of results for each. Others are padded, or take turns."""

_LOWEST = np.finfo(np.float32).min


class DeviceScan:
    """The best items of each tile of the catalogue, through the graph that selects.

    Attributes:
        tile: items a run; no run has more results.
    """

    def __init__(
        self,
        select: GraphSession,
        n_items: int,
        read: Callable[[int, int], Mapping[str, Array]],
        device: Device,
        *,
        fixed: Mapping[str, Array] | None = None,
    ) -> None:
        """Copy the item states to the device.

        Args:
            select: a graph with selection.
            n_items: items of the catalogue.
            read: returns the states of a range of items by name, (last - first, …).
            device: where the graph runs.
            fixed: what else the graph reads and no request changes, by name.
        """
        self._select = select
        self.tile = min(_TILE, -(-n_items // SELECTION_BLOCK) * SELECTION_BLOCK)
        shared = {name: place(value, device) for name, value in (fixed or {}).items()}
        self._tiles = []
        for first in range(0, n_items, _TILE):
            states = read(first, min(first + _TILE, n_items))
            placed = {name: place(self._padded(state), device) for name, state in states.items()}
            self._tiles.append({**placed, **shared})
        self._runs: dict[tuple[int, ...], BoundRun] = {}
        self._lock = threading.Lock()

    def sizes(self, least: int) -> list[int]:
        """Return the counts of results that are run, ascending, from `least` up.

        The last one is all of a tile, unless that is more than any shape that is run.
        """
        return sorted({min(size, self.tile) for size in _RESULTS if size >= least})

    def best(self, users: Mapping[str, Array], words: Words, size: int) -> list[TopK]:
        """Return the `size` best eligible items of each user, tile by tile.

        Args:
            users: the graph's inputs for q users.
            words: (1 or q, n_blocks) uint64 eligibility bitmap.
            size: results a tile, at most `tile`.
        """
        n_users = len(next(iter(users.values())))
        chunks = []
        for first in range(0, n_users, _USERS[-1]):
            count = min(_USERS[-1], n_users - first)
            shape = next(shape for shape in _USERS if shape >= count)
            mine = {
                name: _repeated(value[first : first + count], shape)
                for name, value in users.items()
            }
            theirs = words if len(words) == 1 else words[first : first + count]
            chunks.append((mine, count, theirs))
        return [
            TopK.join([self._part(*chunk, size, tile) for chunk in chunks])
            for tile in range(len(self._tiles))
        ]

    def _part(
        self, users: Mapping[str, Array], n_users: int, words: Words, size: int, tile: int
    ) -> TopK:
        """Return the best of one tile, for users who are repeated up to a shape that is run."""
        first = tile * _TILE
        q = len(next(iter(users.values())))
        eligible = self._eligible(words, first, q if len(words) > 1 else 1)
        inputs = {**users, "eligible": eligible}
        found = self._run(inputs, size, tile).run(inputs)
        scores, rows = found["best_scores"][:n_users], found["best_rows"][:n_users] + first
        sizes = (scores > -np.inf).sum(axis=1)
        scores[scores == _LOWEST] = -np.inf  # what the graph raised, to tell it from nothing
        return TopK(scores=scores, rows=rows, sizes=sizes)

    def _run(self, inputs: Mapping[str, Array], size: int, tile: int) -> BoundRun:
        """Return the run of these shapes on a tile, made when it is first asked for."""
        q = len(next(iter(inputs.values())))
        key = (tile, q, len(inputs["eligible"]), size)
        with self._lock:
            if key not in self._runs:
                blocks = min(size, self.tile // SELECTION_BLOCK)
                # Counts are read on the CPU, wherever the graph runs.
                counts = {
                    "blocks": place(np.array([blocks]), Device.CPU),
                    "k": place(np.array([size]), Device.CPU),
                }
                outputs: dict[str, Array] = {
                    "best_scores": np.empty((q, size), dtype=np.float32),
                    "best_rows": np.empty((q, size), dtype=np.int64),
                }
                self._runs[key] = self._select.bind(
                    {**self._tiles[tile], **counts}, inputs, outputs
                )
            return self._runs[key]

    def _eligible(self, words: Words, first: int, count: int) -> npt.NDArray[np.bool_]:
        """Return (count, tile) bool, from the bits of a tile."""
        mine = np.ascontiguousarray(words[:, first // BLOCK : (first + self.tile) // BLOCK])
        bits = np.unpackbits(mine.view(np.uint8), axis=1, bitorder="little")
        eligible = np.zeros((count, self.tile), dtype=np.bool_)
        eligible[: len(bits), : bits.shape[1]] = bits
        return eligible

    def _padded(self, state: Array) -> Array:
        """Return a tile's states, zeros behind the last item."""
        missing = self.tile - len(state)
        return np.pad(state, [(0, missing)] + [(0, 0)] * (state.ndim - 1)) if missing else state


def _repeated(value: Array, size: int) -> Array:
    """Return `size` rows: those there are, and the first over again."""
    rows = np.zeros(size, dtype=np.int64)
    rows[: len(value)] = np.arange(len(value))
    return value[rows]
