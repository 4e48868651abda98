"""``dataset.toml``: which files hold a data set, and which field each column is."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from fuserank.errors import DataError, SchemaError
from fuserank.schema.fields import Field, Kind, Side, check_fields
from fuserank.schema.numeric import LARGEST
from fuserank.training.data.table_file import SUFFIXES, suggestion
from fuserank.training.data.toml_file import read_toml

__all__ = ["CleaningConfig", "DatasetConfig", "InteractionsConfig", "TableConfig", "read_config"]

_TOP = {
    "name": str,
    "interactions": dict,
    "users": dict,
    "items": dict,
    "context": dict,
    "cleaning": dict,
}
_FILE = {"path": str, "delimiter": str}
_INTERACTIONS = _FILE | {
    "user": str,
    "item": str,
    "rating": str,
    "timestamp": str,
    "positive_at": float,
}
_USERS = _FILE | {"id": str, "fields": dict}
_ITEMS = _USERS | {"title": str}
_CONTEXT = {"fields": dict}
_FIELD = {
    "kind": str,
    "column": str,
    "template": str,
    "max_length": int,
    "of": str,
    "joins": str,
    "outliers": str,
    "missing": str | float,
    "weighting": str,
    "max_words": int,
    "min_rows": int,
    "stop_words": str,
    "stem": str,
}
_CLEANING = {
    "rating_range": list,
    "drop_negative_times": bool,
    "drop_contradictions": bool,
    "max_interactions_per_user": int,
    "min_user_interactions": int,
    "min_item_interactions": int,
}
_TYPES: dict[type | UnionType, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str | float: ((str, int, float), "text or a number"),
    bool: ((bool,), "true or false"),
    list: ((list,), "a list"),
    dict: ((dict,), "a table"),
}
"""What a key is declared to be → the types of its values, and their name in errors."""

_CLEANED_COLUMNS = {
    "rating_range": "rating",
    "drop_contradictions": "rating",
    "drop_negative_times": "timestamp",
}
"""The column that a key of the section cleaning needs."""

_SECTIONS = {Side.USER: "users", Side.ITEM: "items", Side.CONTEXT: "context"}


@dataclass(frozen=True, kw_only=True)
class InteractionsConfig:
    """The file of interactions and the meaning of its columns.

    Attributes:
        path: a Parquet or CSV file.
        user: the column of user ids.
        item: the column of item ids.
        rating: the column of ratings; without it every row is a positive.
        timestamp: the column of times.
        positive_at: the rating from which an interaction is a positive; goes with ``rating``.
        delimiter: what stands between the values of a CSV file.
    """

    path: Path
    user: str
    item: str
    rating: str | None = None
    timestamp: str | None = None
    positive_at: float | None = None
    delimiter: str = ","


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """The file of users or of items.

    Attributes:
        path: a Parquet or CSV file.
        id: the column of ids.
        title: the column that is shown to people.
        delimiter: what stands between the values of a CSV file.
    """

    path: Path
    id: str
    title: str | None = None
    delimiter: str = ","


@dataclass(frozen=True, kw_only=True)
class CleaningConfig:
    """What is left out of the interactions, beside the earlier ones of a repeated pair.

    Attributes:
        rating_range: the lowest and the highest rating that is possible; interactions outside of
            it are left out.
        drop_negative_times: whether to leave out an interaction before time 0 rather than to
            raise an error.
        drop_contradictions: whether to leave out a pair that is both a positive and none, rather
            than to keep its latest interaction.
        max_interactions_per_user: users of more interactions are taken for machines, and all of
            theirs are left out.
        min_user_interactions: interactions that a user must have.
        min_item_interactions: interactions that an item must have.
    """

    rating_range: tuple[float, float] | None = None
    drop_negative_times: bool = False
    drop_contradictions: bool = False
    max_interactions_per_user: int | None = None
    min_user_interactions: int = 1
    min_item_interactions: int = 1


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """A whole ``dataset.toml``, with paths resolved and an id field on both sides.

    Attributes:
        source: the file itself.
        name: the name of the data set.
        interactions: who chose what.
        users: whom the user fields describe; None where all that is known of users is their
            interactions.
        items: what the item fields describe.
        fields: the fields of all sides.
        cleaning: what is left out of the interactions.
    """

    source: Path
    name: str
    interactions: InteractionsConfig
    users: TableConfig | None
    items: TableConfig
    fields: tuple[Field, ...]
    cleaning: CleaningConfig = CleaningConfig()


def read_config(path: Path) -> DatasetConfig:
    """Read and check a ``dataset.toml``; the files that it names are not opened.

    Raises:
        DataError: the file is missing or malformed, or a key is unknown, missing or of a wrong
            type.
        SchemaError: the fields contradict each other.
    """
    top = _section(
        str(path),
        read_toml(path, "a dataset.toml", DataError),
        _TOP,
        ("name", "interactions", "items"),
    )
    interactions = _interactions(path, top["interactions"])
    users, user_fields = _table(path, Side.USER, top.get("users", {}))
    items, item_fields = _table(path, Side.ITEM, top["items"])
    if items is None:
        raise DataError(f"{path}, [items]: found no file, expected path and id")
    context = _section(f"{path}, [context]", top.get("context", {}), _CONTEXT)
    fields = (
        *_with_id(path, Side.USER, interactions.user if users is None else users.id, user_fields),
        *_with_id(path, Side.ITEM, items.id, item_fields),
        *_fields(path, Side.CONTEXT, context.get("fields", {})),
    )
    try:
        check_fields(fields)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error
    return DatasetConfig(
        source=path,
        name=top["name"],
        interactions=interactions,
        users=users,
        items=items,
        fields=fields,
        cleaning=_cleaning(path, top.get("cleaning", {}), interactions),
    )


def _section(
    where: str,
    found: Mapping[str, Any],
    expected: Mapping[str, type | UnionType],
    required: Collection[str] = (),
) -> dict[str, Any]:
    """The section's keys, once each is known, of its type, and none that is required is missing."""
    for key, value in found.items():
        if key not in expected:
            raise DataError(
                f"{where}: found unknown key {key!r}, expected "
                f"{', '.join(expected)}{suggestion(key, expected)}"
            )
        types, name = _TYPES[expected[key]]
        if not isinstance(value, types) or isinstance(value, bool) != (bool in types):
            raise DataError(f"{where}: {key} is {value!r}, expected {name}")
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
            raise DataError(f"{where}: {key} is {value}, expected a finite number")
    for key in required:
        if key not in found:
            raise DataError(f"{where}: found no key {key!r}; add it")
    return dict(found)


