"""Several workers on one event loop, over bundles that are fakes: what one is asked, all do."""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuserank.errors import (
    BundleIntegrityError,
    BundleStateError,
    FuserankError,
    RequestError,
    UnavailableError,
    UnknownVersionError,
)
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.config import BundlesConfig
from fuserank.server.bundles.loaded import Role
from fuserank.server.workers.relay import Relay
from fuserank.server.workers.runtime_folder import RuntimeFolder, Seating, runtime_folder
from fuserank.server.workers.seat import Seat

WAIT_S = 20
MOST = 3
NAMES = ("a", "b", "c", "d", "e")


class FakeServed:
    def __init__(self, version):
        self.engine = SimpleNamespace(info=SimpleNamespace(name="films", version=version))
        self.closes = 0

    def close(self):
        self.closes += 1


class Worker:
    """What a worker process has, without a port of its own."""

    def __init__(self, runtime, number, folder, first="a", answer_s=WAIT_S):
        self.broken, self.begun, self.go_on = {}, threading.Event(), threading.Event()
        self.opened, self.forgotten = [], []
        self.go_on.set()
        self.seating = Seating(folder=runtime, number=number, bundle=folder / first)
        self.bundles = Bundles(self._open, BundlesConfig(folder=folder, max_loaded=MOST))
        self.seat = Seat(self.seating, self.bundles, self._forget)
        files = RuntimeFolder(runtime)
        self.socket = files.socket(number)
        self.relay = Relay(files, self.bundles, most=MOST, answer_s=answer_s)

    def _open(self, path):
        self.begun.set()
        assert self.go_on.wait(WAIT_S)
        if path.name in self.broken:
            raise self.broken[path.name]
        self.opened.append(FakeServed((path / "version").read_text()))
        return self.opened[-1]

    def _forget(self, user_id):
        self.forgotten.append(user_id)
        return len(self.forgotten)

    async def start(self):
        first = self.seating.first
        loaded = await self.bundles.start(lambda: self._open(first))
        await self.seat.take(loaded.info.version)

    def roles(self):
        return [(one.info.version, one.role) for one in self.bundles.loaded()]

    async def stop(self):
        self.go_on.set()
        await asyncio.wait_for(self.relay.close(), WAIT_S)
        await self.seat.close()
        await asyncio.wait_for(self.bundles.close(), WAIT_S)
        assert all(served.closes == 1 for served in self.opened)

    async def die(self):
        """End, and leave the socket as a process does that is killed."""
        await self.stop()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.socket))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    for name in NAMES:
        (root / name).mkdir()
        (root / name / "version").write_text(f"v{name}")
    return root


@contextlib.asynccontextmanager
async def serving(folder, count=2, **options):
    with runtime_folder() as runtime:
        workers = [Worker(runtime, number, folder, **options) for number in range(count)]
        try:
            await asyncio.gather(*(worker.start() for worker in workers))
            yield workers
        finally:
            for worker in workers:
                worker.go_on.set()
            await asyncio.gather(*(worker.stop() for worker in workers))


async def again(workers, number, folder):
    """Start a worker again, as the supervisor does."""
    workers[number] = Worker(workers[number].seating.folder, number, folder)
    await workers[number].start()


def everyone(workers, **roles):
    """Assert that all have bundles in such roles."""
    expected = [(f"v{name}", Role(role)) for name, role in roles.items()]
    assert [worker.roles() for worker in workers] == [expected] * len(workers)


def test_what_one_is_asked_all_do(folder):
    async def run():
        async with serving(folder, 3) as workers:
            loaded = await workers[1].relay.load("b")
            assert (loaded.info.version, loaded.role) == ("vb", Role.CANDIDATE)
            everyone(workers, a="active", b="candidate")
            assert (await workers[2].relay.promote("vb")).role is Role.ACTIVE
            everyone(workers, b="active", a="previous")
            await workers[0].relay.promote("vb")  # again, as a script does
            everyone(workers, b="active", a="previous")
            assert (await workers[0].relay.rollback()).info.version == "va"
            everyone(workers, a="active", b="candidate")
            with pytest.raises(BundleStateError, match="no previous bundle"):
                await workers[1].relay.rollback()
            with pytest.raises(UnknownVersionError, match="version: found 'vx'"):
                await workers[1].relay.promote("vx")
            with pytest.raises(BundleStateError, match="worker 0: version va is loaded already"):
                await workers[1].relay.load("a")
            with pytest.raises(RequestError, match="name: found"):
                await workers[1].relay.load("../a")
            everyone(workers, a="active", b="candidate")

    asyncio.run(run())


def test_users_are_forgotten_by_all_and_the_answers_are_counted_together(folder):
    async def run():
        async with serving(folder, 3) as workers:
            user = "ü" * 20_000
            assert await workers[1].relay.forget(user) == 3
            assert await workers[0].relay.forget("42") == 6
            assert [worker.forgotten for worker in workers] == [[user, "42"]] * 3

    asyncio.run(run())


