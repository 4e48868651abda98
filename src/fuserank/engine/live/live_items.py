"""The live items of an engine: what is journalled, folded and new, and the snapshots of it."""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fuserank.engine.catalogue import check_list
from fuserank.engine.live.change import Change
from fuserank.engine.live.journal import Journal
from fuserank.engine.live.process_lock import ProcessLock
from fuserank.engine.live.replay import Replay
from fuserank.engine.live.segment_store import Folded, SegmentStore, number_of
from fuserank.engine.live.snapshot import Snapshot
from fuserank.errors import FuserankError, RequestError

__all__ = ["LiveItems"]

logger = logging.getLogger(__name__)

_POLL_S = 0.25
"""Between two looks at what other processes have committed."""
_FOLD_AT = 10_000
"""Changes over which a scan is slower by little, and which are then folded."""
_FOLD_SHARE = 10
"""Or one in so many of the items that are folded, so that folding is written off over time."""


class LiveItems:
    """Items over those of a bundle, as the journal of a directory has them.

    Changes are committed by the calling thread, and seen by all threads when the call returns; what
    other processes commit is seen a moment later. Safe under concurrent callers.
    """

    def __init__(
        self,
        directory: Path,
        replay: Replay,
        show: Callable[[Snapshot], None],
        *,
        fold_at: int = _FOLD_AT,
    ) -> None:
        """Open the directory and read what it holds.

        Args:
            directory: of the journal and its segments; made where it is missing.
            replay: makes snapshots of what it holds.
            show: is given each snapshot that takes the place of the last.
            fold_at: changes, at least, that are folded.

        Raises:
            JournalError: the journal is damaged or foreign.
        """
        self._replay, self._show, self._fold_at = replay, show, fold_at
        self._applying, self._folding = threading.RLock(), threading.Lock()
        self._rebuilding = threading.Lock()
        self._stopped = threading.Event()
        self._journal = Journal(directory)
        self._segments = SegmentStore(
            directory / "segments", self._journal.identity, replay.fingerprint
        )
        self._fold_lock = ProcessLock(directory / "fold.lock")
        self._seen_version = self._journal.version()
        last = self._journal.last()
        self._segments.remove_above(last)
        folded = None
        while folded is None and (path := self._segments.newest(last)) is not None:
            folded = self._segments.read(path)
        self._rebuild(folded)
        self._threads_of_mine = [
            threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True)
            for name, work in (("live-poll", self._follow), ("live-fold", self._tidy))
        ]
        for thread in self._threads_of_mine:
            thread.start()

    def upsert(self, items: Mapping[str, Mapping[str, object]]) -> int:
        """Add items, or replace those that there are; they are on disk when it returns.

        Returns:
            How many there were.

        Raises:
            RequestError: an id, attribute or value that cannot be taken; none of the items was.
            JournalWriteError: there is no room, or the directory cannot be written to; the same.
        """
        if not isinstance(items, Mapping):
            raise RequestError(
                f"items: found {type(items).__name__}, expected a mapping of item ids to "
                "attributes",
                field="items",
            )
        if not items:
            return 0
        changes = self._replay.changes(items)
        self._journal.write(lambda: changes)
        self.refresh()
        return len(changes)

    def delete(self, item_ids: Collection[str]) -> int:
        """Take items out of the catalogue, of this bundle and of those to come.

        Returns:
            How many of them the catalogue held.

        Raises:
            RequestError: not a list of ids.
            JournalWriteError: there is no room, or the directory cannot be written to.
        """
        check_list(item_ids, "item_ids")
        wanted = [item_id for item_id in dict.fromkeys(item_ids) if isinstance(item_id, str)]
        held = 0

        def make() -> list[Change]:
            nonlocal held
            snapshot = self.refresh()
            held = sum(snapshot.row(item_id) is not None for item_id in wanted)
            return [
                Change(item_id=item_id, attributes=None)
                for item_id in wanted
                if snapshot.row(item_id) is not None or not self._is_deleted(item_id)
            ]

        if wanted:
            self._journal.write(make)
            self.refresh()
        return held

    def refresh(self) -> Snapshot:
        """Take in what was committed, and return the snapshot that holds it."""
        with self._applying:
            before = self._snapshot
            changes = self._journal.changes(before.sequence)
            snapshot = self._replay.replayed(before, self._delta, changes)
            if snapshot is not before:
                self._publish(snapshot)
            return snapshot

    def fold(self) -> bool:
        """Write all live items into one segment, which other processes take over.

        Requests go on, and so do changes.

        Returns:
            Whether it was done: not where another thread or process is at it.

        Raises:
            OSError: there is no room.
        """
        if not self._folding.acquire(blocking=False):
            return False
        try:
            with self._fold_lock.tried() as mine:
                if not mine or self._stopped.is_set():
                    return False
                snapshot = self.refresh()
                if snapshot.sequence > self._folded_up_to:
                    path = self._segments.write(snapshot.sequence, self._replay.content(snapshot))
                    self._take_over(path)
                    self._segments.clean(path)
                return True
        finally:
            self._folding.release()

    def close(self) -> None:
        """Wait for what runs, and close the journal."""
        self._stopped.set()
        for thread in self._threads_of_mine:
            thread.join()
        with self._folding, self._applying:
            self._journal.close()

    def _is_deleted(self, item_id: str) -> bool:
        last = self._journal.change(item_id)
        return last is not None and last.attributes is None

    def _rebuild(self, folded: Folded | None) -> None:
        """Begin anew from a segment on disk and what the journal holds above it."""
        with self._rebuilding:
            deleted = [] if folded is None else self._journal.deleted(folded.up_to)
            start, delta = self._replay.start(folded, deleted), self._replay.delta()
            with self._applying:
                changes = self._journal.changes(start.sequence)
                snapshot = self._replay.replayed(start, delta, changes)
                self._delta, self._folded_up_to = delta, start.sequence
                self._publish(snapshot)

    def _take_over(self, path: Path) -> None:
        folded = self._segments.read(path)
        if folded is not None:
            self._rebuild(folded)

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._show(snapshot)

    def _repeat(self, work: Callable[[], None]) -> None:
        failed = ""
        while not self._stopped.wait(_POLL_S):
            try:
                work()
                failed = ""
            except (OSError, FuserankError) as error:
                if str(error) != failed:
                    logger.error("live items: %s", error)
                failed = str(error)

    def _follow(self) -> None:
        """Take in what other processes have committed."""
        version = self._journal.version()
        if version != self._seen_version:
            self.refresh()
            self._seen_version = version

    def _tidy(self) -> None:
        """Take over what another process has folded, and fold what has become much."""
        snapshot = self._snapshot
        newest = self._segments.newest(snapshot.sequence)
        if newest is not None and number_of(newest) > self._folded_up_to:
            self._take_over(newest)
            return
        # Rows of one item that is replaced again and again count too, and so do deletions.
        n_changed = max(len(self._delta), snapshot.row_of.n_changed)
        if n_changed < max(self._fold_at, self._replay.n_live(snapshot) // _FOLD_SHARE):
            return
        try:
            self.fold()
        except OSError:
            self._fold_at *= 2  # not again at once
            raise
