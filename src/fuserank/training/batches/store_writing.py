"""Bringing a Parquet file of interactions in order, as a store of them.

That takes three passes over the file or over a copy of 20 bytes a row, and memory for some 2²⁰
interactions or those of one user, whichever is more, some 32 bytes for each user, and the ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fuserank.bundle.atomic import write_directory
from fuserank.errors import DataError
from fuserank.training.batches.interaction_store import (
    StoredInteractions,
    StoreWriter,
    open_store,
)
from fuserank.training.data.cleaning import CleaningReport, clean
from fuserank.training.data.dataset_config import CleaningConfig, InteractionsConfig
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.table_file import TableFile

__all__ = ["store_interactions", "stored_users"]

logger = logging.getLogger(__name__)

_ROWS = 1 << 20
"""Interactions in memory at once."""
_RECORD = np.dtype([("user", "<i4"), ("item", "<i4"), ("rating", "<f4"), ("time", "<i8")])


def store_interactions(
    options: InteractionsConfig,
    users: Sequence[str],
    items: Sequence[str],
    out: Path,
    *,
    cleaning: CleaningConfig | None = None,
    origin: Mapping[str, str] | None = None,
) -> StoredInteractions:
    """Bring a Parquet file of interactions in order and clean them.

    Args:
        options: the file and the meaning of its columns.
        users: the ids of all users; the place of an id is the user's row.
        items: the ids of all items, likewise.
        out: the directory to write, which appears when it is complete.
        cleaning: what is left out beside the earlier ones of a repeated pair.
        origin: what the store is made of, by name, to be written beside it.

    Raises:
        DataError: the file is missing or foreign, a column is missing or of a wrong type, a row is
            wrong or names an id that is not there, no interaction is positive, or cleaning asks
            for what takes all interactions at once.
    """
    cleaning = cleaning or CleaningConfig()
    _check_streams(cleaning)
    file = _File(options, users, items, negative_times=cleaning.drop_negative_times)
    counts = np.zeros(len(users), dtype=np.int64)
    for user in file.users():
        counts += np.bincount(user, minlength=len(users))
    buckets = _Buckets(counts)
    with write_directory(out) as partial:
        spill = partial / "spill"
        buckets.fill(spill, file.records())
        timed = options.timestamp is not None
        writer = StoreWriter(partial, n_users=len(users), n_items=len(items), timed=timed)
        report = CleaningReport()
        for records in buckets.read(spill):
            # All that is known of a user is in one lot, so that cleaning it is cleaning the whole.
            kept, steps = clean(
                _interactions(records, options), cleaning, n_users=len(users), n_items=len(items)
            )
            report += steps
            writer.append(kept)
        spill.unlink()
        if not writer.n_likes:
            raise _nothing_liked(options, report)
        writer.finish(origin or {}, report)
    for step in report.steps:
        if step.affected:
            logger.info("%s: dropped %d of %d: %s", out, step.affected, step.total, step.name)
    return open_store(out)


def stored_users(options: InteractionsConfig) -> list[str]:
    """Return the ids of the users that a Parquet file names, in the order they first occur.

    Raises:
        DataError: the file is missing or foreign, or an id is missing.
    """
    known: dict[str, None] = {}
    for batch in _batches(options, [options.user]):
        known.update(dict.fromkeys(batch.ids(options.user).unique().to_pylist()))
    return list(known)


@dataclass(frozen=True, eq=False)
class _Batch(TableFile):
    """Some rows of a file, which know where in the file they stand."""

    first_row: int

    def place(self, row: int) -> str:
        """Where a row of the batch stands in the file."""
        return f"row {self.first_row + row + 1}"


class _File:
    """A Parquet file of interactions, read batch by batch."""

    def __init__(
        self,
        options: InteractionsConfig,
        users: Sequence[str],
        items: Sequence[str],
        *,
        negative_times: bool,
    ) -> None:
        self._options = options
        self._users = pa.array(users, pa.string())
        self._items = pa.array(items, pa.string())
        self._negative_times = negative_times

    def users(self) -> Iterator[npt.NDArray[np.int32]]:
        """Yield the user rows of every batch."""
        for batch in _batches(self._options, [self._options.user]):
            yield _rows(batch, self._options.user, self._users)

    def records(self) -> Iterator[npt.NDArray[Any]]:
        """Yield every batch as records."""
        options = self._options
        columns = [options.user, options.item, options.rating, options.timestamp]
        for batch in _batches(options, [name for name in columns if name is not None]):
            records = np.zeros(len(batch), dtype=_RECORD)
            records["user"] = _rows(batch, options.user, self._users)
            records["item"] = _rows(batch, options.item, self._items)
            records["rating"] = 1
            if options.rating is not None:
                records["rating"] = batch.ratings(options.rating).to_numpy()
            if options.timestamp is not None:
                times = batch.timestamps(options.timestamp, allow_negative=self._negative_times)
                records["time"] = times.to_numpy()
            yield records


def _batches(options: InteractionsConfig, columns: list[str]) -> Iterator[_Batch]:
    path = options.path
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            if missing := [name for name in columns if name not in found]:
                raise DataError(
                    f"{path}: found no column {missing[0]!r}; its columns are {', '.join(found)}"
                )
            row = 0
            for batch in file.iter_batches(_ROWS, columns=columns):
                yield _Batch(path, ",", pa.Table.from_batches([batch]), row)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: expected a Parquet file, found: {str(error).splitlines()[0]}; only such "
            "a file can be stored"
        ) from error


def _rows(batch: _Batch, column: str, known: pa.Array) -> npt.NDArray[np.int32]:
    ids = batch.ids(column)
    rows = pc.index_in(ids, value_set=known)
    if rows.null_count:
        row = pc.index(pc.is_null(rows), True).as_py()
        raise batch.error(row, column, repr(ids[row].as_py()), "an id of the table")
    found: npt.NDArray[np.int32] = rows.to_numpy()
    return found


class _Buckets:
    """Records divided by user into lots that are sorted in memory, in a file on disk."""

    def __init__(self, counts: npt.NDArray[np.int64]) -> None:
        """Take (n_users,) how many records each user has."""
        start = np.cumsum(counts) - counts
        self._of_user = start // _ROWS
        self._sizes = np.zeros(int(self._of_user[-1]) + 1 if len(counts) else 0, dtype=np.int64)
        np.add.at(self._sizes, self._of_user, counts)

    def fill(self, spill: Path, batches: Iterator[npt.NDArray[Any]]) -> None:
        """Write each record into its bucket's part of a file, in the order they come."""
        position = np.cumsum(self._sizes) - self._sizes
        with spill.open("wb") as file:
            for records in batches:
                bucket = self._of_user[records["user"]]
                order = np.argsort(bucket, kind="stable")
                numbers, first = np.unique(bucket[order], return_index=True)
                for number, lot in zip(numbers, np.split(records[order], first[1:]), strict=True):
                    file.seek(int(position[number]) * _RECORD.itemsize)
                    file.write(lot.tobytes())
                    position[number] += len(lot)

    def read(self, spill: Path) -> Iterator[npt.NDArray[Any]]:
        """Yield the records of every bucket, sorted by user and time."""
        with spill.open("rb") as file:
            for size in self._sizes[self._sizes > 0]:
                records = np.fromfile(file, dtype=_RECORD, count=size)
                yield records[np.lexsort((records["time"], records["user"]))]


def _interactions(records: npt.NDArray[Any], options: InteractionsConfig) -> Interactions:
    positive = np.ones(len(records), dtype=np.bool_)
    if options.rating is not None:
        positive = records["rating"] >= np.float32(options.positive_at or 0)
    return Interactions(
        user=records["user"],
        item=records["item"],
        rating=records["rating"],
        timestamp=None if options.timestamp is None else records["time"],
        positive=positive,
    )


def _check_streams(cleaning: CleaningConfig) -> None:
    if cleaning.min_item_interactions > 1:
        raise DataError(
            f"[cleaning]: found min_item_interactions = {cleaning.min_item_interactions}, which "
            "takes all interactions at once, expected none where they stay on disk; remove it and "
            "leave such items out of the file, or train without a store"
        )


def _nothing_liked(options: InteractionsConfig, report: CleaningReport) -> DataError:
    return DataError(
        f"{options.path}: found no positive interaction; lower positive_at, which is "
        f"{options.positive_at}, or loosen what drops most:\n{report}"
    )
