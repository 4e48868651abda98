"""Fusion: the sources of a side become one vector, φ of a user or ψ of an item."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["ConcatFusion"]


@keras.saving.register_keras_serializable(package="fuserank")
class ConcatFusion(keras.layers.Layer):
    """Fusion by concatenation: φ = W[s₁; s₂; …; s_k] + c.

    Input k tensors (batch, width_j) float32; output (batch, dim) float32.

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, section 3.2
    (embeddings and numbers are concatenated before the first dense layer).
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.concat = keras.layers.Concatenate(name="concat")
        self.projection = keras.layers.Dense(dim, name="projection")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make W and c."""
        self.projection.build((None, sum(int(shape[-1] or 0) for shape in input_shape)))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch, dim)."""
        return self.projection(self.concat(inputs) if len(inputs) > 1 else inputs[0])

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim}
