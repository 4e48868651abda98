"""Rows of different length in two flat arrays, so that a file of them can be memory-mapped."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Ragged", "Strings"]


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
class Strings:
    """n strings as UTF-8 in a `Ragged` of bytes.

    >>> names = Strings.build(["Léon", "", "Z"])
    >>> len(names), names[0], list(names)
    (3, 'Léon', ['Léon', '', 'Z'])
    """

    ragged: Ragged

    @classmethod
    def build(cls, strings: Iterable[str]) -> Self:
        """Encode strings."""
        rows = [np.frombuffer(text.encode(), dtype=np.uint8) for text in strings]
        return cls(Ragged.build(rows, np.uint8))

    def __len__(self) -> int:
        return len(self.ragged)

    def __getitem__(self, row: int) -> str:
        return self.ragged[row].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        data = self.ragged.values.tobytes()
        edges = self.ragged.offsets.tolist()
        return (data[a:b].decode() for a, b in pairwise(edges))
