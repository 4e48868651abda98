"""The towers of a ranker, run over many rows."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fuserank.training.data.histories import LatestEvents

__all__ = ["NUMBERS_AT_ONCE", "Inputs", "run_tower"]

Inputs = Mapping[str, npt.NDArray[Any] | LatestEvents]
"""Inputs of a tower by name, one row for each user or item."""
Rows = npt.NDArray[np.integer]

NUMBERS_AT_ONCE = 1 << 25
"""Of what a model reads: 130 MB, and as much for a layer."""
_ROWS = 4096
"""Rows that a tower takes at once; fewer where a row is a history of many numbers."""


def run_tower(
    tower: keras.Model, inputs: Inputs, rows: Rows | None = None
) -> npt.NDArray[np.float32]:
    """Return the (n, …) float32 outputs of a model for some rows of its inputs, or for all.

    Args:
        tower: a model whose output has a free first axis.
        inputs: its inputs; others are not read.
        rows: (n,) rows.
    """
    if rows is None:
        rows = np.arange(next(iter(inputs.values())).shape[0])
    widest = max(prod(inputs[name].shape[1:]) for name in tower.input)
    step = min(max(NUMBERS_AT_ONCE // widest, 1), _ROWS)
    parts = [
        keras.ops.convert_to_numpy(
            tower({name: inputs[name][rows[first : first + step]] for name in tower.input})
        )
        for first in range(0, max(len(rows), 1), step)
    ]
    return np.concatenate(parts)
