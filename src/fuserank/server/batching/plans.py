"""Which way of answering a request still meets its deadline, by how long they took lately."""

import math
import time
from collections import deque
from collections.abc import Callable

from fuserank.engine.results import Plan

__all__ = ["CACHED", "Backlog", "Estimates", "LateError"]

CACHED = "cached"
"""The plan of the last answer to the same request."""

_WEIGHT = 0.2
"""Of the latest time in a moving average."""
_FRESH_S = 1.0
"""An average that is older says little: what slowed the engine down may be over."""
_KEPT = 32
"""Latest times of which the best one counts where the average is old."""
_MARGIN = 1.15
"""Calls take longer than their average half of the time."""
_REPLY_S = 0.001
"""Between the end of the engine's work and the reply on the wire."""


class LateError(TimeoutError):
    """No answer can be computed before the deadline.

    Attributes:
        wait_s: seconds of waiting for others that this is due to; 0 where the time was too short
            in any case.
    """

    def __init__(self, wait_s: float = 0.0) -> None:
        super().__init__("the deadline leaves no time to compute an answer")
        self.wait_s = wait_s


class _Series:
    """Times of one kind of work."""

    __slots__ = ("at", "average", "latest")

    def __init__(self) -> None:
        self.average, self.at = 0.0, -math.inf
        self.latest: deque[float] = deque(maxlen=_KEPT)

    def observe(self, seconds: float, now: float) -> None:
        first = not self.latest
        self.average = seconds if first else self.average + _WEIGHT * (seconds - self.average)
        self.latest.append(seconds)
        self.at = now


class Estimates:
    """Moving estimates of the engine's time, by plan, by whether there are texts, and by users.

    They are optimistic on purpose where they know little. Work that is wrongly thought feasible is
    measured and corrects them; work that is wrongly thought hopeless would never run, and nothing
    would ever correct them. Not thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        # By plan and texts, then by the number of users rounded up to a power of two.
        self._series: dict[tuple[Plan, bool], dict[int, _Series]] = {}

    def observe(self, plan: Plan, texts: bool, n_users: int, seconds: float) -> None:
        """Record the time of an engine call.

        Args:
            plan: as it was asked for: an engine that has no such plan takes the exact one's time.
            texts: whether texts were encoded.
            n_users: of the call.
            seconds: that it took.
        """
        series = self._series.setdefault((plan, texts), {})
        series.setdefault(_bucket(n_users), _Series()).observe(seconds, self._clock())

    def expected_s(self, plan: Plan, texts: bool, n_users: int) -> float:
        """Return the seconds that an engine call takes, at least; 0 where nothing is known."""
        found = self._nearest(plan, texts, n_users)
        if found is None:
            return 0.0
        bucket, series = found
        fresh = self._clock() - series.at <= _FRESH_S
        seconds = series.average if fresh else min(series.latest)
        # Nobody knows what fewer users take; a share of it they take at least.
        return seconds if bucket <= _bucket(n_users) else seconds * n_users / bucket

    def short(self, texts: bool, n_users: int, limit_s: float) -> bool:
        """Return whether an exact call was so short lately that a thread is not worth its while."""
        found = self._nearest(Plan.EXACT, texts, n_users)
        if found is None:
            return False
        bucket, series = found
        return series.average * max(1.0, n_users / bucket) <= limit_s

    def choose(self, remaining_s: float, texts: bool, n_users: int) -> Plan | None:
        """Return the best plan that computes an answer in time; None where none does.

        Args:
            remaining_s: seconds until the deadline; infinite without one.
            texts: whether texts are to be encoded.
            n_users: of the call, whoever shares it.
        """
        if remaining_s == math.inf:
            return Plan.EXACT
        for plan in (Plan.EXACT, Plan.QUANTIZED):
            if 0 < remaining_s >= _MARGIN * self.expected_s(plan, texts, n_users) + _REPLY_S:
                return plan
        return None

    def _nearest(self, plan: Plan, texts: bool, n_users: int) -> tuple[int, _Series] | None:
        """Return what is known of the largest number of users up to this one, else beyond it."""
        known = self._series.get((plan, texts))
        if not known:
            return None
        wanted = _bucket(n_users)
        if (series := known.get(wanted)) is not None:
            return wanted, series
        bucket = max((b for b in known if b <= wanted), default=0) or min(known)
        return bucket, known[bucket]


class Backlog:
    """How fast a queue moves that does not run empty. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        self._users, self._interval_s, self._turn_s = 0.0, 0.0, 0.0  # of a turn, averages
        self._at = -math.inf

    def observe(self, n_users: int, began: float) -> None:
        """Record that a turn of the engine ends which left others waiting.

        Args:
            n_users: of the turn.
            began: monotonic seconds when it was taken.
        """
        now = self._clock()
        weight = _WEIGHT if now - self._at <= _FRESH_S else 1.0
        # Of turns that run side by side the queue moves on as often as one of them ends.
        interval_s = now - max(began, self._at)
        self._users += weight * (n_users - self._users)
        self._interval_s += weight * (interval_s - self._interval_s)
        self._turn_s += weight * (now - began - self._turn_s)
        self._at = now

    def wait_s(self, n_ahead: int) -> float:
        """Return the seconds until so many users had their turn; 0 where nothing is known."""
        return n_ahead * self._interval_s / self._users if self._known else 0.0

    @property
    def turn_s(self) -> float:
        """Seconds of one turn; 0 where nothing is known."""
        return self._turn_s if self._known else 0.0

    @property
    def _known(self) -> bool:
        return self._clock() - self._at <= _FRESH_S


def _bucket(n_users: int) -> int:
    """Return the next power of two.

    >>> [_bucket(n) for n in (1, 2, 3, 64, 65)]
    [1, 2, 4, 64, 128]
    """
    return 1 << (n_users - 1).bit_length()
