"""Scorers whose joint part is one compiled pass: inner product and two-layer perceptron."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.kernels import BLOCK, scan_additive, scan_dot
from fuserank.engine.scoring.scorer import TopK

__all__ = ["FusedScorer"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

_MIN_BLOCKS_A_THREAD = 512
"""A smaller share costs less than handing it to another thread (32,768 items, some 0.2 ms)."""


class FusedScorer:
    """Exact scores of every item in one pass over the item states, selection included.

    `dot`:       score = ⟨user_state, item_state⟩ + user_constant + item_constant
    `additive`:  score = Σ_h weights_h·act(user_state_h + item_state_h) + both constants

    The item states may be a memory-mapped file: they are read where they lie.
    """

    def __init__(
        self,
        item_states: Mapping[str, Array],
        *,
        weights: FloatArray | None = None,
        activation: str | None = None,
        threads: int = 1,
    ) -> None:
        """Take the item states.

        Args:
            item_states: ``item_state`` (n, width) float32 and ``item_constant`` (n,) float32.
            weights: (width,) float32; given for `additive`.
            activation: a name in `scan_additive`; given for `additive`.
            threads: threads a pass may use.
        """
        self._states: FloatArray = np.asarray(item_states["item_state"])
        self._constants: FloatArray = np.asarray(item_states["item_constant"])
        width = self._states.shape[1]
        self._scan: Callable[..., None] = (
            scan_dot if activation is None else scan_additive[activation]
        )
        self._weights = np.ones(width, dtype=np.float32) if weights is None else weights
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "fuserank-scan") if threads > 1 else None

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return len(self._states)

    def top_k(self, users: Mapping[str, Array], words: npt.NDArray[np.uint64], k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        n_blocks = words.shape[1]
        n_parts = max(1, min(self._threads, n_blocks // _MIN_BLOCKS_A_THREAD))
        if self._pool is None or n_parts == 1:
            return self._part(users, words, k, (0, n_blocks))
        edges = np.linspace(0, n_blocks, n_parts + 1).astype(int).tolist()
        others = [
            self._pool.submit(self._part, users, words, k, (edges[i], edges[i + 1]))
            for i in range(1, n_parts)
        ]
        parts = [self._part(users, words, k, (0, edges[1]))]
        return _merge([*parts, *(other.result() for other in others)], k)

    def score(
        self, users: Mapping[str, Array], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        states, constants = self._states[rows], self._constants[rows]
        n_users, n_rows = len(users["user_state"]), len(rows)
        scores = np.empty((n_users, n_rows), dtype=np.float32)
        if n_rows == 0:
            return scores
        # The same compiled pass, asked for all rows, so that a score is the same to the bit
        # whichever call computed it.
        words = np.full((1, -(-n_rows // BLOCK)), ~np.uint64(0), dtype=np.uint64)
        found = TopK.empty(n_users, n_rows)
        self._run((states, constants), users, words, (0, words.shape[1]), found)
        scores.fill(np.nan)
        for mine, theirs, order, size in zip(
            scores, found.scores, found.rows, found.sizes, strict=True
        ):
            mine[order[:size]] = theirs[:size]
        return scores

    def close(self) -> None:
        """Release the scan's threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _part(
        self,
        users: Mapping[str, Array],
        words: npt.NDArray[np.uint64],
        k: int,
        blocks: tuple[int, int],
    ) -> TopK:
        found = TopK.empty(len(users["user_state"]), k)
        if k:
            self._run((self._states, self._constants), users, words, blocks, found)
        return found

    def _run(
        self,
        items: tuple[FloatArray, FloatArray],
        users: Mapping[str, Array],
        words: npt.NDArray[np.uint64],
        blocks: tuple[int, int],
        found: TopK,
    ) -> None:
        self._scan(
            *items,
            np.ascontiguousarray(users["user_state"]),
            self._weights,
            np.ascontiguousarray(users["user_constant"]),
            words,
            *blocks,
            found.scores,
            found.rows,
            found.sizes,
        )


def _merge(parts: list[TopK], k: int) -> TopK:
    """Join the results of several ranges, given in catalogue order."""
    n_users = len(parts[0].sizes)
    joined = TopK.empty(n_users, k)
    for user in range(n_users):
        scores = np.concatenate([part.scores[user, : part.sizes[user]] for part in parts])
        rows = np.concatenate([part.rows[user, : part.sizes[user]] for part in parts])
        order = np.lexsort((rows, -scores))[:k]
        joined.sizes[user] = len(order)
        joined.scores[user, : len(order)] = scores[order]
        joined.rows[user, : len(order)] = rows[order]
    return joined
