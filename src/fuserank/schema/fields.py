"""Declaration of fields: what is known of users and items, before anything is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar, get_args

from fuserank.errors import SchemaError
from fuserank.schema.numeric import LARGEST, Fill, Outliers
from fuserank.schema.template import TextTemplate
from fuserank.schema.words import Stem, StopWords, Weighting

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
    WORDS = "words"
    """A text as a bag of its words."""
    VECTOR = "vector"
    """A dense embedding that was made elsewhere."""
    TENSOR = "tensor"
    """An input in the very form that the graph reads, of a ranker that was trained elsewhere."""
    HISTORY = "history"
    """The items a user has chosen, most recent last."""


_KINDS_OF: Mapping[str, tuple[Kind, ...]] = {
    "template": (Kind.TEXT, Kind.WORDS),
    "of": (Kind.HISTORY,),
    "joins": (Kind.TEXT,),
    "outliers": (Kind.NUMBER,),
    "missing": (Kind.NUMBER,),
    "weighting": (Kind.WORDS,),
    "max_words": (Kind.WORDS,),
    "min_rows": (Kind.WORDS,),
    "stop_words": (Kind.WORDS,),
    "stem": (Kind.WORDS,),
}
"""The options that are not for fields of every kind."""

_CHOICES = {
    "outliers": get_args(Outliers),
    "missing": get_args(Fill),
    "weighting": get_args(Weighting),
    "stop_words": get_args(StopWords),
    "stem": get_args(Stem),
}


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
        template: text and words only: a text with ``{column}`` placeholders, such as
            ``"{title} ({year})"``.
        max_length: categories and history only: values kept a row (a history keeps its latest).
        of: history only: the item text or vector field by which past items are represented.
        joins: user text only: the history that this text joins as one more event. Words about
            items live in the same space as the items' own words, so a text such as "slow science
            fiction" does for a user without history what the items themselves would do.
        outliers: number only: how values far from the others are limited (`NumberScaling.fit`).
        missing: number only: what a missing value becomes (`NumberScaling.fit`).
        weighting: words only: what a word counts for in a text (`BagOfWords`).
        max_words: words only: size of the vocabulary.
        min_rows: words only: rows that a word must occur in to be of the vocabulary.
        stop_words: words only: the language whose function words are left out.
        stem: words only: the algorithm that makes one word of its forms.
    """

    name: str
    side: Side
    kind: Kind
    column: str | None = None
    template: str | None = None
    max_length: int = 50
    of: str | None = None
    joins: str | None = None
    outliers: Outliers = "winsorise"
    missing: Fill | float = "median"
    weighting: Weighting = "tfidf"
    max_words: int = 1000
    min_rows: int = 2
    stop_words: StopWords | None = None
    stem: Stem | None = None

    def __post_init__(self) -> None:
        """Raise SchemaError where the options contradict the kind."""
        if not self.name or not self.name.replace("_", "a").isalnum():
            raise SchemaError(
                f"field {self.name!r}: expected a name of letters, digits and underscores"
            )
        object.__setattr__(self, "side", _member(Side, self.side, f"{self.name}: side"))
        object.__setattr__(self, "kind", _member(Kind, self.kind, f"{self.name}: kind"))
        for option in fields(self):
            kinds = _KINDS_OF.get(option.name, tuple(Kind))
            if self.kind not in kinds and getattr(self, option.name) != option.default:
                raise SchemaError(
                    f"field {self.name!r}: {option.name!r} is for fields of kind "
                    f"{' or '.join(kinds)}, found {self.kind}"
                )
        if self.kind is Kind.HISTORY and (self.side is not Side.USER or self.of is None):
            raise SchemaError(
                f"field {self.name!r}: a history belongs to the user side and names in 'of' the "
                f"item field that represents its items; found side={self.side} of={self.of}"
            )
        if self.joins is not None and self.side is not Side.USER:
            raise SchemaError(f"field {self.name!r}: only a user's text can join a history")
        for name in ("max_length", "max_words", "min_rows"):
            if (value := getattr(self, name)) < 1:
                raise SchemaError(f"field {self.name!r}: {name} is {value}, expected 1 or more")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices and not _is_constant(name, value):
                raise SchemaError(
                    f"field {self.name!r}: {name} is {value!r}, expected one of "
                    f"{', '.join(choices)}{' or a finite number' if name == 'missing' else ''}"
                )
        if self.template is not None and not TextTemplate(self.template).columns:
            raise SchemaError(
                f"field {self.name!r}: template {self.template!r} names no column, expected "
                "a placeholder such as {title}"
            )

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

    def options(self) -> dict[str, Any]:
        """Return what the field was made of: the options of its kind that are not None."""
        return {
            option.name: value
            for option in fields(self)
            if self.kind in _KINDS_OF.get(option.name, tuple(Kind))
            and (value := getattr(self, option.name)) is not None
        }


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


def _is_constant(option: str, value: object) -> bool:
    """Whether the value is a number that stands for missing ones."""
    if option != "missing" or isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= LARGEST


def _member(kind: type[E], value: object, what: str) -> E:
    try:
        return kind(str(value))
    except ValueError:
        choices = ", ".join(kind)
        raise SchemaError(f"field {what}: found {value!r}, expected one of {choices}") from None
