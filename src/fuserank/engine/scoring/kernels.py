"""Compiled loops: one pass over the item states that scores, filters and selects.

Items come in blocks of 64, one word of the eligibility bitmap each. A block whose word is zero is
never read; a block whose best score does not pass the k-th best so far costs one comparison. So
selection is nearly free, and the pass runs as fast as the states can be read.

Each call covers a range of blocks and writes its own heap, so that threads share nothing.
Kernels release the GIL and are cached on disk; they never run numba's own threads, whose default
layer is not safe under concurrent callers.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fuserank.engine.scoring.activations import ACTIVATIONS, DOT, FAST_MATH, activate
from fuserank.engine.scoring.heap import sift_down, sift_up, sort

__all__ = ["BLOCK", "gather", "offer_scores", "scan_additive", "scan_dot", "sort_heaps"]

BLOCK = 64
"""Items a block: the bits of one word of the eligibility bitmap."""

_TILE_BLOCKS = 8
"""Blocks scored for one query before the next query: 512 rows × 64 floats stay in the cache."""


@njit(nogil=True, cache=True)
def _offer(block: Any, n: int, word: Any, first_row: int, scores: Any, rows: Any, size: int) -> Any:
    """Offer the eligible scores of a block to a heap of capacity len(scores); return its size."""
    k = len(scores)
    for i in range(n):
        if not (word >> np.uint64(i)) & np.uint64(1):
            continue
        score = block[i]
        if np.isnan(score):  # NaN never wins
            continue
        if size < k:
            scores[size] = score
            rows[size] = first_row + i
            sift_up(scores, rows, size)
            size += 1
        elif score > scores[0]:  # rows ascend, so an equal score stands behind the k-th
            scores[0] = score
            rows[0] = first_row + i
            sift_down(scores, rows, size)
    return size


@njit(nogil=True, forceinline=True, fastmath=FAST_MATH)
def _score_block(
    code: int,
    states: Any,
    bias: Any,
    first: int,
    n: int,
    user: Any,
    weights: Any,
    constant: Any,
    block: Any,
) -> Any:
    """Score a block; return the best score."""
    best = np.float32(-np.inf)
    for i in range(n):
        row = first + i
        total = np.float32(0.0)
        for j in range(len(user)):
            if code == DOT:
                total += user[j] * states[row, j]
            else:
                total += weights[j] * activate(code, user[j] + states[row, j])
        score = total + (bias[row] + constant)
        block[i] = score
        if score > best:  # noqa: PLR1730  (false for NaN, which `max` might let through)
            best = score
    return best


def _scan(code: int) -> Any:
    """Make the scan of one kind of score.

    It closes over a number alone: a compiled function there would give the cache on disk another
    key in every process.
    """

    @njit(nogil=True, cache=True)
    def scan(
        states: Any,
        bias: Any,
        users: Any,
        weights: Any,
        constants: Any,
        words: Any,
        first_block: int,
        last_block: int,
        scores: Any,
        rows: Any,
        sizes: Any,
    ) -> None:
        n_items = len(states)
        block = np.empty(BLOCK, dtype=np.float32)
        for tile in range(first_block, last_block, _TILE_BLOCKS):
            tile_end = min(tile + _TILE_BLOCKS, last_block)
            for q in range(len(users)):
                for b in range(tile, tile_end):
                    word = words[q % len(words), b]
                    if word == 0:
                        continue
                    first = b * BLOCK
                    n = min(BLOCK, n_items - first)
                    best = _score_block(
                        code, states, bias, first, n, users[q], weights, constants[q], block
                    )
                    if sizes[q] == len(scores[q]) and best <= scores[q, 0]:
                        continue
                    sizes[q] = _offer(block, n, word, first, scores[q], rows[q], sizes[q])
        for q in range(len(users)):
            sort(scores[q], rows[q], sizes[q])

    return scan


scan_dot = _scan(DOT)
"""Scan by inner products: `scan_additive` without weights and activation."""

scan_additive = {name: _scan(code) for name, code in ACTIVATIONS.items()}
"""Scans of a two-layer perceptron by activation; each is compiled when it is first called.

Every scan takes
    states (n, width) float32, bias (n,) float32: of the items;
    users (q, width) float32, weights (width,) float32, constants (q,) float32: of the users;
    words (1 or q, n_blocks) uint64: the eligibility bitmap, shared by all users or one each;
    first_block, last_block: the range to read;
    scores (q, k) float32, rows (q, k) int64, sizes (q,) int64 zeros: written, best first.
"""


@intrinsic
def _prefetch(_: Any, address: Any) -> Any:
    """Ask for the cache line at an address, without waiting for it."""

    def generate(context: Any, builder: Any, __: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        integer = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, integer, integer, integer])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        reading, in_all_caches, data = (ir.Constant(integer, value) for value in (0, 3, 1))
        builder.call(prefetch, [pointer, reading, in_all_caches, data])
        return context.get_dummy_value()

    return types.none(types.uintp), generate


_AHEAD = 16
"""Rows that are on their way from memory while one is copied."""


@njit(nogil=True, cache=True)
def gather(states: Any, bias: Any, rows: Any, states_out: Any, bias_out: Any) -> None:
    """Copy some rows of contiguous states and bias, several on their way at a time."""
    row_bytes = states.shape[1] * states.itemsize
    for i in range(len(rows)):
        if i + _AHEAD < len(rows):
            ahead = rows[i + _AHEAD]
            for at in range(0, row_bytes, 64):
                _prefetch(np.uintp(states.ctypes.data + ahead * row_bytes + at))
            _prefetch(np.uintp(bias.ctypes.data + ahead * bias.itemsize))
        for j in range(states.shape[1]):
            states_out[i, j] = states[rows[i], j]
        bias_out[i] = bias[rows[i]]


@njit(nogil=True, cache=True)
def offer_scores(tile: Any, first_row: int, words: Any, scores: Any, rows: Any, sizes: Any) -> None:
    """Offer a (q, m) tile of finished scores to q heaps; first_row is a multiple of `BLOCK`."""
    for q in range(len(tile)):
        for start in range(0, tile.shape[1], BLOCK):
            n = min(BLOCK, tile.shape[1] - start)
            first = first_row + start
            word = words[q % len(words), first // BLOCK]
            if word != 0:
                block = tile[q, start : start + n]
                sizes[q] = _offer(block, n, word, first, scores[q], rows[q], sizes[q])


@njit(nogil=True, cache=True)
def sort_heaps(scores: Any, rows: Any, sizes: Any) -> None:
    """Turn q heaps into descending order, in place."""
    for q in range(len(scores)):
        sort(scores[q], rows[q], sizes[q])
