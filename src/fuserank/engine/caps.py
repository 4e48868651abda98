"""At most so many items of one value of an attribute."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fuserank.engine.predicates import Scalar, entries
from fuserank.errors import RequestError

__all__ = ["Cap", "CapCounts", "check_caps"]


@dataclass(frozen=True, kw_only=True)
class Cap:
    """At most `most` items of each value of an attribute; of a list every entry counts.

    An item without the attribute, or of which it is null, is not capped.

    Attributes:
        attribute: its name.
        most: 1 or more.
    """

    attribute: str
    most: int

    def __post_init__(self) -> None:
        """Raise RequestError where a value is out of range."""
        if not isinstance(self.attribute, str) or not self.attribute:
            raise RequestError(
                f"caps: found the attribute {self.attribute!r}, expected a name", field="caps"
            )
        if isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 1:
            raise RequestError(
                f"caps: attribute {self.attribute!r}: found at most {self.most!r}, expected a "
                "whole number of 1 or more",
                field="caps",
            )


class CapCounts:
    """How many items of each value one user has been given."""

    def __init__(self, caps: Sequence[Cap]) -> None:
        """Start from no items."""
        self._caps = caps
        self._counts: list[Counter[Scalar]] = [Counter() for _ in caps]

    def admit(self, attributes: Mapping[str, Any]) -> bool:
        """Count an item if every cap leaves room for it, and say whether that is so."""
        values = [set(entries(attributes.get(cap.attribute))) for cap in self._caps]
        for cap, counts, mine in zip(self._caps, self._counts, values, strict=True):
            if any(counts[value] >= cap.most for value in mine):
                return False
        for counts, mine in zip(self._counts, values, strict=True):
            counts.update(mine)
        return True

    def full(self) -> Iterator[tuple[str, list[Scalar]]]:
        """Yield, by attribute, the values of which no further item is admitted."""
        for cap, counts in zip(self._caps, self._counts, strict=True):
            yield cap.attribute, [value for value, count in counts.items() if count >= cap.most]


def check_caps(caps: object) -> None:
    """Raise RequestError of what is no list of caps."""
    if not isinstance(caps, (list, tuple)) or not all(isinstance(cap, Cap) for cap in caps):
        raise RequestError(
            f"caps: found {type(caps).__name__}, expected a list of caps, such as "
            "[Cap(attribute='genres', most=3)]",
            field="caps",
        )
