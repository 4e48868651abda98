"""What is compared, what is not, and that no caller waits for it."""

import asyncio
import contextlib
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from fuserank.engine.agreement import rank_biased_overlap
from fuserank.errors import ConfigError, RequestError
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.questions import Question
from fuserank.server.batching.served import Served, answer_again
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.config import BundlesConfig, ShadowConfig
from fuserank.server.bundles.shadow import Shadow, ShadowComparison
from fuserank.server.monitoring.bundle_metrics import BundleCollector

WAIT_S = 20
ALL = ShadowConfig(share=1.0)
IDS = ["a", "b", "c"]


class FakeServed:
    def __init__(self, version, answer=None):
        self.engine = SimpleNamespace(info=SimpleNamespace(name="films", version=version))
        self.answer = answer
        self.requests = []

    def close(self):
        pass


async def answer(served, request):
    served.requests.append(request)
    found = served.answer(request)
    return await found if asyncio.iscoroutine(found) else found


@contextlib.asynccontextmanager
async def comparing(tmp_path, config, *candidates, active=None):
    """Yield bundles with these candidates, and what compares them with the active one."""
    (tmp_path / "next").mkdir(exist_ok=True)
    waiting = list(candidates)
    options = BundlesConfig(folder=tmp_path, max_loaded=5)
    bundles = Bundles(lambda _: waiting.pop(0), options)
    await bundles.start(lambda: active or FakeServed("1", lambda _: IDS))
    for _ in candidates:
        await bundles.load("next")
    shadow = Shadow(bundles, answer, config)
    yield bundles, shadow
    await shadow.close()
    await bundles.close()


def candidate_of(bundles, version="2"):
    return next(one for one in bundles.loaded() if one.info.version == version)


async def compared(bundles, shadow, n, version="2"):
    """Return the comparison once it is of n requests."""
    async with asyncio.timeout(WAIT_S):
        while (found := shadow.comparison(candidate_of(bundles, version))).request_count < n:
            await asyncio.sleep(0)
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8),
    st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8),
)
def test_the_figure_is_the_rank_biased_overlap_of_the_ids(tmp_path_factory, chosen, found):
    tmp_path = tmp_path_factory.mktemp("folder")

    async def run():
        async with comparing(tmp_path, ALL, FakeServed("2", lambda _: found)) as (bundles, shadow):
            shadow.offer({}, chosen)
            return await compared(bundles, shadow, 1)

    rows = np.full((2, 8), -1)
    for row, ids in zip(rows, (chosen, found), strict=True):
        row[: len(ids)] = ["abcdefghij".index(item) for item in ids]
    expected = float(rank_biased_overlap(rows[:1], rows[1:], 0.9)[0])
    assert asyncio.run(run()).rank_biased_overlap == pytest.approx(expected, abs=1e-12)


