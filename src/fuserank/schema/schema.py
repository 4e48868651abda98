"""The fitted schema: from the values of fields to the tensors that graphs read."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fuserank.errors import SchemaError
from fuserank.schema.categorical import Vocabulary
from fuserank.schema.fields import Columns, Field, Kind, Side, check_fields
from fuserank.schema.numeric import NumberScaling
from fuserank.schema.template import TextTemplate
from fuserank.schema.words import BagOfWords

__all__ = ["FittedField", "Schema", "TensorSpec", "pack_history"]

Array = npt.NDArray[Any]

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """Name, dtype and shape of a graph's input or output.

    Attributes:
        name: the tensor's name.
        dtype: a numpy dtype name such as ``"float32"``.
        shape: axes; the symbolic ones by name, the first being ``"batch"``.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class FittedField:
    """A field and what was learned of its values; which part is set depends on the kind.

    Attributes:
        field: the declaration.
        vocabulary: id, category, categories.
        scaling: number.
        words: words.
        dim: text, vector, history: width of one embedding.
        tensor: tensor: dtype and shape, as the graph reads it.
    """

    field: Field
    vocabulary: Vocabulary | None = None
    scaling: NumberScaling | None = None
    words: BagOfWords | None = None
    dim: int | None = None
    tensor: TensorSpec | None = None

    @property
    def spec(self) -> TensorSpec | None:
        """The graph input that carries the field; None for a text that joins a history."""
        field, dim = self.field, self.dim
        if self.tensor is not None:
            return self.tensor
        axes: dict[Kind, tuple[str, tuple[int | str, ...]]] = {
            Kind.ID: ("int64", ("batch",)),
            Kind.CATEGORY: ("int64", ("batch",)),
            Kind.CATEGORIES: ("int64", ("batch", field.max_length)),
            Kind.NUMBER: ("float32", ("batch", 2)),
            Kind.TEXT: ("float32", ("batch", dim or 0)),
            Kind.WORDS: ("float32", ("batch", len(self.words or ()))),
            Kind.VECTOR: ("float32", ("batch", dim or 0)),
            Kind.HISTORY: ("float32", ("batch", field.max_length, dim or 0)),
        }
        if field.joins is not None:
            return None
        dtype, shape = axes[field.kind]
        return TensorSpec(name=field.tensor, dtype=dtype, shape=shape)

    def encode(self, column: Sequence[object]) -> Array:
        """Return the tensor of a column (n rows), for every kind but text and history.

        Raises:
            SchemaError: a value of the wrong type; names field and row.
        """
        name = self.field.name
        if self.vocabulary is not None:
            if self.field.kind is Kind.CATEGORIES:
                return self.vocabulary.lists(column, name, width=self.field.max_length)
            return self.vocabulary.rows(column, name)
        if self.scaling is not None:
            return self.scaling.encode(column, name)
        if self.words is not None:
            return self.words.encode(_texts(column, name))
        if self.tensor is not None:
            return _tensors(column, name, self.tensor)
        return _vectors(column, name, self.dim or 0)


