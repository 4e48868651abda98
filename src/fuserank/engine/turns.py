"""Who may use the cores next: calls that someone waits for come before work in bulk."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

__all__ = ["Turns"]


class Turns:
    """Turns of urgent calls and of bulk work; thread-safe.

    An urgent call never waits. Bulk work takes a turn for each of its steps, and before one lets
    every urgent call end that was there first: those that come later do not hold it up again, so
    that it goes on under any load.
    """

    def __init__(self, n_lanes: int) -> None:
        """Allow `n_lanes` steps of bulk work at a time."""
        self._free = n_lanes
        self._urgent: set[object] = set()
        self._changed = Condition()

    @contextmanager
    def urgent(self) -> Iterator[bool]:
        """Hold bulk work back, and yield whether no other urgent call is under way."""
        call = object()
        with self._changed:
            alone = not self._urgent
            self._urgent.add(call)
        try:
            yield alone
        finally:
            with self._changed:
                self._urgent.remove(call)
                self._changed.notify_all()

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """Wait for a free lane and for the urgent calls that are under way; then have the lane."""
        with self._changed:
            ahead = self._urgent.copy()
            self._changed.wait_for(lambda: self._free > 0 and not ahead & self._urgent)
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
