"""The queue before an engine: nothing is lost, answered twice, or computed for nobody."""

import asyncio
import math
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.engine.filters import EVERYTHING, ItemFilter
from fuserank.engine.results import Recommendation
from fuserank.errors import ConfigError, OverloadedError, RequestError, UnavailableError
from fuserank.server.batching.batcher import Batcher
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.batching.plans import LateError
from fuserank.server.batching.waiting import Job


class Engine:
    """Answers a user with the user's number; where it is held it waits for a release a call."""

    def __init__(self, *, held=False):
        self.held = held
        self.calls = []  # the users' numbers, k and keywords of each call
        self.threads = []
        self._begun, self._released = threading.Semaphore(0), threading.Semaphore(0)

    def recommend_many(self, users, k, **keywords):
        self.calls.append(([user["n"] for user in users], k, keywords))
        self.threads.append(threading.current_thread())
        self._begun.release()
        if self.held:
            assert self._released.acquire(timeout=20)
        if any(user.get("breaks") for user in users):
            raise RequestError("user: broken", field="breaks")
        return [answer(user["n"], k, keywords.get("plan", "exact")) for user in users]

    def release(self, calls=1):
        self._released.release(calls)

    async def begun(self):
        assert await asyncio.to_thread(self._begun.acquire, timeout=20)

    @property
    def users(self):
        return [number for numbers, _, _ in self.calls for number in numbers]


def answer(number, k, plan="exact"):
    scores = np.arange(k, 0, -1).astype(np.float32)
    return Recommendation(
        item_ids=tuple(f"{number}:{place}" for place in range(k)),
        scores=scores,
        probabilities=scores,
        plan=plan,
        served_as="cold",
    )


class Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


class Told:
    """Metrics that count."""

    def __init__(self):
        self.rejections, self.batches, self.depths = Counter(), [], []

    def count_rejection(self, reason):
        self.rejections[reason] += 1

    def observe_batch(self, size):
        self.batches.append(size)

    def set_queue_depth(self, n):
        self.depths.append(n)


class Bench:
    """A batcher on the running loop, and what became of the jobs that were given to it."""

    def __init__(self, engine, *, max_queue=1_000, clock=None, **options):
        self.engine, self.clock, self.told = engine, clock or Clock(), Told()
        self.batcher = Batcher(
            engine,
            BatchingConfig(**options),
            loop=asyncio.get_running_loop(),
            max_queue=max_queue,
            metrics=self.told,
            clock=self.clock,
        )
        self.outcomes = {}  # by job, everything that it was told
        self.settled = asyncio.Event()

    def submit(
        self,
        number,
        *,
        k=3,
        group="g",
        bulk=False,
        deadline=math.inf,
        chars=0,
        users=1,
        filter=EVERYTHING,
    ):
        job = Job(
            users=[{"n": number} | ({"breaks": True} if group == "broken" else {})] * users,
            k=k,
            group="g" if group == "broken" else group,
            keywords={},
            text_chars=chars,
            bulk=bulk,
            deadline=deadline,
            done=self._done,
            filter=filter,
        )
        self.outcomes[job] = []
        self.batcher.submit(job)
        return job

    async def outcome(self, job):
        while not self.outcomes[job]:
            self.settled.clear()
            await asyncio.wait_for(self.settled.wait(), 20)
        (found,) = self.outcomes[job]
        return found

    async def close(self):
        await asyncio.to_thread(self.batcher.close)
        await asyncio.sleep(0)  # what the threads left for the loop

    def _done(self, job, outcome):
        self.outcomes[job].append(outcome)
        self.settled.set()


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 60))


def test_what_waits_while_the_engine_computes_shares_the_next_call():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine)
        jobs = [bench.submit(0)]
        await engine.begun()
        jobs += [bench.submit(number) for number in range(1, 6)]
        engine.release(2)
        for number, job in enumerate(jobs):
            (found,) = await bench.outcome(job)
            assert found.item_ids[0] == f"{number}:0"
        await bench.close()
        assert [numbers for numbers, _, _ in engine.calls] == [[0], [1, 2, 3, 4, 5]]
        assert bench.told.batches == [1, 5]

    run(scenario())


