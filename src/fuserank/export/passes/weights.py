"""Eight bits for a matrix of weights."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["QuantizedWeights", "quantize_columns"]

# A column of zeros has a scale too.
_LEAST = 1e-20


class QuantizedWeights(NamedTuple):
    """A matrix as codes, (rows, columns) int8, and a scale for each column, (columns,) float32."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


def quantize_columns(matrix: npt.NDArray[np.float32]) -> QuantizedWeights:
    """Return symmetric codes, a scale for each column."""
    scales = (np.maximum(np.abs(matrix).max(axis=0), _LEAST) / 127).astype(np.float32)
    return QuantizedWeights(np.rint(matrix / scales).astype(np.int8), scales)
