"""Rows by id: a hash table that is read where it is mapped, so that opening it costs nothing."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Self
from zlib import crc32

import numpy as np
import numpy.typing as npt

from fuserank.bundle.ragged import Strings
from fuserank.errors import DataError

__all__ = ["IdIndex"]

Slots = npt.NDArray[np.int32]

_EMPTY = -1


class IdIndex(Mapping[str, int]):
    """The rows of n ids, by open addressing with linear probing.

    An id's search begins at slot crc32(UTF-8) mod n_slots, n_slots being the least power of two
    above 2n, and goes on until a slot holds the row of that very id, or is empty. The slots go on
    behind the last of these, and end with an empty one: a search never comes back to the front.

    >>> index = IdIndex.build(["a", "Léon"], "films")
    >>> index["Léon"], index.get("b"), list(index)
    (1, None, ['a', 'Léon'])

    Attributes:
        ids: n ids by row.
        slots: (n_slots or more,) int32: a row, or -1 where the slot is empty.

    Source: Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithm L.
    """

    def __init__(self, ids: Strings, slots: Slots) -> None:
        """Take both, mapped or not.

        Raises:
            ValueError: these are no slots of so many ids.
        """
        n_slots = _slots_of(len(ids))
        if slots.dtype != np.int32 or slots.ndim != 1 or len(slots) <= n_slots:
            raise ValueError(
                f"{slots.dtype} {slots.shape}, expected int32 and more than {n_slots} slots"
            )
        if slots[-1] != _EMPTY or slots.min() < _EMPTY or slots.max() >= len(ids):
            raise ValueError(f"slots of other rows than those of {len(ids)} ids")
        self.ids, self.slots = ids, slots
        self._first = n_slots - 1  # of a hash, these bits are the slot where its search begins
        self._slots = slots.data  # NumPy takes four times as long to read a single number
        self._bytes, self._offsets = ids.views

    @classmethod
    def build(cls, ids: Iterable[str], name: str) -> Self:
        """Index ids.

        Args:
            ids: n ids, each of them once.
            name: of the list, for messages.

        Raises:
            DataError: an id stands there twice.
        """
        strings = Strings.build(ids)
        n_ids, n_slots = len(strings), _slots_of(len(strings))
        data = strings.ragged.values.tobytes()
        edges = pairwise(strings.ragged.offsets.tolist())
        hashes = np.fromiter((crc32(data[a:b]) for a, b in edges), np.int64, n_ids)
        first = hashes & (n_slots - 1)
        rows = np.lexsort((hashes, first))
        _refuse_duplicates(strings, rows, hashes[rows], name)
        # In this order, a row takes the slot behind the last one taken, or its own if that is free.
        numbers = np.arange(n_ids)
        taken = numbers + np.maximum.accumulate(first[rows] - numbers)
        n_taken = int(taken[-1]) + 1 if n_ids else 0
        slots = np.full(max(n_slots, n_taken) + 1, _EMPTY, dtype=np.int32)
        slots[taken] = rows
        return cls(strings, slots)

    def find(self, an_id: object) -> int | None:
        """Return the row of an id; None of what is no id of these."""
        if not isinstance(an_id, str):
            return None
        # JSON lets half a pair of surrogates through, which is in no id, and is no error either.
        key = an_id.encode("utf-8", "surrogatepass")
        slots, values, offsets = self._slots, self._bytes, self._offsets
        at = crc32(key) & self._first
        while (row := slots[at]) >= 0:
            if values[offsets[row] : offsets[row + 1]] == key:
                return row
            at += 1
        return None

    def __getitem__(self, an_id: str) -> int:
        if (row := self.find(an_id)) is None:
            raise KeyError(an_id)
        return row

    def __contains__(self, an_id: object) -> bool:
        return self.find(an_id) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def _slots_of(n_ids: int) -> int:
    return 1 << (2 * n_ids).bit_length()


def _refuse_duplicates(
    ids: Strings, rows: npt.NDArray[np.int64], hashes: npt.NDArray[np.int64], name: str
) -> None:
    """Raise DataError of an id that stands there twice, given the rows in the order of hashes."""
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    seen: dict[str, int] = {}
    for row in np.union1d(rows[same], rows[same + 1]).tolist():
        first = seen.setdefault(ids[row], row)
        if first != row:
            raise DataError(
                f"{name}: found id {ids[row]!r} in rows {first} and {row}, expected each id "
                "once; rename one or leave it out"
            )