def test_what_was_read_in_one_turn_of_the_loop_shares_the_first_call():
    async def scenario():
        engine = Engine()
        bench = Bench(engine)
        jobs = [bench.submit(number) for number in range(4)]
        for job in jobs:
            await bench.outcome(job)
        await bench.close()
        assert engine.users == [0, 1, 2, 3]
        assert len(engine.calls) == 1

    run(scenario())


def test_each_has_as_many_items_as_it_wants_as_if_it_were_alone():
    async def scenario():
        bench = Bench(Engine())
        jobs = {k: bench.submit(k, k=k) for k in (1, 5, 3)}
        for k, job in jobs.items():
            (found,) = await bench.outcome(job)
            alone = answer(k, k)
            assert found.item_ids == alone.item_ids
            np.testing.assert_array_equal(found.scores, answer(k, 5).scores[:k])
        await bench.close()
        assert [k for _, k, _ in bench.engine.calls] == [5]

    run(scenario())


def test_each_has_its_own_filter_in_a_call_that_is_shared():
    async def scenario():
        engine = Engine()
        bench = Bench(engine)
        one, other = ItemFilter(exclude=["1"]), ItemFilter(include_seen=True)
        jobs = [
            bench.submit(0, filter=one, users=2),
            bench.submit(1),
            bench.submit(2, filter=other),
        ]
        for job in jobs:
            await bench.outcome(job)
        await bench.outcome(bench.submit(3))
        await bench.close()
        (_, _, shared), (_, _, plain) = engine.calls
        assert shared == {"filters": [one, one, EVERYTHING, other]}
        assert plain == {}

    run(scenario())


def test_one_that_breaks_the_call_fails_alone():
    async def scenario():
        engine = Engine()
        bench = Bench(engine)
        jobs = [bench.submit(n, group="broken" if n == 5 else "g") for n in range(8)]
        for number, job in enumerate(jobs):
            found = await bench.outcome(job)
            if number == 5:
                assert isinstance(found, RequestError)
            else:
                assert found[0].item_ids[0] == f"{number}:0"
        await bench.close()
        assert len(engine.calls) < 8

    run(scenario())


def test_a_short_call_runs_on_the_loop_and_a_long_one_does_not():
    async def scenario():
        engine = Engine()
        bench = Bench(engine, inline_ms=1e6)
        await bench.outcome(bench.submit(0))  # nothing is known of it: on a thread
        while bench.batcher._running:
            await asyncio.sleep(0)
        await bench.outcome(bench.submit(1))
        await bench.close()
        here = threading.current_thread()
        assert [thread is here for thread in engine.threads] == [False, True]
        never = Engine()
        bench = Bench(never, inline_ms=0.0)
        for number in range(3):
            await bench.outcome(bench.submit(number))
        await bench.close()
        assert here not in never.threads

    run(scenario())


def test_a_delay_gathers_what_comes_in_it():
    async def scenario():
        engine = Engine()
        # The clock stands still: the delay never ends, but the call fills up.
        bench = Bench(engine, delay_ms=1_000.0, max_users=3)
        jobs = []
        for number in range(3):
            jobs.append(bench.submit(number))
            await asyncio.sleep(0)
        for job in jobs:
            await bench.outcome(job)
        last = bench.submit(3)
        await bench.close()  # does not wait for the delay either
        assert bench.outcomes[last]
        assert [numbers for numbers, _, _ in engine.calls] == [[0, 1, 2], [3]]

    run(scenario())


def test_a_full_queue_answers_at_once():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine, max_queue=2)
        first = bench.submit(0)
        await engine.begun()
        waiting = [bench.submit(1), bench.submit(2)]
        with pytest.raises(OverloadedError, match="2 requests wait") as caught:
            bench.submit(3)
        assert 0.0 < caught.value.retry_after_s <= 5.0
        assert bench.told.rejections == {"queue": 1}
        bench.batcher.cancel(waiting[0])  # which makes room
        last = bench.submit(4)
        engine.release(2)
        for job in (first, waiting[1], last):
            await bench.outcome(job)
        await bench.close()
        assert engine.users == [0, 2, 4]

    run(scenario())


