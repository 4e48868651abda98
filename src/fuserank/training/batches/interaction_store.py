"""Interactions larger than memory: plain arrays on disk, mapped.

A store is a directory of little-endian arrays, sorted by user and within a user by time, with what
sampling looks up beside them: 45 bytes an interaction (37 without times). They are mapped, so that
the operating system keeps in memory what is read often and drops what is not.

What training holds in memory besides: 4 bytes for each positive (the order of an epoch; 8 from
2³¹ on), 32 bytes for each user and 8 for each item (where a user's events start, how often an item
is liked), and the tensors of all users and items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError
from fuserank.training.batches.event_index import EventIndex
from fuserank.training.batches.negatives import Unseen
from fuserank.training.data.cleaning import CleaningReport
from fuserank.training.data.histories import Histories
from fuserank.training.data.interactions import Interactions

__all__ = ["StoreWriter", "StoredInteractions", "is_store", "open_store"]

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

    Pickled it is a path: another process maps the same files.

    Attributes:
        directory: the store.
        index: what sampling looks up, mapped as well.
        n_users: users in all.
        n_items: items in all.
        origin: what it was made of, by name.
        cleaning: what was left out.
    """

    directory: Path
    index: EventIndex
    n_users: int
    n_items: int
    origin: Mapping[str, str]
    cleaning: CleaningReport

    def __reduce__(self) -> tuple[Callable[[Path], StoredInteractions], tuple[Path]]:
        """Open the store anew, rather than copy what is mapped."""
        return open_store, (self.directory,)

    def of_users(self, users: npt.NDArray[np.integer]) -> Interactions:
        """The interactions of some users, in their order, copied."""
        chosen = np.unique(users)
        ends = np.searchsorted(self.user, [chosen, chosen + 1])
        rows = [np.arange(first, end) for first, end in ends.T.tolist()]
        return self.select(np.concatenate([np.empty(0, np.int64), *rows]))

    def by_user(self) -> StoredInteractions:
        """The same, which is in this order."""
        return self

    def histories(self, n_users: int) -> Histories:
        """What each user liked, in order, mapped."""
        assert n_users == self.n_users
        return self.index.likes

    def like_counts(self, n_items: int) -> npt.NDArray[np.int64]:
        """(n_items,) int64: positive interactions of each item."""
        assert n_items == self.n_items
        return self.index.like_counts

    def lots(self, n: int) -> Iterator[Interactions]:
        """Yield the interactions of some users after those of others, copied into memory.

        Args:
            n: how many at once, or those of one user, whichever is more.
        """
        first = 0
        while first < len(self):
            last = self.user[min(first + n, len(self)) - 1]
            end = int(np.searchsorted(self.user, last, side="right"))
            yield self.select(np.arange(first, end))
            first = end


@dataclass(frozen=True, kw_only=True)
class _Meta:
    """What the arrays of a store do not say."""

    n_users: int
    n_items: int
    sizes: dict[str, int]
    origin: dict[str, str] = field(default_factory=dict)
    cleaning: CleaningReport = field(default_factory=CleaningReport)


def is_store(directory: Path) -> bool:
    """Whether a store stands there, whole or damaged."""
    return (directory / _META).is_file()


def open_store(directory: Path) -> StoredInteractions:
    """Map the arrays of a store.

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
            directory=directory,
            index=_index(arrays, meta.n_items),
            n_users=meta.n_users,
            n_items=meta.n_items,
            origin=meta.origin,
            cleaning=meta.cleaning,
        )
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{directory}: expected a store of interactions, found: {error!r}; store them again"
        ) from error


class StoreWriter:
    """Appends interactions to the arrays of a store."""

    def __init__(self, directory: Path, *, n_users: int, n_items: int, timed: bool) -> None:
        """Begin a store in an empty directory.

        Args:
            directory: the store.
            n_users: users in all.
            n_items: items in all.
            timed: whether the interactions have times.
        """
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

    def finish(self, origin: Mapping[str, str], cleaning: CleaningReport) -> None:
        """Write what is known when all interactions are.

        Args:
            origin: what the store was made of, by name.
            cleaning: what was left out.
        """
        for name, counts in self._counts.items():
            self._extend(f"{name}_start", np.concatenate([[0], np.cumsum(counts)]))
        self._extend("like_counts", self._like_counts)
        meta = _Meta(
            n_users=self._n_users,
            n_items=self._n_items,
            sizes=self._sizes,
            origin=dict(origin),
            cleaning=cleaning,
        )
        (self._directory / _META).write_bytes(msgspec.json.encode(meta))

    def _extend(self, name: str, array: npt.NDArray[Any]) -> None:
        with (self._directory / name).open("ab") as file:
            array.astype(_ARRAYS[name]).tofile(file)
        self._sizes[name] += len(array)


def _index(arrays: Mapping[str, npt.NDArray[Any]], n_items: int) -> EventIndex:
    def histories(name: str) -> Histories:
        return Histories(start=np.array(arrays[f"{name}_start"]), items=arrays[name])

    return EventIndex(
        likes=histories("likes"),
        dislikes=histories("dislikes"),
        unseen=Unseen.of_sorted(
            arrays["pairs"], arrays["gaps"], np.array(arrays["pairs_start"]), n_items
        ),
        like_counts=np.array(arrays["like_counts"]),
    )


def _map(path: Path, dtype: str, size: int) -> npt.NDArray[Any]:
    if path.stat().st_size != size * np.dtype(dtype).itemsize:
        raise OSError(f"{path.name} of {path.stat().st_size} bytes where {size} entries belong")
    if not size:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=(size,))
