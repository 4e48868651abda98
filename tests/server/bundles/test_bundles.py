"""What must hold whatever operators and callers do at the same time, on bundles that are fakes."""

import asyncio
import contextlib
import gc
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fuserank.errors import (
    BundleError,
    BundleFormatError,
    BundleStateError,
    ConfigError,
    RequestError,
    UnavailableError,
    UnknownVersionError,
)
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.config import BundlesConfig
from fuserank.server.bundles.loaded import Role

WAIT_S = 20


class FakeServed:
    def __init__(self, version):
        self.engine = SimpleNamespace(info=SimpleNamespace(name="films", version=version))
        self.closes = 0
        self.closed = threading.Event()

    @property
    def version(self):
        return self.engine.info.version

    def close(self):
        self.closes += 1
        self.closed.set()


class Opener:
    """Opens what the test says next, as soon as the test lets it."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.outcome = None
        self.opened = []

    def __call__(self, path):
        self.begun.set()
        assert self.go_on.wait(WAIT_S)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.opened.append(FakeServed(self.outcome))
        return self.opened[-1]

    def reset(self):
        self.begun.clear()
        self.go_on.clear()

    def lets(self, outcome):
        self.outcome = outcome
        self.go_on.set()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "next").mkdir()
    return tmp_path


def roles(bundles):
    return {one.info.version: one.role for one in bundles.loaded()}


@contextlib.asynccontextmanager
async def serving(folder, *versions, max_bundles=3):
    """Yield bundles, of which the first version serves and the rest are candidates; and all."""
    opener = Opener()
    config = BundlesConfig(folder=folder, max_loaded=max_bundles)
    bundles = Bundles(opener, config)
    opener.opened.append(FakeServed(versions[0]))
    await bundles.start(lambda: opener.opened[0])
    for version in versions[1:]:
        opener.lets(version)
        await bundles.load("next")
    yield bundles, opener
    opener.go_on.set()
    await asyncio.wait_for(bundles.close(), WAIT_S)
    assert all(served.closes == 1 for served in opener.opened)


async def closed(served):
    assert await asyncio.to_thread(served.closed.wait, WAIT_S)


def test_a_candidate_answers_those_alone_who_name_it(folder):
    async def run():
        async with serving(folder, "1", "2") as (bundles, (_)):
            assert roles(bundles) == {"1": Role.ACTIVE, "2": Role.CANDIDATE}
            with bundles.lease() as served:
                assert served.version == "1"
            with bundles.lease("2") as served:
                assert served.version == "2"
            with pytest.raises(UnknownVersionError, match="found '7', which is not the version"):
                bundles.lease("7").__enter__()

    asyncio.run(run())


def test_promotion_and_rollback(folder):
    async def run():
        async with serving(folder, "1", "2") as (bundles, _):
            assert bundles.promote("2").role is Role.ACTIVE
            assert roles(bundles) == {"2": Role.ACTIVE, "1": Role.PREVIOUS}
            bundles.promote("2")  # again, as a script does after a timeout
            assert roles(bundles) == {"2": Role.ACTIVE, "1": Role.PREVIOUS}
            assert bundles.rollback().info.version == "1"
            assert roles(bundles) == {"1": Role.ACTIVE, "2": Role.CANDIDATE}
            with pytest.raises(BundleStateError, match="no previous bundle"):
                bundles.rollback()  # again: what was rolled back must not come back
            assert roles(bundles) == {"1": Role.ACTIVE, "2": Role.CANDIDATE}
            with pytest.raises(UnknownVersionError, match="version: found '9'"):
                bundles.promote("9")

    asyncio.run(run())


def test_the_previous_bundle_can_be_promoted(folder):
    async def run():
        async with serving(folder, "1", "2") as (bundles, opener):
            bundles.promote("2")
            bundles.promote("1")
            assert roles(bundles) == {"1": Role.ACTIVE, "2": Role.PREVIOUS}
            assert not any(served.closes for served in opener.opened)

    asyncio.run(run())


def test_a_call_ends_with_the_bundle_it_began_with(folder):
    async def run():
        async with serving(folder, "1", "2", "3") as (bundles, opener):
            first = opener.opened[0]
            with bundles.lease() as served:
                bundles.promote("2")
                bundles.promote("3")  # the first is not kept any more
                assert roles(bundles) == {"3": Role.ACTIVE, "2": Role.PREVIOUS}
                with bundles.lease() as now:
                    assert now.version == "3"
                assert served is first
                await asyncio.sleep(0)
                assert not first.closes
            await closed(first)

    asyncio.run(run())


def test_the_memory_of_a_bundle_that_went_is_freed(folder):
    async def run():
        async with serving(folder, "1", "2", "3") as (bundles, opener):
            first = weakref.ref(opener.opened.pop(0))
            done = first().closed
            with bundles.lease() as served:
                bundles.promote("2")
                bundles.promote("3")
            del served
            assert await asyncio.to_thread(done.wait, WAIT_S)
            await bundles.close()
            assert first() is None

    gc.disable()  # it must not take a collection
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_load_takes_the_place_of_the_oldest_candidate(folder):
    async def run():
        async with serving(folder, "1", "2", "3", "4") as (bundles, opener):
            assert roles(bundles) == {
                "1": Role.ACTIVE,
                "3": Role.CANDIDATE,
                "4": Role.CANDIDATE,
            }
            await closed(opener.opened[1])

    asyncio.run(run())


def test_while_what_went_is_still_used_no_more_is_loaded(folder):
    async def run():
        async with serving(folder, "1", "2", "3") as (bundles, opener):
            with bundles.lease("2"):
                opener.lets("4")
                await bundles.load("next")
                opener.lets("5")
                with pytest.raises(BundleStateError, match="still ends its calls"):
                    await bundles.load("next")
            await closed(opener.opened[1])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("failure", "raised", "words"),
    [
        (BundleFormatError("x: no such bundle"), BundleFormatError, "no such bundle"),
        (ValueError("not a graph"), BundleError, "does not run: ValueError: not a graph"),
        (MemoryError(), BundleError, "does not run: MemoryError"),
    ],
)
def test_a_load_that_fails_changes_nothing(folder, failure, raised, words):
    async def run():
        async with serving(folder, "1", "2", "3") as (bundles, opener):
            before = bundles.loaded()
            opener.lets(failure)
            with pytest.raises(raised, match=words):
                await bundles.load("next")
            assert bundles.loaded() == before
            opener.lets("4")
            await bundles.load("next")

    asyncio.run(run())


def test_those_who_answer_need_not_wait_for_a_load(folder):
    async def run():
        before, during = sys.getswitchinterval(), []

        def fail():
            during.append(sys.getswitchinterval())
            raise BundleFormatError("broken")

        with pytest.raises(BundleFormatError):
            await Bundles(Opener()).start(fail)
        assert during[0] < before
        assert sys.getswitchinterval() == before

    asyncio.run(run())


def test_a_first_load_that_fails_leaves_nothing():
    async def run():
        bundles = Bundles(Opener())

        def fail():
            raise BundleFormatError("no such bundle")

        with pytest.raises(BundleFormatError):
            await bundles.start(fail)
        with pytest.raises(UnavailableError, match="still loading"):
            bundles.lease().__enter__()
        assert bundles.loaded() == []
        assert bundles.active is None

    asyncio.run(run())


def test_one_load_at_a_time(folder):
    async def run():
        async with serving(folder, "1") as (bundles, opener):
            one = asyncio.create_task(bundles.load("next"))
            assert await asyncio.to_thread(opener.begun.wait, WAIT_S)
            with bundles.lease() as served:  # the loop goes on meanwhile
                assert served.version == "1"
            with pytest.raises(BundleStateError, match="another bundle is being loaded"):
                await bundles.load("next")
            opener.lets("2")
            assert (await one).info.version == "2"

    asyncio.run(run())


@pytest.mark.parametrize("role", ["active", "previous", "candidate"])
def test_a_version_is_loaded_once(folder, role):
    async def run():
        async with serving(folder, "2", "1", "3") as (bundles, opener):
            bundles.promote("1")
            before = bundles.loaded()
            opener.lets({"active": "1", "previous": "2", "candidate": "3"}[role])
            with pytest.raises(BundleStateError, match=f"is loaded already, as {role}"):
                await bundles.load("next")
            assert bundles.loaded() == before
            await closed(opener.opened[-1])

    asyncio.run(run())


def test_a_load_goes_on_without_its_caller(folder):
    async def run():
        async with serving(folder, "1") as (bundles, opener):
            caller = asyncio.create_task(bundles.load("next"))
            assert await asyncio.to_thread(opener.begun.wait, WAIT_S)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
            opener.lets("2")
            while "2" not in roles(bundles):
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), WAIT_S))


def test_closing_waits_for_a_load_and_for_leases(folder):
    async def run():
        async with serving(folder, "1") as (bundles, opener):
            loading = asyncio.create_task(bundles.load("next"))
            assert await asyncio.to_thread(opener.begun.wait, WAIT_S)
            with bundles.lease():
                closing = asyncio.create_task(bundles.close())
                await asyncio.sleep(0)
                with pytest.raises(UnavailableError, match="shutting down"):
                    bundles.lease().__enter__()
                opener.lets("2")
                with pytest.raises(UnavailableError, match="shutting down"):
                    await loading
                await closed(opener.opened[1])
                assert not closing.done()
                assert not opener.opened[0].closes
            await closing
            with pytest.raises(UnavailableError, match="shutting down"):
                await bundles.load("next")

    asyncio.run(run())


def test_what_does_not_close_does_not_hold_up_the_rest(folder, caplog):
    async def run():
        async with serving(folder, "1") as (_, opener):
            close = opener.opened[0].close

            def fail():
                close()
                raise OSError("busy")

            opener.opened[0].close = fail

    asyncio.run(run())
    assert "bundle films 1 did not close" in caplog.text


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../next", "next/", "/etc", "a/b", "a\\b", "c:", "next\0", ".next", "x" * 256],
)
def test_a_name_is_one_entry_of_the_folder(folder, name):
    async def run():
        async with serving(folder, "1") as (bundles, opener):
            with pytest.raises(RequestError, match="name: found") as caught:
                await bundles.load(name)
            assert caught.value.field == "name"
            assert not opener.begun.is_set()

    asyncio.run(run())


def test_links_may_not_lead_out_of_the_folder(tmp_path):
    folder = tmp_path / "bundles"
    (folder / "releases" / "7").mkdir(parents=True)
    (folder / "current").symlink_to("releases/7")
    (tmp_path / "secret").mkdir()
    for name, target in {"out": "../secret", "root": "/", "self": ".", "circle": "circle"}.items():
        (folder / name).symlink_to(target)
    opened = []

    def open_bundle(path):
        opened.append(path)
        return FakeServed("2")

    async def run():
        bundles = Bundles(open_bundle, BundlesConfig(folder=folder))
        await bundles.start(lambda: FakeServed("1"))
        for name in ("out", "root", "self"):
            with pytest.raises(RequestError, match="a link to something that is not in"):
                await bundles.load(name)
        with pytest.raises(BundleError):
            await bundles.load("circle")
        assert opened == []
        await bundles.load("current")
        assert opened == [(folder / "releases" / "7").resolve()]
        await bundles.close()

    asyncio.run(run())


def test_without_a_folder_nothing_is_loaded():
    async def run():
        bundles = Bundles(Opener())
        await bundles.start(lambda: FakeServed("1"))
        with pytest.raises(BundleStateError, match="no folder to load bundles from"):
            await bundles.load("next")
        await bundles.close()

    asyncio.run(run())


def test_before_the_first_bundle_serves_none_is_loaded(folder):
    async def run():
        bundles = Bundles(Opener(), BundlesConfig(folder=folder))
        with pytest.raises(UnavailableError, match="still loading"):
            await bundles.load("next")

    asyncio.run(run())


def test_a_folder_that_is_not_there_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"bundles\.folder: .*none is no directory"):
        Bundles(Opener(), BundlesConfig(folder=tmp_path / "none"))


def test_a_folder_that_goes_is_said_to(tmp_path):
    async def run():
        folder = tmp_path / "bundles"
        folder.mkdir()
        bundles = Bundles(Opener(), BundlesConfig(folder=folder))
        await bundles.start(lambda: FakeServed("1"))
        folder.rmdir()
        with pytest.raises(BundleError, match="the folder of bundles cannot be read"):
            await bundles.load("next")
        await bundles.close()

    asyncio.run(run())


def test_too_few_bundles_are_refused():
    with pytest.raises(ConfigError, match=r"bundles\.max_loaded: found 2, expected 3 or more"):
        BundlesConfig(max_loaded=2)


class Machine(RuleBasedStateMachine):
    """Loads, promotions, rollbacks and leases in any order."""

    folder: Path

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.opener = Opener()
        self.loading = None
        self.leases = []  # each: the context manager, what it yielded
        self.numbers = iter(range(1, 1_000))

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, WAIT_S))

    def kept(self):
        return {one.info.version for one in self.bundles.loaded()}

    def used(self):
        return {served for _, served in self.leases}

    def version_of(self, role):
        return next((one.info.version for one in self.bundles.loaded() if one.role is role), None)

    @initialize(max_bundles=st.integers(3, 5))
    def start(self, max_bundles):
        self.max_bundles = max_bundles

        async def begin():
            config = BundlesConfig(folder=self.folder, max_loaded=max_bundles)
            self.bundles = Bundles(self.opener, config)
            first = FakeServed("v0")
            self.opener.opened.append(first)
            await self.bundles.start(lambda: first)

        self.run(begin())

    @rule()
    def begin_load(self):
        async def begin():
            self.opener.reset()
            task = asyncio.create_task(self.bundles.load("next"))
            while not task.done() and not self.opener.begun.is_set():
                await asyncio.sleep(0)
            return task

        async def refused():
            with pytest.raises(BundleStateError):
                await self.bundles.load("next")

        draining = {served for served in self.used() if served.version not in self.kept()}
        if self.loading is not None or len(self.kept()) + len(draining) > self.max_bundles:
            self.run(refused())
        else:
            self.loading = self.run(begin())
            assert not self.loading.done()

    @precondition(lambda self: self.loading is not None)
    @rule(outcome=st.sampled_from(["fresh", "fresh", "fresh", "again", "broken"]), data=st.data())
    def end_load(self, outcome, data):
        before, active = self.kept(), self.version_of(Role.ACTIVE)
        loading, self.loading = self.loading, None
        if outcome == "fresh":
            version = f"v{next(self.numbers)}"
            self.opener.lets(version)
            assert self.run(loading).role is Role.CANDIDATE
            assert version in self.kept()
            assert self.kept() <= before | {version}
        elif outcome == "again":
            self.opener.lets(data.draw(st.sampled_from(sorted(before))))
            with pytest.raises(BundleStateError):
                self.run(loading)
            assert self.kept() == before
        else:
            self.opener.lets(BundleFormatError("broken"))
            with pytest.raises(BundleFormatError):
                self.run(loading)
            assert self.kept() == before
        assert self.version_of(Role.ACTIVE) == active

    @rule(data=st.data())
    def promote(self, data):
        version = data.draw(st.sampled_from(sorted(self.kept())))
        active, previous = self.version_of(Role.ACTIVE), self.version_of(Role.PREVIOUS)
        self.run(self._call(lambda: self.bundles.promote(version)))
        assert self.version_of(Role.ACTIVE) == version
        assert self.version_of(Role.PREVIOUS) == (previous if version == active else active)

    @rule()
    def roll_back(self):
        active, previous = self.version_of(Role.ACTIVE), self.version_of(Role.PREVIOUS)
        if previous is None:
            with pytest.raises(BundleStateError):
                self.run(self._call(self.bundles.rollback))
            return
        self.run(self._call(self.bundles.rollback))
        assert self.version_of(Role.ACTIVE) == previous
        assert self.version_of(Role.PREVIOUS) is None
        assert active in self.kept()

    @rule(data=st.data())
    def lease(self, data):
        version = data.draw(st.sampled_from([None, *sorted(self.kept())]))
        manager = self.bundles.lease(version)
        served = manager.__enter__()
        assert served.version == (version or self.version_of(Role.ACTIVE))
        self.leases.append((manager, served))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data):
        manager, _ = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.run(self._call(lambda: manager.__exit__(None, None, None)))

    @invariant()
    def one_serves_and_those_in_use_are_open(self):
        found = self.bundles.loaded()
        assert [one.role for one in found].count(Role.ACTIVE) == 1
        assert found[0].role is Role.ACTIVE
        assert [one.role for one in found].count(Role.PREVIOUS) <= 1
        assert len(found) <= self.max_bundles
        assert not any(served.closes for served in self.used())
        with self.bundles.lease() as served:
            assert served.version == found[0].info.version
            assert not served.closes

    @invariant()
    def what_nobody_needs_is_closed_once(self):
        needed = self.used()
        for version in self.kept():
            with self.bundles.lease(version) as served:
                needed.add(served)
        for served in self.opener.opened:
            if served not in needed:
                self.run(closed(served))
            assert served.closes == (served not in needed)
        self.run(self._settle())
        assert len(needed) <= self.max_bundles + 1

    def teardown(self):
        async def end():
            self.opener.lets(f"v{next(self.numbers)}")
            closing = asyncio.create_task(self.bundles.close())
            if self.loading is not None:
                with pytest.raises(UnavailableError):
                    await self.loading
            for manager, _ in self.leases:
                manager.__exit__(None, None, None)
            await closing

        if hasattr(self, "bundles"):
            self.run(end())
            assert all(served.closes == 1 for served in self.opener.opened)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _settle(self):
        """Let the loop see what has closed on its thread."""
        while self.bundles._closings:
            await asyncio.sleep(0)

    @staticmethod
    async def _call(function):
        return function()


def test_whatever_happens_in_whatever_order(folder):
    machine = type("InFolder", (Machine,), {"folder": folder})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
