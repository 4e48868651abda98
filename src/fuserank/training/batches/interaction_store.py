"""Interactions larger than memory: a Parquet file brought in order once, then mapped.

A store is a directory of plain little-endian arrays, sorted by user and within a user by time,
with what sampling looks up beside them: 45 bytes an interaction (37 without times). They are
mapped, so that the operating system keeps in memory what is read often and drops what is not.

What training holds in memory besides: 4 bytes for each positive (the order of an epoch; 8 from
2³¹ on), 32 bytes for each user and 8 for each item (where a user's events start, how often an item
is liked), and the tensors of all users and items. Bringing a file in order takes three passes over
it or over a copy of 20 bytes a row, and memory for some 2²⁰ interactions or those of one user,
whichever is more, some 32 bytes for each user, and the ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fuserank.bundle.atomic import write_directory
from fuserank.errors import DataError
from fuserank.training.batches.event_index import EventIndex
from fuserank.training.batches.negatives import Unseen
from fuserank.training.data.cleaning import latest
from fuserank.training.data.dataset import Interactions
from fuserank.training.data.dataset_config import InteractionsConfig
from fuserank.training.data.histories import Histories
from fuserank.training.data.splits import Parts, SplitConfig, split
from fuserank.training.data.table_file import TableFile

__all__ = ["StoredInteractions", "divide_stored", "open_store", "store_interactions"]

logger = logging.getLogger(__name__)

_ROWS = 1 << 20
"""Interactions in memory at once."""
_RECORD = np.dtype([("user", "<i4"), ("item", "<i4"), ("rating", "<f4"), ("time", "<i8")])
_META = "store.json"
_ARRAYS = {
    "user": "<i4",
    "item": "<i4",
    "rating": "<f4",
    "timestamp": "<i8",
    "positive": "?",
    "likes": "<i8",
    "dislikes": "<i8",
    "pairs": "<i8",
    "gaps": "<i8",
    "likes_start": "<i8",
    "dislikes_start": "<i8",
    "pairs_start": "<i8",
    "like_counts": "<i8",
}
"""Files of a store and their dtypes: a file holds one array of one axis and nothing else."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredInteractions(Interactions):
    """Interactions of a store: mapped arrays, sorted by user and within a user by time.

    Attributes:
        index: what sampling looks up, mapped as well.
        n_users: users in all.
        n_items: items in all.
    """

    index: EventIndex
    n_users: int
    n_items: int


def store_interactions(
    options: InteractionsConfig, users: Sequence[str], items: Sequence[str], out: Path
) -> StoredInteractions:
    """Bring a Parquet file of interactions in order, keeping the latest of a repeated pair.

    Args:
        options: the file and the meaning of its columns.
        users: the ids of all users; the place of an id is the user's row.
        items: the ids of all items, likewise.
        out: the directory to write, which appears when it is complete.

    Raises:
        DataError: the file is missing or foreign, a column is missing or of a wrong type, a row is
            wrong or names an id that is not there, or no interaction is positive.
    """
    batches = _File(options, users, items)
    counts = np.zeros(len(users), dtype=np.int64)
    for user in batches.users():
        counts += np.bincount(user, minlength=len(users))
    buckets = _Buckets(counts)
    with write_directory(out) as partial:
        spill = partial / "spill"
        buckets.fill(spill, batches.records())
        timed = options.timestamp is not None
        writer = _Writer(partial, n_users=len(users), n_items=len(items), timed=timed)
        dropped = 0
        for records in buckets.read(spill):
            lot = _interactions(records, options)
            kept = latest(lot, len(items))
            dropped += len(kept) - int(np.count_nonzero(kept))
            writer.append(lot.select(kept))
        spill.unlink()
        if not writer.n_likes:
            raise DataError(
                f"{options.path}: found no positive interaction; lower positive_at, which is "
                f"{options.positive_at}"
            )
        writer.finish()
    if dropped:
        logger.info("%s: dropped %d repeated interactions", options.path, dropped)
    return open_store(out)


def divide_stored(
    interactions: StoredInteractions, config: SplitConfig, seed: int, out: Path
) -> Parts:
    """Divide interactions into stores ``train``, ``validation`` and ``test`` below a directory.

    Some 2²⁰ interactions of neighbouring users are divided at a time, each lot by the shares that
    are asked for; the same seed divides the same store alike.

    Raises:
        DataError: the strategy is ``time``, which would have to look at all of them at once.
    """
    if config.strategy == "time":
        raise DataError(
            "split: found strategy 'time', expected 'per_user' or 'random' for interactions in a "
            "store; divide the file by time before it is stored"
        )
    parts: dict[str, Interactions] = {}
    for name in ("train", "validation", "test"):
        with write_directory(out / name) as partial:
            writer = _Writer(
                partial,
                n_users=interactions.n_users,
                n_items=interactions.n_items,
                timed=interactions.timestamp is not None,
            )
            for number, lot in enumerate(_lots(interactions)):
                # Users are counted from the lot's first, so that no array is as long as all users.
                near = replace(lot, user=lot.user - lot.user[0])
                own = int(np.random.default_rng([seed, number]).integers(1 << 31))
                writer.append(lot.select(getattr(split(near, config, own), name)))
            writer.finish()
        parts[name] = open_store(out / name)
    return Parts(**parts)


