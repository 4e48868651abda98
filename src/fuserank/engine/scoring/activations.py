"""Activations that the compiler can vectorise.

All are float32 arithmetic without calls and branches, so that 16 of them run at once; none is
further than 1e-6·(1 + |x|) from the true one.

Source: exp by splitting off the power of two, and the Taylor polynomial of degree 6 of the rest;
erf by formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions, whose error is
below 1.5e-7.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["ACTIVATIONS", "DOT", "FAST_MATH", "activate"]

# Sums may be reordered (that is what lets the compiler use vectors); NaN and infinities keep
# their meaning, because "NaN never wins" depends on comparing them.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

DOT = 0
"""The code of an inner product, which has no activation."""

ACTIVATIONS = {"identity": 1, "relu": 2, "tanh": 3, "sigmoid": 4, "silu": 5, "gelu": 6}
"""Codes by the name of an activation; ``gelu`` is the exact form, x·Φ(x)."""

# Python's division would raise where it divides by zero: a branch, and no vectors.
_INLINE = {
    "nogil": True,
    "forceinline": True,
    "fastmath": {"contract"},
    "error_model": "numpy",
}
_LOG2_E = np.float32(1.4426950408889634)
_LN_2 = np.float32(0.6931471805599453)
_ROOT_HALF = np.float32(0.7071067811865476)
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)


@njit(**_INLINE)
def _exp(x: Any) -> Any:
    """Return e^x; beyond ±87, e^±87."""
    x = min(max(x, np.float32(-87.0)), np.float32(87.0))  # NaN stays, being first
    n = np.floor(min(np.float32(87.0), x) * _LOG2_E + _HALF)  # NaN, which no integer is, becomes 87
    r = x - n * _LN_2
    p = np.float32(1 / 720) * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + _HALF
    p = p * r + _ONE
    p = p * r + _ONE
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return p * power.view(np.float32)


@njit(**_INLINE)
def _sigmoid(x: Any) -> Any:
    return _ONE / (_ONE + _exp(-x))


@njit(**_INLINE)
def _erf(x: Any) -> Any:
    size = abs(x)
    t = _ONE / (_ONE + np.float32(0.3275911) * size)
    p = np.float32(1.061405429) * t + np.float32(-1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t + np.float32(-0.284496736)
    p = p * t + np.float32(0.254829592)
    tail = _ONE - p * t * _exp(-size * size)
    return tail if x >= 0 else -tail


@njit(**_INLINE)
def activate(code: int, x: Any) -> Any:
    """Return an activation of a float32; `code` is a constant, so that one branch remains."""
    if code == 2:
        return max(x, np.float32(0.0))
    if code == 3:
        return np.float32(2.0) * _sigmoid(np.float32(2.0) * x) - _ONE
    if code == 4:
        return _sigmoid(x)
    if code == 5:
        return x * _sigmoid(x)
    if code == 6:
        return _HALF * x * (_ONE + _erf(x * _ROOT_HALF))
    return x
