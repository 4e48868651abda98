"""Which items have which attributes, by one column an attribute."""

import difflib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fuserank.engine.attribute_columns import MISSING, Column, ReadColumn
from fuserank.engine.predicates import OneOf, Predicate, Range, Scalar
from fuserank.engine.scoring import Eligibility
from fuserank.engine.scoring.eligibility import pack
from fuserank.engine.scoring.kernels import BLOCK
from fuserank.errors import RequestError

__all__ = ["AttributeIndex", "unknown_attribute"]

Rows = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]

_NO_ROWS = np.empty(0, dtype=np.int32)

_RECENT = 64
"""Predicates whose bitmaps are kept: 8 MB of a catalogue of a million items."""

_SPARSE = 256
"""Bits are set one by one where they are fewer than one item in so many: else that takes longer."""

_MAX_KEPT = 10_000
"""Characters of a predicate whose bitmap is kept, for what is kept with it is the caller's."""

_MAX_NAMED = 20
"""Attributes that an error lists."""


class AttributeIndex:
    """Answers predicates for every item at once, out of stored columns or such as it makes.

    One that it makes, when it is first asked for, costs a look at every item's attributes and some
    tens of bytes an entry; it is kept. Safe under concurrent callers.
    """

    def __init__(
        self,
        n_items: int,
        attributes_of: Callable[[int], Mapping[str, Any]],
        stored: Mapping[str, Column] | None = None,
    ) -> None:
        """Take a catalogue that does not change.

        Args:
            n_items: items, rows 0 to n_items - 1.
            attributes_of: returns the attributes of a row.
            stored: the columns of all attributes; None where they are to be made.
        """
        self._n_items = n_items
        self._attributes_of = attributes_of
        self._eligibility = Eligibility(n_items)
        self._stored = stored or {}
        self._columns: dict[str, ReadColumn] = {}
        self._names = None if stored is None else frozenset(stored)
        # Columns of the first rows alone, and how many rows those are.
        self._earlier: dict[str, tuple[ReadColumn, int]] = {}
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
        wanted = list(values)
        is_common = column.counts(wanted) * _SPARSE >= self._n_items
        common = {value for value, yes in zip(wanted, is_common, strict=True) if yes}
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

    def _column(self, attribute: str) -> Column | None:
        """Return the column of an attribute, None of one that no item has."""
        column = self._stored.get(attribute) or self._columns.get(attribute)
        if column is not None or (self._names is not None and attribute not in self._names):
            return column
        with self._building:
            if attribute not in self._columns:
                before, first = self._earlier.get(attribute, (None, 0))
                values = (item.get(attribute, MISSING) for item in self._items(first))
                made = ReadColumn.build(values, before, first)
                if made is not None:
                    self._columns[attribute] = made
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
