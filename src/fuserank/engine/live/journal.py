"""The journal of live items: a SQLite file that holds what was acknowledged, whatever happens.

Every change has a number, given in the order in which changes are committed, whichever process
makes them; a reader that has seen number n asks for what is above n. No clock is read. Of an item
the last change alone is kept.

The attributes are the truth. What the item graph made of them lies beside them, with the
fingerprint of what made it, so that other processes need not encode the same text again.
"""

import logging
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fuserank.engine.live.change import Change, digests_of, row_of
from fuserank.engine.live.high_water import HighWater
from fuserank.engine.live.process_lock import ProcessLock
from fuserank.errors import JournalError, JournalWriteError

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

_FILE = "journal.sqlite3"
_APPLICATION_ID = 0x46555345
_FORMAT = 1
_BUSY_S = 10.0
"""Seconds that a write waits for the writes of other processes."""
_CHUNK = 1024
"""Changes that are read at once."""

_TABLES = """
CREATE TABLE about (identity TEXT NOT NULL);
CREATE TABLE items (
    sequence INTEGER PRIMARY KEY,
    item_id TEXT NOT NULL UNIQUE,
    attributes TEXT,
    digest BLOB NOT NULL,
    fingerprint TEXT,
    states BLOB,
    states_digest BLOB
);
"""

_INSERT = (
    "INSERT OR REPLACE INTO items "
    "(sequence, item_id, attributes, digest, fingerprint, states, states_digest) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SELECT = (
    "SELECT sequence, item_id, attributes, digest, fingerprint, states, states_digest FROM items "
)

# What a write that failed may find once there is room, permission or quiet again.
_MAY_PASS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    }
)