def test_what_is_cancelled_while_it_waits_is_not_computed():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine)
        running = bench.submit(0)
        await engine.begun()
        waiting = [bench.submit(number) for number in (1, 2, 3)]
        bench.batcher.cancel(waiting[1])
        bench.batcher.cancel(running)  # it is computed, and nobody is told
        bench.batcher.cancel(running)
        engine.release(2)
        await bench.outcome(waiting[2])
        await bench.close()
        assert engine.users == [0, 1, 3]
        assert [len(bench.outcomes[job]) for job in (running, *waiting)] == [0, 1, 0, 1]
        assert bench.told.rejections == {"cancelled": 1}

    run(scenario())


def test_what_expires_while_it_waits_is_not_computed():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine)
        first = bench.submit(0)
        await engine.begun()
        late = bench.submit(1, deadline=bench.clock.now + 1.0)
        early = bench.submit(2, deadline=bench.clock.now + 100.0)
        bench.clock.now += 2.0
        engine.release(2)
        await bench.outcome(first)
        assert isinstance(await bench.outcome(late), LateError)
        assert (await bench.outcome(early))[0].item_ids[0] == "2:0"
        await bench.close()
        assert engine.users == [0, 2]
        assert bench.told.rejections == {"deadline": 1}

    run(scenario())


def test_what_has_expired_when_it_comes_does_not_wait():
    async def scenario():
        bench = Bench(Engine())
        with pytest.raises(LateError) as caught:
            bench.submit(0, deadline=bench.clock.now - 0.001)
        assert caught.value.wait_s == 0.0
        await bench.close()
        assert bench.engine.users == []

    run(scenario())


def test_what_cannot_be_computed_in_time_is_not_begun_and_the_quick_plan_is_taken_if_it_can():
    async def scenario():
        bench = Bench(Engine(), inline_ms=0.0)
        estimates = bench.batcher._estimates
        for users in (1, 2):
            estimates.observe("exact", False, users, 0.100)
            estimates.observe("quantized", False, users, 0.030)
        with pytest.raises(LateError):
            bench.submit(0, deadline=bench.clock.now + 0.020)
        quick = bench.submit(1, deadline=bench.clock.now + 0.050)
        patient = bench.submit(2, deadline=bench.clock.now + 0.500)
        assert (await bench.outcome(quick))[0].plan == "quantized"
        assert (await bench.outcome(patient))[0].plan == "exact"
        await bench.close()
        assert [(numbers, keywords) for numbers, _, keywords in bench.engine.calls] == [
            ([1], {"plan": "quantized"}),
            ([2], {}),
        ]

    run(scenario())


def test_what_would_expire_behind_the_queue_is_told_when_to_come_again():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine)
        bench.submit(0)
        await engine.begun()
        bench.batcher._backlog.observe(1, bench.clock.now - 0.1)  # ten users a second
        for number in range(5):
            bench.submit(number)
        with pytest.raises(LateError) as caught:
            bench.submit(9, deadline=bench.clock.now + 0.3)
        assert caught.value.wait_s == pytest.approx(0.5)
        bench.submit(10, deadline=bench.clock.now + 0.8)
        # Bulk waits, and holds nobody up.
        for number in range(20, 30):
            bench.submit(number, bulk=True)
        bench.submit(11, deadline=bench.clock.now + 0.8)
        with pytest.raises(LateError):
            bench.submit(12, deadline=bench.clock.now + 0.8, bulk=True)
        engine.release(100)
        await bench.close()

    run(scenario())


def test_bulk_does_not_starve_while_others_keep_coming():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine, bulk_every=4)
        bench.submit(0)
        await engine.begun()
        bulk = bench.submit(999, bulk=True)
        turns = 0
        while not bench.outcomes[bulk]:
            turns += 1
            bench.submit(turns)
            engine.release()
            await engine.begun()
            await asyncio.sleep(0)
            assert turns < 10
        engine.release(2)
        await bench.close()
        assert engine.users.index(999) == 4

    run(scenario())


def test_texts_do_not_hold_up_those_that_have_none():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine, max_text_chars=100)
        bench.submit(0)
        await engine.begun()
        for number in range(1, 5):
            bench.submit(number, chars=40, group="texts")
        bench.submit(5)
        engine.release(10)
        await bench.close()
        assert [numbers for numbers, _, _ in engine.calls] == [[0], [1, 2], [3, 4], [5]]

    run(scenario())


