"""A lock between processes that ends with the process that holds it, however that ends."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fuserank.errors import JournalWriteError

__all__ = ["ProcessLock"]


class ProcessLock:
    """Held by one process, and one thread of it, at a time.

    It is the lock that SQLite has on an empty database, which works wherever SQLite does.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock's file, which is made where it is missing."""
        self._path = path

    @contextlib.contextmanager
    def tried(self) -> Iterator[bool]:
        """Yield whether the lock is held until the block ends; it is not waited for."""
        try:
            with self._exclusive(0.0):
                yield True
        except _NotHeldError:
            yield False

    @contextlib.contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock until the block ends.

        Raises:
            JournalWriteError: it cannot be had within some seconds.
        """
        try:
            with self._exclusive(timeout_s):
                yield
        except _NotHeldError as error:
            raise JournalWriteError(
                f"{self._path}: cannot be locked: {error}; another process holds it, or the "
                "directory cannot be written to"
            ) from error

    @contextlib.contextmanager
    def _exclusive(self, timeout_s: float) -> Iterator[None]:
        try:
            connection = sqlite3.connect(self._path, timeout=timeout_s, isolation_level=None)
        except sqlite3.Error as error:
            raise _NotHeldError(str(error)) from error
        with contextlib.closing(connection):
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                raise _NotHeldError(str(error)) from error
            yield


class _NotHeldError(Exception):
    """Somebody else holds the lock, or nobody can."""
