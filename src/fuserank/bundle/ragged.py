"""Rows of different length in two flat arrays, so that a file of them can be memory-mapped."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Ragged", "Strings"]

_BLOCK = 4096
"""Strings whose offsets are read at once where all of them are wanted."""


@dataclass(frozen=True)
class Ragged:
    """n rows: row i is values[offsets[i]:offsets[i + 1]].

    Attributes:
        values: (total,) of any dtype.
        offsets: (n + 1,) int64, from 0 to total.
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def build(cls, rows: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> Self:
        """Join rows."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.concatenate(rows) if rows else np.empty(0)
        return cls(values.astype(dtype, copy=False), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True)
class Strings(Sequence[str]):
    """n strings as UTF-8 in a `Ragged` of bytes; each is decoded when it is asked for.

    >>> names = Strings.build(["Léon", "", "Z"])
    >>> len(names), names[0], names[-1], list(names)
    (3, 'Léon', 'Z', ['Léon', '', 'Z'])
    """

    ragged: Ragged

    @classmethod
    def build(cls, strings: Iterable[str]) -> Self:
        """Encode strings."""
        rows = [np.frombuffer(text.encode(), dtype=np.uint8) for text in strings]
        return cls(Ragged.build(rows, np.uint8))

    @cached_property
    def views(self) -> tuple[memoryview, memoryview]:
        """The bytes and the offsets, of which single ones are quicker to read than of arrays."""
        return self.ragged.values.data, self.ragged.offsets.data

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[str, ...]:
        """Return the strings of some rows, each from 0 to n - 1."""
        values, offsets = self.views[0], self.ragged.offsets
        edges = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
        return tuple([str(values[a:b], "utf-8") for a, b in edges])

    def __len__(self) -> int:
        return len(self.ragged)

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[each] for each in range(len(self))[row]]
        values, offsets = self.views
        at = row if row >= 0 else row + len(self)
        if at < 0:
            raise IndexError(f"row {row} of {len(self)} strings")
        return str(values[offsets[at] : offsets[at + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        values, offsets = self.views[0], self.ragged.offsets
        for first in range(0, len(self), _BLOCK):
            edges = pairwise(offsets[first : first + _BLOCK + 1].tolist())
            yield from (str(values[a:b], "utf-8") for a, b in edges)