def test_closing_computes_what_waits_and_takes_no_more():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine)
        jobs = [bench.submit(0)]
        await engine.begun()
        jobs += [bench.submit(number, group=number) for number in range(1, 5)]
        closing = asyncio.create_task(bench.close())
        await asyncio.sleep(0)
        while not bench.batcher._closed:
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            bench.submit(9)
        engine.release(5)
        await closing
        assert [len(bench.outcomes[job]) for job in jobs] == [1] * 5

    run(scenario())


def test_a_full_call_is_made_beside_another_and_no_smaller_one():
    async def scenario():
        engine = Engine(held=True)
        bench = Bench(engine, engine_calls=2, max_users=3)
        bench.submit(0)
        await engine.begun()
        bench.submit(1)
        bench.submit(2)
        await asyncio.sleep(0.01)  # the loop has seen both
        assert len(engine.calls) == 1
        bench.submit(3)
        await engine.begun()  # though the first has not ended
        for number in range(4, 10):
            bench.submit(number)
        await asyncio.sleep(0.01)
        assert len(engine.calls) == 2
        engine.release(10)
        await bench.close()
        assert [numbers for numbers, _, _ in engine.calls[:2]] == [[0], [1, 2, 3]]
        assert sorted(engine.users) == list(range(10))

    run(scenario())


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from(["g", "h", "broken"]),
            st.booleans(),
            st.sampled_from([math.inf, 0.5, 2.0, -1.0]),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("release"), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0])),
        st.tuples(st.just("yield")),
    ),
    max_size=50,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 2), st.sampled_from([0.0, 1e6]), st.integers(1, 4))
def test_nothing_is_lost_or_answered_twice(steps, engine_calls, inline_ms, max_users):
    async def scenario():
        # Where calls may run on the loop they must not wait for a release, which comes from it.
        engine = Engine(held=inline_ms == 0.0)
        bench = Bench(
            engine,
            max_queue=8,
            engine_calls=engine_calls,
            inline_ms=inline_ms,
            max_users=max_users,
            bulk_every=3,
        )
        jobs, cancelled, refused = [], set(), set()
        for step, *values in steps:
            if step == "submit":
                group, bulk, timeout_s = values
                number = len(bench.outcomes)
                deadline = bench.clock.now + timeout_s
                try:
                    jobs.append(bench.submit(number, group=group, bulk=bulk, deadline=deadline))
                except (OverloadedError, LateError):
                    refused.add(number)
            elif step == "cancel" and jobs:
                job = jobs[values[0] % len(jobs)]
                if not bench.outcomes[job]:
                    cancelled.add(job)
                bench.batcher.cancel(job)
            elif step == "release":
                engine.release(values[0])
            elif step == "wait":
                bench.clock.now += values[0]
            else:
                await asyncio.sleep(0)
        engine.release(1_000)
        await bench.close()
        for job in jobs:
            number = job.users[0]["n"]
            told = bench.outcomes[job]
            if job in cancelled:
                assert told == []
                continue
            (found,) = told
            if isinstance(found, LateError):
                assert number not in engine.users
            elif job.users[0].get("breaks"):
                assert isinstance(found, RequestError)
            else:
                assert found[0].item_ids == tuple(f"{number}:{place}" for place in range(3))
        assert refused.isdisjoint(engine.users)
        # Only what broke a call may have been computed again.
        if not any(job.users[0].get("breaks") for job in jobs):
            assert max(Counter(engine.users).values(), default=1) == 1
        assert len(bench.outcomes) == len(jobs) + len(refused)
        waited = bench.told.rejections["cancelled"]
        computed = {job for job in jobs if job.users[0]["n"] in engine.users}
        assert waited <= len(cancelled - computed)

    run(scenario())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_users": 0}, "max_users"),
        ({"engine_calls": 0}, "engine_calls"),
        ({"delay_ms": -1.0}, "delay_ms"),
        ({"inline_ms": math.inf}, "inline_ms"),
        ({"bulk_every": 1}, "bulk_every"),
    ],
)
def test_options_out_of_range_are_refused(options, name):
    with pytest.raises(ConfigError, match=name):
        BatchingConfig(**options)