def test_a_bundle_that_is_bad_in_one_worker_is_loaded_in_none(folder):
    async def run():
        async with serving(folder, 3) as workers:
            for name in ("b", "c"):  # as many as are kept
                await workers[0].relay.load(name)
            workers[1].broken["d"] = BundleIntegrityError("ids.npy: altered")
            with pytest.raises(BundleIntegrityError, match=r"^worker 1: ids\.npy: altered"):
                await workers[2].relay.load("d")
            everyone(workers, a="active", b="candidate", c="candidate")
            workers[1].broken["d"] = MemoryError()
            with pytest.raises(FuserankError, match="worker 1: the bundle does not run"):
                await workers[0].relay.load("d")
            everyone(workers, a="active", b="candidate", c="candidate")
            workers[1].broken.clear()
            await workers[2].relay.load("d")
            everyone(workers, a="active", c="candidate", d="candidate")

    asyncio.run(run())


def test_a_worker_that_died_comes_back_as_the_others_are(folder):
    async def run():
        async with serving(folder) as workers:
            await workers[0].relay.load("b")
            await workers[1].die()
            await workers[0].relay.promote("vb")  # whoever is dead is not waited for
            await workers[0].relay.load("c")
            await again(workers, 1, folder)
            everyone(workers, b="active", a="previous", c="candidate")
            await workers[1].relay.rollback()
            await workers[0].die()
            await again(workers, 0, folder)
            everyone(workers, a="active", c="candidate", b="candidate")

    asyncio.run(run())


def test_a_change_while_a_worker_starts_is_not_lost_on_it(folder):
    async def run():
        async with serving(folder) as workers:
            await workers[0].relay.load("b")
            await workers[1].die()
            late = workers[1] = Worker(workers[0].seating.folder, 1, folder)
            late.go_on.clear()
            starting = asyncio.create_task(late.start())
            assert await asyncio.to_thread(late.begun.wait, WAIT_S)
            await workers[0].relay.promote("vb")
            await workers[0].relay.load("c")
            await workers[0].relay.promote("vc")  # what the late one loads first is gone by now
            await workers[0].relay.load("d")
            late.go_on.set()
            await starting
            everyone(workers, c="active", b="previous", d="candidate")

    asyncio.run(run())


def test_a_promotion_does_not_wait_for_a_load(folder):
    async def run():
        async with serving(folder) as workers:
            await workers[0].relay.load("b")
            workers[1].go_on.clear()
            workers[1].begun.clear()
            loading = asyncio.create_task(workers[0].relay.load("c"))
            assert await asyncio.to_thread(workers[1].begun.wait, WAIT_S)
            with pytest.raises(BundleStateError, match="another bundle is being loaded"):
                await workers[1].relay.load("d")
            await workers[1].relay.promote("vb")
            workers[1].go_on.set()
            assert (await loading).role is Role.CANDIDATE
            everyone(workers, b="active", a="previous", c="candidate")

    asyncio.run(run())


def test_a_load_goes_on_where_its_caller_leaves(folder):
    async def run():
        async with serving(folder) as workers:
            workers[1].go_on.clear()
            workers[1].begun.clear()
            loading = asyncio.create_task(workers[0].relay.load("b"))
            assert await asyncio.to_thread(workers[1].begun.wait, WAIT_S)
            loading.cancel()
            await asyncio.wait({loading})
            workers[1].go_on.set()
            await workers[0].relay.close()
            everyone(workers, a="active", b="candidate")

    asyncio.run(run())


