"""Which items have which attributes: one column an attribute, made when it is first asked for."""

import difflib
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fuserank.engine.predicates import OneOf, Predicate, Range, Scalar, as_number, entries
from fuserank.engine.scoring import Eligibility
from fuserank.engine.scoring.eligibility import pack
from fuserank.engine.scoring.kernels import BLOCK
from fuserank.errors import RequestError

__all__ = ["AttributeIndex", "unknown_attribute"]

Rows = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]

_NO_ROWS = np.empty(0, dtype=np.int32)
_MISSING = object()

_RECENT = 64
"""Predicates whose bitmaps are kept: 8 MB of a catalogue of a million items."""

_SPARSE = 256
"""Bits are set one by one where they are fewer than one item in so many: else that takes longer."""

_MAX_KEPT = 10_000
"""Characters of a predicate whose bitmap is kept, for what is kept with it is the caller's."""

_MAX_NAMED = 20
"""Attributes that an error lists."""


@dataclass(frozen=True, kw_only=True)
class _Column:
    """The rows of every value of an attribute, and its numbers in order.

    Attributes:
        codes: of each value its place in `starts`; equal numbers are one value.
        starts: (n_values + 1,) int64: the rows of value c are rows[starts[c]:starts[c + 1]].
        rows: (n_entries,) int32; of one value ascending.
        numbers: (m,) float64, ascending.
        number_rows: (m,) int32: where they stand.
    """

    codes: Mapping[Scalar, int]
    starts: npt.NDArray[np.int64]
    rows: Rows
    numbers: npt.NDArray[np.float64]
    number_rows: Rows

    @classmethod
    def build(
        cls, values: Iterable[object], before: "_Column | None" = None, first: int = 0
    ) -> Self | None:
        """Read an attribute of every item, `_MISSING` where one lacks it; None where all do.

        Args:
            values: of rows from `first` on.
            before: what was read of the rows before these.
            first: how many those are.
        """
        codes: dict[Scalar, int] = {} if before is None else dict(before.codes)
        entry_codes, entry_rows = array("i"), array("i")
        is_known = before is not None
        for row, value in enumerate(values, first):
            is_known = is_known or value is not _MISSING
            for entry in entries(value):
                entry_codes.append(codes.setdefault(entry, len(codes)))
                entry_rows.append(row)
        if not is_known:
            return None
        of_entry, rows = np.array(entry_codes, np.int32), np.array(entry_rows, np.int32)
        if before is not None:
            earlier = np.repeat(np.arange(len(before.codes)), np.diff(before.starts))
            of_entry = np.concatenate([earlier.astype(np.int32), of_entry])
            rows = np.concatenate([before.rows, rows])
        order = np.argsort(of_entry, kind="stable")
        rows = rows[order]
        counts = np.bincount(of_entry, minlength=len(codes))
        numbers = np.array([as_number(value) for value in codes], dtype=np.float64)
        of_row = np.repeat(numbers, counts)
        is_number = ~np.isnan(of_row)
        by_number = np.argsort(of_row[is_number], kind="stable")
        return cls(
            codes=codes,
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            rows=rows,
            numbers=of_row[is_number][by_number],
            number_rows=rows[is_number][by_number],
        )

    def count(self, value: Scalar) -> int:
        """Return how many rows have a value."""
        code = self.codes.get(value)
        return 0 if code is None else int(self.starts[code + 1] - self.starts[code])

    def rows_of(self, test: OneOf | Range) -> Rows:
        """Return the rows of which a test holds; a row may stand there more than once."""
        if isinstance(test, Range):
            first = 0 if test.least is None else np.searchsorted(self.numbers, test.least, "left")
            last = None if test.most is None else np.searchsorted(self.numbers, test.most, "right")
            return self.number_rows[first:last]
        codes = [self.codes[value] for value in test.values if value in self.codes]
        return np.concatenate(
            [_NO_ROWS, *(self.rows[self.starts[c] : self.starts[c + 1]] for c in codes)]
        )


