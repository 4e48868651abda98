"""What every bound on a score shares: the roundings of float32, and where it could overflow."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST_SCORE", "within_margins"]

DoubleArray = npt.NDArray[np.float64]

_EPSILON = 2.0**-24

LARGEST_SCORE = 1e30
"""Sums below it are far from the overflow of float32."""


def within_margins(beta: DoubleArray, mass: DoubleArray, width: int) -> DoubleArray:
    """Return (q,) float64 margins: items that far below the k-th best may still be among the k.

    A margin is 2β and the rounding of a threshold. β is made of the bound that is given and of the
    roundings of float32. The exact scan adds, in an unknown order, at most width + 4 roundings a
    term; completing a score elsewhere takes fewer. With γ_m = mε / (1 - mε), ε = 2⁻²⁴, that errs by
    γ times the sum of the terms' sizes. Underflow adds less than 2⁻¹⁰⁰ a term.

    Args:
        beta: (q,) how far scores are apart before that.
        mass: (q,) no sum of the sizes of a score's terms is larger, the constants included.
        width: numbers of a state.

    Returns:
        Infinity where a sum could overflow, or is not a number: nothing bounds β there.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 4.2
    (any order of summation).
    """
    roundings = 2 * (width + 8) * _EPSILON
    beta = beta + roundings / (1.0 - roundings) * mass + width * 2.0**-100
    margins = (2.0 * beta + 2.0**-22 * (mass + beta)) * (1 + 1e-6)
    bounded: npt.NDArray[Any] = np.where(mass < LARGEST_SCORE, margins, np.inf)
    return bounded
