"""Files that are read again once they have changed."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["WatchedFiles"]

# Within this time of a change another one may leave size and time stamps as they are.
_SETTLED_S = 2.0

_Stamp = tuple[int, int, int, int]


class WatchedFiles:
    """Says whether the contents of files changed; while they rest it costs one `stat` a file.

    Not safe under concurrent callers.

    Attributes:
        contents: of each file as it was read last; None for one that cannot be read.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        """Read the files for the first time."""
        self._paths = tuple(paths)
        self._read()

    def changed(self) -> bool:
        """Return whether the contents are others than when this was asked last."""
        if self._settled and self._stamps == self._stamp_all():
            return False
        before = self.contents
        self._read()
        return self.contents != before

    def _read(self) -> None:
        # The stamps first: a change that comes in between is then seen the next time.
        self._stamps = self._stamp_all()
        self.contents = tuple(map(_content, self._paths))
        # A clock that is set back makes stamps of the future, which are no older than that.
        newest_s = max((max(stamp[:2]) / 1e9 for stamp in self._stamps if stamp), default=0.0)
        self._settled = newest_s < time.time() - _SETTLED_S

    def _stamp_all(self) -> tuple[_Stamp | None, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> _Stamp | None:
    """Return what differs once a file was written or replaced; None for one that is not there."""
    try:
        found = os.stat(path)  # in a third of the time of Path.stat
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
