"""Layers of a perceptron, and how the compiled pass takes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.activations import ACTIVATIONS

__all__ = ["DenseLayer", "packed"]

FloatArray = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """act(weights · inputs + bias).

    Attributes:
        weights: (n_outputs, n_inputs) float32.
        bias: (n_outputs,) float32.
        activation: a name in `ACTIVATIONS`.
    """

    weights: FloatArray
    bias: FloatArray
    activation: str


def packed(
    activation: str, layers: Sequence[DenseLayer], weights: FloatArray
) -> tuple[FloatArray, Integers, Integers]:
    """Return what `scan_deep` takes of a perceptron: parameters, widths and codes.

    Args:
        activation: of the first layer.
        layers: those behind it.
        weights: (width of the last layer,) float32, of the logit.
    """
    of_layers = [array.ravel() for layer in layers for array in (layer.weights, layer.bias)]
    parameters = np.concatenate([*of_layers, weights], dtype=np.float32)
    widths = [layer.weights.shape[1] for layer in layers] + [len(weights)]
    codes = [ACTIVATIONS[name] for name in (activation, *(layer.activation for layer in layers))]
    return parameters, np.array(widths), np.array(codes)