def open_store(directory: Path) -> StoredInteractions:
    """Map what `store_interactions` wrote.

    Raises:
        DataError: there is no such store, or a file of it is missing or of another length.
    """
    try:
        meta = msgspec.json.decode((directory / _META).read_bytes(), type=_Meta)
        arrays = {name: _map(directory / name, _ARRAYS[name], n) for name, n in meta.sizes.items()}
        return StoredInteractions(
            user=arrays["user"],
            item=arrays["item"],
            rating=arrays["rating"],
            timestamp=arrays.get("timestamp"),
            positive=arrays["positive"],
            index=EventIndex(
                likes=Histories(start=np.array(arrays["likes_start"]), items=arrays["likes"]),
                dislikes=Histories(
                    start=np.array(arrays["dislikes_start"]), items=arrays["dislikes"]
                ),
                unseen=Unseen.of_sorted(
                    arrays["pairs"],
                    arrays["gaps"],
                    np.array(arrays["pairs_start"]),
                    meta.n_items,
                ),
                like_counts=np.array(arrays["like_counts"]),
            ),
            n_users=meta.n_users,
            n_items=meta.n_items,
        )
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{directory}: expected a store of interactions, found: {error!r}; store them again"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Meta:
    """What the arrays of a store do not say."""

    n_users: int
    n_items: int
    sizes: dict[str, int]


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
        self, options: InteractionsConfig, users: Sequence[str], items: Sequence[str]
    ) -> None:
        self._options = options
        self._users = pa.array(users, pa.string())
        self._items = pa.array(items, pa.string())

    def users(self) -> Iterator[npt.NDArray[np.int32]]:
        """Yield the user rows of every batch."""
        for batch in self._batches([self._options.user]):
            yield self._rows(batch, self._options.user, self._users)

    def records(self) -> Iterator[npt.NDArray[Any]]:
        """Yield every batch as records."""
        options = self._options
        columns = [options.user, options.item, options.rating, options.timestamp]
        for batch in self._batches([name for name in columns if name is not None]):
            records = np.zeros(len(batch), dtype=_RECORD)
            records["user"] = self._rows(batch, options.user, self._users)
            records["item"] = self._rows(batch, options.item, self._items)
            records["rating"] = 1
            if options.rating is not None:
                records["rating"] = batch.ratings(options.rating).to_numpy()
            if options.timestamp is not None:
                records["time"] = batch.timestamps(options.timestamp).to_numpy()
            yield records

    def _batches(self, columns: list[str]) -> Iterator[_Batch]:
        path = self._options.path
        try:
            with pq.ParquetFile(path) as file:
                found = file.schema_arrow.names
                if missing := [name for name in columns if name not in found]:
                    raise DataError(
                        f"{path}: found no column {missing[0]!r}; its columns are "
                        f"{', '.join(found)}"
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

    def _rows(self, batch: _Batch, column: str, known: pa.Array) -> npt.NDArray[np.int32]:
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


class _Writer:
    """Appends interactions to the arrays of a store."""

    def __init__(self, directory: Path, *, n_users: int, n_items: int, timed: bool) -> None:
        self._directory = directory
        self._n_users, self._n_items = n_users, n_items
        self._sizes = {name: 0 for name in _ARRAYS if timed or name != "timestamp"}
        for name in self._sizes:
            (directory / name).touch()
        self._counts = {
            name: np.zeros(n_users, dtype=np.int64) for name in ("likes", "dislikes", "pairs")
        }
        self._like_counts = np.zeros(n_items, dtype=np.int64)

    @property
    def n_likes(self) -> int:
        """Positive interactions until now."""
        return self._sizes["likes"]

    def append(self, lot: Interactions) -> None:
        """Add interactions sorted by user and time, none of a user that came before."""
        if not len(lot):
            return
        pairs = np.sort(lot.user.astype(np.int64) * self._n_items + lot.item)
        owner = pairs // self._n_items
        columns = {
            "user": lot.user,
            "item": lot.item,
            "rating": lot.rating,
            "positive": lot.positive,
            "likes": lot.item[lot.positive],
            "dislikes": lot.item[~lot.positive],
            "pairs": pairs,
            "gaps": pairs - (np.arange(len(pairs)) - np.searchsorted(owner, owner)),
        }
        if lot.timestamp is not None:
            columns["timestamp"] = lot.timestamp
        for name, array in columns.items():
            self._extend(name, array)
        for name, user in (
            ("likes", lot.user[lot.positive]),
            ("dislikes", lot.user[~lot.positive]),
            ("pairs", lot.user),
        ):
            distinct, count = np.unique(user, return_counts=True)
            self._counts[name][distinct] += count
        self._like_counts += np.bincount(lot.item[lot.positive], minlength=self._n_items)

    def finish(self) -> None:
        """Write what is known when all interactions are."""
        for name, counts in self._counts.items():
            self._extend(f"{name}_start", np.concatenate([[0], np.cumsum(counts)]))
        self._extend("like_counts", self._like_counts)
        meta = _Meta(n_users=self._n_users, n_items=self._n_items, sizes=self._sizes)
        (self._directory / _META).write_bytes(msgspec.json.encode(meta))

    def _extend(self, name: str, array: npt.NDArray[Any]) -> None:
        with (self._directory / name).open("ab") as file:
            array.astype(_ARRAYS[name]).tofile(file)
        self._sizes[name] += len(array)


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


def _lots(interactions: StoredInteractions) -> Iterator[Interactions]:
    """Yield the interactions of some users after the others, copied into memory."""
    first = 0
    while first < len(interactions):
        last = interactions.user[min(first + _ROWS, len(interactions)) - 1]
        end = int(np.searchsorted(interactions.user, last, side="right"))
        yield interactions.select(np.arange(first, end))
        first = end


def _map(path: Path, dtype: str, size: int) -> npt.NDArray[Any]:
    if path.stat().st_size != size * np.dtype(dtype).itemsize:
        raise OSError(f"{path.name} of {path.stat().st_size} bytes where {size} entries belong")
    if not size:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=(size,))
