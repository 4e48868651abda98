"""Models that are bilinear in φ and ψ: they factorise to one inner product."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from fuserank.training.model.interaction.layers import REGISTER, Interaction

__all__ = ["Bilinear", "BilinearMatrix", "Cosine", "GeneralizedMatrixFactorization", "TwoTower"]

_TEMPERATURE = 0.2
"""What cosines are divided by, lest the best logit be no more than 2 above the worst."""
_SMALL = 1e-12


class _Biased(Interaction):
    """Adds to a product the biases bᵤᵀφ + bᵢᵀψ + b.

    They are linear in φ and ψ, so that an item which was never seen gets one as well.

    Source: Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems",
    Computer 42(8), 2009, equation 4.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make bᵤ, bᵢ and b."""
        dims = [shape[-1] for shape in input_shape]
        self.user_bias = self.add_weight(shape=(dims[0], 1), initializer="zeros", name="user_bias")
        self.item_bias = self.add_weight(shape=(dims[1], 1), initializer="zeros", name="item_bias")
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        phi, psi = inputs
        biases = ops.matmul(phi, self.user_bias) + ops.matmul(psi, self.item_bias)
        return self.product(phi, psi) + ops.squeeze(biases, axis=-1) + self.bias

    def product(self, phi: Any, psi: Any) -> Any:
        """Return (batch,): what the biases are added to."""
        raise NotImplementedError


@REGISTER
class Bilinear(_Biased):
    """Weighted element-wise product with biases: z = θᵀ(φ⊙ψ) + bᵤᵀφ + bᵢᵀψ + b.

    With towers that are linear in id embeddings this is matrix factorization.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make θ and the biases."""
        super().build(input_shape)
        dim = input_shape[0][-1]
        self.theta = self.add_weight(shape=(dim,), initializer="ones", name="theta")

    def product(self, phi: Any, psi: Any) -> Any:
        """Return θᵀ(φ⊙ψ)."""
        return ops.sum(phi * psi * self.theta, axis=-1)


@REGISTER
class BilinearMatrix(_Biased):
    """Every pair of dimensions has a weight: z = φᵀΘψ + bᵤᵀφ + bᵢᵀψ + b.

    Source: Kim et al., "Hadamard Product for Low-rank Bilinear Pooling", ICLR 2017, equation 1.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make Θ and the biases."""
        super().build(input_shape)
        shape = (input_shape[0][-1], input_shape[1][-1])
        self.theta = self.add_weight(shape=shape, initializer="identity", name="theta")

    def product(self, phi: Any, psi: Any) -> Any:
        """Return φᵀΘψ."""
        return ops.sum(ops.matmul(phi, self.theta) * psi, axis=-1)


@REGISTER
class GeneralizedMatrixFactorization(Interaction):
    """z = wᵀ(φ⊙ψ) + b.

    Source: He et al., "Neural Collaborative Filtering", WWW 2017, equation 9.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_layer = keras.layers.Dense(1, kernel_initializer="ones", name="output")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make w and b."""
        self.output_layer.build(input_shape[0])

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        phi, psi = inputs
        return ops.squeeze(self.output_layer(phi * psi), axis=-1)


@REGISTER
class Cosine(_Biased):
    """z = cos(φ, ψ) / τ + bᵤᵀφ + bᵢᵀψ + b: how much is known of a side has no say in it.

    Source: Wu et al., "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", ACM
    TOIS 42(4), 2024, section 3.
    """

    def product(self, phi: Any, psi: Any) -> Any:
        """Return cos(φ, ψ) / τ."""
        return ops.sum(_directed(phi) * _directed(psi), axis=-1) / _TEMPERATURE

    def all_pairs(self, phi: Any, psi: Any) -> Any:
        """Return (n, m) logits of n φ with m ψ."""
        cosines = ops.matmul(_directed(phi), ops.transpose(_directed(psi)))
        of_items = ops.transpose(ops.matmul(psi, self.item_bias))
        return cosines / _TEMPERATURE + ops.matmul(phi, self.user_bias) + of_items + self.bias


def _directed(vectors: Any) -> Any:
    """Return (n, dim) vectors of length 1."""
    return vectors * ops.rsqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + _SMALL)


@REGISTER
class TwoTower(Interaction):
    """Each side through a perceptron of its own: z = ⟨f(φ), g(ψ)⟩ / √h + b.

    f and g are W₂ relu(W₁·): Θ of `BilinearMatrix` of low rank, and what is not linear besides.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, section 3.
    """

    def __init__(self, hidden: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden
        self.towers = [
            [
                keras.layers.Dense(hidden, activation="relu", name=f"{side}_first"),
                keras.layers.Dense(hidden, name=f"{side}_second"),
            ]
            for side in ("user", "item")
        ]

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the towers and b."""
        for (first, second), shape in zip(self.towers, input_shape, strict=True):
            first.build(shape)
            second.build((None, self.hidden))
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        user, item = (
            second(first(side)) for (first, second), side in zip(self.towers, inputs, strict=True)
        )
        return ops.sum(user * item, axis=-1) / self.hidden**0.5 + self.bias

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "hidden": self.hidden}
