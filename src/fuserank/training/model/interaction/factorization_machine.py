"""Models of pairs of fields: factorization machines, alone and beside dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from fuserank.training.model.interaction.layers import (
    REGISTER,
    Interaction,
    build_stack,
    dense_stack,
    flat,
    run_stack,
)

__all__ = [
    "DeepFM",
    "FactorizationMachine",
    "FieldWeightedFactorizationMachine",
    "WideAndDeep",
]


class _OverFields(Interaction):
    """Joins the fields of both sides, and adds a linear model of all of them."""

    reads_fields = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.concat = keras.layers.Concatenate(axis=1, name="concat")
        self.linear = keras.layers.Dense(1, name="linear")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the linear model."""
        self.n_fields = sum(int(shape[1] or 0) for shape in input_shape)
        self.dim = int(input_shape[0][2] or 0)
        self.linear.build((None, self.n_fields * self.dim))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        linear = self.linear(flat(self.concat(inputs)))
        return ops.squeeze(linear, axis=-1) + self.interact(inputs)

    def interact(self, inputs: list[Any]) -> Any:
        """Return (batch,): what the linear model is added to."""
        raise NotImplementedError


def _pairs(fields: Any) -> Any:
    """½ Σ_k [(Σ_f v_fk)² - Σ_f v_fk²]: the inner products of all pairs of fields."""
    total = ops.square(ops.sum(fields, axis=1)) - ops.sum(ops.square(fields), axis=1)
    return 0.5 * ops.sum(total, axis=-1)


@REGISTER
class FactorizationMachine(_OverFields):
    """z = b + wᵀ[v₁; …; v_n] + Σ_{f<g} ⟨v_f, v_g⟩.

    Source: Rendle, "Factorization Machines", ICDM 2010, equations 1 and 5.
    """

    def interact(self, inputs: list[Any]) -> Any:
        """Return the sum over all pairs of fields."""
        return _pairs(self.concat(inputs))


@REGISTER
class FieldWeightedFactorizationMachine(_OverFields):
    """z = b + wᵀ[v₁; …; v_n] + Σ_{f<g} r_fg ⟨v_f, v_g⟩.

    Source: Pan et al., "Field-weighted Factorization Machines for Click-Through Rate Prediction in
    Display Advertising", WWW 2018, equation 5.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the linear model and r, of which the part above the diagonal counts."""
        super().build(input_shape)
        shape = (self.n_fields, self.n_fields)
        self.strength = self.add_weight(shape=shape, initializer="ones", name="strength")

    def interact(self, inputs: list[Any]) -> Any:
        """Return the weighted sum over all pairs: of the user, of the item, and across."""
        user, item = inputs
        above = ops.triu(ops.ones((self.n_fields, self.n_fields)), k=1) * self.strength
        count = user.shape[1]
        pairs = (
            (user, above[:count, :count], user),
            (item, above[count:, count:], item),
            (item, ops.transpose(above[:count, count:]), user),
        )
        return sum(ops.sum(one * ops.matmul(r, other), axis=(1, 2)) for one, r, other in pairs)


class _WithDense(_OverFields):
    """Adds dense layers over all fields joined."""

    def __init__(self, widths: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widths = tuple(widths)
        self.hidden_layers = dense_stack("hidden", self.widths)
        self.output_layer = keras.layers.Dense(1, name="output")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the linear model and the dense layers."""
        super().build(input_shape)
        width = build_stack(self.hidden_layers, self.n_fields * self.dim)
        self.output_layer.build((None, width))

    def interact(self, inputs: list[Any]) -> Any:
        """Return what the dense layers make of all fields."""
        hidden = run_stack(self.hidden_layers, flat(self.concat(inputs)))
        return ops.squeeze(self.output_layer(hidden), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "widths": list(self.widths)}


@REGISTER
class WideAndDeep(_WithDense):
    """z = wᵀ[v₁; …; v_n] + MLP([v₁; …; v_n]).

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, equation 3.
    """


@REGISTER
class DeepFM(_WithDense):
    """z = FM(v₁, …, v_n) + MLP([v₁; …; v_n]), both over the same embeddings.

    Source: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
    IJCAI 2017, equation 1.
    """

    def interact(self, inputs: list[Any]) -> Any:
        """Return the sum over all pairs of fields and what the dense layers make of them."""
        return _pairs(self.concat(inputs)) + super().interact(inputs)
