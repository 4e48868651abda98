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
    """z = a·(f(φ, ψ) + v·g(φ′, ψ′) + w·⟨c_u, c_i⟩) + b, f and g interaction models.

    a, b, v and w are not trained with f and g. In training, collaborative vectors know the very
    pairs that f is to learn, and would be trusted too much; what w they deserve is seen on pairs
    that neither has met. The same pairs calibrate: a and b undo what drawn negatives did to
    probabilities. g has towers and a loss of its own: two models that err apart err less together.

    Sources: Wolpert, "Stacked Generalization", Neural Networks 5(2), 1992; Platt, "Probabilistic
    Outputs for Support Vector Machines", Advances in Large Margin Classifiers, 1999.
    """

    def __init__(
        self,
        model: Interaction | dict[str, Any],
        shapes: Sequence[Sequence[int]] = (),
        beside: Interaction | dict[str, Any] | None = None,
        width: int = 0,
        **kwargs: Any,
    ) -> None:
        """Take f and, where more is added, the shapes of φ and ψ a row.

        A side is then flat: its φ or ψ, φ′ or ψ′ behind it, and its share of the collaborative
        score.

        Args:
            model: f.
            shapes: of φ and of ψ; none where f is all.
            beside: g, if there is one.
            width: of φ′ and ψ′.
            **kwargs: of every layer.
        """
        super().__init__(**kwargs)
        self.model: Interaction = _restored(model)
        self.beside: Interaction | None = None if beside is None else _restored(beside)
        self.shapes = [tuple(shape) for shape in shapes]
        self.width = width
        self.reads_fields = self.model.reads_fields
        self.reads_history = self.model.reads_history

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make f, a, b and w."""
        of_model = [(None, *shape) for shape in self.shapes] or input_shape
        if not self.model.built:  # it is, where it comes back from disk
            self.model.build(of_model)
        if self.beside is not None and not self.beside.built:
            self.beside.build([(None, self.width)] * 2)
        self.blends = bool(self.shapes) and input_shape[0][-1] != prod(self.shapes[0]) + self.width
        """Whether collaborative scores are added."""
        self.slope = self._number("slope", 1.0)
        self.weight = self._number("weight", 0.0)
        self.beside_weight = self._number("beside_weight", 1.0)
        self.intercept = self._number("intercept", 0.0)

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        together = self.model([self.own(side, joined) for side, joined in enumerate(inputs)])
        if self.beside is not None:
            others = [self.others(side, joined) for side, joined in enumerate(inputs)]
            together = together + self.beside_weight * self.beside(others)
        if self.blends:
            shares = [
                joined[:, prod(shape) + self.width :]
                for joined, shape in zip(inputs, self.shapes, strict=True)
            ]
            together = together + self.weight * ops.sum(shares[0] * shares[1], axis=-1)
        return self.slope * together + self.intercept

    def own(self, side: int, joined: Any) -> Any:
        """Return φ (side 0) or ψ (side 1) without what is behind it."""
        if not self.shapes:
            return joined
        shape = self.shapes[side]
        return ops.reshape(joined[:, : prod(shape)], (-1, *shape))

    def others(self, side: int, joined: Any) -> Any:
        """Return φ′ (side 0) or ψ′ (side 1), (batch, width)."""
        first = prod(self.shapes[side])
        return joined[:, first : first + self.width]

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        beside = self.beside
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "shapes": self.shapes,
            "beside": None if beside is None else keras.saving.serialize_keras_object(beside),
            "width": self.width,
        }

    def _number(self, name: str, value: float) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=initializer, trainable=False, name=name)


def _restored(model: Interaction | dict[str, Any]) -> Any:
    """Return a layer, or the one that a configuration stands for."""
    return keras.saving.deserialize_keras_object(model) if isinstance(model, dict) else model
