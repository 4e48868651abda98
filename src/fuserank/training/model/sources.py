"""Sources: one representation of a side for each of its fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from fuserank.errors import SchemaError
from fuserank.schema import FittedField, Kind
from fuserank.training.model.adapters import ADAPTERS
from fuserank.training.model.sequence import (
    AttentiveHistory,
    RecurrentHistory,
    SelfAttentiveHistory,
)

if TYPE_CHECKING:
    from fuserank.training.train_config import TrainConfig

__all__ = ["MeanEmbedding", "MeanHistory", "Presence", "SourceDropout", "build_source"]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")


def build_source(fitted: FittedField, config: TrainConfig) -> keras.layers.Layer:
    """Return the layer that turns the tensor of a field into (batch, width) float32.

    With E a table, W a matrix and c a bias of their own for every field, and A an adapter, which is
    Wx + c unless the configuration has another:

    - id, category: E[row]; row 0 stands for every value that is missing or unknown.
    - categories: the mean of E[row] over the known values (`MeanEmbedding`).
    - number: Wx + c; a missing number brings its own mark.
    - text, words, vector: A(x). A missing one is a row of zeros: A(0) is the learned vector of
      what is missing.
    - history: A(h̄) with h̄ the mean event (`MeanHistory`), or what
      `fuserank.training.model.sequence` makes of the events.

    The sources that say most (ids, texts, vectors and histories) are as wide as φ and ψ, categories
    and numbers a quarter of that.

    Args:
        fitted: the field.
        config: widths, adapter and pooling of histories.
    """
    name, kind, dim = f"source_{fitted.field.name}", fitted.field.kind, config.dim
    small = max(dim // 4, 1)
    rows = len(fitted.vocabulary) if fitted.vocabulary is not None else 0
    match kind:
        case Kind.ID:
            return keras.layers.Embedding(rows, dim, name=name)
        case Kind.CATEGORY:
            return keras.layers.Embedding(rows, small, name=name)
        case Kind.CATEGORIES:
            return MeanEmbedding(rows, small, name=name)
        case Kind.NUMBER:
            return keras.layers.Dense(small, name=name)
        case Kind.TEXT | Kind.VECTOR | Kind.WORDS:
            return ADAPTERS[config.adapter](dim, name)
        case Kind.HISTORY:
            return _history(fitted, config, name)
        case Kind.TENSOR:
            raise SchemaError(f"field {name!r}: a tensor has no source to train")


def _history(fitted: FittedField, config: TrainConfig, name: str) -> keras.layers.Layer:
    dim, adapter = config.dim, config.adapter
    match config.history:
        case "mean":
            return MeanHistory(dim, adapter, name=name)
        case "attention":
            return AttentiveHistory(dim, adapter, name=name)
        case "gru":
            return RecurrentHistory(dim, adapter, name=name)
        case "sasrec":
            return SelfAttentiveHistory(dim, fitted.field.max_length, adapter, name=name)


@_REGISTER
class Presence(keras.layers.Layer):
    """Whether a field says anything of a row: (batch, 1) float32, 1 or 0.

    Ids, categories: a row of the table other than 0. Numbers: no missing mark. Texts, words,
    vectors and histories: anything but zeros.
    """

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = Kind(kind)

    def call(self, inputs: Any) -> Any:
        """Return (batch, 1)."""
        if self.kind is Kind.NUMBER:
            return 1.0 - inputs[:, 1:2]
        said = ops.not_equal(inputs, 0)
        if self.kind in (Kind.ID, Kind.CATEGORY):
            said = said[:, None]
        if self.kind is Kind.HISTORY:
            said = ops.any(said, axis=-1)
        return ops.cast(ops.any(said, axis=-1, keepdims=True), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "kind": self.kind.value}


@_REGISTER
class SourceDropout(keras.layers.Layer):
    """In training, says of some rows that the field is missing; otherwise what it is given.

    A hidden row reads as a request does that lacks the field, so that what stands for a missing
    field is learned, and no field is relied on alone.

    Input and output (batch, …), of the field's dtype.

    Source: Neverova et al., "ModDrop: Adaptive Multi-Modal Gesture Recognition", IEEE TPAMI 38(8),
    2016.
    """

    def __init__(self, rate: float, missing: Sequence[float], seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.missing = list(missing)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return a tensor like `inputs`."""
        if not training:
            return inputs
        shape = (ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))
        hidden = keras.random.uniform(shape, seed=self.generator) < self.rate
        return ops.where(hidden, ops.cast(np.array(self.missing), inputs.dtype), inputs)

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        config = super().get_config()
        return {**config, "rate": self.rate, "missing": self.missing, "seed": self.seed}


@_REGISTER
class MeanEmbedding(keras.layers.Layer):
    """Mean of the embeddings of several values: e = Σ_v E[v] / |{v}| over v ≠ 0, else E[0].

    Row 0 fills a list that is shorter than its tensor, and where nothing else is known it is
    the learned vector of what is missing.

    Input (batch, width) int64 rows; output (batch, dim) float32.

    Source: Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations",
    RecSys 2016, section 3.2 (variable-sized bags of sparse ids are averaged).
    """

    def __init__(self, rows: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.dim = dim

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the table E."""
        del input_shape
        self.table = self.add_weight(
            shape=(self.rows, self.dim), initializer="uniform", name="embeddings"
        )

    def call(self, inputs: Any) -> Any:
        """Return (batch, dim)."""
        known = ops.cast(ops.not_equal(inputs, 0), self.compute_dtype)[:, :, None]
        count = ops.sum(known, axis=1)
        total = ops.sum(ops.take(self.table, inputs, axis=0) * known, axis=1)
        return ops.where(count > 0, total / ops.maximum(count, 1.0), self.table[0])

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "rows": self.rows, "dim": self.dim}


@_REGISTER
class MeanHistory(keras.layers.Layer):
    """Projected mean of past events: u = A(h̄), h̄ = Σ_t h_t / |{t : h_t ≠ 0}|, else 0.

    A row of zeros is no event, so histories of any length share one tensor. Since the mean of
    a mean is the mean, a history may also be given as one row that is already the mean. A is an
    adapter, Wh̄ + c unless told otherwise.

    Input (batch, length, width) float32; output (batch, dim) float32.

    Source: Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations",
    RecSys 2016, section 3.2 (the watch history is averaged).
    """

    def __init__(self, dim: int, adapter: str = "linear", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.adapter = adapter
        self.projection = ADAPTERS[adapter](dim, "projection")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make A."""
        self.projection.build((input_shape[0], input_shape[2]))

    def call(self, inputs: Any) -> Any:
        """Return (batch, dim)."""
        present = ops.any(ops.not_equal(inputs, 0.0), axis=-1, keepdims=True)
        count = ops.sum(ops.cast(present, inputs.dtype), axis=1)
        return self.projection(ops.sum(inputs, axis=1) / ops.maximum(count, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim, "adapter": self.adapter}
