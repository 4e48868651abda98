"""Numbers: outliers limited, missing values filled and marked, scaled to unit variance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from fuserank.errors import SchemaError

__all__ = ["LARGEST", "Fill", "NumberRepairs", "NumberScaling", "Outliers"]

Outliers = Literal["winsorise", "robust_z", "iqr", "keep"]
Fill = Literal["median", "mean", "learned"]

LARGEST = float(np.finfo(np.float32).max)
"""What graphs read is float32: a number beyond this is infinite there."""

_REACH = 1e30
"""Standard deviations from the mean that are limited even where outliers are kept, so that no
scaled value is infinite as float32."""


@dataclass(frozen=True, kw_only=True)
class NumberRepairs:
    """What `NumberScaling` makes of the values of a column that it does not take as they are.

    Attributes:
        limited: values that lie outside the limits.
        filled: values that are missing.
    """

    limited: int
    filled: int


@dataclass(frozen=True, kw_only=True)
class NumberScaling:
    """Fitted scaling of one number.

    Values are limited to [low, high], missing ones become `fill`, and the result is shifted by
    the mean and divided by the standard deviation. A second channel is 1 where the value was
    missing, so that a model can tell a filled value from a real one.
    """

    mean: float
    std: float
    fill: float
    low: float
    high: float

    @classmethod
    def fit(
        cls,
        column: Sequence[object],
        name: str,
        *,
        outliers: Outliers = "winsorise",
        missing: Fill | float = "median",
    ) -> Self:
        """Fit a column; a column without any value scales to zeros.

        Args:
            column: n values.
            name: of the field.
            outliers: the limits. ``winsorise``: the 1st and 99th percentile. ``robust_z``: the
                median ± 3.5 · 1.4826 · MAD, MAD being the median of |x - median| (Iglewicz and
                Hoaglin, "How to Detect and Handle Outliers", ASQC 1993). ``iqr``: the quartiles,
                extended by 1.5 times their distance (Tukey, "Exploratory Data Analysis", 1977).
                ``keep``: none. Where most values are equal, MAD or the distance of the quartiles
                is 0 and says nothing of the others: then nothing is limited.
            missing: what a missing value becomes: the ``median`` or the ``mean`` of the limited
                values, or a number. ``learned``: it becomes 0 once scaled, so that the weight of
                the missing mark is all that a model sees of it and learns; as with the mean.

        Raises:
            SchemaError: a value that is not a number, or is infinite as float32.
        """
        values = _floats(column, name)
        known = values[~np.isnan(values)]
        if known.size == 0:
            return cls(mean=0.0, std=1.0, fill=0.0, low=0.0, high=0.0)
        low, high = _limits(known, outliers)
        limited = np.clip(known, low, high)
        is_constant = limited.min() == limited.max()
        mean = float(limited[0] if is_constant else limited.mean())
        std = 1.0 if is_constant else float(limited.std()) or 1.0
        if isinstance(missing, str):
            fill = float(np.median(limited)) if missing == "median" else mean
        else:
            fill = float(missing)
        low, high, fill = (
            float(value)
            for value in np.clip([low, high, fill], mean - _REACH * std, mean + _REACH * std)
        )
        return cls(mean=mean, std=std, fill=fill, low=low, high=high)

    def encode(self, column: Sequence[object], name: str) -> npt.NDArray[np.float32]:
        """Return (n, 2) float32: the scaled value and the missing mark.

        Raises:
            SchemaError: a value that is not a number, or is infinite as float32.
        """
        values = _floats(column, name)
        missing = np.isnan(values)
        filled = np.where(missing, self.fill, np.clip(values, self.low, self.high))
        scaled = (filled - self.mean) / self.std
        return np.stack([scaled, missing], axis=1).astype(np.float32)

    def repairs(self, column: Sequence[object], name: str) -> NumberRepairs:
        """Count the values of a column that `encode` limits and fills.

        Raises:
            SchemaError: a value that is not a number, or is infinite as float32.
        """
        values = _floats(column, name)
        return NumberRepairs(
            limited=int(np.count_nonzero((values < self.low) | (values > self.high))),
            filled=int(np.count_nonzero(np.isnan(values))),
        )


def _limits(known: npt.NDArray[np.float64], outliers: Outliers) -> tuple[float, float]:
    match outliers:
        case "winsorise":
            low, high = np.quantile(known, [0.01, 0.99])
            return float(low), float(high)
        case "robust_z":
            low = high = float(np.median(known))
            reach = 3.5 * 1.4826 * float(np.median(np.abs(known - low)))
        case "iqr":
            low, high = (float(q) for q in np.quantile(known, [0.25, 0.75]))
            reach = 1.5 * (high - low)
        case "keep":
            low = high = reach = 0.0
    return (low - reach, high + reach) if reach > 0 else (-math.inf, math.inf)


def _floats(column: Sequence[object], name: str) -> npt.NDArray[np.float64]:
    values = np.empty(len(column), dtype=np.float64)
    for index, value in enumerate(column):
        values[index] = math.nan if value is None else _float(value)
        if abs(values[index]) > LARGEST:
            shown = value if isinstance(value, float) else type(value).__name__
            raise SchemaError(
                f"field {name!r}, row {index}: found {shown}, expected a finite number of at "
                f"most {LARGEST:.1e}"
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
