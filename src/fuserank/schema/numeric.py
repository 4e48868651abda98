"""Numbers: outliers limited, missing values filled and marked, scaled to unit variance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from fuserank.errors import SchemaError

__all__ = ["NumberScaling"]


@dataclass(frozen=True, kw_only=True)
class NumberScaling:
    """Fitted scaling of one number.

    Values are limited to [low, high] (the 1st and 99th percentile of what was fitted), missing
    ones become the median, and the result is shifted by the mean and divided by the standard
    deviation. A second channel is 1 where the value was missing, so that a model can tell a
    filled value from a real one.
    """

    mean: float
    std: float
    fill: float
    low: float
    high: float

    @classmethod
    def fit(cls, column: Sequence[object], name: str) -> Self:
        """Fit a column; a column without any value scales to zeros.

        Raises:
            SchemaError: a value that is not a number, or is infinite.
        """
        values = _floats(column, name)
        known = values[~np.isnan(values)]
        if known.size == 0:
            return cls(mean=0.0, std=1.0, fill=0.0, low=0.0, high=0.0)
        low, high = (float(q) for q in np.quantile(known, [0.01, 0.99]))
        limited = np.clip(known, low, high)
        return cls(
            mean=low if low == high else float(limited.mean()),
            std=(float(limited.std()) if low < high else 0.0) or 1.0,
            fill=float(np.median(limited)),
            low=low,
            high=high,
        )

    def encode(self, column: Sequence[object], name: str) -> npt.NDArray[np.float32]:
        """Return (n, 2) float32: the scaled value and the missing mark.

        Raises:
            SchemaError: a value that is not a number, or is infinite.
        """
        values = _floats(column, name)
        missing = np.isnan(values)
        limited = np.clip(np.where(missing, self.fill, values), self.low, self.high)
        scaled = (limited - self.mean) / self.std
        return np.stack([scaled, missing], axis=1).astype(np.float32)


def _floats(column: Sequence[object], name: str) -> npt.NDArray[np.float64]:
    values = np.empty(len(column), dtype=np.float64)
    for index, value in enumerate(column):
        values[index] = math.nan if value is None else _float(value)
        if math.isinf(values[index]):
            shown = value if isinstance(value, float) else type(value).__name__
            raise SchemaError(
                f"field {name!r}, row {index}: found {shown}, expected a finite number"
            )
    return values


def _float(value: object) -> float:
    """Return a number as a float; infinity for what is no finite number."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return math.inf
    try:
        return float(value)
    except OverflowError:
        return math.inf
