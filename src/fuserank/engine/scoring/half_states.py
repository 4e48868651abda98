"""Item states as float16, with all that an error bound must know of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.extents import extents, ranges

__all__ = ["LARGEST", "SMALLEST", "HalfStates", "power_above", "to_half"]

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]
DoubleArray = npt.NDArray[np.float64]

_GROUP, _HIDDEN_GROUP = 8, 4
"""Terms of an inner product and of a perceptron that are added in float16; float32 adds the groups.

An error grows with their number; what is written between grows with that of the groups, which
counts for less beside the hidden units of a perceptron.
"""

LARGEST = 2.0**6
"""No state is larger: a group of products of two such numbers is half of what float16 can hold."""

SMALLEST = 2.0**-14
"""The smallest normal number; what is below it, a device may take for zero, so it is made zero."""

_SLACK = 1e-9
"""Covers what float64 loses in measuring a norm."""


@dataclass(frozen=True, kw_only=True)
class HalfStates:
    """What the float16 states of a catalogue are: state_ij · factor_j, rounded.

    Of an inner product the factors are powers of two. A perceptron's weights are folded into them,
    for max(0, x)·weight = sign·max(0, |weight|·x): what is left of the weights is their signs.

    Attributes:
        factors: (width,) float64, 0 for a dimension that is zero everywhere.
        unit: of a perceptron, the power of two that its scores must be multiplied by; else 1.
        signs: (width,) float64 of the weights; of an inner product ones.
        perceptron: whether there are weights.
        group: terms that are added in float16.
        extents: (width,) float64: no |state_ij| is larger.
        largest: (width,) float64, at most `LARGEST`: no |state_ij · factor_j| is larger.
        norm: no item's Σ (state_ij · factor_j)² is larger than its square.
        largest_constant: no |constant_i| is larger.
        irregular: (m,) int64: rows with a state or constant that is infinite or NaN, ascending.
            Nothing said here holds of them.
    """

    factors: DoubleArray
    unit: float
    signs: DoubleArray
    perceptron: bool
    group: int
    extents: DoubleArray
    largest: DoubleArray
    norm: float
    largest_constant: float
    irregular: npt.NDArray[np.int64]

    @classmethod
    def measure(
        cls, states: FloatArray, constants: FloatArray, weights: FloatArray | None = None
    ) -> "HalfStates":
        """Choose the factors for all items, and measure.

        Args:
            states: (n, width) float32; may be memory-mapped, is read in ranges of rows.
            constants: (n,) float32.
            weights: (width,) of a perceptron; None for an inner product.
        """
        regular, largest = extents(states, constants)
        unit, signs = 1.0, np.ones(len(largest))
        if weights is None:
            factors = np.where(largest > 0, LARGEST / power_above(largest), 0.0)
        else:
            sizes, signs = np.abs(weights.astype(np.float64)), np.sign(weights.astype(np.float64))
            reach = np.where(np.isfinite(sizes), sizes, 0.0) * largest
            unit = float(power_above(reach.max(initial=0.0))) / LARGEST
            factors = sizes / unit
        norm = 0.0
        with np.errstate(invalid="ignore"):  # a weight that is infinite bounds nothing
            for rows in ranges(0, len(states)):
                scaled = states[rows][regular[rows]] * factors
                norm = max(norm, np.linalg.norm(scaled, axis=1).max(initial=0.0))
            scaled_largest = largest * factors
        return cls(
            factors=factors,
            unit=unit,
            signs=signs,
            perceptron=weights is not None,
            group=_GROUP if weights is None else _HIDDEN_GROUP,
            extents=largest,
            largest=scaled_largest,
            norm=float(norm) * (1 + _SLACK),
            largest_constant=float(np.abs(constants[regular]).max(initial=0.0)),
            irregular=np.flatnonzero(~regular),
        )

    @property
    def groups(self) -> HalfArray:
        """(n_groups, width) float16: the sign of a dimension in the row of its group, else 0."""
        width = len(self.factors)
        of_dimension = np.arange(width) // self.group
        is_mine = np.arange(-(-width // self.group))[:, None] == of_dimension
        groups: HalfArray = (is_mine * np.nan_to_num(self.signs)).astype(np.float16)
        return groups

    def rounded(self, states: FloatArray, first: int, last: int) -> HalfArray:
        """Return (last - first, width) float16: the states of a range; irregular ones are zeros."""
        halves = np.empty((last - first, len(self.factors)), dtype=np.float16)
        for rows in ranges(first, last):
            with np.errstate(invalid="ignore", over="ignore"):
                halves[rows.start - first : rows.stop - first] = to_half(
                    states[rows] * self.factors
                )
        mine = self.irregular[(self.irregular >= first) & (self.irregular < last)]
        halves[mine - first] = 0
        return halves


def to_half(values: DoubleArray) -> HalfArray:
    """Round to float16; what would not be normal is zero.

    >>> to_half(np.array([1.0, 2.0**-15])).tolist()
    [1.0, 0.0]
    """
    halves = values.astype(np.float16)
    halves[np.abs(halves) < SMALLEST] = 0
    return halves


def power_above(values: npt.ArrayLike) -> DoubleArray:
    """Return powers of two above some numbers and at most twice as large; 1 for zero.

    >>> power_above([0.0, 0.3, 4.0]).tolist()
    [1.0, 0.5, 8.0]
    """
    powers: DoubleArray = np.ldexp(1.0, np.frexp(values)[1])
    return powers
