"""What stands behind every interaction model: collaborative scores beside it, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import keras
from keras import ops

from fuserank.training.model.interaction.layers import REGISTER, Interaction

__all__ = ["CollaborativeShare", "Head"]


@REGISTER
class CollaborativeShare(keras.layers.Layer):
    """A side's share of a collaborative score: c_u = Σ_t e_t, or c_i.

    An item's collaborative vector is [e; c]: what it says as an event of a history, and what it is
    as a candidate. A history, (batch, length, 2·width) float32, gives (batch, width), the sum of e
    over its events, of which more say more; an item, (batch, 2·width), gives its c.
    """

    def call(self, inputs: Any) -> Any:
        """Return (batch, width)."""
        width = inputs.shape[-1] // 2
        if len(inputs.shape) == 2:
            return inputs[:, width:]
        return ops.sum(inputs[:, :, :width], axis=1)


@REGISTER
class Head(Interaction):
    """z = a·(f(φ, ψ) + w·⟨c_u, c_i⟩) + b, f an interaction model.

    a, b and w are not trained with f. In training, collaborative vectors know the very pairs that f
    is to learn, and would be trusted too much; what w they deserve is seen on pairs that neither
    has met. The same pairs calibrate: a and b undo what drawn negatives did to probabilities.

    Sources: Wolpert, "Stacked Generalization", Neural Networks 5(2), 1992; Platt, "Probabilistic
    Outputs for Support Vector Machines", Advances in Large Margin Classifiers, 1999.
    """

    def __init__(
        self,
        model: Interaction | dict[str, Any],
        shapes: Sequence[Sequence[int]] = (),
        **kwargs: Any,
    ) -> None:
        """Take f and, where there are collaborative scores, the shapes of φ and ψ a row.

        A side is then flat: its φ or ψ, and its share of the collaborative score behind it.
        """
        super().__init__(**kwargs)
        self.model: Interaction = (
            keras.saving.deserialize_keras_object(model) if isinstance(model, dict) else model
        )
        self.shapes = [tuple(shape) for shape in shapes]
        self.reads_fields = self.model.reads_fields
        self.reads_history = self.model.reads_history

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make f, a, b and w."""
        of_model = [(None, *shape) for shape in self.shapes] or input_shape
        if not self.model.built:  # it is, where it comes back from disk
            self.model.build(of_model)
        self.slope = self._number("slope", 1.0)
        self.weight = self._number("weight", 0.0)
        self.intercept = self._number("intercept", 0.0)

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        together = self.model([self.own(side, joined) for side, joined in enumerate(inputs)])
        if self.shapes:
            shares = [
                joined[:, prod(shape) :] for joined, shape in zip(inputs, self.shapes, strict=True)
            ]
            together = together + self.weight * ops.sum(shares[0] * shares[1], axis=-1)
        return self.slope * together + self.intercept

    def own(self, side: int, joined: Any) -> Any:
        """Return φ (side 0) or ψ (side 1) without a share of the collaborative score."""
        if not self.shapes:
            return joined
        shape = self.shapes[side]
        return ops.reshape(joined[:, : prod(shape)], (-1, *shape))

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "shapes": self.shapes}

    def _number(self, name: str, value: float) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=initializer, trainable=False, name=name)
