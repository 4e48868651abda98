"""What must be true of an item's attributes for it to be recommended.

Strings compare with strings and numbers with numbers, never with one another: 1995 is not "1995".
A boolean is the number 1 or 0. Of a list one entry is enough. What is null, nested or missing
passes nothing.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self, TypeAlias

from fuserank.errors import RequestError

__all__ = ["OneOf", "Predicate", "Range", "Scalar", "as_number", "check_where", "entries"]

Scalar: TypeAlias = str | int | float


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """It has one of these values.

    Attributes:
        values: strings and finite numbers; of none, nothing is one.
    """

    values: frozenset[Scalar]

    def holds(self, value: object) -> bool:
        """Say whether it is true of an attribute's value."""
        return any(entry in self.values for entry in entries(value))


@dataclass(frozen=True, kw_only=True)
class Range:
    """It is a number between two bounds, both of them included.

    Attributes:
        least: None does not bound.
        most: None does not bound.
    """

    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        """Raise RequestError where nothing can lie between the bounds."""
        if self.least is not None and self.most is not None and self.least > self.most:
            raise RequestError(
                f"where: found a range from {self.least:g} to {self.most:g}, expected the least "
                "first",
                field="where",
            )

    def holds(self, value: object) -> bool:
        """Say whether it is true of an attribute's value."""
        numbers = (as_number(entry) for entry in entries(value))
        return any(
            number is not None
            and (self.least is None or self.least <= number)
            and (self.most is None or number <= self.most)
            for number in numbers
        )


@dataclass(frozen=True, kw_only=True)
class Predicate:
    """Something that is true of an item's attribute, or not.

    >>> Predicate.equals("genres", "War").matches({"genres": ["War", "Drama"]})
    True
    >>> Predicate.between("year", most=1999).matches({"year": 2001})
    False

    Attributes:
        attribute: its name.
        test: what is asked of its value.
    """

    attribute: str
    test: OneOf | Range

    def __post_init__(self) -> None:
        """Raise RequestError where the name is none."""
        if not isinstance(self.attribute, str) or not self.attribute:
            raise RequestError(
                f"where: found the attribute {self.attribute!r}, expected a name", field="where"
            )

    @classmethod
    def equals(cls, attribute: str, value: Scalar) -> Self:
        """Ask for one value.

        Raises:
            RequestError: no string and no finite number.
        """
        return cls.one_of(attribute, [value])

    @classmethod
    def one_of(cls, attribute: str, values: Iterable[Scalar]) -> Self:
        """Ask for any of several values.

        Raises:
            RequestError: something among them that is no string and no finite number.
        """
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise RequestError(
                f"where: attribute {attribute!r}: found {type(values).__name__}, expected a list "
                "of values",
                field="where",
            )
        scalars = frozenset(_scalar(attribute, value) for value in values)
        return cls(attribute=attribute, test=OneOf(values=scalars))

    @classmethod
    def between(cls, attribute: str, least: float | None = None, most: float | None = None) -> Self:
        """Ask for a number within bounds, both of them included; None does not bound.

        Raises:
            RequestError: a bound that is no finite number, or the least above the most.
        """
        bounds = {"least": _bound(attribute, least), "most": _bound(attribute, most)}
        return cls(attribute=attribute, test=Range(**bounds))

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Say whether it is true of an item with these attributes."""
        return self.test.holds(attributes.get(self.attribute))


def entries(value: object) -> Iterator[Scalar]:
    """Yield what an attribute's value is compared by: itself, or its entries where it is a list.

    >>> list(entries(["War", None, 3, ["nested"]])), list(entries(True)), list(entries({}))
    (['War', 3], [True], [])
    """
    for entry in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(entry, (str, int)) or (isinstance(entry, float) and not math.isnan(entry)):
            yield entry


def as_number(value: Scalar) -> float | None:
    """Return a number as a range compares it, None of a string."""
    if isinstance(value, str):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number that no float holds
        return math.inf if value > 0 else -math.inf


def check_where(where: object) -> None:
    """Raise RequestError of what is no list of predicates."""
    if not isinstance(where, (list, tuple)) or not all(isinstance(p, Predicate) for p in where):
        raise RequestError(
            f"where: found {type(where).__name__}, expected a list of predicates, such as "
            "[Predicate.equals('genres', 'War')]",
            field="where",
        )


def _scalar(attribute: str, value: object) -> Scalar:
    """Return a value in one of the types that attributes have, whatever numpy calls it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    found = value if isinstance(value, Real) else type(value).__name__
    raise RequestError(
        f"where: attribute {attribute!r}: found {found}, expected a string or a finite number",
        field="where",
    )


def _bound(attribute: str, value: object) -> float | None:
    if value is None:
        return None
    number = None if isinstance(value, str) else as_number(_scalar(attribute, value))
    if number is None or math.isinf(number):
        raise RequestError(
            f"where: attribute {attribute!r}: found the bound {value!r}, expected a finite number "
            "or none",
            field="where",
        )
    return number
