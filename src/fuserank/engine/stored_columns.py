"""The columns of all attributes as they stand in a bundle: mapped, and looked up where they are."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, Ragged, Strings, layout
from fuserank.engine.attribute_columns import Column, Places, Rows
from fuserank.engine.predicates import Scalar

__all__ = ["StoredColumn", "StoredColumns", "digests_of"]

Digests = npt.NDArray[np.bytes_]

_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class StoredColumn(Column):
    """A column that is looked up by digests of the values.

    Attributes:
        digests: (n_values,) S16, ascending: what `digests_of` makes of each value in `starts`.
    """

    digests: Digests

    def places(self, values: Sequence[Scalar]) -> Places:
        """Return, of each value, its place in `starts`; -1 of one that no item has."""
        if not len(self.digests):
            return np.full(len(values), -1, dtype=np.int64)
        wanted = digests_of(values)
        places = np.searchsorted(self.digests, wanted).clip(max=len(self.digests) - 1)
        return np.where(self.digests[places] == wanted, places, -1)


@dataclass(frozen=True, kw_only=True)
class StoredColumns:
    """The columns of n attributes, one behind the other.

    Attributes:
        names: of the attributes, each once.
        digests: by attribute, S16: of its values, ascending.
        rows: by value, int32: the rows that have it, ascending; the values of one attribute after
            those of the other.
        numbers: by attribute, float64: its numbers, ascending.
        number_rows: int32: where each of these stands.
    """

    names: Strings
    digests: Ragged
    rows: Ragged
    numbers: Ragged
    number_rows: Rows

    @classmethod
    def open(cls, bundle: Bundle) -> Self:
        """Map those of a bundle.

        Raises:
            BundleIntegrityError: a file of them is missing or no array.
        """
        return cls(
            names=bundle.strings(layout.column("names")),
            digests=bundle.ragged(layout.column("digests")),
            rows=bundle.ragged(layout.column("rows")),
            numbers=bundle.ragged(layout.column("numbers")),
            number_rows=bundle.array(layout.NUMBER_ROWS),
        )

    def by_name(self) -> dict[str, StoredColumn]:
        """Return the column of each attribute."""
        values, numbers = pairwise(self.digests.offsets), pairwise(self.numbers.offsets)
        return {
            name: StoredColumn(
                digests=self.digests.values[a:b],
                starts=self.rows.offsets[a : b + 1],
                rows=self.rows.values,
                numbers=self.numbers.values[c:d],
                number_rows=self.number_rows[c:d],
            )
            for name, (a, b), (c, d) in zip(self.names, values, numbers, strict=True)
        }


def digests_of(values: Iterable[Scalar]) -> Digests:
    """Return (n,) S16: digests of values; those of two values are equal where the values are.

    >>> one, other = digests_of([1, 1.0])
    >>> one == other, len(set(digests_of([1, "1", 1.5, True])))
    (True, 3)
    """
    found = [blake2b(_key(value), digest_size=_DIGEST_BYTES).digest() for value in values]
    return np.array(found, dtype=f"S{_DIGEST_BYTES}")


def _key(value: Scalar) -> bytes:
    """Return bytes that only equal values share."""
    if isinstance(value, str):
        # JSON lets half a pair of surrogates through, which no item has, and which is no error.
        return b"s" + value.encode("utf-8", "surrogatepass")
    if isinstance(value, float) and not value.is_integer():
        return b"f" + struct.pack("<d", value)
    return b"i" + f"{int(value):x}".encode()
