"""A model that reads a user's history with the item in view."""

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
    run_stack,
)

__all__ = ["TargetAttention"]


@REGISTER
class TargetAttention(Interaction):
    """Deep interest: z = wᵀ MLP([φ; s; ψ]) + b, s = Σ_t a_t h_t.

    h_t are the events of the history and v the item's own vector in their space. The weights
    a_t = wₐᵀ relu(W_h h_t + W_v v + W_p(h_t⊙v) + bₐ) + c are not normalised, so that s says how
    much of an interest there is as well. W_h and W_v hold what the paper's h_t − v would add. An
    event that is zeros adds nothing.

    Of the weights' first layer only W_p is left to each pair of an event and an item.

    Source: Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018,
    section 4.3, equation 3; with relu for Dice.
    """

    reads_history = True

    def __init__(self, attention: int, widths: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = attention
        self.widths = tuple(widths)
        self.of_event = keras.layers.Dense(attention, name="of_event")
        self.of_item = keras.layers.Dense(attention, use_bias=False, name="of_item")
        self.of_both = keras.layers.Dense(attention, use_bias=False, name="of_both")
        self.weight = keras.layers.Dense(1, name="weight")
        self.concat = keras.layers.Concatenate(name="concat")
        self.hidden_layers = dense_stack("hidden", self.widths)
        self.output_layer = keras.layers.Dense(1, name="output")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make all W, w, b and c."""
        dim = int(input_shape[0][2] or 0)
        for layer in (self.of_event, self.of_item, self.of_both):
            layer.build((None, None, dim))
        self.weight.build((None, None, self.attention))
        self.output_layer.build((None, build_stack(self.hidden_layers, 3 * dim)))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        user, item = inputs
        phi, events, psi, own = user[:, 0], user[:, 1:], item[:, 0], item[:, 1:]
        hidden = self.of_event(events) + self.of_item(own) + self.of_both(events * own)
        # Not by a transposition, which tf2onnx would take for a reshape and merge with another.
        weights = self.weight(ops.relu(hidden))[:, None, :, 0]
        interest = ops.matmul(weights, events)[:, 0]
        joined = run_stack(self.hidden_layers, self.concat([phi, interest, psi]))
        return ops.squeeze(self.output_layer(joined), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        config = super().get_config()
        return {**config, "attention": self.attention, "widths": list(self.widths)}
