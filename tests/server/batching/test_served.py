import asyncio
import math
import threading

import numpy as np
import pytest

from fuserank.engine.engine import load
from fuserank.engine.results import Plan
from fuserank.errors import OverloadedError, RequestError
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.batching.plans import LateError
from fuserank.server.batching.questions import Question
from fuserank.server.batching.served import Served
from fuserank.server.monitoring.metrics import Metrics


class Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 60))


class Held:
    """Holds an engine before it computes, until it is let go."""

    def __init__(self, engine):
        self._begun, self._go_on = threading.Event(), threading.Event()
        engine.before = self._wait

    def _wait(self):
        self._begun.set()
        assert self._go_on.wait(20)

    async def begun(self):
        assert await asyncio.to_thread(self._begun.wait, 20)

    def let_go(self):
        self._go_on.set()


def served_by(engine, *, clock=None, answers=None, max_queue=100, metrics=None, **options):
    return Served(
        engine,
        BatchingConfig(**options),
        loop=asyncio.get_running_loop(),
        max_queue=max_queue,
        answers=answers,
        metrics=metrics,
        clock=clock or Clock(),
    )


def test_it_recommends_as_its_engine(engine):
    async def scenario():
        served = served_by(engine)
        users = [{"user_id": "42"}, {"history": ["0"]}]
        found = await served.recommend(users, 2, exclude=["1"])
        await asyncio.to_thread(served.close)
        return found

    found = run(scenario())
    assert [one.item_ids for one in found] == [("0", "2"), ("2", "3")]
    assert engine.closed


def test_callers_who_exclude_items_of_their_own_share_calls(tiny_bundle):
    engine = load(tiny_bundle.path, device="cpu")
    best = engine.recommend({}, 40).item_ids
    # Of each caller: the user, and what it excludes, allows and has seen.
    asked = [
        ({"user_id": f"u{n % 6}"}, {"exclude": best[n : 2 * n], "include_seen": n % 2 == 0})
        for n in range(16)
    ]
    asked += [({"age": 30 + n}, {"allow": best[n : n + 12]}) for n in range(4)]
    expected = [engine.recommend(user, 5 + n % 3, **of) for n, (user, of) in enumerate(asked)]
    sizes = []

    async def scenario():
        metrics = Metrics()
        metrics.observe_batch = sizes.append
        served = served_by(engine, inline_ms=0.0, metrics=metrics)
        found = await asyncio.gather(
            *(served.recommend([user], 5 + n % 3, **of) for n, (user, of) in enumerate(asked))
        )
        await asyncio.to_thread(served.close)
        return found

    for (mine,), alone in zip(run(scenario()), expected, strict=True):
        assert mine.item_ids == alone.item_ids
        np.testing.assert_array_equal(mine.scores, alone.scores)
    assert sizes == [16, 4]


def test_many_users_are_answered_in_parts_in_their_order(engine):
    async def scenario():
        served = served_by(engine, max_users=4, inline_ms=0.0)
        users = [{"history": [str(number)]} for number in range(19)]
        found = await served.recommend(users, 19)
        await asyncio.to_thread(served.close)
        return found

    found = run(scenario())
    assert len(found) == 19
    for number, one in enumerate(found):
        assert str(number) not in one.item_ids


def test_a_long_request_leaves_room_for_others(engine):
    async def scenario():
        held = Held(engine)
        served = served_by(engine, max_users=2, inline_ms=0.0)
        long = asyncio.create_task(served.recommend([{"age": 1}] * 20))
        await held.begun()
        short = asyncio.create_task(served.recommend([{"age": 2}]))
        await asyncio.sleep(0)
        held.let_go()
        await asyncio.gather(long, short)
        await asyncio.to_thread(served.close)

    run(scenario())
    assert {"age": 2} in engine.users[:8]


def test_a_part_that_fails_ends_the_request(engine):
    async def scenario():
        served = served_by(engine, max_users=2, inline_ms=0.0)
        with pytest.raises(RequestError, match="flavour"):
            await served.recommend([{"age": 1}, {"flavour": "x"}, *[{"age": 2}] * 20])
        await asyncio.to_thread(served.close)

    run(scenario())
    assert engine.users.count({"age": 2}) < 20


def test_a_request_that_is_cancelled_is_computed_no_further(engine):
    async def scenario():
        held = Held(engine)
        served = served_by(engine, max_users=2, inline_ms=0.0, engine_calls=1)
        task = asyncio.create_task(served.recommend([{"age": 1}] * 20))
        await held.begun()
        task.cancel()
        await asyncio.wait({task})
        held.let_go()
        await asyncio.to_thread(served.close)
        assert task.cancelled()

    run(scenario())
    assert len(engine.users) == 2


def test_calls_that_expire_before_a_thread_is_free_do_not_run(engine):
    async def scenario():
        clock = Clock()
        served = served_by(engine, clock=clock)
        assert await served.call(lambda: 7, clock.now + 1.0) == 7
        with pytest.raises(LateError):
            await served.call(lambda: pytest.fail("ran"), clock.now)
        await asyncio.to_thread(served.close)

    run(scenario())


