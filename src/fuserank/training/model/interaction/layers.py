"""What several interaction models are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["REGISTER", "Interaction", "build_stack", "dense_stack", "flat", "run_stack"]

REGISTER = keras.saving.register_keras_serializable(package="fuserank")


class Interaction(keras.layers.Layer):
    """A layer from [user, item] to (batch,) float32 logits.

    What it is given is φ and ψ, (batch, dim) float32 each; a model that looks at the fields one by
    one sets `reads_fields` and is given (batch, n_fields, dim) float32 of each side instead.

    A model that looks at the events of a history one by one sets `reads_history` and is given
    [φ; h₁; …; h_L], (batch, 1 + length, dim) float32, and [ψ; v], (batch, 2, dim) float32: v is the
    item as an event of a history would be, and zeros are no event.
    """

    reads_fields = False
    reads_history = False


def dense_stack(name: str, widths: Sequence[int]) -> list[keras.layers.Layer]:
    """Return dense layers with relu."""
    return [
        keras.layers.Dense(width, activation="relu", name=f"{name}_{depth}")
        for depth, width in enumerate(widths)
    ]


def build_stack(stack: Sequence[keras.layers.Layer], width: int) -> int:
    """Make the weights of dense layers for an input width; return the width of their output."""
    for layer in stack:
        layer.build((None, width))
        width = layer.units
    return width


def run_stack(stack: Sequence[keras.layers.Layer], tensor: Any) -> Any:
    """Put a tensor through dense layers, one after the other."""
    for layer in stack:
        tensor = layer(tensor)
    return tensor


def flat(tensor: Any) -> Any:
    """Return (batch, n·dim) of (batch, n, dim)."""
    return ops.reshape(tensor, (-1, tensor.shape[1] * tensor.shape[2]))
