"""Whitening: text embeddings, which crowd in a narrow cone, spread evenly in all directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from fuserank.errors import DataError
from fuserank.schema import Kind, Schema, Side

if TYPE_CHECKING:
    from fuserank.training.data.features import Features

__all__ = ["Whiten", "Whitening", "fit_whitening", "text_whitening"]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")

_LEAST = 1e-6
"""Share of the largest variance below which a direction says nothing but rounding errors."""


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """What `Whiten` computes with.

    Attributes:
        mean: (width,) float32: μ.
        matrix: (width, kept) float32: M.
    """

    mean: npt.NDArray[np.float32]
    matrix: npt.NDArray[np.float32]


@_REGISTER
class Whiten(keras.layers.Layer):
    """y = (x − μ)M, and zeros for a row of zeros, which stands for nothing.

    μ and M are fitted beforehand (`fit_whitening`) and not trained. Since the map is affine, the
    mean of whitened events is the whitened mean event.

    Input (batch, …, width) float32; output (batch, …, kept) float32.
    """

    def __init__(self, kept: int, **kwargs: Any) -> None:
        super().__init__(**kwargs, trainable=False)
        self.kept = kept

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make room for μ and M, in this order."""
        width = input_shape[-1]
        self.mean = self.add_weight(shape=(width,), initializer="zeros", name="mean")
        self.matrix = self.add_weight(shape=(width, self.kept), initializer="zeros", name="matrix")

    def call(self, inputs: Any) -> Any:
        """Return (batch, …, kept)."""
        said = ops.any(ops.not_equal(inputs, 0.0), axis=-1, keepdims=True)
        return ops.matmul(inputs - self.mean, self.matrix) * ops.cast(said, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        config = super().get_config()
        del config["trainable"]
        return {**config, "kept": self.kept}


def fit_whitening(vectors: npt.NDArray[np.floating], kept: int) -> Whitening:
    """Fit μ and M = U Λ^(-1/2), with UΛUᵀ the covariance, cut to its largest directions.

    Args:
        vectors: (n, width) embeddings; rows of zeros do not count.
        kept: directions kept.

    Raises:
        DataError: the vectors differ in fewer directions.

    Source: Su et al., "Whitening Sentence Representations for Better Semantics and Faster
    Retrieval", arXiv:2103.15316, algorithm 1.
    """
    said = vectors[np.any(vectors != 0, axis=1)].astype(np.float64)
    if len(said) == 0:
        raise DataError(f"whitening: found no embedding, expected more than {kept}")
    mean = said.mean(axis=0)
    centred = said - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(said))
    variances, directions = variances[::-1], directions[:, ::-1]  # the largest first
    found = int((variances > _LEAST * max(variances[0], 1e-30)).sum())
    if found < kept:
        raise DataError(
            f"whitening: found {len(said)} embeddings that differ in {found} directions, expected "
            f"{kept} or more; set whiten to {found} or less"
        )
    matrix = directions[:, :kept] / np.sqrt(variances[:kept])
    return Whitening(mean=mean.astype(np.float32), matrix=matrix.astype(np.float32))


def text_whitening(features: Features, schema: Schema, kept: int) -> Whitening | None:
    """Return the whitening of all texts of the items, or None where `kept` is 0.

    Args:
        features: tensors of all users and items.
        schema: the fitted fields.
        kept: directions kept.

    Raises:
        DataError: no item has a text, or the texts differ in fewer directions.
    """
    if kept == 0:
        return None
    fields = [f.field for f in schema.side(Side.ITEM) if f.field.kind is Kind.TEXT]
    if not fields:
        raise DataError(
            "whitening: found no text field of the items, expected one; set whiten to 0"
        )
    return fit_whitening(np.concatenate([features.items.tensors[f.tensor] for f in fields]), kept)
