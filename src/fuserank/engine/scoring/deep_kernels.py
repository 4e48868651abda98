"""The compiled pass of a perceptron with layers behind the first, and an inner product beside it.

A block of 64 items is scored at a time, an item a lane: its states are transposed once for all
users, and what a layer hands on to the next, some 16 KB, never leaves the nearest caches.
"""

from typing import Any

import numpy as np
from numba import njit

from fuserank.engine.scoring.activations import FAST_MATH, activate
from fuserank.engine.scoring.kernels import BLOCK, offer_scores, sort_heaps
from fuserank.engine.scoring.lanes import LANES, ROWS, dense_row, dense_rows, transpose_lanes

__all__ = ["scan_deep"]

_ROW_BYTES = 4 * BLOCK


@njit(nogil=True, cache=True)
def _transpose(states: Any, first: int, n: int, columns: Any) -> None:
    """Write states first to first + n as (width, 64): 16 by 16 numbers, and one by one the rest."""
    width = states.shape[1]
    row_bytes = width * states.itemsize
    full_items, full_width = n // LANES * LANES, width // LANES * LANES
    for i in range(0, full_items, LANES):
        for h in range(0, full_width, LANES):
            transpose_lanes(
                states.ctypes.data + (first + i) * row_bytes + h * 4,
                row_bytes,
                columns.ctypes.data + h * _ROW_BYTES + i * 4,
            )
    for i in range(n):
        for h in range(full_width if i < full_items else 0, width):
            columns[h, i] = states[first + i, h]


@njit(nogil=True, cache=True)
def _dense(inputs: Any, n_inputs: int, weights: Any, at: int, n_outputs: int, outputs: Any) -> None:
    """Write W·inputs, (n_outputs, 64), of inputs (n_inputs, 64); W begins at weights[at]."""
    row = 0
    while row < n_outputs:
        here = weights.ctypes.data + (at + row * n_inputs) * 4
        there = outputs.ctypes.data + row * _ROW_BYTES
        if row + ROWS <= n_outputs:
            dense_rows(inputs.ctypes.data, here, n_inputs, there)
            row += ROWS
        else:
            dense_row(inputs.ctypes.data, here, n_inputs, there)
            row += 1


@njit(nogil=True, cache=True, fastmath=FAST_MATH)
def _activate(code: int, sums: Any, added: Any, n: int, hidden: Any) -> None:
    """Write hidden, act(sums_h + added_h) of the first n rows."""
    for h in range(n):
        shift = added[h]
        for i in range(BLOCK):
            hidden[h, i] = activate(code, sums[h, i] + shift)


@njit(nogil=True, cache=True)
def scan_deep(
    states: Any,
    bias: Any,
    users: Any,
    parameters: Any,
    widths: Any,
    codes: Any,
    constants: Any,
    words: Any,
    first_block: int,
    last_block: int,
    scores: Any,
    rows: Any,
    sizes: Any,
) -> None:
    """Scan by perceptrons of several layers, of which `DenseLayer` says what they are.

    Taken are the arguments of `scan_additive` but for its weights. Of the states (n, width) the
    first widths[0] numbers are the perceptron's; the product of the others with those of the user
    is added. parameters are float32: of every layer behind the first its weights, row by row, and
    its bias, and at last the weights of the logit; widths int64, the units of every layer, and
    codes int64, the activations.
    """
    n_items, width = states.shape
    n_hidden = widths[0]
    state = np.zeros((width, BLOCK), dtype=np.float32)  # lanes behind the last item stay zero
    hidden = np.empty((widths.max(), BLOCK), dtype=np.float32)
    sums = np.empty((widths.max(), BLOCK), dtype=np.float32)
    products = np.empty((1, BLOCK), dtype=np.float32)
    tile = np.empty((len(users), BLOCK), dtype=np.float32)
    for b in range(first_block, last_block):
        if not words[:, b].any():
            continue
        first = b * BLOCK
        n = min(BLOCK, n_items - first)
        _transpose(states, first, n, state)
        for q in range(len(users)):
            if words[q % len(words), b] == 0:
                continue
            user = users[q]
            _activate(codes[0], state, user, n_hidden, hidden)
            at = 0
            for layer in range(1, len(widths)):
                n_inputs, n_outputs = widths[layer - 1], widths[layer]
                _dense(hidden, n_inputs, parameters, at, n_outputs, sums)
                at += n_inputs * n_outputs
                _activate(codes[layer], sums, parameters[at:], n_outputs, hidden)
                at += n_outputs
            _dense(hidden, widths[-1], parameters, at, 1, sums)
            _dense(state[n_hidden:], width - n_hidden, user, n_hidden, 1, products)
            for i in range(n):
                tile[q, i] = sums[0, i] + products[0, i] + (bias[first + i] + constants[q])
        offer_scores(tile[:, :n], first, words, scores, rows, sizes)
    sort_heaps(scores, rows, sizes)
