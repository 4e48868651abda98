"""Compiled loops over int8 codes: approximate scores, and every item that could be among the best.

Codes stand in blocks of 64 items, (n_groups, 64, 4) bytes each, so that one instruction takes four
dimensions of 16 items. They are unsigned, the code plus `OFFSET`; the sums of products start from
what takes the offset off again, so they are exact.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fuserank.engine.scoring.block_scores import GROUP, HAS_VNNI, make_block_scores
from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["OFFSET", "OVERFLOW", "scan_codes"]

OFFSET = 128
"""What is added to a code, -127 to 127, to store it as an unsigned byte."""

OVERFLOW = -1
"""A count that says: more items could be among the best than there is room for."""


_LIMIT, _LIMIT_A_RESULT = 64, 8
"""Candidates before the first threshold: so many, and so many more for each item wanted."""


@intrinsic
def _lowest_bit(_: Any, word: Any) -> Any:
    """Return the index of the lowest set bit of a word that is not zero."""

    def generate(__: Any, builder: Any, ___: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True)
def _compact(scores: Any, rows: Any, count: int, k: int, margin: float, least: Any) -> Any:
    """Drop the candidates too far below their k-th best; return how many remain, and the least."""
    if count >= k:
        kth = np.partition(scores[:count], count - k)[count - k]
        least = max(least, np.float32(kth - margin))
    kept = 0
    for i in range(count):
        if scores[i] >= least:
            scores[kept] = scores[i]
            rows[kept] = rows[i]
            kept += 1
    return kept, least


@njit(nogil=True, cache=True)
def _collect(
    block: Any,
    reached: Any,
    first_row: int,
    k: int,
    margin: float,
    scores: Any,
    rows: Any,
    count: Any,
    limit: Any,
    least: Any,
) -> Any:
    """Take up the scores of a block whose bits are set; return how many there are.

    At a limit, those that no longer count are dropped: a threshold is worked out once in so many
    and not, as a heap would, at each. The limit and the least that counts are returned as well.
    """
    while reached:
        item = np.int64(_lowest_bit(reached))
        reached &= reached - np.uint64(1)
        if block[item] < least:
            continue
        if count >= limit:
            count, least = _compact(scores, rows, count, k, margin, least)
            if 2 * count > limit:
                if limit == len(scores):
                    return OVERFLOW, limit, least
                limit = min(2 * limit, len(scores))
            if block[item] < least:
                continue
        scores[count] = block[item]
        rows[count] = first_row + item
        count += 1
    return count, limit, least


_USERS = 4
"""Users whose sums stay in registers together: the codes are loaded once for all of them."""

_dot_one = make_block_scores(vnni=HAS_VNNI, floored=False)
_dot_some = make_block_scores(vnni=HAS_VNNI, floored=False, n_users=_USERS)
_relu_one = make_block_scores(vnni=HAS_VNNI, floored=True)
_relu_some = make_block_scores(vnni=HAS_VNNI, floored=True, n_users=_USERS)


def _scan(*, floored: bool) -> Any:
    """Make one scan; it closes over a constant alone, see `kernels`."""

    @njit(nogil=True, cache=True)
    def scan(
        codes: Any,
        bias: Any,
        multipliers: Any,
        floors: Any,
        starts: Any,
        units: Any,
        constants: Any,
        words: Any,
        first_block: int,
        last_block: int,
        step: int,
        k: int,
        margins: Any,
        least: Any,
        scores: Any,
        rows: Any,
        counts: Any,
    ) -> None:
        n_users = len(multipliers)
        n_items = len(bias)
        apart = 1 if len(words) > 1 else 0  # a remainder would cost as much as a block's score
        room = scores.shape[1]
        limits = np.full(n_users, min(room, _LIMIT + _LIMIT_A_RESULT * k), dtype=np.int64)
        block = np.empty((_USERS, BLOCK), dtype=np.float32)
        reached = np.empty(_USERS, dtype=np.uint64)
        last_bias = np.full(BLOCK, np.nan, dtype=np.float32)  # NaN reaches nothing
        last_bias[: n_items % BLOCK] = bias[n_items - n_items % BLOCK :]
        # Addresses are worked out by hand: a slice counts references, which costs more than a sum.
        n_groups = codes.shape[1]
        width = multipliers.shape[1]
        score_one = _relu_one if floored else _dot_one
        score_some = _relu_some if floored else _dot_some
        for b in range(first_block, last_block, step):
            first = b * BLOCK
            bias_at = np.uintp(last_bias.ctypes.data)
            if first + BLOCK <= n_items:
                bias_at = np.uintp(bias.ctypes.data + first * bias.itemsize)
            q = 0
            while q < n_users:
                count = _USERS if q + _USERS <= n_users else 1
                eligible = np.uint64(0)
                for i in range(count):
                    eligible |= words[(q + i) * apart, b]
                if eligible:
                    arguments = (
                        np.uintp(codes.ctypes.data + b * n_groups * BLOCK * GROUP),
                        np.uintp(multipliers.ctypes.data + q * width),
                        np.uintp(floors.ctypes.data + q * width),
                        n_groups,
                        np.uintp(starts.ctypes.data + q * 4),
                        bias_at,
                        np.uintp(units.ctypes.data + q * 4),
                        np.uintp(constants.ctypes.data + q * 4),
                        np.uintp(least.ctypes.data + q * 4),
                        block.ctypes.data,
                        reached.ctypes.data,
                    )
                    if count == _USERS:
                        score_some(*arguments)
                    else:
                        score_one(*arguments)
                    for i in range(count):
                        mine = reached[i] & words[(q + i) * apart, b]
                        u = q + i
                        if mine and counts[u] != OVERFLOW:
                            counts[u], limits[u], raised = _collect(
                                block[i],
                                mine,
                                first,
                                k,
                                margins[u],
                                scores[u],
                                rows[u],
                                counts[u],
                                limits[u],
                                least[u],
                            )
                            least[u] = max(least[u], raised)
                q += count
        for u in range(n_users):
            if counts[u] != OVERFLOW:
                counts[u], _ = _compact(scores[u], rows[u], counts[u], k, margins[u], least[u])

    return scan


scan_codes = {
    None: _scan(floored=False),
    "relu": _scan(floored=True),
}
"""Scans by activation, None being the inner product; each is compiled when it is first called.

Every scan takes
    codes (n_blocks, n_groups, 64, 4) uint8, bias (n,) float32: of the items;
    multipliers (q, 4·n_groups) int8, floors (q, 4·n_groups) uint8, starts (q,) int32, units (q,)
        float32, constants (q,) float32: of the users, as `make_block_scores` says;
    words, first_block, last_block: as in `kernels`; step: of several blocks, to scan the first;
    k, margins (q,) float64: how far below the k-th best score an item still counts;
    least (q,) float32: written: below it no score counts, as far as is known. Scans of several
        parts of one catalogue may share it: whichever wrote it, k items of the catalogue reach
        that score and the margin;
    scores (q, room) float32, rows (q, room) int32, counts (q,) int64 zeros: written, in catalogue
        order: the items within the margin of the part's k-th best score, and of `least`;
        `OVERFLOW` is the count of those for whom there was too little room.
"""