class Journal:
    """The live items of one directory, shared by processes and threads."""

    def __init__(self, directory: Path) -> None:
        """Open the journal of a directory, or begin one.

        Raises:
            JournalError: the file is foreign or damaged, or acknowledged changes are missing.
        """
        self.directory = directory
        self._path = directory / _FILE
        self._writing, self._reading = threading.RLock(), threading.RLock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(
                f"{directory}: expected a directory for the live items, found: {error}"
            ) from error
        with ProcessLock(directory / "open.lock").held(_BUSY_S), self._translated():
            self._writer, self._reader = self._connect(), self._connect()
            try:
                self.identity = self._begin()
                self._mark = HighWater(directory / "acknowledged")
                self._mark.check(self.last, self._path)
            except BaseException:
                self.close()
                raise

    def write(self, make: Callable[[], Sequence[Change]]) -> list[int]:
        """Commit changes, all of them or none, and return their numbers.

        When it returns they are on disk.

        Args:
            make: returns the changes; called when no other process can write.

        Raises:
            JournalWriteError: there is no room, or the file cannot be written now.
            JournalError: the file is damaged.
        """
        with self._writing, self._translated(), self._transaction():
            changes = make()
            first = self._scalar(self._writer, "SELECT max(sequence) FROM items") + 1
            numbers = list(range(first, first + len(changes)))
            self._writer.executemany(_INSERT, map(row_of, changes, numbers))
        if numbers:
            self._mark.raise_to(numbers[-1])
        return numbers

    def changes(self, after: int) -> Iterator[list[Change]]:
        """Yield the changes above a number, in order, in parts; each part is read when asked for.

        Raises:
            JournalError: the file is damaged.
        """
        while True:
            query = f"{_SELECT} WHERE sequence > ? ORDER BY sequence LIMIT {_CHUNK}"
            found = [self._checked(row) for row in self._rows(query, after)]
            if found:
                yield found
                after = found[-1].sequence
            # A part that is not full was the end, whatever was committed since.
            if len(found) < _CHUNK:
                return

    def change(self, item_id: str) -> Change | None:
        """Return the last change of an item, or None where there was none."""
        for row in self._rows(f"{_SELECT} WHERE item_id = ?", item_id):
            return self._checked(row)
        return None

    def deleted(self, up_to: int) -> list[str]:
        """Return the ids of the items whose last change, up to a number, deleted them."""
        query = f"{_SELECT} WHERE attributes IS NULL AND sequence <= ?"
        return [self._checked(row).item_id for row in self._rows(query, up_to)]

    def last(self) -> int:
        """Return the number of the last change; 0 where there was none."""
        with self._reading, self._translated():
            return self._scalar(self._reader, "SELECT max(sequence) FROM items")

    def version(self) -> int:
        """Return a number that changes whenever something was committed; costs microseconds."""
        with self._reading, self._translated():
            return self._scalar(self._reader, "PRAGMA data_version")

    def close(self) -> None:
        """Close the file."""
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )

    def _begin(self) -> str:
        """Make the tables of a new file, check those of an old one; return who it is."""
        writer = self._writer
        found = self._scalar(writer, "PRAGMA application_id")
        if found not in (0, _APPLICATION_ID) or (
            found == 0 and self._scalar(writer, "SELECT count(*) FROM sqlite_master")
        ):
            raise JournalError(
                f"{self._path}: expected a journal of live items, found another SQLite database"
            )
        if (mode := self._text(writer, "PRAGMA journal_mode = WAL")) != "wal":
            raise JournalError(
                f"{self._path}: found journal mode {mode!r}, expected 'wal'; put the live items "
                "on a local file system"
            )
        for connection in (writer, self._reader):
            connection.execute("PRAGMA synchronous = FULL")
        if found == 0:
            with self._transaction():
                for statement in _TABLES.split(";"):
                    writer.execute(statement)
                writer.execute("INSERT INTO about VALUES (?)", (uuid.uuid4().hex,))
                writer.execute(f"PRAGMA user_version = {_FORMAT}")
                writer.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        if (version := self._scalar(writer, "PRAGMA user_version")) != _FORMAT:
            raise JournalError(
                f"{self._path}: found journal format {version}, expected {_FORMAT}; use the "
                "release that wrote it"
            )
        if (whole := self._text(writer, "PRAGMA quick_check(1)")) != "ok":
            raise self._damaged(whole)
        return self._text(writer, "SELECT identity FROM about")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # after some failures SQLite has rolled back itself
                self._writer.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise JournalWriteError(f"{self._path}: {error}; the engine was closed") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _MAY_PASS:
                raise JournalWriteError(
                    f"{self._path}: {error} ({error.sqlite_errorname}); nothing of it was taken: "
                    "make room, or see that the file can be written, and send it again"
                ) from error
            raise self._damaged(str(error)) from error

    def _damaged(self, found: str) -> JournalError:
        return JournalError(
            f"{self._path}: damaged: {found}; restore the directory from a backup, or move it "
            "away and send the items again"
        )

    def _rows(self, query: str, value: object) -> list[tuple[object, ...]]:
        with self._reading, self._translated():
            return self._reader.execute(query, (value,)).fetchall()

    def _checked(self, row: tuple[object, ...]) -> Change:
        """Return the change of a row; states that were damaged are left out."""
        sequence, item_id, attributes, digest, fingerprint, states, states_digest = row
        try:
            change = Change(
                item_id=item_id,  # type: ignore[arg-type]
                attributes=attributes,  # type: ignore[arg-type]
                fingerprint=fingerprint,  # type: ignore[arg-type]
                states=states,  # type: ignore[arg-type]
                sequence=sequence,  # type: ignore[arg-type]
            )
            whole, whole_states = digests_of(change)
        except (AttributeError, TypeError):  # a value of another type
            whole, whole_states = b"", b""
        if whole != digest:
            raise self._damaged(f"change {sequence} is not what was written")
        if states is not None and whole_states != states_digest:
            logger.warning("%s: the states of change %s are damaged", self._path, sequence)
            return Change(
                item_id=change.item_id, attributes=change.attributes, sequence=change.sequence
            )
        return change

    @staticmethod
    def _scalar(connection: sqlite3.Connection, query: str) -> int:
        value = connection.execute(query).fetchone()[0]
        return 0 if value is None else int(value)

    @staticmethod
    def _text(connection: sqlite3.Connection, query: str) -> str:
        return str(connection.execute(query).fetchone()[0])