def a_question(answers, number=1, user_id="42"):
    return Question(
        users=[{"user_id": user_id}], k=3, group=(), answer_key=answers.key(b"%d" % number)
    )


def slow_down(served, seconds):
    """Have it expect that every plan takes so long."""
    for plan in Plan:
        served._batcher._estimates.observe(plan, False, 1, seconds)


def test_the_last_answer_stands_in_where_there_is_no_time(engine):
    async def scenario():
        answers, clock = Answers(), Clock()
        served = served_by(engine, answers=answers, clock=clock)
        fresh = await served.answer(a_question(answers), clock.now + 10.0)
        slow_down(served, 5.0)
        cached = await served.answer(a_question(answers), clock.now + 1.0)
        with pytest.raises(LateError):
            await served.answer(a_question(answers, 2), clock.now + 1.0)
        assert answers.forget("42") == 1
        with pytest.raises(LateError):
            await served.answer(a_question(answers), clock.now + 1.0)
        await asyncio.to_thread(served.close)
        return fresh, cached

    fresh, cached = run(scenario())
    assert (fresh.degraded_reason, cached.degraded_reason) == ("", "deadline")
    assert cached.recommendations[0].item_ids == fresh.recommendations[0].item_ids
    assert cached.recommendations[0].plan == "cached"
    assert cached.recommendations[0].timings.total_ms == 0.0
    assert len(engine.users) == 1


def test_with_time_enough_it_is_computed_anew(engine):
    async def scenario():
        answers, clock = Answers(), Clock()
        served = served_by(engine, answers=answers, clock=clock)
        for deadline in (clock.now + 10.0, clock.now + 10.0, math.inf):
            answer = await served.answer(a_question(answers), deadline)
            assert answer.recommendations[0].plan == "exact"
        await asyncio.to_thread(served.close)

    run(scenario())
    assert len(engine.users) == 3


def test_what_expires_in_the_queue_has_the_last_answer_too(engine):
    async def scenario():
        answers, clock = Answers(), Clock()
        served = served_by(engine, answers=answers, clock=clock, inline_ms=0.0)
        await served.answer(a_question(answers), clock.now + 10.0)
        held = Held(engine)
        first = asyncio.create_task(served.recommend([{"age": 1}]))
        await held.begun()
        tasks = [
            asyncio.create_task(served.answer(a_question(answers, number), clock.now + 1.0))
            for number in (1, 2)
        ]
        await asyncio.sleep(0)
        clock.now += 2.0
        held.let_go()
        await first
        assert (await tasks[0]).recommendations[0].plan == "cached"
        with pytest.raises(LateError):
            await tasks[1]
        await asyncio.to_thread(served.close)

    run(scenario())
    assert engine.users == [{"user_id": "42"}, {"age": 1}]


def test_what_the_queue_leaves_no_time_for_is_told_when_to_come_again(engine):
    async def scenario():
        answers, clock = Answers(), Clock()
        served = served_by(engine, answers=answers, clock=clock, inline_ms=0.0)
        held = Held(engine)
        first = asyncio.create_task(served.recommend([{"age": 1}]))
        await held.begun()
        served._batcher._backlog.observe(1, clock.now - 1.0)  # one user a second
        waiting = asyncio.create_task(served.recommend([{"age": 2}]))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="the deadline would pass") as caught:
            await served.answer(a_question(answers), clock.now + 0.5)
        assert caught.value.retry_after_s == pytest.approx(1.0)
        held.let_go()
        await asyncio.gather(first, waiting)
        await asyncio.to_thread(served.close)

    run(scenario())


def test_what_was_forgotten_while_it_was_computed_is_not_kept(engine):
    async def scenario():
        answers, clock = Answers(), Clock()
        served = served_by(engine, answers=answers, clock=clock, inline_ms=0.0)
        held = Held(engine)
        task = asyncio.create_task(served.answer(a_question(answers), clock.now + 10.0))
        await held.begun()
        assert answers.forget("42") == 0
        held.let_go()
        await task
        await asyncio.to_thread(served.close)
        return answers

    assert len(run(scenario())) == 0


def test_waiting_is_told_apart_from_computing(engine):
    async def scenario():
        clock = Clock()
        served = served_by(engine, clock=clock, inline_ms=0.0)
        held = Held(engine)
        question = Question(users=[{"age": 1}], k=1, group=())
        first = asyncio.create_task(served.answer(question))
        await held.begun()
        second = asyncio.create_task(served.answer(question))
        await asyncio.sleep(0)
        clock.now += 2.0
        held.let_go()
        answers = [await first, await second]
        await asyncio.to_thread(served.close)
        return answers

    answers = run(scenario())
    assert [answer.queue_ms for answer in answers] == [0.0, 2_000.0]
    assert [answer.recommendations[0].timings.total_ms for answer in answers] == [5.0, 5.0]
