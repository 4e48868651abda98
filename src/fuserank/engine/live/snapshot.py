"""The catalogue as it is at one moment: the bundle's items, and those that came over them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.attribute_index import AttributeIndex
from fuserank.engine.catalogue import check_list, unknown_items
from fuserank.engine.live.row_index import RowIndex
from fuserank.engine.live.segment import Segment
from fuserank.engine.scoring.eligibility import full_words
from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["JoinedRows", "Part", "Snapshot"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A segment in its place.

    Attributes:
        segment: the items.
        first: row of the first one, a multiple of 64.
        words: (n_blocks,) uint64: which of them are there still, as `Eligibility` has it.
        index: of their attributes.
    """

    segment: Segment
    first: int
    words: Words
    index: AttributeIndex

    @classmethod
    def place(cls, segment: Segment, first: int) -> "Part":
        """Put a segment, all of whose items are there, at a row."""
        return cls(
            segment=segment,
            first=first,
            words=full_words(segment.n_items),
            index=AttributeIndex(segment.n_items, segment.attributes_of),
        )

    @property
    def last(self) -> int:
        """The row behind the last one, a multiple of 64."""
        return self.first + BLOCK * len(self.words)

    def without(self, rows: Sequence[int]) -> "Part":
        """Return this part when some of its rows are gone."""
        words = self.words.copy()
        gone = np.array(rows, dtype=np.int64) - self.first
        bits = np.left_shift(np.uint64(1), (gone % BLOCK).astype(np.uint64))
        np.bitwise_and.at(words, gone // BLOCK, ~bits)
        return replace(self, words=words)

    def grown(self, segment: Segment) -> "Part":
        """Return this part when its segment has more items, all of which are there."""
        mine = Part.place(segment, self.first)
        before = full_words(self.segment.n_items)
        # What was there before keeps its bits; everything behind it is new.
        mine.words[: len(before)] &= ~before | self.words
        return replace(mine, index=self.index.grown(segment.n_items, segment.attributes_of))

    def rows(self) -> Rows:
        """Return the rows, counted from the first, of the items that are there still."""
        bits = np.unpackbits(self.words.view(np.uint8), bitorder="little")
        return np.flatnonzero(bits).astype(np.int64)


class JoinedRows:
    """One array of several parts, of which rows may be read."""

    def __init__(self, parts: Sequence[tuple[int, int, Array]]) -> None:
        """Take, of each part, its first row, the row behind its last one, and its array."""
        self._parts = parts

    def __getitem__(self, rows: npt.NDArray[np.integer[Any]]) -> Array:
        """Return copies of some rows, in their order."""
        sample = self._parts[0][2]
        found = np.empty((len(rows), *sample.shape[1:]), dtype=sample.dtype)
        for first, last, array in self._parts:
            mine = (rows >= first) & (rows < last)
            found[mine] = array[rows[mine] - first]
        return found


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What `Catalogue` is of a bundle alone; it never changes.

    Row numbers hold within one snapshot. Between parts there may be rows without an item.

    Attributes:
        parts: the items of the bundle, those that were folded, and new ones, in the order of rows;
            none of them empty, but one that is alone.
        row_of: rows by id, read as of `version`.
        version: of the row index.
        sequence: number of the last change that is in it.
        n_items: items that are there.
    """

    parts: tuple[Part, ...]
    row_of: RowIndex
    version: int
    sequence: int
    n_items: int
    states: Mapping[str, Any] = field(init=False, repr=False)
    vectors: Mapping[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Join the arrays of the parts."""
        for name in ("states", "vectors"):
            object.__setattr__(self, name, self._joined(name))

    def __len__(self) -> int:
        """Rows, whether they hold an item or not."""
        return self.parts[-1].last

    def ids(self, rows: Rows) -> tuple[str, ...]:
        """Return the ids of rows."""
        return tuple(part.segment.ids[row - part.first] for part, row in self._placed(rows))

    def rows(self, item_ids: Sequence[str], field: str) -> Rows:
        """Return the rows of items that must exist.

        Raises:
            RequestError: not a list of ids.
            UnknownItemError: an id that the catalogue does not hold.
        """
        check_list(item_ids, field)
        found = [self.row(item_id) for item_id in item_ids]
        known = [row for row in found if row is not None]
        if len(known) < len(found):
            unknown = [i for i, row in zip(item_ids, found, strict=True) if row is None]
            raise unknown_items(unknown, field, self.n_items)
        return np.array(known, dtype=np.int64)

    def known_rows(self, item_ids: Collection[str], field: str) -> Rows:
        """Return the rows of those items that exist.

        Raises:
            RequestError: not a list of ids.
        """
        check_list(item_ids, field)
        found = (self.row(item_id) for item_id in item_ids)
        return np.array([row for row in found if row is not None], dtype=np.int64)

    def words(self) -> Words:
        """Return (n_words,) uint64: the bitmap of the rows that hold an item."""
        return np.concatenate([part.words for part in self.parts])

    def row(self, item_id: object) -> int | None:
        """Return the row of an item; None where there is no such item."""
        return self.row_of.find(item_id, self.version) if isinstance(item_id, str) else None

    def is_live(self, item_id: str) -> bool:
        """Say whether an item came or changed since the bundle was made."""
        return self.row_of.is_live(item_id, self.version)

    def attributes(self, rows: Rows) -> list[dict[str, Any]]:
        """Return the attributes of rows, such as titles."""
        return [self.attributes_of(row) for row in rows.tolist()]

    def attributes_of(self, row: int) -> dict[str, Any]:
        """Return the attributes of a row."""
        ((part, row),) = self._placed(np.array([row]))
        return part.segment.attributes_of(row - part.first)

    def current(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Return where items of the bundle are now; those that are deleted stay where they were."""
        if not len(rows):
            return rows
        words = self.parts[0].words  # of the bundle's items, since it has some
        there = (words[rows // BLOCK] >> (rows % BLOCK).astype(np.uint64)) & np.uint64(1)
        if there.all():
            return rows
        moved = rows.astype(np.int64)
        for at in np.flatnonzero(there == 0).tolist():
            row = self.row(self.parts[0].segment.ids[int(rows[at])])
            if row is not None:
                moved[at] = row
        return moved

    def _placed(self, rows: Rows) -> Iterator[tuple[Part, int]]:
        """Yield each row with the part that it is in."""
        for row in rows.tolist():
            yield next(part for part in self.parts if row < part.last), row

    def _joined(self, name: str) -> Mapping[str, Any]:
        first = getattr(self.parts[0].segment, name)
        if len(self.parts) == 1:
            return first  # type: ignore[no-any-return]
        return {
            key: JoinedRows([(p.first, p.last, getattr(p.segment, name)[key]) for p in self.parts])
            for key in first
        }