@dataclass(frozen=True)
class Schema:
    """All fields of a recommender, fitted."""

    fields: tuple[FittedField, ...]

    @classmethod
    def fit(cls, fields: Sequence[Field], tables: Mapping[Side, Columns], *, text_dim: int) -> Self:
        """Fit every field on the table of its side.

        Args:
            fields: the declarations.
            tables: columns by side; a side without fields may be absent.
            text_dim: width of a text embedding.

        Raises:
            SchemaError: fields that contradict each other, or values of the wrong type.
        """
        check_fields(fields)
        fitted: dict[str, FittedField] = {}
        # A history takes its width from an item field, so those come first.
        for field in sorted(fields, key=lambda f: f.kind is Kind.HISTORY):
            table = tables.get(field.side, {})
            column = table.get(field.column or field.name, ())
            if field.kind in (Kind.ID, Kind.CATEGORY, Kind.CATEGORIES):
                made = FittedField(field=field, vocabulary=Vocabulary.fit(column, field.name))
            elif field.kind is Kind.NUMBER:
                scaling = NumberScaling.fit(
                    column, field.name, outliers=field.outliers, missing=field.missing
                )
                made = FittedField(field=field, scaling=scaling)
            elif field.kind is Kind.WORDS:
                made = FittedField(field=field, words=_fit_words(field, table))
            elif field.kind is Kind.TEXT:
                made = FittedField(field=field, dim=text_dim)
            elif field.kind is Kind.VECTOR:
                made = FittedField(field=field, dim=_width(column, field.name))
            elif field.kind is Kind.TENSOR:
                raise SchemaError(
                    f"field {field.name!r}: tensors belong to rankers trained elsewhere; "
                    "nothing is fitted on them"
                )
            else:
                made = FittedField(field=field, dim=fitted[f"{Side.ITEM}.{field.of}"].dim)
            fitted[field.tensor] = made
        return cls(tuple(fitted[field.tensor] for field in fields))

    def side(self, *sides: Side) -> tuple[FittedField, ...]:
        """The fields of some sides, in order of declaration."""
        return tuple(f for f in self.fields if f.field.side in sides)

    def find(self, side: Side, name: str) -> FittedField | None:
        """The field of that name, or None."""
        return next((f for f in self.side(side) if f.field.name == name), None)

    def id_field(self, side: Side) -> FittedField | None:
        """The id field of a side, or None where it has none."""
        return next((f for f in self.side(side) if f.field.kind is Kind.ID), None)

    def text_fields(self, side: Side) -> tuple[FittedField, ...]:
        """The fields of a side that are embeddings of texts, and graph inputs of their own."""
        return tuple(f for f in self.side(side) if f.field.kind is Kind.TEXT and f.spec is not None)

    def specs(self, *sides: Side) -> tuple[TensorSpec, ...]:
        """The graph inputs of some sides."""
        return tuple(spec for f in self.side(*sides) if (spec := f.spec) is not None)

    def encode(self, side: Side, columns: Columns, n_rows: int) -> dict[str, Array]:
        """Encode the tabular fields of a side: all kinds but text and history.

        A words field with a template is rendered as `texts` renders a text field.

        Args:
            side: the side.
            columns: columns by name, each of n_rows values; an absent one is all missing.
            n_rows: rows.

        Returns:
            Tensors by graph-input name.

        Raises:
            SchemaError: a value of the wrong type; names field and row.
        """
        absent = [None] * n_rows
        encoded: dict[str, Array] = {}
        for f in self.side(side):
            if f.field.kind is Kind.WORDS:
                encoded[f.field.tensor] = f.encode(_rendered(f.field, columns, n_rows))
            elif f.field.kind not in (Kind.TEXT, Kind.HISTORY):
                column = columns.get(f.field.column or f.field.name, absent)
                encoded[f.field.tensor] = f.encode(column)
        return encoded

    def texts(self, side: Side, columns: Columns, n_rows: int) -> dict[str, list[str]]:
        """Render the text fields of a side.

        A field with a template is rendered by it, unless the only column there is the field's
        own.

        Returns:
            By field name, n_rows texts; an empty one where nothing is known.

        Raises:
            SchemaError: a value that is not text.
        """
        return {
            f.field.name: _rendered(f.field, columns, n_rows)
            for f in self.side(side)
            if f.field.kind is Kind.TEXT
        }

    def to_json(self) -> str:
        """Return the schema as JSON, the same text for the same schema."""
        fields = [
            {
                "field": f.field.options(),
                "vocabulary": list(f.vocabulary.values) if f.vocabulary else None,
                "scaling": asdict(f.scaling) if f.scaling else None,
                "words": f.words.to_dict() if f.words is not None else None,
                "dim": f.dim,
                "tensor": asdict(f.tensor) if f.tensor else None,
            }
            for f in self.fields
        ]
        return json.dumps({"format": _FORMAT, "fields": fields}, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            SchemaError: not a schema, or one of another format.
        """
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise SchemaError(
                    f"schema: found format {data['format']!r}, expected {_FORMAT}; "
                    "export again with this release"
                )
            return cls(tuple(_fitted(entry) for entry in data["fields"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(
                f"schema: expected a fitted schema in JSON, found: {error}"
            ) from error

    @property
    def fingerprint(self) -> str:
        """A sha256 over everything that was fitted."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()


def pack_history(events: Iterable[Array], field: FittedField) -> npt.NDArray[np.float32]:
    """Return (n, max_length, dim) float32: the latest events of n users, zero rows in front.

    Args:
        events: n arrays of (n_events, dim), the most recent last.
        field: the history field.
    """
    length, dim = field.field.max_length, field.dim or 0
    packed = []
    for vectors in events:
        row = np.zeros((length, dim), dtype=np.float32)
        latest = vectors[-length:]
        if len(latest):
            row[length - len(latest) :] = latest
        packed.append(row)
    return np.stack(packed) if packed else np.zeros((0, length, dim), dtype=np.float32)


def _fitted(entry: Mapping[str, Any]) -> FittedField:
    vocabulary, scaling, tensor = entry["vocabulary"], entry["scaling"], entry.get("tensor")
    words = entry.get("words")
    return FittedField(
        field=Field(**entry["field"]),
        vocabulary=None if vocabulary is None else Vocabulary(tuple(vocabulary)),
        scaling=None if scaling is None else NumberScaling(**scaling),
        words=None if words is None else BagOfWords.from_dict(words),
        dim=entry["dim"],
        tensor=None
        if tensor is None
        else TensorSpec(**{**tensor, "shape": tuple(tensor["shape"])}),
    )


def _rendered(field: Field, columns: Columns, n_rows: int) -> list[str]:
    """Return the n_rows texts of a field, an empty one where nothing is known."""
    own = field.column or field.name
    template = TextTemplate(field.template or "")
    known = {name: columns[name] for name in template.columns if name in columns}
    # A table may hold a column that is called like the field; a request that gives the field's
    # own words has none of the other columns.
    if known.keys() - {own}:
        return [
            template.render({name: values[row] for name, values in known.items()})
            for row in range(n_rows)
        ]
    return _texts(columns.get(own, [None] * n_rows), field.name)


def _fit_words(field: Field, table: Columns) -> BagOfWords:
    n_rows = len(next(iter(table.values()), ()))
    return BagOfWords.fit(
        _rendered(field, table, n_rows),
        field.name,
        weighting=field.weighting,
        max_words=field.max_words,
        min_rows=field.min_rows,
        stop_words=field.stop_words,
        stem=field.stem,
    )


def _width(column: Sequence[object], name: str) -> int:
    for value in column:
        if value is not None:
            return len(np.atleast_1d(np.asarray(value)))
    raise SchemaError(
        f"field {name!r}: every vector is missing, so that its width is unknown; give one vector "
        "or more, or remove the field"
    )


def _vectors(column: Sequence[object], name: str, dim: int) -> npt.NDArray[np.float32]:
    whole = _floats(column)  # as requests come: many times quicker than row by row
    if whole.shape == (len(column), dim) and np.isfinite(whole).all():
        return whole
    rows = np.zeros((len(column), dim), dtype=np.float32)
    for index, value in enumerate(column):
        if value is None:
            continue
        vector = _floats(value)
        if vector.shape != (dim,) or not np.isfinite(vector).all():
            raise SchemaError(
                f"field {name!r}, row {index}: expected {dim} finite numbers, "
                f"found {type(value).__name__} of shape {vector.shape}"
            )
        rows[index] = vector
    return rows


def _floats(value: object) -> npt.NDArray[np.float32]:
    """Return an array; infinite where float32 holds no such number, empty where it is none."""
    try:
        with np.errstate(over="ignore"):
            return np.array(value, dtype=np.float32)
    except (TypeError, ValueError):
        return np.empty(0, dtype=np.float32)


def _tensors(column: Sequence[object], name: str, spec: TensorSpec) -> Array:
    """Return (n, …) of a dtype; a value is a number or a list of them, flat or nested."""
    shape = tuple(int(axis) for axis in spec.shape[1:])
    rows = np.zeros((len(column), *shape), dtype=spec.dtype)
    for index, value in enumerate(column):
        if value is None:
            continue
        try:
            given = np.asarray(value)
            # A whole number may come as a float; anything that a cast would change is refused.
            row = given.astype(spec.dtype).reshape(shape)
            exact = np.issubdtype(row.dtype, np.floating) or bool(
                (row.ravel() == given.ravel()).all()
            )
        except (TypeError, ValueError, OverflowError):
            exact = False
        if not exact or not np.isfinite(row).all():
            raise SchemaError(
                f"field {name!r}, row {index}: expected {spec.dtype} of shape {shape}, "
                f"found {type(value).__name__}"
            )
        rows[index] = row
    return rows


def _texts(column: Sequence[object], name: str) -> list[str]:
    texts = []
    for index, value in enumerate(column):
        if value is not None and not isinstance(value, str):
            raise SchemaError(
                f"field {name!r}, row {index}: found {type(value).__name__}, expected text"
            )
        texts.append((value or "").strip())
    return texts
