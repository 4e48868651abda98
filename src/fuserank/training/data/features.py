"""From a data set's tables to the tensors that towers read; numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.encoder_config import TextRole
from fuserank.errors import SchemaError
from fuserank.schema import Field, Kind, Schema, Side

if TYPE_CHECKING:
    from pathlib import Path

    from fuserank.engine.encoder import TextEncoder
    from fuserank.engine.results import Embeddings
    from fuserank.training.data.dataset import Dataset
    from fuserank.training.data.tables import Table

__all__ = ["Features", "SideFeatures", "build_features", "fit_schema"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class SideFeatures:
    """The tensors of every user or of every item.

    Attributes:
        ids: n ids; row i of each tensor is that of the i-th id.
        tensors: by graph-input name, arrays whose first axis is n. Histories are not among
            them, because what a history holds depends on the interactions it is made of.
    """

    ids: tuple[str, ...]
    tensors: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Features:
    """The tensors of both sides."""

    users: SideFeatures
    items: SideFeatures

    def history_vectors(self, history: Field) -> npt.NDArray[np.float32]:
        """Return (n_items, dim) float32: how each item looks as an event of a history."""
        vectors: npt.NDArray[np.float32] = self.items.tensors[f"{Side.ITEM}.{history.of}"]
        return vectors


def fit_schema(dataset: Dataset, text_dim: int) -> Schema:
    """Fit the fields of a data set on its tables.

    Args:
        dataset: the data set.
        text_dim: width of a text embedding.

    Raises:
        SchemaError: fields that contradict each other or the tables.
    """
    context = [field.name for field in dataset.fields if field.side is Side.CONTEXT]
    if context:
        raise SchemaError(
            f"data set {dataset.name!r}: found context fields {context}, but interactions carry "
            "no context columns to learn from; remove these fields"
        )
    tables = {Side.USER: dataset.users.columns, Side.ITEM: dataset.items.columns}
    return Schema.fit(dataset.fields, tables, text_dim=text_dim)


def build_features(
    dataset: Dataset,
    schema: Schema,
    encoder: TextEncoder,
    *,
    on_progress: Callable[[int], None] | None = None,
    keep: Path | None = None,
) -> Features:
    """Encode both tables of a data set.

    A text that joins a history is left out: it is known from requests only.

    Args:
        dataset: the data set.
        schema: its fitted schema.
        encoder: makes the embeddings of texts; an empty text becomes a row of zeros.
        on_progress: called with the number of texts that were done since the last call.
        keep: a directory for embeddings as they are done, from which a run that was killed goes
            on; whoever named it removes it.

    Raises:
        SchemaError: a value of the wrong type, or an encoder of another width.
    """
    texts = {
        (side, name): column
        for side, table in ((Side.USER, dataset.users), (Side.ITEM, dataset.items))
        for name, column in schema.texts(side, table.columns, len(table.ids)).items()
        if _carried(schema, side, name)
    }
    encode = partial(encoder.encode, on_progress=on_progress, keep=keep)
    vectors = _encode_texts(texts, encode, encoder.dim)
    return Features(
        users=_side(Side.USER, dataset.users, schema, vectors),
        items=_side(Side.ITEM, dataset.items, schema, vectors),
    )


def _side(
    side: Side,
    table: Table,
    schema: Schema,
    vectors: Mapping[tuple[Side, str], npt.NDArray[np.float32]],
) -> SideFeatures:
    tensors = schema.encode(side, table.columns, len(table.ids))
    for field in schema.side(side):
        if (key := (side, field.field.name)) in vectors:
            found = vectors[key]
            if found.shape[1] != field.dim:
                raise SchemaError(
                    f"field {field.field.name!r}: found text embeddings of width "
                    f"{found.shape[1]}, expected {field.dim}; use the encoder that the schema "
                    "was fitted with"
                )
            tensors[field.field.tensor] = found
    return SideFeatures(ids=table.ids, tensors=tensors)


def _carried(schema: Schema, side: Side, name: str) -> bool:
    found = schema.find(side, name)
    return found is not None and found.field.kind is Kind.TEXT and found.spec is not None


def _encode_texts(
    columns: Mapping[tuple[Side, str], list[str]], encode: Callable[..., Embeddings], dim: int
) -> dict[tuple[Side, str], npt.NDArray[np.float32]]:
    """Encode each distinct text of a side once and hand every row its vector."""
    vectors: dict[tuple[Side, str], npt.NDArray[np.float32]] = {}
    for side, role in ((Side.USER, TextRole.QUERY), (Side.ITEM, TextRole.PASSAGE)):
        own = {key: column for key, column in columns.items() if key[0] is side}
        distinct = {text: None for column in own.values() for text in column if text}
        row_of = {text: row for row, text in enumerate(distinct)}
        table = np.zeros((len(row_of) + 1, dim), dtype=np.float32)  # the last row: no text
        if row_of:
            table[:-1] = encode(list(row_of), role).vectors
        vectors |= {
            key: table[[row_of.get(text, len(row_of)) for text in column]]
            for key, column in own.items()
        }
    return vectors
