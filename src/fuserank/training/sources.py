"""Sources: one representation of a side for each of its fields."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from fuserank.errors import SchemaError
from fuserank.schema import FittedField, Kind

__all__ = ["MeanEmbedding", "MeanHistory", "Presence", "build_source"]

_REGISTER = keras.saving.register_keras_serializable(package="fuserank")


def build_source(fitted: FittedField, dim: int) -> keras.layers.Layer:
    """Return the layer that turns the tensor of a field into (batch, width) float32.

    With E a table, W a matrix and c a bias of their own for every field:

    - id, category: E[row]; row 0 stands for every value that is missing or unknown.
    - categories: the mean of E[row] over the known values (`MeanEmbedding`).
    - number, text, vector: Wx + c. A missing text is a row of zeros, so that c is the learned
      vector of what is missing; a missing number brings its own mark.
    - history: Wh̄ + c with h̄ the mean event (`MeanHistory`).

    Args:
        fitted: the field.
        dim: width of the sources that say most: ids, texts, vectors and histories. Categories
            and numbers take a quarter of it.
    """
    name, kind = f"source_{fitted.field.name}", fitted.field.kind
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
        case Kind.TEXT | Kind.VECTOR:
            return keras.layers.Dense(dim, name=name)
        case Kind.HISTORY:
            return MeanHistory(dim, name=name)
        case Kind.TENSOR:
            raise SchemaError(f"field {name!r}: a tensor has no source to train")


@_REGISTER
class Presence(keras.layers.Layer):
    """Whether a field says anything of a row: (batch, 1) float32, 1 or 0.

    Ids, categories: a row of the table other than 0. Numbers: no missing mark. Texts, vectors and
    histories: anything but zeros.
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
        return ops.cast(ops.any(said, axis=-1, keepdims=True), "float32")

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "kind": self.kind.value}


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
        known = ops.cast(ops.not_equal(inputs, 0), "float32")[:, :, None]
        count = ops.sum(known, axis=1)
        total = ops.sum(ops.take(self.table, inputs, axis=0) * known, axis=1)
        return ops.where(count > 0, total / ops.maximum(count, 1.0), self.table[0])

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "rows": self.rows, "dim": self.dim}


@_REGISTER
class MeanHistory(keras.layers.Layer):
    """Projected mean of past events: u = Wh̄ + c, h̄ = Σ_t h_t / |{t : h_t ≠ 0}|, else 0.

    A row of zeros is no event, so histories of any length share one tensor. Since the mean of
    a mean is the mean, a history may also be given as one row that is already the mean.

    Input (batch, length, width) float32; output (batch, dim) float32.

    Source: Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations",
    RecSys 2016, section 3.2 (the watch history is averaged).
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self.projection = keras.layers.Dense(dim, name="projection")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make W and c."""
        self.projection.build((input_shape[0], input_shape[2]))

    def call(self, inputs: Any) -> Any:
        """Return (batch, dim)."""
        present = ops.any(ops.not_equal(inputs, 0.0), axis=-1, keepdims=True)
        count = ops.sum(ops.cast(present, "float32"), axis=1)
        return self.projection(ops.sum(inputs, axis=1) / ops.maximum(count, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Return what `__init__` takes."""
        return {**super().get_config(), "dim": self.dim}
