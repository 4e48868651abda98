"""Interaction models: (φ, ψ) becomes the logit that the user likes the item."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from fuserank.training.train_config import TrainConfig

__all__ = ["INTERACTIONS", "Bilinear", "Perceptron"]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")


@_REGISTER
class Bilinear(keras.layers.Layer):
    """Weighted element-wise product with biases: z = θᵀ(φ⊙ψ) + bᵤᵀφ + bᵢᵀψ + b.

    The user's and the item's bias are linear in φ and ψ, so that an item which was never seen
    gets one as well. With towers that are linear in id embeddings this is matrix factorization.

    Input φ and ψ, (batch, dim) float32 each; output (batch,) float32 logits.

    Source: He et al., "Neural Collaborative Filtering", WWW 2017, equation 9 (generalized matrix
    factorization); the biases after Koren, Bell and Volinsky, "Matrix Factorization Techniques
    for Recommender Systems", Computer 42(8), 2009, equation 4.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make θ, bᵤ, bᵢ and b."""
        dim = input_shape[0][-1]
        self.theta = self.add_weight(shape=(dim,), initializer="ones", name="theta")
        self.user_bias = self.add_weight(shape=(dim, 1), initializer="zeros", name="user_bias")
        self.item_bias = self.add_weight(shape=(dim, 1), initializer="zeros", name="item_bias")
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        phi, psi = inputs
        product = ops.sum(phi * psi * self.theta, axis=-1)
        biases = ops.matmul(phi, self.user_bias) + ops.matmul(psi, self.item_bias)
        return product + ops.squeeze(biases, axis=-1) + self.bias


@_REGISTER
class Perceptron(keras.layers.Layer):
    """Two-layer perceptron: z = w₂ᵀ relu(W₁[φ; ψ] + b₁) + b₂.

    Input φ and ψ, (batch, dim) float32 each; output (batch,) float32 logits.

    Source: He et al., "Neural Collaborative Filtering", WWW 2017, equation 10, with one hidden
    layer.
    """

    def __init__(self, hidden: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden
        self.concat = keras.layers.Concatenate(name="concat")
        self.first = keras.layers.Dense(hidden, activation="relu", name="first")
        self.second = keras.layers.Dense(1, name="second")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make W₁, b₁, w₂ and b₂."""
        self.first.build((None, sum(int(shape[-1] or 0) for shape in input_shape)))
        self.second.build((None, self.hidden))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        return ops.squeeze(self.second(self.first(self.concat(inputs))), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "hidden": self.hidden}


INTERACTIONS: dict[str, Callable[[TrainConfig], keras.layers.Layer]] = {
    "bilinear": lambda config: Bilinear(name="interaction"),
    "perceptron": lambda config: Perceptron(config.hidden, name="interaction"),
}
"""Interaction models by the name that a configuration gives."""
