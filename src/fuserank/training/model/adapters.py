"""Adapters: from an embedding that was made elsewhere to the space of the sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

__all__ = ["ADAPTERS", "ExpertAdapter", "PerceptronAdapter"]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")

_EXPERTS = 4


@_REGISTER
class PerceptronAdapter(keras.layers.Layer):
    """y = W₂ relu(W₁x + c₁) + c₂.

    Input (batch, …, width) float32; output (batch, …, dim) float32.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.first = keras.layers.Dense(dim, activation="relu", name="first")
        self.second = keras.layers.Dense(dim, name="second")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make all W and c."""
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], self.dim))

    def call(self, inputs: Any) -> Any:
        """Return (batch, …, dim)."""
        return self.second(self.first(inputs))

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim}


@_REGISTER
class ExpertAdapter(keras.layers.Layer):
    """Mixture of experts: y = Σ_k g_k W_k(x − b_k), g = softmax(Vx + d) over four experts.

    Each W_k(x − b_k) is a whitening whose shift and matrix are learned; it is computed as
    W_k x + c_k, one product for all experts.

    Input (batch, …, width) float32; output (batch, …, dim) float32.

    Source: Hou et al., "Towards Universal Sequence Representation Learning for Recommender
    Systems", KDD 2022, equations 2 to 4, without the noise on the gate.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.experts = keras.layers.Dense(_EXPERTS * dim, name="experts")
        self.gate = keras.layers.Dense(_EXPERTS, activation="softmax", name="gate")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make all W_k and c_k, V and d."""
        self.experts.build(input_shape)
        self.gate.build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return (batch, …, dim)."""
        experts, gates = self.experts(inputs), self.gate(inputs)
        return sum(
            gates[..., k : k + 1] * experts[..., k * self.dim : (k + 1) * self.dim]
            for k in range(_EXPERTS)
        )

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim}


ADAPTERS: dict[str, Callable[[int, str], keras.layers.Layer]] = {
    "linear": lambda dim, name: keras.layers.Dense(dim, name=name),
    "mlp": lambda dim, name: PerceptronAdapter(dim, name=name),
    "experts": lambda dim, name: ExpertAdapter(dim, name=name),
}
"""From width and name to an adapter, by the name that a configuration gives."""
