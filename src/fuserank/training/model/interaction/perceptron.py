"""Models that put φ and ψ, joined, through dense layers."""

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

__all__ = ["DeepPerceptron", "FinalMLP", "NeuMF", "Perceptron"]


@REGISTER
class DeepPerceptron(Interaction):
    """z = wᵀ relu(W_L … relu(W₁[φ; ψ] + b₁) … + b_L) + b.

    Source: He et al., "Neural Collaborative Filtering", WWW 2017, equation 10.
    """

    def __init__(self, widths: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widths = tuple(widths)
        self.concat = keras.layers.Concatenate(name="concat")
        self.hidden_layers = dense_stack("hidden", self.widths)
        self.output_layer = keras.layers.Dense(1, name="output")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make all W and b."""
        width = sum(int(shape[-1] or 0) for shape in input_shape)
        self.output_layer.build((None, build_stack(self.hidden_layers, width)))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        hidden = run_stack(self.hidden_layers, self.concat(inputs))
        return ops.squeeze(self.output_layer(hidden), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "widths": list(self.widths)}


@REGISTER
class Perceptron(DeepPerceptron):
    """Two-layer perceptron: z = w₂ᵀ relu(W₁[φ; ψ] + b₁) + b₂.

    It is the deepest perceptron whose first layer, split into a user's and an item's part, leaves
    nothing joint but a sum, an activation and a product with w₂.
    """

    def __init__(self, hidden: int, **kwargs: Any) -> None:
        super().__init__([hidden], **kwargs)
        self.hidden = hidden

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        config = super().get_config()
        del config["widths"]
        return {**config, "hidden": self.hidden}


@REGISTER
class NeuMF(DeepPerceptron):
    """Product and perceptron side by side: z = wᵀ[φ⊙ψ; h_L] + b, h_L as in `DeepPerceptron`.

    Source: He et al., "Neural Collaborative Filtering", WWW 2017, equation 12; both parts read the
    same φ and ψ here.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make all W and b, and w."""
        dim = int(input_shape[0][-1] or 0)
        self.output_layer.build((None, dim + build_stack(self.hidden_layers, 2 * dim)))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        phi, psi = inputs
        hidden = run_stack(self.hidden_layers, self.concat(inputs))
        return ops.squeeze(self.output_layer(self.concat([phi * psi, hidden])), axis=-1)


@REGISTER
class FinalMLP(Interaction):
    """Two streams, one a side: z = w₁ᵀo₁ + w₂ᵀo₂ + o₁ᵀW₃o₂ + b, each o a perceptron of its side.

    With one-sided streams both are precomputed, and one inner product is left, however deep they
    are.

    Source: Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023,
    equation 8.
    """

    def __init__(self, widths: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widths = tuple(widths)
        self.streams = [dense_stack(side, self.widths) for side in ("user", "item")]
        self.linear = [keras.layers.Dense(1, name=f"{side}_linear") for side in ("user", "item")]
        self.fusion = keras.layers.Dense(self.widths[-1], use_bias=False, name="fusion")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the streams, w₁, w₂, W₃ and b."""
        last = (None, self.widths[-1])
        for stream, linear, shape in zip(self.streams, self.linear, input_shape, strict=True):
            build_stack(stream, int(shape[-1] or 0))
            linear.build(last)
        self.fusion.build(last)

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        first, second = map(run_stack, self.streams, inputs)
        linear = self.linear[0](first) + self.linear[1](second)
        fused = ops.sum(self.fusion(first) * second, axis=-1)
        return ops.squeeze(linear, axis=-1) + fused

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "widths": list(self.widths)}
