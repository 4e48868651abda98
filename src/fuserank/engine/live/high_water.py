"""The number of the last change that was acknowledged, kept beside the journal.

SQLite drops what stands behind the first damaged record of its write-ahead log without a word: to
it that is a write that never ended. This number tells the loss of what was acknowledged from it.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from fuserank.errors import JournalError

__all__ = ["HighWater"]

logger = logging.getLogger(__name__)

_WIDTH = 20


class HighWater:
    """A number in a file of its own, which is written after the journal, and never flushed.

    So it may lag behind the journal where power fails, but never runs ahead of it.
    """

    def __init__(self, path: Path) -> None:
        """Take the file, which is made where it is missing."""
        self._path = path

    def check(self, last_of: Callable[[], int], journal: Path) -> None:
        """Compare with the last change that the journal holds.

        Args:
            last_of: reads its number; called after this number was read, so that changes that
                other processes make in between are not missed.
            journal: its file.

        Raises:
            JournalError: the journal lacks what was acknowledged, or the file holds no number.
        """
        try:
            text = self._path.read_bytes()
        except OSError:
            return
        if text and not text.strip().isdigit():
            raise JournalError(
                f"{self._path}: damaged: expected the number of the last change; remove the file "
                f"if {journal} is whole"
            )
        marked = int(text or b"0")
        if marked > (last := last_of()):
            raise JournalError(
                f"{journal}: damaged: found changes up to {last}, expected {marked}, the last one "
                "that was acknowledged; restore the directory with all of its files from a "
                f"backup, or remove {self._path.name} to go on without what is missing"
            )

    def raise_to(self, number: int) -> None:
        """Write the number of a change that is on disk."""
        try:
            # Of one width, so that it is overwritten in place, for which there is always room.
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.write(handle, b"%0*d" % (_WIDTH, number))
            finally:
                os.close(handle)
        except OSError:  # the change itself is safe
            logger.warning("%s: cannot be written", self._path, exc_info=True)
