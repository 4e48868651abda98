"""The columns of a catalogue's attributes, by which predicates find items without reading them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import BundleWriter, Ragged, Strings, layout
from fuserank.engine.attribute_columns import Entries, ReadColumn
from fuserank.engine.stored_columns import StoredColumn, StoredColumns, digests_of

__all__ = ["build_columns", "write_columns"]


def build_columns(items: Iterable[Mapping[str, Any]]) -> StoredColumns:
    """Return the columns of all attributes, by name.

    Args:
        items: the attributes of every item, in catalogue order.
    """
    found: defaultdict[str, Entries] = defaultdict(Entries)
    for row, attributes in enumerate(items):
        for name, value in attributes.items():
            found[name].add(row, value)
    names = sorted(found)
    # What was found is let go of as it is sorted: it takes several times the room.
    columns = [_stored(ReadColumn.of(found.pop(name))) for name in names]
    counts = [np.diff(column.starts) for column in columns]
    rows = _joined([column.rows for column in columns], np.int32)
    return StoredColumns(
        names=Strings.build(names),
        digests=Ragged.build([column.digests for column in columns], "S16"),
        rows=Ragged(rows, np.append(0, np.cumsum(_joined(counts, np.int64)))),
        numbers=Ragged.build([column.numbers for column in columns], np.float64),
        number_rows=_joined([column.number_rows for column in columns], np.int32),
    )


def write_columns(writer: BundleWriter, columns: StoredColumns) -> None:
    """Add columns to a bundle."""
    writer.add_strings(layout.column("names"), columns.names)
    writer.add_ragged(layout.column("digests"), columns.digests)
    writer.add_ragged(layout.column("rows"), columns.rows)
    writer.add_ragged(layout.column("numbers"), columns.numbers)
    writer.add_array(layout.NUMBER_ROWS, columns.number_rows)


def _stored(column: ReadColumn) -> StoredColumn:
    """Put the values of a column in the order of their digests."""
    digests, counts = digests_of(column.codes), np.diff(column.starts)
    order = np.argsort(digests)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    by_place = np.argsort(np.repeat(places, counts), kind="stable")
    return StoredColumn(
        digests=digests[order],
        starts=np.append(0, np.cumsum(counts[order])),
        rows=column.rows[by_place],
        numbers=column.numbers,
        number_rows=column.number_rows,
    )


def _joined(arrays: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays])
