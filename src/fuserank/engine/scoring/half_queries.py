"""Users as a graph over float16 states takes them, and how far its scores can be off.

For a user, let F_i be the score of item i as the float32 scan computes it, and A_i the one that the
graph computes. What a β with |F_i - A_i| ≤ β for all i consists of:

Let y_j be a state times its factor f_j, and a_j what the user has for it; both are at most
`LARGEST`. Rounded to float16 they are off by at most ρ|y| + τ and ρ|a| + τ: ρ = 2⁻¹¹ is half a unit
in the last place, and τ = 2⁻¹⁴ the smallest normal number, as what is below it becomes zero.

- *Inner product*, Σ u_j·s_j = unit·Σ a_j·y_j with a_j = u_j / (f_j·unit). Rounding both moves a
  term by at most (2ρ + ρ²)|a·y| + τ(1 + ρ)(|a| + |y|) + τ².
- *Perceptron*, Σ w_j·max(0, u_j + s_j) = unit·Σ ±(a_j + max(y_j, -a_j)) with a_j = u_j·f_j. As all
  |y_j| are at most `largest`, -a_j may be cut to that, p_j, and the cut made good in the constant.
  A maximum moves no more than the more moved of its two: by ρ·max(|y|, |p|) + τ.
- *Sums*. A group of m terms is added in float16, beside zeros for all other groups, which change
  nothing. In which order, and whether in wider numbers, a device does not say; nor which way it
  rounds, nor what it does with numbers that are not normal. So each of at most m + 2 roundings a
  term (its product, m - 1 sums, the result, one to spare) is taken for a whole unit in the last
  place, 2⁻¹⁰, or τ. With γ = (m + 2)·2⁻¹⁰ / (1 - (m + 2)·2⁻¹⁰), that errs by γ times the sum of the
  terms' sizes. None can overflow.
- Σ|a·y| is at most Σ|a|·largest, and at most the product of the Euclidean norms (Cauchy and
  Schwarz); Σ max(|y|, |p|) at most Σ largest, and at most √width·√(|y|² + |p|²). The smaller one
  counts.
- *Float32* adds the groups, multiplies by the unit, a power of two, and adds both constants: at
  most width / 4 + 4 roundings, here too of whole units. `bounds` covers them beside those of the
  float32 scan.

Sources: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 4.2;
NVIDIA, Parallel Thread Execution ISA, mma: order, rounding and subnormal inputs are unspecified.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.bounds import LARGEST_SCORE, within_margins
from fuserank.engine.scoring.half_states import (
    LARGEST,
    SMALLEST,
    HalfStates,
    power_above,
    to_half,
)

__all__ = ["HalfQueries", "HalfQueryMaker"]

Array = npt.NDArray[Any]
DoubleArray = npt.NDArray[np.float64]

_ROUNDED = 2.0**-11
"""ρ: numbers are rounded to float16 here, to the nearest."""

_UNIT = 2.0**-10
"""A unit in the last place: sums are rounded on a device, which may do it either way."""


@dataclass(frozen=True, kw_only=True)
class HalfQueries:
    """Users as the graph takes them.

    Attributes:
        inputs: ``user_state`` (q, width) float16, ``user_unit`` and ``user_constant`` (q,) float32.
        margins: (q,) float64, as `within_margins` makes them.
    """

    inputs: dict[str, Array]
    margins: DoubleArray


class HalfQueryMaker:
    """Makes queries for the float16 states of one catalogue."""

    def __init__(self, states: HalfStates) -> None:
        """Take what was measured of the states."""
        self._states = states
        roundings = (states.group + 2) * _UNIT
        summed = roundings / (1.0 - roundings)
        # How far a score can be off for each unit of the sum of its terms' sizes.
        self._off = 2 * _ROUNDED + _ROUNDED**2 + summed * (1 + _ROUNDED) ** 2

    def make(self, users: Mapping[str, Array]) -> HalfQueries:
        """Return the queries of q users, who are outputs of the user graph."""
        user = users["user_state"].astype(np.float64)
        constant = users["user_constant"].astype(np.float64)
        with np.errstate(all="ignore"):  # what is not finite, or too large, has no finite margin
            if self._states.perceptron:
                return self._perceptrons(user, constant)
            return self._products(user, constant)

    def _products(self, user: DoubleArray, constant: DoubleArray) -> HalfQueries:
        states = self._states
        factors = states.factors
        scaled = np.divide(user, factors, where=factors > 0, out=user * 0.0)
        units = power_above(np.abs(scaled).max(axis=1, initial=0.0)) / LARGEST
        scaled /= units[:, None]
        sizes = np.abs(scaled)
        terms = np.minimum(sizes @ states.largest, np.linalg.norm(scaled, axis=1) * states.norm)
        linear = sizes.sum(axis=1) + states.largest.sum()
        return self._bounded(scaled, units, constant, (terms, linear, terms))

    def _perceptrons(self, user: DoubleArray, constant: DoubleArray) -> HalfQueries:
        states = self._states
        width = len(states.factors)
        scaled = user * states.factors
        lowest = np.clip(-scaled, -states.largest, states.largest)
        terms = np.minimum(
            states.largest.sum(),
            np.sqrt(width) * np.hypot(states.norm, np.linalg.norm(lowest, axis=1)),
        )
        made_good = (scaled + np.maximum(-scaled - states.largest, 0.0)) @ states.signs
        # A hidden sum that overflows is no number times a weight of zero.
        sums = (np.abs(user) + states.extents).max(axis=1, initial=0.0)
        mass = np.where(sums < LARGEST_SCORE, np.abs(scaled).sum(axis=1) + terms, np.inf)
        units = np.full(len(user), states.unit)
        return self._bounded(
            lowest, units, constant + states.unit * made_good, (terms, np.zeros(len(user)), mass)
        )

    def _bounded(
        self,
        inputs: DoubleArray,
        units: DoubleArray,
        constants: DoubleArray,
        sums: tuple[DoubleArray, DoubleArray, DoubleArray],
    ) -> HalfQueries:
        """Round the inputs, and make margins.

        The sums are (q,) in units: of the sizes of all terms in float16; of the factors that τ is
        multiplied by; and of the sizes of all terms in float32, but the constants.
        """
        terms, linear, mass = sums
        width = len(self._states.factors)
        # Twice the linear part: for rounding states, and for what that adds to the sums' errors.
        # The rest is for results that are not normal: three for each term are more than there are.
        small = SMALLEST * (2.0 * linear + 8.0 * (width + self._states.group))
        beta = units * (self._off * terms + small)
        mass = 2.0 * units * mass + np.abs(constants) + self._states.largest_constant
        return HalfQueries(
            inputs={
                "user_state": to_half(inputs),
                "user_unit": units.astype(np.float32),
                "user_constant": constants.astype(np.float32),
            },
            margins=within_margins(beta, mass, width),
        )
