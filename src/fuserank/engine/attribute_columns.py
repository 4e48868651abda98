"""One attribute of all items: which rows have which value."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from fuserank.engine.predicates import OneOf, Range, Scalar, as_number, entries

__all__ = ["MISSING", "Column", "Entries", "ReadColumn"]

Rows = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]

_NO_ROWS = np.empty(0, dtype=np.int32)

MISSING = object()
"""Stands for the value of an attribute that an item lacks."""


@dataclass(frozen=True, kw_only=True)
class Column(ABC):
    """The rows of every value of an attribute, and its numbers in order.

    Attributes:
        starts: (n_values + 1,) int64: the rows of value c are rows[starts[c]:starts[c + 1]].
        rows: int32; of one value ascending.
        numbers: (m,) float64, ascending.
        number_rows: (m,) int32: where they stand.
    """

    starts: npt.NDArray[np.int64]
    rows: Rows
    numbers: npt.NDArray[np.float64]
    number_rows: Rows

    @abstractmethod
    def places(self, values: Sequence[Scalar]) -> Places:
        """Return, of each value, its place in `starts`; -1 of one that no item has."""

    def counts(self, values: Sequence[Scalar]) -> npt.NDArray[np.int64]:
        """Return how many rows have each value."""
        places = self.places(values)
        is_known = places >= 0
        found = places[is_known]
        counts = np.zeros(len(values), dtype=np.int64)
        counts[is_known] = self.starts[found + 1] - self.starts[found]
        return counts

    def rows_of(self, test: OneOf | Range) -> Rows:
        """Return the rows of which a test holds; a row may stand there more than once."""
        if isinstance(test, Range):
            first = 0 if test.least is None else np.searchsorted(self.numbers, test.least, "left")
            last = None if test.most is None else np.searchsorted(self.numbers, test.most, "right")
            return self.number_rows[first:last]
        places = self.places(list(test.values))
        places = places[places >= 0]
        edges = zip(self.starts[places].tolist(), self.starts[places + 1].tolist(), strict=True)
        return np.concatenate([_NO_ROWS, *(self.rows[a:b] for a, b in edges)])


@dataclass(frozen=True, kw_only=True)
class ReadColumn(Column):
    """A column that was read of the items, and is looked up by the values themselves.

    Attributes:
        codes: of each value its place in `starts`; equal numbers are one value.
    """

    codes: Mapping[Scalar, int]

    @classmethod
    def build(
        cls, values: Iterable[object], before: "ReadColumn | None" = None, first: int = 0
    ) -> Self | None:
        """Read an attribute of every item, `MISSING` where one lacks it; None where all do.

        Args:
            values: of rows from `first` on.
            before: what was read of the rows before these.
            first: how many those are.
        """
        found = Entries(before)
        is_known = before is not None
        for row, value in enumerate(values, first):
            if value is not MISSING:
                is_known = True
                found.add(row, value)
        return cls.of(found) if is_known else None

    @classmethod
    def of(cls, found: "Entries") -> Self:
        """Sort what was found."""
        of_entry, rows = found.arrays()
        order = np.argsort(of_entry, kind="stable")
        rows = rows[order]
        counts = np.bincount(of_entry, minlength=len(found.codes))
        numbers = np.array([as_number(value) for value in found.codes], dtype=np.float64)
        of_row = np.repeat(numbers, counts)
        is_number = ~np.isnan(of_row)
        by_number = np.argsort(of_row[is_number], kind="stable")
        return cls(
            codes=found.codes,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            rows=rows,
            numbers=of_row[is_number][by_number],
            number_rows=rows[is_number][by_number],
        )

    def places(self, values: Sequence[Scalar]) -> Places:
        """Return, of each value, its place in `starts`; -1 of one that no item has."""
        return np.fromiter((self.codes.get(value, -1) for value in values), np.int64, len(values))


class Entries:
    """The values of one attribute, taken up row by row.

    Attributes:
        codes: a number of each value, from 0 on; equal numbers are one value.
    """

    def __init__(self, before: ReadColumn | None = None) -> None:
        """Begin with what was read before, if anything was."""
        self._before = before
        self.codes: dict[Scalar, int] = {} if before is None else dict(before.codes)
        self._of_entry, self._rows = array("i"), array("i")

    def add(self, row: int, value: object) -> None:
        """Take up what the item of a row has; rows come in their order."""
        for entry in entries(value):
            self._of_entry.append(self.codes.setdefault(entry, len(self.codes)))
            self._rows.append(row)

    def arrays(self) -> tuple[npt.NDArray[np.int32], Rows]:
        """Return the code of every entry, and its row; those of one code have ascending rows."""
        of_entry, rows = np.array(self._of_entry, np.int32), np.array(self._rows, np.int32)
        if self._before is None:
            return of_entry, rows
        starts = self._before.starts
        earlier = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
        return np.concatenate([earlier, of_entry]), np.concatenate([self._before.rows, rows])
