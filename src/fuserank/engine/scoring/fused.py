"""Scorers whose joint part is one compiled pass: inner products and perceptrons."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.deep import DenseLayer, packed
from fuserank.engine.scoring.deep_kernels import scan_deep
from fuserank.engine.scoring.eligibility import pack
from fuserank.engine.scoring.kernels import BLOCK, gather, scan_additive, scan_dot
from fuserank.engine.scoring.scorer import TopK
from fuserank.engine.scoring.shares import MIN_BLOCKS, Shares

__all__ = ["FusedScorer"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_MIN_USERS = 8
"""Fewer users' candidates are scored sooner than another thread takes them up."""

_MIN_DEEP_BLOCKS = MIN_BLOCKS // 16
"""A block of a perceptron of several layers is that much more work."""


class FusedScorer:
    """Exact scores of every item in one pass over the item states, selection included.

    `dot`:       score = ⟨user_state, item_state⟩ + user_constant + item_constant
    `additive`:  score = Σ_h weights_h·act(user_state_h + item_state_h) + both constants

    An additive scorer may have layers behind that first one, z → act(W·z + b), to the
    last of which the weights belong. Where the states are wider than the first layer, the numbers
    behind are the factors of an inner product, which is added.

    The item states may be a memory-mapped file: they are read where they lie.

    Attributes:
        shares: the threads that share a pass.
    """

    def __init__(
        self,
        item_states: Mapping[str, Array],
        *,
        weights: FloatArray | None = None,
        activation: str | None = None,
        layers: Sequence[DenseLayer] = (),
        threads: int = 1,
    ) -> None:
        """Take the item states.

        Args:
            item_states: ``item_state`` (n, width) float32 and ``item_constant`` (n,) float32.
            weights: float32, one for each unit of the last layer; given for `additive`.
            activation: of the first layer, a name in `scan_additive`; given for `additive`.
            layers: those behind the first.
            threads: threads a pass may use.
        """
        self._states: FloatArray = _read_only(np.ascontiguousarray(item_states["item_state"]))
        self._constants: FloatArray = _read_only(np.ascontiguousarray(item_states["item_constant"]))
        width = self._states.shape[1]
        self._scan: Callable[..., None]
        self._parameters: tuple[Array, ...]
        self._min_blocks = MIN_BLOCKS
        if activation is None or weights is None:
            self._scan, self._parameters = scan_dot, (np.ones(width, dtype=np.float32),)
        elif layers or len(weights) < width:
            self._scan, self._parameters = scan_deep, packed(activation, layers, weights)
            self._min_blocks = _MIN_DEEP_BLOCKS
        else:
            self._scan, self._parameters = scan_additive[activation], (np.asarray(weights),)
        self._parameters = tuple(_read_only(array) for array in self._parameters)
        self.shares = Shares(threads)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return len(self._states)

    def top_k(self, users: Mapping[str, Array], words: Words, k: int) -> TopK:
        """Return the k best eligible items of each user; see `Scorer`."""
        k = min(k, self.n_items)
        items = (self._states, self._constants)
        parts = self.shares.run(
            lambda first, last: self._part(items, users, words, k, (first, last)),
            words.shape[1],
            self._min_blocks,
        )
        return TopK.merge(parts, k)

    def top_k_of(self, users: Mapping[str, Array], rows: Sequence[Rows], k: int) -> TopK:
        """Return the k best items of each user out of some rows of its own.

        It is the same compiled pass, over copies of these rows, so that a score is the same to
        the bit whichever call computed it.

        Args:
            users: outputs of the user graph for q users.
            rows: for each user (m,) catalogue rows, ascending.
            k: items wanted.
        """

        def best(first: int, last: int) -> TopK:
            mine = {name: value[first:last] for name, value in users.items()}
            return self._top_k_of(mine, rows[first:last], k)

        return TopK.join(self.shares.run(best, len(rows), _MIN_USERS))

    def _top_k_of(self, users: Mapping[str, Array], rows: Sequence[Rows], k: int) -> TopK:
        every = np.concatenate(rows)
        ends = np.cumsum([len(mine) for mine in rows])
        position = np.arange(-(-len(every) // BLOCK) * BLOCK)
        is_mine = position < ends[:, None]
        is_mine[1:] &= ~is_mine[:-1]
        found = self._part(self._copies(every), users, pack(is_mine), k)
        if len(every):
            np.take(every, found.rows, out=found.rows)
        return found

    def score(self, users: Mapping[str, Array], rows: Rows) -> FloatArray:
        """Return (q, m) float32 scores of m catalogue rows for each user; see `Scorer`."""
        n_rows = len(rows)
        scores = np.full((len(users["user_state"]), n_rows), np.nan, dtype=np.float32)
        found = self._part(self._copies(rows), users, _all(n_rows), n_rows)
        for mine, theirs, order, size in zip(
            scores, found.scores, found.rows, found.sizes, strict=True
        ):
            mine[order[:size]] = theirs[:size]
        return scores

    def close(self) -> None:
        """Release the scan's threads."""
        self.shares.close()

    def _copies(self, rows: Rows) -> tuple[FloatArray, FloatArray]:
        states = np.empty((len(rows), self._states.shape[1]), dtype=np.float32)
        constants = np.empty(len(rows), dtype=np.float32)
        gather(self._states, self._constants, rows, states, constants)
        return _read_only(states), _read_only(constants)

    def _part(
        self,
        items: tuple[FloatArray, FloatArray],
        users: Mapping[str, Array],
        words: Words,
        k: int,
        blocks: tuple[int, int] | None = None,
    ) -> TopK:
        found = TopK.empty(len(users["user_state"]), k)
        if k == 0:
            return found
        self._scan(
            *items,
            np.ascontiguousarray(users["user_state"]),
            *self._parameters,
            np.ascontiguousarray(users["user_constant"]),
            words,
            *(blocks or (0, words.shape[1])),
            found.scores,
            found.rows,
            found.sizes,
        )
        return found


def _all(n_rows: int) -> Words:
    """Return the bitmap in which every one of some rows is eligible."""
    return np.full((1, -(-n_rows // BLOCK)), ~np.uint64(0), dtype=np.uint64)


def _read_only(array: Array) -> Array:
    """Return a view that is not written to.

    The compiler makes a kernel of its own for writable arrays: one kind of array, one kernel.
    """
    view = array.view()
    view.flags.writeable = False
    return view
