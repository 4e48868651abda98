"""How activations are scaled before eight bits are made of them: chosen by the error it leaves."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fuserank.export.passes.quantize_static import Smoothing
from fuserank.export.passes.weights import quantize_columns
from fuserank.export.precision.activations import Activations

__all__ = ["choose_smoothing"]

FloatArray = npt.NDArray[np.float32]

# From activations as they are to columns of like size, where weights take all the difference.
_SHARES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LEAST = 1e-6


def choose_smoothing(x: Activations, matrices: Sequence[FloatArray]) -> Smoothing:
    """Return the scaling of x with which x·W is nearest to what it was, over several shares.

    A column of x that is large makes the step coarse for all of them. Dividing it by d and
    multiplying its row of W by d changes nothing but where the error arises: d = max|x|^a /
    max|w|^(1 - a), for the a that leaves the least error on the sample.

    Args:
        x: what is multiplied, of width dim.
        matrices: (dim, …) each, by which it is multiplied.

    Source: Xiao et al., "SmoothQuant", ICML 2023; the search of Lin et al., "AWQ", MLSys 2024.
    """
    weights = np.concatenate(matrices, axis=1)
    sizes = np.maximum(np.maximum(np.abs(x.least), np.abs(x.largest)), _LEAST)
    opposed = np.maximum(np.abs(weights).max(axis=1), _LEAST)
    exact = x.rows @ weights
    best, least_error = None, np.inf
    for share in _SHARES:
        divisors = (sizes**share / opposed ** (1 - share)).astype(np.float32)
        smoothing = _smoothing(x, divisors if share else np.ones_like(divisors))
        scaled = quantize_columns(weights * smoothing.divisors[:, None])
        made = smoothing.quantized(x.rows) @ (scaled.codes * scaled.scales)
        error = float(np.square(made - exact).sum())
        if best is None or error < least_error:
            best, least_error = smoothing, error
    assert best is not None
    return best


def _smoothing(x: Activations, divisors: FloatArray) -> Smoothing:
    low = min(float((x.least / divisors).min()), 0.0)
    high = max(float((x.largest / divisors).max()), low + _LEAST)
    step = np.float32((high - low) / 255)
    return Smoothing(divisors, step, np.uint8(round(-low / float(step))))
