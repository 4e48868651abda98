"""Continuous batching: what waits when the engine is free shares its next call.

Requests come in on the event loop. While the engine computes, those that come wait; when it is
free, a thread takes the oldest of them with all that may share its call, and nobody waits for more
to come (unless a delay is set). Where so many wait that they fill a call, it is made beside the one
that runs: while one thread reads users and writes lists, the other one scans. A call that is
shorter than the way to a thread and back runs on the event loop itself, where nothing else waits.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fuserank.engine.results import Plan
from fuserank.errors import OverloadedError, UnavailableError
from fuserank.server.batching.computing import compute
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.batching.plans import Backlog, Estimates, LateError
from fuserank.server.batching.waiting import Job, Outcome, Turn, Waiting

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine
    from fuserank.server.monitoring.metrics import Metrics

__all__ = ["Batcher"]

_RETRY_S = (0.01, 5.0)
"""Least and most that a caller is told to wait."""


class Batcher:
    """The queue before an engine, and the threads that work it off.

    `submit` and `cancel` are called on the event loop, where jobs are also told what became of
    them.
    """

    def __init__(
        self,
        engine: "Engine",
        config: BatchingConfig,
        *,
        loop: asyncio.AbstractEventLoop,
        max_queue: int,
        metrics: "Metrics | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the threads.

        Args:
            engine: computes.
            config: how requests share calls.
            loop: the event loop that submits.
            max_queue: users that may wait.
            metrics: is told of calls and of what is dropped.
            clock: monotonic seconds, as deadlines are.
        """
        self._engine, self._config, self._loop = engine, config, loop
        self._max_queue, self._metrics, self._clock = max_queue, metrics, clock
        self._waiting = Waiting(
            max_users=config.max_users,
            max_text_chars=config.max_text_chars,
            bulk_every=config.bulk_every,
        )
        self._estimates, self._backlog = Estimates(clock), Backlog(clock)
        self._changed = threading.Condition()
        # All below under the condition's lock.
        self._running: list[Turn] = []
        self._wanted = False  # a thread is to take what waits
        self._kick_due = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{number}", daemon=True)
            for number in range(config.engine_calls)
        ]
        for thread in self._threads:
            thread.start()

    def check(self, deadline: float, *, bulk: bool) -> None:
        """Raise what `submit` would for any job, as far as that is known without the job.

        Raises:
            OverloadedError: as many users wait as may.
            LateError: its turn would not come in time.
        """
        with self._changed:
            self._check_room()
            if deadline != math.inf:
                wait_s = self._wait_s(bulk=bulk)
                if wait_s and deadline - self._clock() - wait_s < self._backlog.turn_s:
                    self._reject("deadline")
                    raise LateError(_retry_s(wait_s))

    def submit(self, job: Job) -> None:
        """Have a job wait for its turn.

        Raises:
            OverloadedError: as many users wait as may.
            LateError: its turn would not come in time.
            UnavailableError: the batcher is closed.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError("the server is shutting down")
            job.arrived = self._clock()
            self._check_room()
            self._check_time(job)
            self._waiting.add(job)
            depth = self._waiting.n_users
            kick, self._kick_due = not self._kick_due, True
        if kick:
            # Not at once: what the loop has read already may share the call.
            self._loop.call_soon(self._kick)
        if self._metrics is not None:
            self._metrics.set_queue_depth(depth)

    def cancel(self, job: Job) -> None:
        """Drop a job that nobody waits for any more; its `done` is not called."""
        with self._changed:
            if job.settled:
                return
            job.settled = True
            waited = self._waiting.remove(job)
        if waited:
            self._reject("cancelled")

    def close(self) -> None:
        """Compute what waits, then end the threads; not on the event loop, which must go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_room(self) -> None:
        waiting = self._waiting.n_users
        if waiting >= self._max_queue:
            self._reject("queue")
            raise OverloadedError(
                f"{waiting} requests wait, which is as many as the server takes; try again later",
                retry_after_s=_retry_s(self._wait_s(bulk=True)),
            )

    def _check_time(self, job: Job) -> None:
        if job.deadline == math.inf:
            return
        wait_s = self._wait_s(bulk=job.bulk)
        remaining_s = job.deadline - job.arrived - wait_s
        # How many will share its turn is for the turn to say, which may be as short as its own.
        plan = self._estimates.choose(remaining_s, job.text_chars > 0, len(job.users))
        if plan is None or (wait_s and remaining_s < self._backlog.turn_s):
            self._reject("deadline")
            raise LateError(_retry_s(wait_s) if wait_s else 0.0)

    def _wait_s(self, *, bulk: bool) -> float:
        """Return the seconds after which a job that came now has its turn, as far as is known."""
        free_at = min((turn.ends for turn in self._running), default=-math.inf)
        busy_s = max(0.0, free_at - self._clock())
        return busy_s + self._backlog.wait_s(self._waiting.n_ahead(bulk=bulk))

    def _may_begin(self) -> bool:
        """Return whether a turn may begin now: alone, or a full one beside another."""
        if not self._running:
            return bool(self._waiting)
        return len(self._running) < self._config.engine_calls and self._waiting.fills_a_turn

    def _kick(self) -> None:
        """Begin a turn, if the engine is free: here if it is short, else on a thread."""
        turn = None
        with self._changed:
            self._kick_due = False
            if not self._may_begin():
                return  # whoever runs takes what waits when it is done
            if self._may_run_here():
                turn = self._take()
            else:
                self._wanted = True
                self._changed.notify()
        if turn is not None:
            self._run(turn, self._deliver)
            with self._changed:
                self._end(turn)
                more, self._kick_due = bool(self._waiting), bool(self._waiting)
            if more:  # after the loop has read and written what it can
                self._loop.call_soon(self._kick)

    def _may_run_here(self) -> bool:
        if self._running or self._config.delay_ms or self._closed:
            return False
        head, n_users = self._waiting.next_up()
        return self._estimates.short(head.text_chars > 0, n_users, self._config.inline_ms / 1e3)

    def _work(self) -> None:
        """Take turns until closed and nothing waits."""
        while (turn := self._next_turn()) is not None:
            self._run(
                turn, lambda *answered: self._loop.call_soon_threadsafe(self._deliver, *answered)
            )
            with self._changed:
                self._end(turn)
                self._wanted = True  # on to what came meanwhile

    def _next_turn(self) -> Turn | None:
        with self._changed:
            while True:
                if self._waiting and (self._wanted or self._closed):
                    ripe_s = self._ripe_in_s()
                    if ripe_s <= 0.0 and self._may_begin():
                        return self._take()
                    self._changed.wait(max(ripe_s, 0.0) or None)
                elif self._closed:
                    return None
                else:
                    self._wanted = False
                    self._changed.wait()

    def _ripe_in_s(self) -> float:
        """Return the seconds until what waits need not wait for others any more."""
        delay_s = self._config.delay_ms / 1e3
        if not delay_s or self._closed or self._waiting.n_users >= self._config.max_users:
            return 0.0
        return self._waiting.oldest() + delay_s - self._clock()

    def _take(self) -> Turn:
        """Take the next turn, and expect its end."""
        now = self._clock()

        def choose(job: Job, n_users: int) -> Plan | None:
            job.queue_s = now - job.arrived
            return self._estimates.choose(job.deadline - now, job.text_chars > 0, n_users)

        turn = self._waiting.take(choose)
        turn.began = now
        self._running.append(turn)
        turn.ends = now + sum(
            self._estimates.expected_s(plan, turn.texts, sum(len(job.users) for job in jobs))
            for plan, jobs in turn.calls.items()
        )
        if self._waiting:  # there may be a thread for it
            self._changed.notify()
        return turn

    def _end(self, turn: Turn) -> None:
        self._running = [other for other in self._running if other is not turn]
        if turn.n_users and self._waiting:
            self._backlog.observe(turn.n_users, turn.began)
        if self._closed:
            self._changed.notify_all()

    def _run(self, turn: Turn, deliver: Callable[[list[Job], list[Outcome]], object]) -> None:
        """Compute a turn, and deliver each of its calls as it is done."""
        if turn.late:
            for _ in turn.late:
                self._reject("deadline")
            deliver(turn.late, [LateError() for _ in turn.late])
        for plan, jobs in turn.calls.items():
            n_users = sum(len(job.users) for job in jobs)
            deliver(jobs, compute(self._engine, plan, jobs, self._observer(plan, turn.texts)))
            if self._metrics is not None:
                self._metrics.observe_batch(n_users)
        if self._metrics is not None:
            self._metrics.set_queue_depth(self._waiting.n_users)

    def _observer(self, plan: Plan, texts: bool) -> Callable[[int, float], None]:
        def observe(n_users: int, seconds: float) -> None:
            with self._changed:
                self._estimates.observe(plan, texts, n_users, seconds)

        return observe

    def _deliver(self, jobs: list[Job], outcomes: list[Outcome]) -> None:
        """Tell jobs what became of them, on the event loop."""
        for job, outcome in zip(jobs, outcomes, strict=True):
            if not job.settled:
                job.settled = True
                job.done(job, outcome)

    def _reject(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.count_rejection(reason)


def _retry_s(wait_s: float) -> float:
    """Return what a caller is told to wait."""
    least, most = _RETRY_S
    return min(max(wait_s, least), most)
