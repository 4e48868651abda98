"""Declaration of fields: what is known of users and items, before anything is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from fuserank.errors import SchemaError
from fuserank.schema.template import TextTemplate

__all__ = ["Columns", "Field", "Kind", "Side", "check_fields"]

E = TypeVar("E", bound=StrEnum)

Columns = Mapping[str, Sequence[object]]
"""A table by column: every sequence has one entry a row, ``None`` where a value is missing."""


class Side(StrEnum):
    """Whom a field describes."""

    USER = "user"
    ITEM = "item"
    CONTEXT = "context"
    """What holds for one request only (device, hour); served as part of the user side."""


class Kind(StrEnum):
    """What a field's values are."""

    ID = "id"
    CATEGORY = "category"
    CATEGORIES = "categories"
    """Several values a row, such as genres."""
    NUMBER = "number"
    TEXT = "text"
    VECTOR = "vector"
    """A dense embedding that was made elsewhere."""
    TENSOR = "tensor"
    """An input in the very form that the graph reads, of a ranker that was trained elsewhere."""
    HISTORY = "history"
    """The items a user has chosen, most recent last."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One named input of a recommender.

    Attributes:
        name: unique on its side; requests use it, and graph inputs are called ``side.name``.
        side: whom it describes.
        kind: what its values are.
        column: the column it is read from; the name itself unless given. A text field with a
            template reads the template's columns, and one without a column is known from
            requests only.
        template: text only: words with ``{column}`` placeholders, such as ``"{title} ({year})"``.
        max_length: categories and history only: values kept a row (a history keeps its latest).
        of: history only: the item text or vector field by which past items are represented.
        joins: user text only: the history that this text joins as one more event. Words about
            items live in the same space as the items' own words, so a text such as "slow science
            fiction" does for a user without history what the items themselves would do.
    """

    name: str
    side: Side
    kind: Kind
    column: str | None = None
    template: str | None = None
    max_length: int = 50
    of: str | None = None
    joins: str | None = None

    def __post_init__(self) -> None:
        """Raise SchemaError where the options contradict the kind."""
        if not self.name or not self.name.replace("_", "a").isalnum():
            raise SchemaError(
                f"field {self.name!r}: expected a name of letters, digits and underscores"
            )
        object.__setattr__(self, "side", _member(Side, self.side, f"{self.name}: side"))
        object.__setattr__(self, "kind", _member(Kind, self.kind, f"{self.name}: kind"))
        self._only(self.template is not None, "template", Kind.TEXT)
        self._only(self.of is not None, "of", Kind.HISTORY)
        self._only(self.joins is not None, "joins", Kind.TEXT)
        if self.kind is Kind.HISTORY and (self.side is not Side.USER or self.of is None):
            raise SchemaError(
                f"field {self.name!r}: a history belongs to the user side and names in 'of' the "
                f"item field that represents its items; found side={self.side} of={self.of}"
            )
        if self.joins is not None and self.side is not Side.USER:
            raise SchemaError(f"field {self.name!r}: only a user's text can join a history")
        if self.max_length < 1:
            raise SchemaError(
                f"field {self.name!r}: max_length is {self.max_length}, expected 1 or more"
            )
        if self.template is not None:
            TextTemplate(self.template)

    @property
    def tensor(self) -> str:
        """The name of the graph input that carries this field."""
        return f"{self.side}.{self.name}"

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The columns that the field reads."""
        if self.template is not None:
            return TextTemplate(self.template).columns
        return (self.column or self.name,)

    def _only(self, given: bool, option: str, kind: Kind) -> None:
        if given and self.kind is not kind:
            raise SchemaError(
                f"field {self.name!r}: {option!r} is for fields of kind {kind}, found {self.kind}"
            )


def check_fields(fields: Sequence[Field]) -> None:
    """Raise SchemaError where a set of fields does not hold together."""
    names = [field.tensor for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(f"fields declared twice: {', '.join(twice)}")
    users, contexts = ({f.name for f in fields if f.side is s} for s in (Side.USER, Side.CONTEXT))
    if shared := sorted(users & contexts):
        raise SchemaError(
            f"user and context fields share the names {', '.join(shared)}: a request could not "
            "tell them apart"
        )
    for side in (Side.USER, Side.ITEM):
        ids = [f.name for f in fields if f.side is side and f.kind is Kind.ID]
        if len(ids) > 1:
            raise SchemaError(f"{side} side: expected at most one id field, found {ids}")
    items = {f.name: f for f in fields if f.side is Side.ITEM}
    histories = {f.name for f in fields if f.kind is Kind.HISTORY}
    for field in fields:
        if field.of is not None:
            target = items.get(field.of)
            if target is None or target.kind not in (Kind.TEXT, Kind.VECTOR):
                raise SchemaError(
                    f"field {field.name!r}: of={field.of!r} names no item field of kind text or "
                    f"vector; item fields are {sorted(items)}"
                )
        if field.joins is not None and field.joins not in histories:
            raise SchemaError(
                f"field {field.name!r}: joins={field.joins!r} names no history; "
                f"histories are {sorted(histories)}"
            )


def _member(kind: type[E], value: object, what: str) -> E:
    try:
        return kind(str(value))
    except ValueError:
        choices = ", ".join(kind)
        raise SchemaError(f"field {what}: found {value!r}, expected one of {choices}") from None