class AttributeIndex:
    """Answers predicates for every item at once, out of columns that it makes and keeps.

    A column costs one look at every item's attributes and some tens of bytes an entry; there are at
    most as many as attributes. Safe under concurrent callers.
    """

    def __init__(self, n_items: int, attributes_of: Callable[[int], Mapping[str, Any]]) -> None:
        """Take a catalogue that does not change.

        Args:
            n_items: items, rows 0 to n_items - 1.
            attributes_of: returns the attributes of a row.
        """
        self._n_items = n_items
        self._attributes_of = attributes_of
        self._eligibility = Eligibility(n_items)
        self._columns: dict[str, _Column] = {}
        self._names: frozenset[str] | None = None
        # Columns of the first rows alone, and how many rows those are.
        self._earlier: dict[str, tuple[_Column, int]] = {}
        self._building = threading.Lock()
        self._words_of = lru_cache(_RECENT)(self._evaluate)

    def grown(self, n_items: int, attributes_of: Callable[[int], Mapping[str, Any]]) -> Self:
        """Return the index of a catalogue of these items and of more behind them.

        What was read of these items is not read again. Arguments as for a new one.
        """
        grown = type(self)(n_items, attributes_of)
        read = {name: (column, self._n_items) for name, column in self._columns.copy().items()}
        grown._earlier = self._earlier | read
        return grown

    def words(self, predicates: Sequence[Predicate]) -> Words:
        """Return the bitmap of the items of which all of these are true, as `Eligibility` has it.

        Raises:
            RequestError: an attribute that no item has.
        """
        self.check([predicate.attribute for predicate in predicates], "where")
        return self.holding(predicates)

    def holding(self, predicates: Sequence[Predicate]) -> Words:
        """Return what `words` does, where nothing is true of an attribute that no item has."""
        words: Words = self._eligibility.words([(_NO_ROWS, None)])[0]
        for predicate in predicates:
            is_kept = _size(predicate.test) <= _MAX_KEPT
            words &= self._words_of(predicate) if is_kept else self._evaluate(predicate)
        return words

    def words_with(self, attribute: str, values: Collection[Scalar]) -> Words:
        """Return the bitmap of the items that have one of these values."""
        column = self._column(attribute)
        if column is None:
            return self._bitmap(_NO_ROWS)
        common = {value for value in values if column.count(value) * _SPARSE >= self._n_items}
        words = self._bitmap(column.rows_of(OneOf(values=frozenset(values) - common)))
        for value in common:  # of which there are few, and many ask
            test = OneOf(values=frozenset([value]))
            words |= self._words_of(Predicate(attribute=attribute, test=test))
        return words

    def check(self, attributes: Iterable[str], field: str) -> None:
        """Raise RequestError of an attribute that no item has; the message names those there are.

        Args:
            attributes: names.
            field: of the request, that gave them.
        """
        for attribute in attributes:
            if not self.has(attribute):
                raise unknown_attribute(attribute, self.names(), field)

    def has(self, attribute: str) -> bool:
        """Say whether any item has an attribute."""
        return self._column(attribute) is not None

    def names(self) -> frozenset[str]:
        """Return the names of all attributes."""
        if self._names is None:
            with self._building:
                if self._names is None:
                    found: set[str] = set()
                    for attributes in self._items(0):
                        found.update(attributes)
                    self._names = frozenset(found)
        return self._names

    def _column(self, attribute: str) -> _Column | None:
        """Return the column of an attribute, None of one that no item has."""
        column = self._columns.get(attribute)
        if column is not None or (self._names is not None and attribute not in self._names):
            return column
        with self._building:
            if attribute not in self._columns:
                before, first = self._earlier.get(attribute, (None, 0))
                values = (item.get(attribute, _MISSING) for item in self._items(first))
                column = _Column.build(values, before, first)
                if column is not None:
                    self._columns[attribute] = column
        if attribute not in self._columns:
            # Names that callers make up are not kept: knowing all that there are tells them.
            self.names()
        return self._columns.get(attribute)

    def _items(self, first: int) -> Iterator[Mapping[str, Any]]:
        return map(self._attributes_of, range(first, self._n_items))

    def _evaluate(self, predicate: Predicate) -> Words:
        column = self._column(predicate.attribute)
        rows = _NO_ROWS if column is None else column.rows_of(predicate.test)
        words = self._bitmap(rows)
        words.flags.writeable = False  # several requests share it
        return words

    def _bitmap(self, rows: Rows) -> Words:
        if len(rows) * _SPARSE < self._n_items:
            words: Words = self._eligibility.words([(_NO_ROWS, rows)])[0]
            return words
        bits = np.zeros(-(-self._n_items // BLOCK) * BLOCK, dtype=bool)
        bits[rows] = True
        return pack(bits)


def _size(test: OneOf | Range) -> int:
    """Return about how many characters a test holds."""
    if isinstance(test, Range):
        return 0
    return sum(len(value) if isinstance(value, str) else 1 for value in test.values)


def unknown_attribute(attribute: str, known: Collection[str], field: str) -> RequestError:
    """Return the error of an attribute that no item has, naming those there are.

    Args:
        attribute: its name.
        known: the names of all attributes.
        field: of the request, that gave it.
    """
    names = sorted(known)
    near = difflib.get_close_matches(attribute, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    listed = f"{', '.join(names[:_MAX_NAMED])}{more}" if names else "none at all"
    return RequestError(
        f"{field}: no item has the attribute {attribute!r}; the attributes are {listed}{hint}",
        field=field,
    )
