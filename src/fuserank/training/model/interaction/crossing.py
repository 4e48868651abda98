"""Models that cross all fields in layers: by products, by attention, by masks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from fuserank.training.model.interaction.layers import REGISTER, Interaction, flat

__all__ = ["AutoInt", "CrossNetwork", "MaskNet"]


@REGISTER
class CrossNetwork(Interaction):
    """x_{l+1} = x₀ ⊙ (W_l x_l + b_l) + x_l over all fields joined, then z = wᵀx_L + b.

    One layer is bilinear, and factorises to an inner product; more are not.

    Source: Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale
    Learning to Rank Systems", WWW 2021, equation 1.
    """

    reads_fields = True

    def __init__(self, depth: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.depth = depth
        self.concat = keras.layers.Concatenate(axis=1, name="concat")
        self.output_layer = keras.layers.Dense(1, name="output")
        self.crosses: list[keras.layers.Layer] = []

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make all W_l and b_l, w and b."""
        width = sum(int(shape[1] or 0) * int(shape[2] or 0) for shape in input_shape)
        self.crosses = [
            keras.layers.Dense(width, name=f"cross_{layer}") for layer in range(self.depth)
        ]
        for cross in self.crosses:
            cross.build((None, width))
        self.output_layer.build((None, width))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        first = crossed = flat(self.concat(inputs))
        for cross in self.crosses:
            crossed = first * cross(crossed) + crossed
        return ops.squeeze(self.output_layer(crossed), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "depth": self.depth}


@REGISTER
class AutoInt(Interaction):
    """Fields attend to one another: e' = relu(softmax(QKᵀ)V + W_res e), then z = wᵀ[e'₁; …] + b.

    Q, K and V are e W, one layer of one head.

    Source: Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural
    Networks", CIKM 2019, equations 5 to 8.
    """

    reads_fields = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.concat = keras.layers.Concatenate(axis=1, name="concat")
        self.output_layer = keras.layers.Dense(1, name="output")
        self.projections: list[keras.layers.Layer] = []

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the projections, w and b."""
        n_fields = sum(int(shape[1] or 0) for shape in input_shape)
        dim = int(input_shape[0][2] or 0)
        self.projections = [
            keras.layers.Dense(dim, use_bias=False, name=name)
            for name in ("query", "key", "value", "residual")
        ]
        for projection in self.projections:
            projection.build((None, n_fields, dim))
        self.output_layer.build((None, n_fields * dim))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        fields = self.concat(inputs)
        query, key, value, residual = (projection(fields) for projection in self.projections)
        attention = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 2, 1))), axis=-1)
        attended = ops.relu(ops.matmul(attention, value) + residual)
        return ops.squeeze(self.output_layer(flat(attended)), axis=-1)


@REGISTER
class MaskNet(Interaction):
    """The fields mask themselves: z = wᵀ relu(LN(W (m ⊙ LN(x)))) + b, m = W₂ relu(W₁x).

    x is all fields joined, LN(x) normalises each field of it; the mask depends on the instance.

    Source: Wang, She and Zhang, "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking
    Models by Instance-Guided Mask", DLP-KDD 2021, equations 4 to 8; one block.
    """

    reads_fields = True

    def __init__(self, hidden: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = hidden
        self.concat = keras.layers.Concatenate(axis=1, name="concat")
        self.field_norm = keras.layers.LayerNormalization(name="field_norm")
        self.aggregate = keras.layers.Dense(hidden, activation="relu", name="aggregate")
        self.block = keras.layers.Dense(hidden, name="block")
        self.block_norm = keras.layers.LayerNormalization(name="block_norm")
        self.output_layer = keras.layers.Dense(1, name="output")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the mask, the block, w and b."""
        n_fields = sum(int(shape[1] or 0) for shape in input_shape)
        dim = int(input_shape[0][2] or 0)
        self.project = keras.layers.Dense(n_fields * dim, name="project")
        self.field_norm.build((None, n_fields, dim))
        self.aggregate.build((None, n_fields * dim))
        self.project.build((None, self.hidden))
        self.block.build((None, n_fields * dim))
        self.block_norm.build((None, self.hidden))
        self.output_layer.build((None, self.hidden))

    def call(self, inputs: list[Any]) -> Any:
        """Return (batch,)."""
        fields = self.concat(inputs)
        mask = self.project(self.aggregate(flat(fields)))
        masked = self.block(mask * flat(self.field_norm(fields)))
        return ops.squeeze(self.output_layer(ops.relu(self.block_norm(masked))), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "hidden": self.hidden}