def test_the_mean_is_over_answers_and_failures_are_counted(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    def reply(request):
        if request["user"] == "bad":
            raise RequestError("user: found 'very private words'")
        return IDS if request["user"] == "same" else ["x", "y", "z"]

    async def run():
        async with comparing(tmp_path, ALL, FakeServed("2", reply)) as (bundles, shadow):
            nothing = shadow.comparison(candidate_of(bundles))
            assert nothing == ShadowComparison(request_count=0, rank_biased_overlap=None)
            for user in ("same", "bad", "other", "same"):
                shadow.offer({"user": user}, IDS)
            return await compared(bundles, shadow, 4)

    found = asyncio.run(run())
    assert found.error_count == 1
    assert found.rank_biased_overlap == pytest.approx(2 / 3)
    assert "RequestError" in caplog.text
    assert "private" not in caplog.text


def test_every_candidate_is_compared_and_the_previous_bundle_is_not(tmp_path):
    served = [FakeServed(version, lambda _: IDS) for version in "234"]

    async def run():
        async with comparing(tmp_path, ALL, *served) as (bundles, shadow):
            bundles.promote("2")
            shadow.offer("request", IDS)
            await compared(bundles, shadow, 1, "3")
            await compared(bundles, shadow, 1, "4")
            assert shadow.comparison(candidate_of(bundles, "1")) is None
            assert shadow.comparison(candidate_of(bundles, "2")) is None

    asyncio.run(run())
    assert [one.requests for one in served] == [[], ["request"], ["request"]]


def test_only_what_the_active_bundle_answered_is_compared(tmp_path):
    candidate = FakeServed("2", lambda _: IDS)

    async def run():
        async with comparing(tmp_path, ALL, candidate) as (bundles, shadow):
            shadow.offer("by the candidate", IDS, version="2")
            shadow.offer("by the active one", IDS, version="1")
            await compared(bundles, shadow, 1)

    asyncio.run(run())
    assert candidate.requests == ["by the active one"]


def test_what_waits_longer_than_its_bundle_serves_is_not_compared(tmp_path):
    candidates = [FakeServed("2", lambda _: IDS), FakeServed("3", lambda _: IDS)]

    async def run():
        async with comparing(tmp_path, ALL, *candidates) as (bundles, shadow):
            shadow.offer("old", IDS)
            bundles.promote("2")
            shadow.offer("new", IDS)
            await compared(bundles, shadow, 1, "3")

    asyncio.run(run())
    assert [one.requests for one in candidates] == [[], ["new"]]


def test_a_comparison_starts_anew_against_another_active_bundle(tmp_path):
    candidates = [FakeServed("2", lambda _: IDS), FakeServed("3", lambda _: IDS)]

    async def run():
        async with comparing(tmp_path, ALL, *candidates) as (bundles, shadow):
            shadow.offer("request", IDS)
            await compared(bundles, shadow, 1, "3")
            bundles.promote("2")
            assert shadow.comparison(candidate_of(bundles, "3")).request_count == 0

    asyncio.run(run())


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_share_of_the_requests_is_compared(tmp_path, share):
    candidate = FakeServed("2", lambda _: IDS)
    config = ShadowConfig(share=share, queue=10_000)

    async def run():
        async with comparing(tmp_path, config, candidate) as (bundles, shadow):
            shadow._random = np.random.default_rng(0)
            for number in range(2_000):
                shadow.offer(number, IDS)
            if share:
                await compared(bundles, shadow, 400)
            else:
                assert shadow.comparison(candidate_of(bundles)) is None

    asyncio.run(run())
    # 2,000 draws: the bounds are five standard deviations away.
    assert abs(len(candidate.requests) - 2_000 * share) <= 100


def test_nobody_waits_and_what_does_not_fit_is_dropped(tmp_path):
    async def run():
        go_on = asyncio.Event()

        async def slow():
            await go_on.wait()
            return IDS

        candidate = FakeServed("2", lambda _: slow())
        config = ShadowConfig(share=1.0, queue=3)
        async with comparing(tmp_path, config, candidate) as (bundles, shadow):
            shadow.offer(0, IDS)
            while not candidate.requests:
                await asyncio.sleep(0)
            for number in range(1, 100):
                shadow.offer(number, IDS)  # returns, though the candidate hangs
            go_on.set()
            found = await compared(bundles, shadow, 4)
            shadow.offer("next", IDS)
            assert (await compared(bundles, shadow, 5)).error_count == found.error_count == 0
            assert candidate.requests == [0, 1, 2, 3, "next"]

    asyncio.run(asyncio.wait_for(run(), WAIT_S))


def test_prometheus_is_told_of_each_bundle(tmp_path):
    def reply(request):
        if request == "bad":
            raise RequestError("user: none")
        return IDS

    async def run():
        candidates = FakeServed("2", reply), FakeServed("3", lambda _: IDS)
        async with comparing(tmp_path, ALL, *candidates) as (bundles, shadow):
            registry = CollectorRegistry()
            registry.register(BundleCollector(bundles, shadow))
            before = generate_latest(registry).decode()
            assert 'fuserank_bundle_role{role="active",version="1"} 1.0' in before
            assert 'fuserank_shadow_requests_total{version="2"} 0.0' in before
            assert "fuserank_shadow_rank_biased_overlap{" not in before
            for request in ("good", "bad"):
                shadow.offer(request, IDS)
            await compared(bundles, shadow, 2, "3")
            after = generate_latest(registry).decode()
            assert 'fuserank_shadow_requests_total{version="2"} 2.0' in after
            assert 'fuserank_shadow_failures_total{version="2"} 1.0' in after
            assert 'fuserank_shadow_rank_biased_overlap{version="2"} 1.0' in after
            bundles.promote("3")
            promoted = generate_latest(registry).decode()
            assert 'fuserank_bundle_role{role="previous",version="1"} 1.0' in promoted
            assert 'fuserank_shadow_requests_total{version="3"}' not in promoted
            assert 'fuserank_shadow_requests_total{version="2"} 0.0' in promoted

    asyncio.run(run())


def test_without_a_candidate_nothing_is_kept(tmp_path):
    served = FakeServed("1", lambda _: IDS)

    async def run():
        async with comparing(tmp_path, ALL, active=served) as (_, shadow):
            shadow.offer("request", IDS)
            assert not shadow._waiting
            await asyncio.sleep(0)

    asyncio.run(run())
    assert served.requests == []


def test_closing_drops_what_waits(tmp_path):
    async def run():
        forever = asyncio.Event()

        async def hang():
            await forever.wait()

        candidate = FakeServed("2", lambda _: hang())
        async with comparing(tmp_path, ALL, candidate) as (_, shadow):
            for number in range(5):
                shadow.offer(number, IDS)
            while not candidate.requests:
                await asyncio.sleep(0)
        assert candidate.requests == [0]

    asyncio.run(asyncio.wait_for(run(), WAIT_S))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": -0.1}, "shadow.share: found -0.1, expected 0 to 1"),
        ({"share": 1.5}, "shadow.share: found 1.5"),
        ({"share": float("nan")}, "shadow.share: found nan"),
        ({"queue": 0}, "shadow.queue: found 0, expected 1 or more"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        ShadowConfig(**options)


def test_a_question_is_answered_again_behind_all_others_and_not_kept(on_loop, engine):
    async def run():
        answers = Answers()
        served = Served(engine, loop=asyncio.get_running_loop(), answers=answers)
        asked = []
        inner = served.answer
        served.answer = lambda question: asked.append(question) or inner(question)
        question = Question(users=[{"user_id": "42"}], k=3, answer_key=b"key")
        try:
            return await answer_again(served, question), asked, len(answers)
        finally:
            await asyncio.to_thread(served.close)

    item_ids, asked, kept = on_loop(run())
    assert list(item_ids) == ["0", "1", "2"]
    assert asked[0].bulk
    assert kept == 0