def _interactions(path: Path, found: Mapping[str, Any]) -> InteractionsConfig:
    where = f"{path}, [interactions]"
    options = _section(where, found, _INTERACTIONS, ("path", "user", "item"))
    if ("rating" in options) != ("positive_at" in options):
        raise DataError(f"{where}: found one of rating and positive_at, expected both or neither")
    return InteractionsConfig(**_file(where, options, path.parent))


def _cleaning(
    path: Path, found: Mapping[str, Any], interactions: InteractionsConfig
) -> CleaningConfig:
    where = f"{path}, [cleaning]"
    options = _section(where, found, _CLEANING)
    for key, column in _CLEANED_COLUMNS.items():
        if options.get(key) and getattr(interactions, column) is None:
            raise DataError(
                f"{where}: found {key}, but [interactions] names no {column} column; name it, or "
                f"remove {key}"
            )
    for key, value in options.items():
        if _CLEANING[key] is int and value < 1:
            raise DataError(f"{where}: {key} is {value}, expected 1 or more")
    if "rating_range" in options:
        options["rating_range"] = _range(where, options["rating_range"])
    return CleaningConfig(**options)


def _range(where: str, found: list[Any]) -> tuple[float, float]:
    are_numbers = all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= LARGEST for v in found
    )
    if len(found) != 2 or not are_numbers or found[0] >= found[1]:
        raise DataError(
            f"{where}: rating_range is {found}, expected the lowest and the highest rating, such "
            "as [1, 5]"
        )
    return found[0], found[1]


def _table(
    path: Path, side: Side, found: Mapping[str, Any]
) -> tuple[TableConfig | None, list[Field]]:
    """A side's file, if it has one, and its declared fields."""
    where = f"{path}, [{_SECTIONS[side]}]"
    options = _section(where, found, _ITEMS if side is Side.ITEM else _USERS)
    fields = _fields(path, side, options.pop("fields", {}))
    if ("path" in options) != ("id" in options):
        raise DataError(f"{where}: found one of path and id, expected both or neither")
    if "path" not in options:
        return None, fields
    return TableConfig(**_file(where, options, path.parent)), fields


def _file(where: str, table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The section with its path resolved, once path and delimiter are possible."""
    path = folder / table["path"]
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{where}: path is {table['path']!r}, expected {' or '.join(SUFFIXES)}")
    if "delimiter" in table and path.suffix.lower() != ".csv":
        raise DataError(f"{where}: found a delimiter for {table['path']!r}, which is for CSV files")
    delimiter = table.get("delimiter", ",")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise DataError(
            f"{where}: delimiter is {delimiter!r}, expected one character of ASCII that is no "
            "quote and no end of a line"
        )
    return table | {"path": path}


def _fields(path: Path, side: Side, tables: Mapping[str, Any]) -> list[Field]:
    fields = []
    for name, table in tables.items():
        where = f"{path}, [{_SECTIONS[side]}.fields.{name}]"
        if not isinstance(table, dict):
            raise DataError(f'{where}: found {table!r}, expected a table such as {{kind = "text"}}')
        options = _section(where, table, _FIELD, ("kind",))
        try:
            fields.append(Field(name=name, side=side, **options))
        except SchemaError as error:
            raise SchemaError(f"{where}: {error}") from error
    return fields


def _with_id(path: Path, side: Side, column: str, declared: list[Field]) -> list[Field]:
    """The side's fields, with an id field that reads the table's column of ids."""
    if not any(field.kind is Kind.ID for field in declared):
        name = re.sub(r"\W", "_", column)
        declared = [Field(name=name, side=side, kind=Kind.ID), *declared]
    fields = [
        dataclasses.replace(f, column=column)
        if f.kind is Kind.ID and f.column is None and f.name != column
        else f
        for f in declared
    ]
    for field in fields:
        if field.kind is Kind.ID and field.source_columns != (column,):
            raise DataError(
                f"{path}: the {side} field {field.name!r} is of kind id and reads column "
                f"{field.column!r}, expected {column!r}; declare it of kind category"
            )
    return fields
