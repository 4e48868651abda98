"""Ids, categories and lists of categories: values become rows of an embedding table."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from fuserank.errors import SchemaError

__all__ = ["UNKNOWN", "Vocabulary"]

UNKNOWN = 0
"""Row 0 of every table: a value that is missing or was not seen when the schema was fitted."""


@dataclass(frozen=True)
class Vocabulary:
    """Known values in a fixed order; value i has row i + 1, because row 0 is `UNKNOWN`.

    >>> genres = Vocabulary.fit([["Drama", "War"], ["War"], None], "genre")
    >>> genres.values
    ('War', 'Drama')
    >>> genres.rows(["Drama", "Western", None], "genre")
    array([2, 0, 0])
    >>> genres.lists([["Western", "War"], None], "genres", width=2)
    array([[1, 0],
           [0, 0]])
    """

    values: tuple[str, ...]
    _row: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the values."""
        rows = {value: row for row, value in enumerate(self.values, start=1)}
        if len(rows) != len(self.values):
            raise SchemaError("vocabulary: a value occurs twice")
        object.__setattr__(self, "_row", rows)

    @classmethod
    def fit(cls, column: Iterable[object], name: str) -> Self:
        """Collect the values of a column, the most frequent first, then by first appearance.

        Raises:
            SchemaError: a value that is neither text nor a whole number.
        """
        counts: Counter[str] = Counter()
        for index, value in enumerate(column):
            entries = value if isinstance(value, (list, tuple)) else [value]
            keys = [_key(entry, name, index) for entry in entries]
            counts.update(key for key in keys if key is not None)
        return cls(tuple(value for value, _ in counts.most_common()))

    def __len__(self) -> int:
        """The rows of a table for this vocabulary, `UNKNOWN` included."""
        return len(self.values) + 1

    def rows(self, column: Sequence[object], name: str) -> npt.NDArray[np.int64]:
        """Return (n,) int64 rows of a column of single values.

        Raises:
            SchemaError: a value that is neither text nor a whole number.
        """
        found = np.empty(len(column), dtype=np.int64)
        for index, value in enumerate(column):
            found[index] = self._lookup(value, name, index)
        return found

    def lists(self, column: Sequence[object], name: str, *, width: int) -> npt.NDArray[np.int64]:
        """Return (n, width) int64 rows of a column of lists.

        Unknown values are dropped, each value counts once, and `UNKNOWN` fills the rest.

        Raises:
            SchemaError: an entry that is neither a list nor missing.
        """
        found = np.zeros((len(column), width), dtype=np.int64)
        for index, value in enumerate(column):
            if value is None:
                continue
            if not isinstance(value, (list, tuple)):
                raise SchemaError(
                    f"field {name!r}, row {index}: found {type(value).__name__}, "
                    "expected a list of values"
                )
            known = dict.fromkeys(self._lookup(entry, name, index) for entry in value)
            rows = [row for row in known if row != UNKNOWN][:width]
            found[index, : len(rows)] = rows
        return found

    def _lookup(self, value: object, name: str, index: int) -> int:
        key = _key(value, name, index)
        return UNKNOWN if key is None else self._row.get(key, UNKNOWN)


def _key(value: object, name: str, index: int) -> str | None:
    """Return the text by which a value is known, or None where it is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value or None
    if isinstance(value, (bool, int, np.integer)):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # readers turn a column of whole numbers with gaps into floats
    raise SchemaError(
        f"field {name!r}, row {index}: found {type(value).__name__}, "
        "expected text or a whole number"
    )
