"""What the workers of one server have in common: a folder that is there as long as they are.

In it are a socket of each worker, the lineup that all of them serve, and two locks. The supervisor
makes it, for this user alone, and removes it at the end.

While the lock on changes is held, a worker either listens on its socket or will read the lineup
before it serves: so whoever holds the lock, writes the lineup and tells those who listen has told
them all.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fuserank.errors import BundleStateError, ConfigError
from fuserank.server.bundles.lineup import Lineup

__all__ = ["Entry", "RuntimeFolder", "Seating", "runtime_folder"]

_MAX_SOCKET_CHARS = 100
"""Of a path; systems take 104 to 108."""

_CHANGES_S = 30.0
_POLL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A bundle that every worker has.

    Attributes:
        version: as `BundleInfo` has it.
        path: its directory, without links: those may lead elsewhere when a worker starts again.
    """

    version: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Seating:
    """Which of several workers this one is.

    Attributes:
        folder: what `runtime_folder` yielded.
        number: from 0.
        bundle: the directory that the first worker to come loads.
    """

    folder: Path
    number: int
    bundle: Path

    @property
    def first(self) -> Path:
        """The directory of the bundle to load first: of what the others serve, if they do."""
        lineup = RuntimeFolder(self.folder).lineup()
        return self.bundle if lineup is None else Path(lineup.active.path)


@contextlib.contextmanager
def runtime_folder() -> Iterator[Path]:
    """Make the folder, and remove it afterwards.

    Raises:
        ConfigError: the folder for temporary files cannot be used.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="fuserank-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(f"TMPDIR: no folder can be made there: {error}") from error
    with made as name:
        if len(os.fsencode(name)) + len("/0000.sock") > _MAX_SOCKET_CHARS:
            raise ConfigError(
                f"TMPDIR: found {name}, expected a path so short that a socket's fits into "
                f"{_MAX_SOCKET_CHARS} bytes; set TMPDIR to a shorter one, such as /tmp"
            )
        yield Path(name)


class RuntimeFolder:
    """The folder, as a worker sees it."""

    def __init__(self, path: Path) -> None:
        """Take what `runtime_folder` yielded."""
        self._path, self._file = path, path / "lineup.json"

    def socket(self, number: int) -> Path:
        """Return where a worker listens, or will."""
        return self._path / f"{number}.sock"

    def workers(self) -> list[int]:
        """Return the numbers of the workers that have listened; some may have ended since."""
        return sorted(int(path.stem) for path in self._path.glob("*.sock"))

    def lineup(self) -> Lineup[Entry] | None:
        """Return what all serve; None until the first worker has loaded its bundle."""
        try:
            written = self._file.read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(written, type=Lineup[Entry])

    def begin(self, lineup: Lineup[Entry]) -> Lineup[Entry]:
        """Write the first lineup, unless another worker has; return what is there then."""
        with self._written(lineup) as beside, contextlib.suppress(FileExistsError):
            os.link(beside, self._file)
        found = self.lineup()
        assert found is not None
        return found

    def write(self, lineup: Lineup[Entry]) -> None:
        """Replace what all serve; a reader sees the old one or the new one."""
        with self._written(lineup) as beside:
            beside.replace(self._file)

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Hold the lock on changes; it is free again when its holder dies.

        Raises:
            BundleStateError: it is not to be had for half a minute.
        """
        until = time.monotonic() + _CHANGES_S
        with open(self._path / "changes.lock", "wb") as file:
            # No thread waits for it: they are few, and whoever holds the lock may need one.
            while not _locked(file.fileno()):
                if time.monotonic() > until:
                    raise BundleStateError("another change is under way; try again when it is done")
                await asyncio.sleep(_POLL_S)
            yield

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Hold the lock on loads, which take longer than changes.

        Raises:
            BundleStateError: another load is under way.
        """
        with open(self._path / "loads.lock", "wb") as file:
            if not _locked(file.fileno()):
                raise BundleStateError("another bundle is being loaded; try again when it is")
            yield

    @contextlib.contextmanager
    def _written(self, lineup: Lineup[Entry]) -> Iterator[Path]:
        beside = self._path / f"lineup.{os.getpid()}"
        try:
            beside.write_bytes(msgspec.json.encode(lineup))
            yield beside
        finally:
            beside.unlink(missing_ok=True)


def _locked(descriptor: int) -> bool:
    """Try to lock a file that is open, until it is closed."""
    import fcntl  # which is not there on systems that have no SO_REUSEPORT either

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
