"""A loaded engine with the queue before it: what a server answers requests with."""

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from fuserank.engine.results import Plan, Recommendation, Timings
from fuserank.errors import OverloadedError
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.batcher import Batcher
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.batching.plans import CACHED, LateError
from fuserank.server.batching.questions import Answer, Question, keyword_question
from fuserank.server.batching.waiting import Job, Outcome, User

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine
    from fuserank.server.monitoring.metrics import Metrics

__all__ = ["Served", "answer_again"]

T = TypeVar("T")

_PARTS_AHEAD = 2
"""Of a request for many users: one computes while the next one waits."""


class Served:
    """Answers questions with one engine. Used on one event loop, but for `close`.

    Attributes:
        engine: what is loaded.
    """

    def __init__(
        self,
        engine: "Engine",
        config: BatchingConfig | None = None,
        *,
        loop: asyncio.AbstractEventLoop,
        max_queue: int = 1_024,
        threads: int = 4,
        answers: Answers | None = None,
        metrics: "Metrics | None" = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the threads.

        Args:
            engine: warm; it is closed with this.
            config: how requests share calls.
            loop: the event loop that asks; this may be made on another thread.
            max_queue: users that may wait.
            threads: calls by `call` at a time.
            answers: keeps answers for questions that come when there is no time.
            metrics: is told what happens.
            clock: monotonic seconds, as deadlines are.
        """
        self.engine = engine
        self._config = config or BatchingConfig()
        self._loop, self._clock = loop, clock
        self._answers, self._metrics = answers, metrics
        fields = engine.info.user_fields
        self._text_fields = [f.name for f in fields if f.kind == "text"]
        self._id_field = next((f.name for f in fields if f.kind == "id"), None)
        self._batcher = Batcher(
            engine,
            self._config,
            loop=loop,
            max_queue=max_queue,
            metrics=metrics,
            clock=clock,
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine-calls")

    async def recommend(
        self, users: Sequence[User], k: int = 10, *, deadline: float = math.inf, **keywords: Any
    ) -> list[Recommendation]:
        """Return the k best items of each user.

        Args:
            users: fields by name, as `Engine.recommend_many` takes them.
            k: items wanted for each.
            deadline: monotonic seconds.
            keywords: of `Engine.recommend_many`, beside plan and filters; what has none but
                `exclude`, `allow` and `include_seen` may share a call.

        Raises:
            FuserankError: as the engine raises it, or the queue is full.
            TimeoutError: there is no time to compute it.
        """
        question = keyword_question(users, k, keywords)
        return (await self.answer(question, deadline)).recommendations

    def check(self, deadline: float, *, bulk: bool = False) -> None:
        """Turn a question away before it is read, where it would be in any case.

        Where answers are kept that is not known: the last one may do.

        Args:
            deadline: monotonic seconds.
            bulk: whether nobody waits for the answer.

        Raises:
            OverloadedError: there is no room, or the time would run out in the queue.
        """
        if self._answers:
            return
        try:
            self._batcher.check(deadline, bulk=bulk)
        except LateError as error:
            raise _late(error) from None

    async def answer(self, question: Question, deadline: float = math.inf) -> Answer:
        """Return the answer to a question; many users are answered in parts.

        Where the caller is cancelled, or a part fails, nothing more is computed for it.

        Args:
            question: what is asked.
            deadline: monotonic seconds.

        Raises:
            FuserankError: as the engine raises it, or the queue is full.
            TimeoutError: there is no time to compute it.
        """
        size = self._config.max_users
        if len(question.users) <= size:
            return await self._part(question, deadline)
        coming: deque[asyncio.Task[Answer]] = deque()
        parts: list[Answer] = []
        try:
            for start in range(0, len(question.users), size):
                if len(coming) == _PARTS_AHEAD:
                    parts.append(await coming.popleft())
                users = question.users[start : start + size]
                part = self._part(replace(question, users=users), deadline)
                coming.append(asyncio.create_task(part))
            while coming:
                parts.append(await coming.popleft())
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)
        return Answer(
            recommendations=[one for part in parts for one in part.recommendations],
            queue_ms=parts[0].queue_ms,
            degraded_reason=next((p.degraded_reason for p in parts if p.degraded_reason), ""),
        )

    def ask(
        self, question: Question, deadline: float, done: Callable[[Answer | Exception], None]
    ) -> Job:
        """Have a question answered, of as many users at most as share a call.

        Args:
            question: what is asked.
            deadline: monotonic seconds.
            done: called once with the answer, or why there is none, unless `cancel` is first;
                before this returns where that is known at once.

        Returns:
            What `cancel` takes.
        """
        answers = self._answers
        generation = 0 if answers is None else answers.generation
        text_chars = 0
        for name in self._text_fields:
            for user in question.users:
                text = user.get(name)
                text_chars += len(text) if isinstance(text, str) else 0

        def told(job: Job, outcome: Outcome) -> None:
            if isinstance(outcome, LateError):
                done(self._last_answer(question) or outcome)
            elif isinstance(outcome, Exception):
                done(outcome)
            else:
                self._keep(question, outcome[0], generation)
                done(self._answer(job, outcome))

        job = Job(
            users=question.users,
            k=question.k,
            # Whoever has texts encoded does not make the others wait for that.
            group=object() if question.group is None else (question.group, text_chars > 0),
            keywords=question.keywords,
            text_chars=text_chars,
            bulk=question.bulk,
            deadline=deadline,
            done=told,
            filter=question.filter,
        )
        try:
            self._batcher.submit(job)
        except LateError as error:
            job.settled = True
            done(self._last_answer(question) or _late(error))
        except Exception as error:
            job.settled = True
            done(error)
        return job

    def cancel(self, job: Job) -> None:
        """Drop a question that nobody waits for any more; it is not told what became of it."""
        self._batcher.cancel(job)

    async def call(self, work: Callable[[], T], deadline: float = math.inf) -> T:
        """Run another call of the engine on a thread, unless its deadline has passed by then.

        Where the caller is cancelled while it waits for a thread, it does not run either.

        Args:
            work: calls the engine.
            deadline: monotonic seconds.

        Raises:
            TimeoutError: the deadline passed.
        """

        def run() -> T:
            if self._clock() >= deadline:
                raise LateError
            return work()

        return await self._loop.run_in_executor(self._pool, run)

    def close(self) -> None:
        """Compute what waits, end the threads and close the engine; not on the event loop."""
        self._batcher.close()
        self._pool.shutdown(cancel_futures=True)
        self.engine.close()

    async def _part(self, question: Question, deadline: float) -> Answer:
        future: asyncio.Future[Answer] = self._loop.create_future()
        job = self.ask(question, deadline, functools.partial(_settle, future))
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(job)
            raise

    def _answer(self, job: Job, found: list[Recommendation]) -> Answer:
        if self._metrics is not None:
            for one in found:
                self._metrics.observe_timings(one.timings, queue_seconds=job.queue_s)
        # An engine that has no plan but the exact one answers by that.
        degraded = found[0].plan == Plan.QUANTIZED
        return Answer(
            recommendations=found,
            queue_ms=job.queue_s * 1e3,
            degraded_reason="deadline" if degraded else "",
        )

    def _keep(self, question: Question, found: Recommendation, generation: int) -> None:
        if self._answers is None or question.answer_key is None:
            return
        user_id = question.users[0].get(self._id_field) if self._id_field else None
        self._answers.put(
            question.answer_key,
            found,
            user_id=None if user_id is None else str(user_id),
            generation=generation,
        )

    def _last_answer(self, question: Question) -> Answer | None:
        if self._answers is None or question.answer_key is None:
            return None
        found = self._answers.get(question.answer_key)
        if found is None:
            return None
        cached = replace(found, plan=CACHED, timings=Timings())
        return Answer(recommendations=[cached], queue_ms=0.0, degraded_reason="deadline")


async def answer_again(served: Served, question: Question) -> Sequence[str]:
    """Have a candidate answer a question of one user: what `Shadow` takes as its `answer`.

    It waits behind whatever callers ask of the candidate, and is not kept: the key of the question
    is that of the active bundle's answer.
    """
    again = replace(question, bulk=True, answer_key=None)
    return (await served.answer(again)).recommendations[0].item_ids


def _late(error: LateError) -> Exception:
    """Say whether it is the server that has no time, or the caller."""
    if not error.wait_s:
        return error
    return OverloadedError(
        "other requests wait, and the deadline would pass before this one is answered; try again "
        "later",
        retry_after_s=error.wait_s,
    )


def _settle(future: "asyncio.Future[Answer]", outcome: Answer | Exception) -> None:
    if future.done():  # the caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
