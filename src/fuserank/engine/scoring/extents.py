"""What must be known of all item states before they are rounded."""

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["extents", "ranges"]

FloatArray = npt.NDArray[np.float32]

_ROWS = 256 * BLOCK
"""Items read at once."""


def ranges(first: int, last: int) -> list[slice]:
    """Cut a range of rows into parts that are small enough to be widened.

    >>> ranges(0, 20_000)
    [slice(0, 16384, None), slice(16384, 20000, None)]
    """
    return [slice(at, min(at + _ROWS, last)) for at in range(first, last, _ROWS)]


def extents(
    states: FloatArray, constants: FloatArray
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which rows are finite, and the largest absolute state of those by dimension.

    Args:
        states: (n, width) float32; may be memory-mapped, is read in ranges of rows.
        constants: (n,) float32.

    Returns:
        (n,) bool and (width,) float64.
    """
    regular = np.isfinite(constants)
    largest = np.zeros(states.shape[1])
    for rows in ranges(0, len(states)):
        regular[rows] &= np.isfinite(states[rows]).all(axis=1)
        mine = np.abs(states[rows][regular[rows]])
        largest = np.maximum(largest, mine.max(axis=0, initial=0.0))
    return regular, largest
