"""Fusion: the sources of a side become one vector, φ of a user or ψ of an item.

For models that look at the fields one by one, the same weights scale the fields, which stay apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

__all__ = [
    "FUSIONS",
    "AttentionFusion",
    "ChannelFusion",
    "ConcatFusion",
    "Fusion",
    "WeightedFusion",
]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")


class Fusion(keras.layers.Layer):
    """Weighs the sources s₁ … s_k of a side and joins them.

    Called with k tensors (batch, width_j) float32 and ``presence`` (batch, k) float32, 1 where a
    source has something to say; returns (batch, dim) float32, or (batch, k, dim) of fields apart.
    """

    def __init__(self, dim: int, *, apart: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.apart = apart
        self.projections: list[keras.layers.Layer] = []

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make a projection p_s = W_s s + c_s of every source."""
        self.projections = [
            keras.layers.Dense(self.dim, name=f"projection_{index}")
            for index in range(len(input_shape))
        ]
        for projection, shape in zip(self.projections, input_shape, strict=True):
            projection.build(shape)

    def call(self, inputs: list[Any], presence: Any) -> Any:
        """Return (batch, dim), or (batch, k, dim)."""
        projected = self.project(inputs)
        weighted = projected * self.weigh(projected, presence)[:, :, None]
        # Apart, fields shall be as large as without weights: of k equal ones each is 1/k.
        return weighted * len(inputs) if self.apart else ops.sum(weighted, axis=1)

    def project(self, inputs: list[Any]) -> Any:
        """Return (batch, k, dim)."""
        each = [projection(s) for projection, s in zip(self.projections, inputs, strict=True)]
        return ops.stack(each, axis=1)

    def weigh(self, projected: Any, presence: Any) -> Any:
        """Return (batch, k) weights; they can be read to see what a side's vector is made of."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim, "apart": self.apart}


def _softmax_of_present(logits: Any, presence: Any) -> Any:
    """Softmax over the sources that are there; all weigh the same where none is.

    In float32 whatever the logits are: float16 has no number as low as a hidden source's logit.
    """
    hidden = 1e9 * (1.0 - ops.cast(presence, "float32"))
    return ops.cast(ops.softmax(ops.cast(logits, "float32") - hidden, axis=-1), logits.dtype)


@_REGISTER
class ConcatFusion(Fusion):
    """Fusion by concatenation: φ = W[s₁; s₂; …; s_k] + c.

    Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016, section 3.2
    (embeddings and numbers are concatenated before the first dense layer).
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.concat = keras.layers.Concatenate(name="concat")

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make W and c, or a projection of every source."""
        if self.apart:
            super().build(input_shape)
            return
        self.projection = keras.layers.Dense(self.dim, name="projection")
        self.projection.build((None, sum(int(shape[-1] or 0) for shape in input_shape)))

    def call(self, inputs: list[Any], presence: Any) -> Any:
        """Return (batch, dim), or (batch, k, dim)."""
        del presence  # what is missing has a learned vector of its own
        if self.apart:
            return self.project(inputs)
        return self.projection(self.concat(inputs) if len(inputs) > 1 else inputs[0])


@_REGISTER
class WeightedFusion(Fusion):
    """Fusion by importance: φ = Σ_s α_s p_s, α = softmax(a) over the sources that are there.

    Each source has one learned number a_s: the same for everyone.

    Source: Kiela, Wang and Cho, "Dynamic Meta-Embeddings for Improved Sentence Representations",
    EMNLP 2018, section 3, with weights that do not depend on the instance.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the projections and a."""
        super().build(input_shape)
        shape = (len(input_shape),)
        self.importance = self.add_weight(shape=shape, initializer="zeros", name="importance")

    def weigh(self, projected: Any, presence: Any) -> Any:
        """Return (batch, k): α."""
        del projected
        return _softmax_of_present(self.importance[None], presence)


@_REGISTER
class AttentionFusion(Fusion):
    """Fusion by attention: φ = Σ_s α_s p_s, α = softmax(qᵀp_s / √dim) over those that are there.

    The query q is learned; the weights depend on what each source says.

    Source: Kiela, Wang and Cho, "Dynamic Meta-Embeddings for Improved Sentence Representations",
    EMNLP 2018, section 3.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the projections and q."""
        super().build(input_shape)
        self.query = self.add_weight(shape=(self.dim, 1), name="query")

    def weigh(self, projected: Any, presence: Any) -> Any:
        """Return (batch, k): α."""
        logits = ops.squeeze(ops.matmul(projected, self.query), axis=-1) / self.dim**0.5
        return _softmax_of_present(logits, presence)


@_REGISTER
class ChannelFusion(Fusion):
    """Channel attention: φ = Σ_s α_s p_s, α = σ(W₂ relu(W₁ z)), z_s the mean of p_s.

    Squeeze and excitation: every source's gate looks at all sources. Gates do not compete.

    Source: Huang, Zhang and Zhang, "FiBiNET: Combining Feature Importance and Bilinear Feature
    Interaction for Click-Through Rate Prediction", RecSys 2019, section 3.2.
    """

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Make the projections, W₁ and W₂."""
        super().build(input_shape)
        count = len(input_shape)
        self.squeeze = keras.layers.Dense(max(count // 2, 1), activation="relu", name="squeeze")
        self.excite = keras.layers.Dense(count, activation="sigmoid", name="excite")
        self.squeeze.build((None, count))
        self.excite.build((None, max(count // 2, 1)))

    def weigh(self, projected: Any, presence: Any) -> Any:
        """Return (batch, k): α, 0 for what is not there."""
        means = ops.mean(projected, axis=-1) * presence
        return self.excite(self.squeeze(means)) * presence


FUSIONS: dict[str, Callable[..., Fusion]] = {
    "concat": ConcatFusion,
    "weighted": WeightedFusion,
    "attention": AttentionFusion,
    "channel": ChannelFusion,
}
"""Fusions by the name that a configuration gives."""