@contextlib.contextmanager
def hanging(path):
    """Listen and never answer, as a process does that is stopped."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(8)
        yield
    path.unlink()


def test_a_worker_that_does_not_answer_is_named_and_nothing_changes(folder):
    async def run():
        async with serving(folder, answer_s=0.2) as workers:
            await workers[0].relay.load("b")
            relay = workers[0].relay
            with hanging(RuntimeFolder(workers[0].seating.folder).socket(7)):
                for change in (relay.promote("vb"), relay.load("c"), relay.forget("42")):
                    with pytest.raises(UnavailableError, match=r"^worker 7 has not answered"):
                        await change
            everyone(workers, a="active", b="candidate")
            await relay.promote("vb")
            everyone(workers, b="active", a="previous")

    asyncio.run(run())


def test_where_one_fails_after_the_check_the_others_have_changed(folder, monkeypatch):
    async def run():
        async with serving(folder) as workers:
            await workers[0].relay.load("b")
            with monkeypatch.context() as patched:
                patched.setattr(workers[1].bundles, "arrange", lambda _: 1 / 0)
                with pytest.raises(
                    UnavailableError, match="done, but not by all: worker 1: failed"
                ):
                    await workers[0].relay.promote("vb")
            assert workers[0].roles()[0] == ("vb", Role.ACTIVE)
            await workers[0].relay.promote("vb")  # to repeat it mends that
            everyone(workers, b="active", a="previous")

    asyncio.run(run())


def test_a_worker_that_dies_of_a_bundle_is_named(folder):
    async def run():
        async with serving(folder) as workers:
            workers[1].go_on.clear()
            workers[1].begun.clear()
            loading = asyncio.create_task(workers[0].relay.load("b"))
            assert await asyncio.to_thread(workers[1].begun.wait, WAIT_S)
            await workers[1].seat.close()  # which ends the order without an answer
            with pytest.raises(UnavailableError, match="worker 1 ended before it had done"):
                await loading
            everyone(workers[:1], a="active")

    asyncio.run(run())


def test_what_was_left_loaded_by_a_load_that_was_cut_off_goes(folder):
    async def run():
        async with serving(folder) as workers:
            await workers[0].bundles.add(folder / "b")
            await workers[1].relay.load("b")
            everyone(workers, a="active", b="candidate")

    asyncio.run(run())


def test_a_worker_goes_on_without_candidates_that_are_gone_and_says_so(folder, caplog):
    async def run():
        async with serving(folder) as workers:
            await workers[0].relay.load("b")
            await workers[1].die()
            late = workers[1] = Worker(workers[0].seating.folder, 1, folder)
            late.broken["b"] = BundleIntegrityError("no such bundle")
            await late.start()
            assert late.roles() == [("va", Role.ACTIVE)]
            assert "goes on without" in caplog.text
            assert "no such bundle" in caplog.text
            with pytest.raises(BundleStateError, match="worker 1 has not loaded version vb"):
                await workers[0].relay.promote("vb")
            assert workers[0].roles() == [("va", Role.ACTIVE), ("vb", Role.CANDIDATE)]
            await workers[0].relay.load("c")
            await workers[0].relay.promote("vc")
            assert late.roles()[0] == ("vc", Role.ACTIVE)

    asyncio.run(run())


def test_a_worker_does_not_serve_another_version_than_the_others(folder, tmp_path):
    async def run():
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "version").write_text("va")
        async with serving(tmp_path) as workers:
            (tmp_path / "a" / "version").write_text("vz")
            late = Worker(workers[0].seating.folder, 2, tmp_path)
            with pytest.raises(BundleStateError, match="expected version va, which the other"):
                await late.start()
            assert not late.socket.exists()
            await late.stop()

    asyncio.run(run())


def test_changes_through_several_workers_at_once_leave_all_alike(folder):
    async def run():
        async with serving(folder, 3) as workers:
            for name in ("b", "c"):
                await workers[0].relay.load(name)
            for _ in range(5):
                changes = [
                    worker.relay.promote(version)
                    for worker, version in zip(workers, ("va", "vb", "vc"), strict=True)
                ]
                await asyncio.gather(*changes, return_exceptions=True)
                assert workers[0].roles() == workers[1].roles() == workers[2].roles()

    asyncio.run(run())


Step = tuple[str, int, str]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["load", "promote", "rollback", "restart"]),
        st.integers(0, 1),
        st.sampled_from(NAMES),
    ),
    max_size=15,
)


async def outcome(change):
    try:
        found = await change
    except FuserankError as error:
        return type(error)
    return found.info.version, found.role


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_several_do_what_one_alone_would_do(folder, steps):
    async def act(target, action, name):
        if action == "load":
            return await target.load(name)
        found = target.promote(f"v{name}") if action == "promote" else target.rollback()
        return await found if asyncio.iscoroutine(found) else found

    async def run():
        async with serving(folder) as workers:
            config = BundlesConfig(folder=folder, max_loaded=MOST)
            alone = Bundles(lambda path: FakeServed((path / "version").read_text()), config)
            await alone.start(lambda: FakeServed("va"))
            for action, number, name in steps:
                if action == "restart":
                    await workers[number].die()
                    await again(workers, number, folder)
                else:
                    expected = await outcome(act(alone, action, name))
                    assert await outcome(act(workers[number].relay, action, name)) == expected
                for worker in workers:
                    assert worker.roles() == [(o.info.version, o.role) for o in alone.loaded()]
                    await settled(worker.bundles)
                await settled(alone)
            await alone.close()

    asyncio.run(run())


async def settled(bundles):
    """Wait until what went is closed, since a load is refused while it is not."""
    while bundles._closings:
        await asyncio.sleep(0)


def test_paths_are_those_of_the_folder(folder):
    async def run():
        async with serving(folder) as workers:
            await workers[0].relay.load("b")
            lineup = RuntimeFolder(workers[0].seating.folder).lineup()
            assert [Path(entry.path) for entry in lineup] == [folder / "a", folder / "b"]

    asyncio.run(run())
