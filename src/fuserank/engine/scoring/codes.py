"""Item states as one byte a number, with all that an error bound must know of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.block_scores import GROUP
from fuserank.engine.scoring.code_kernels import OFFSET
from fuserank.engine.scoring.extents import extents, ranges
from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["LARGEST_CODE", "Codes", "in_memory", "quantize"]

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]

LARGEST_CODE = 127
_CACHE_LINE = 64

_SLACK = 1e-9
"""Covers, in steps of a scale, what float64 loses in measuring an error."""


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A quarter of the bytes of the item states: state_ij ≈ scale_j · code_ij, |code_ij| ≤ 127.

    Widths are padded to a multiple of four with dimensions that are zero.

    Attributes:
        blocks: (n_blocks, n_groups, 64, 4) uint8, code + `OFFSET`: four dimensions of 64 items.
        scales: (width,) float64; 127·scale_j ≥ |state_ij|.
        errors: (width,) float64: |state_ij - scale_j·code_ij| is never larger.
        irregular: (m,) int64: rows with a state or constant that is infinite or NaN, ascending.
            Nothing said here holds of them.
        unit: for a perceptron, the number of which each |weight_j|·scale_j is a multiple; for an
            inner product 0.
        code_norm: no item's Σ code_ij² is larger than its square.
        error_norm: no item's Σ ((state_ij - scale_j·code_ij) / scale_j)² is larger than its square.
    """

    blocks: npt.NDArray[np.uint8]
    scales: DoubleArray
    errors: DoubleArray
    irregular: npt.NDArray[np.int64]
    unit: float
    code_norm: float
    error_norm: float


def quantize(
    states: FloatArray, constants: FloatArray, weights: npt.NDArray[Any] | None = None
) -> Codes:
    """Return the codes of all items.

    A perceptron's weights are folded into the scales, so that they need no rounding of their own:
    with m_j = ⌈|weight_j|·largest_j / (127·unit)⌉, a whole number up to 127, scale_j becomes
    m_j·unit / |weight_j|. Where a weight is small, so is what its coarser codes do to a score.

    Args:
        states: (n, width) float32; may be memory-mapped, is read in ranges of rows.
        constants: (n,) float32.
        weights: (width,) of the perceptron; None for an inner product.
    """
    n_items, width = states.shape
    groups = -(-width // GROUP)
    regular, largest = extents(states, constants)
    scales, unit = _scales(largest, weights)
    divisors = np.where(scales > 0, scales, 1.0)
    blocks = _aligned((-(-n_items // BLOCK), groups, BLOCK, GROUP))
    blocks.fill(OFFSET)
    errors = np.zeros(width)
    code_norm = error_norm = 0.0
    for rows in ranges(0, n_items):
        steps = np.where(regular[rows, None], states[rows], 0).astype(np.float64) / divisors
        codes = np.rint(steps).clip(-LARGEST_CODE, LARGEST_CODE)
        missed = np.abs(steps - codes) + _SLACK
        errors = np.maximum(errors, missed.max(axis=0) * scales)
        code_norm = max(code_norm, (codes**2).sum(axis=1).max())
        error_norm = max(error_norm, (missed**2).sum(axis=1).max())
        n_blocks = -(-len(codes) // BLOCK)
        padded = np.zeros((n_blocks * BLOCK, groups * GROUP))
        padded[: len(codes), :width] = codes
        at = slice(rows.start // BLOCK, rows.start // BLOCK + n_blocks)
        blocks[at] = (padded.reshape(n_blocks, BLOCK, groups, GROUP) + OFFSET).transpose(0, 2, 1, 3)
    return Codes(
        blocks=blocks,
        scales=scales,
        errors=errors,
        irregular=np.flatnonzero(~regular),
        unit=unit,
        code_norm=float(np.sqrt(code_norm)) * (1 + _SLACK),
        error_norm=float(np.sqrt(error_norm)) * (1 + _SLACK),
    )


def in_memory(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a copy of mapped blocks in memory of their own.

    Pages of a file are small on most systems, and finding every one of them costs a scan of one
    query about 15 %.
    """
    copy = _aligned(blocks.shape)
    copy[:] = blocks
    return copy


def _aligned(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return room that starts a cache line, as a memory-mapped file does.

    A vector is one cache line: read across two of them, it costs twice.
    """
    size = int(np.prod(shape))
    room = np.empty(size + _CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % _CACHE_LINE
    return room[start : start + size].reshape(shape)


def _scales(largest: DoubleArray, weights: npt.NDArray[Any] | None) -> tuple[DoubleArray, float]:
    """Return the scales and their unit; a dimension that is zero everywhere has scale zero."""
    scales = largest / LARGEST_CODE * (1 + _SLACK)
    if weights is None:
        return scales, 0.0
    sizes = np.nan_to_num(np.abs(weights.astype(np.float64)), posinf=0.0)
    unit = float((sizes * scales).max(initial=0.0)) / LARGEST_CODE * (1 + _SLACK)
    folded = np.ceil(sizes * scales / (unit or 1.0)) * unit / np.where(sizes > 0, sizes, 1.0)
    return np.where(folded > scales, folded, scales), unit
