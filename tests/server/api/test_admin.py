"""Operators and callers on real sockets and real bundles."""

import asyncio
import contextlib
import gc
import itertools
import json
import shutil
import threading
import weakref
from pathlib import Path

import grpc
import pytest

from fuserank import console
from fuserank.bundle import layout
from fuserank.bundle.read import digest
from fuserank.cli import main
from fuserank.engine.engine import load
from fuserank.errors import (
    BundleError,
    BundleIntegrityError,
    RequestError,
    UnavailableError,
    UnknownVersionError,
)
from fuserank.server.api.admin import AdminServicer
from fuserank.server.bundles.bundles import VERSION_HEADER, Bundles
from fuserank.server.bundles.config import BundlesConfig, ShadowConfig
from fuserank.server.bundles.loaded import Loaded, Role
from fuserank.server.bundles.shadow import Shadow, ShadowComparison
from fuserank.server.client import admin_cli
from fuserank.server.client.admin_client import AdminClient
from fuserank.server.client.client import Client
from fuserank.server.messages import conversion
from fuserank.server.messages.admin_conversion import (
    LoadedBundle,
    bundle_from_proto,
    bundle_to_proto,
)
from fuserank.server.messages.status import status_of
from fuserank.server.pb import admin_pb2, admin_pb2_grpc, recommender_pb2_grpc
from fuserank.server.pb import recommender_pb2 as pb

WAIT_S = 30
KINDS = ("additive", "dot", "generic")
USER = {"user_id": "u1"}


class Served:
    """An engine with nothing before it."""

    def __init__(self, engine):
        self.engine = engine

    def close(self):
        self.engine.close()


class Answers(recommender_pb2_grpc.RecommenderServiceServicer):
    """Answers Recommend as any service over `Bundles` does: under a lease, then offers it."""

    def __init__(self, bundles, shadow):
        self.bundles, self.shadow = bundles, shadow

    async def Recommend(self, request, context):
        version = dict(context.invocation_metadata()).get(VERSION_HEADER)
        user = conversion.user_from_proto(request.user)
        try:
            with self.bundles.lease(version) as served:
                info = served.engine.info
                found = await asyncio.to_thread(served.engine.recommend, user, request.k)
                self.shadow.offer((user, request.k), found.item_ids, version=info.version)
        except Exception as error:
            await context.abort(*status_of(error))
        return pb.RecommendResponse(
            recommendation=conversion.recommendation_to_proto(found),
            served_by=pb.ServedBy(bundle_version=info.version),
        )


async def answer(served, request):
    return (await asyncio.to_thread(served.engine.recommend, *request)).item_ids


class Running:
    """A server, and what is behind it."""

    def __init__(self, folder, shadow_share):
        self.forgotten, self.engines = [], []
        config = BundlesConfig(folder=folder)
        self.bundles = Bundles(self._open, config)
        self.shadow = Shadow(self.bundles, answer, ShadowConfig(share=shadow_share))
        self.server = grpc.aio.server()
        self.admin = AdminServicer(self.bundles, self.shadow, self._forget)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self.admin, self.server)
        recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(
            Answers(self.bundles, self.shadow), self.server
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def _open(self, path):
        engine = load(path, "cpu", threads=1)
        self.engines.append(weakref.ref(engine))
        return Served(engine)

    def _forget(self, user_id):
        self.forgotten.append(user_id)
        return 3

    async def start(self, path):
        await self.server.start()
        await self.bundles.start(lambda: self._open(path))

    async def stop(self):
        await self.server.stop(5)
        await self.shadow.close()
        await self.bundles.close()


@pytest.fixture(scope="module")
def originals(make_bundle):
    """Small bundles of three kinds, by kind, each with a version of its own."""
    return {kind: make_bundle(kind).path for kind in KINDS}


@pytest.fixture
def folder(originals, tmp_path):
    for kind, path in originals.items():
        shutil.copytree(path, tmp_path / kind)
    return tmp_path


@pytest.fixture
def begin(on_loop, folder):
    with contextlib.ExitStack() as stack:

        def start(shadow_share=1.0):
            async def run():
                running = Running(folder, shadow_share)
                await running.start(folder / "additive")
                return running

            running = on_loop(run())
            stack.callback(lambda: on_loop(running.stop()))
            return running

        yield start


@pytest.fixture
def running(begin):
    return begin()


@pytest.fixture
def operator(running):
    with AdminClient(running.address, timeout_s=WAIT_S) as client:
        yield client


def roles(operator):
    return {one.info.model: one.role for one in operator.list()}


def test_from_load_to_rollback(running, operator):
    first = operator.list()
    assert [one.role for one in first] == ["active"]
    loaded = operator.load("dot")
    assert (loaded.role, loaded.info.model) == ("candidate", "dot")
    with Client(running.address) as client:
        assert client.recommend(USER, 5)
        promoted = operator.promote(loaded.info.version)
        assert (promoted.role, promoted.info) == ("active", loaded.info)
        assert roles(operator) == {"dot": "active", "additive": "previous"}
        rolled_back = operator.rollback()
        assert rolled_back.info == first[0].info
        assert roles(operator) == {"additive": "active", "dot": "candidate"}
        assert client.recommend(USER, 5)


def test_a_request_may_name_the_version_that_answers(running, operator):
    loaded = operator.load("dot")
    request = pb.RecommendRequest(user=pb.User(), k=3)
    with grpc.insecure_channel(running.address) as channel:
        ask = recommender_pb2_grpc.RecommenderServiceStub(channel).Recommend
        version = loaded.info.version
        reply = ask(request, metadata=((VERSION_HEADER, version),))
        assert reply.served_by.bundle_version == version
        assert ask(request).served_by.bundle_version != version
        with pytest.raises(grpc.RpcError) as caught:
            ask(request, metadata=((VERSION_HEADER, "another"),))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "another" in caught.value.details()


def test_candidates_are_compared_on_what_callers_ask(running, operator):
    operator.load("dot")
    with Client(running.address) as client:
        for number in range(4):
            client.recommend({"user_id": f"u{number}"}, 10)
    shadow = None
    for _ in range(10_000):
        shadow = operator.list()[1].shadow
        if shadow.request_count == 4:
            break
    assert shadow.request_count == 4
    assert shadow.error_count == 0
    assert 0 <= shadow.rank_biased_overlap < 1
    assert operator.list()[0].shadow is None


def test_no_call_fails_while_bundles_come_and_go(running, operator):
    versions, failures, stop = set(), [], threading.Event()

    def call():
        with grpc.insecure_channel(running.address) as channel:
            ask = recommender_pb2_grpc.RecommenderServiceStub(channel).Recommend
            user = conversion.user_to_proto(USER)
            for _ in range(20_000):
                if stop.is_set():
                    return
                try:
                    reply = ask(pb.RecommendRequest(user=user, k=5), timeout=WAIT_S)
                    assert len(reply.recommendation.item_ids) == 5
                    versions.add(reply.served_by.bundle_version)
                except Exception as error:
                    failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    promoted = set()
    try:
        for kind in itertools.islice(itertools.cycle(("dot", "generic", "additive")), 9):
            promoted.add(operator.promote(_load(operator, kind).info.version).info.version)
        operator.rollback()
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert failures == []
    assert len(promoted) == 3
    assert versions <= promoted
    assert len(versions) > 1


def _load(operator, kind):
    """Load a bundle, once the one of its version that went has ended its calls."""
    for _ in range(1_000):
        with contextlib.suppress(BundleError):
            return operator.load(kind)
    raise AssertionError("nothing could be loaded")


def test_the_engine_of_a_bundle_that_went_is_freed(running, operator):
    gc.disable()  # it must not take a collection, which comes late or never
    try:
        with Client(running.address) as client:
            client.recommend(USER, 5)
            for kind in ("dot", "generic"):
                operator.promote(operator.load(kind).info.version)
                client.recommend(USER, 5)
            assert [one.info.model for one in operator.list()] == ["generic", "dot"]
        first = running.engines[0]
        for _ in range(10_000):
            if first() is None:
                break
            operator.list()
        assert first() is None
        assert all(engine() is not None for engine in running.engines[1:])
    finally:
        gc.enable()


def damage_graph(bundle):
    """Make a graph of it that is none, as its manifest says it should be."""
    graph = bundle / layout.GRAPHS["user"]
    graph.write_bytes(b"no graph")
    edit(bundle, lambda manifest: manifest["files"].__setitem__(
        layout.GRAPHS["user"], {"size_bytes": 8, "sha256": digest(graph)}
    ))  # fmt: skip


def edit(bundle, change):
    manifest = json.loads((bundle / layout.MANIFEST).read_text())
    change(manifest)
    (bundle / layout.MANIFEST).write_text(json.dumps(manifest))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


STATE = "catalogue/ids.values.npy"
BAD = {
    "missing": (shutil.rmtree, BundleError, "no such bundle"),
    "no bundle": (lambda b: (b / layout.MANIFEST).unlink(), BundleError, "without manifest.json"),
    "another format": (
        lambda b: edit(b, lambda manifest: manifest.update(format_version=99)),
        BundleError,
        "99",
    ),
    "no manifest": (lambda b: (b / layout.MANIFEST).write_text("{"), BundleError, "manifest.json"),
    "file gone": (lambda b: (b / STATE).unlink(), BundleIntegrityError, f"{STATE}: missing"),
    "file truncated": (lambda b: truncate(b / STATE), BundleIntegrityError, "truncated"),
    "file altered": (lambda b: flip(b / STATE), BundleIntegrityError, f"{STATE}: altered"),
    "graph that is none": (damage_graph, BundleError, "user.onnx"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_bundle_leaves_the_old_one_serving(running, operator, folder, what):
    harm, raised, words = BAD[what]
    harm(folder / "dot")
    before = operator.list()
    with Client(running.address) as client:
        found = client.recommend(USER, 5)
        with pytest.raises(raised, match=words):
            operator.load("dot")
        assert operator.list() == before
        assert client.recommend(USER, 5).item_ids == found.item_ids
        assert operator.load("generic").role == "candidate"


def test_what_cannot_be_done_says_so(running, operator):
    with pytest.raises(UnknownVersionError, match="version: found '9'"):
        operator.promote("9")
    with pytest.raises(BundleError, match="no previous bundle"):
        operator.rollback()
    with pytest.raises(BundleError, match="is loaded already, as active"):
        operator.load("additive")
    for name in ("../dot", "/etc", "", "dot/"):
        with pytest.raises(RequestError, match="name: found"):
            operator.load(name)
    with AdminClient("127.0.0.1:1", timeout_s=5) as lost, pytest.raises(UnavailableError):
        lost.list()


def test_users_are_forgotten(running, operator):
    assert operator.forget("42") == 3
    assert running.forgotten == ["42"]
    with pytest.raises(RequestError, match="user_id: found 0 characters, expected 1 to"):
        operator.forget("")


def test_what_fails_inside_is_not_told(running, operator, monkeypatch):
    monkeypatch.setattr(running.shadow, "comparison", lambda _: 1 / 0)
    with pytest.raises(Exception, match="internal error") as caught:
        operator.list()
    assert "division" not in str(caught.value)


def test_nothing_is_compared_where_the_share_is_zero(begin):
    running = begin(shadow_share=0.0)
    with AdminClient(running.address) as operator:
        assert operator.load("dot").shadow is None


@pytest.mark.parametrize(
    "shadow",
    [
        None,
        ShadowComparison(),
        ShadowComparison(request_count=2, error_count=2),
        ShadowComparison(request_count=5, rank_biased_overlap=0.0, error_count=1),
        ShadowComparison(request_count=5, rank_biased_overlap=0.75, error_count=0),
    ],
)
@pytest.mark.parametrize("role", Role)
def test_messages_carry_everything(engine, role, shadow):
    message = bundle_to_proto(Loaded(info=engine.info, role=role, serial=4), shadow)
    sent = admin_pb2.LoadedBundle.FromString(message.SerializeToString())
    expected = LoadedBundle(info=engine.info, role=role.value, shadow=shadow)
    assert bundle_from_proto(sent) == expected


def test_a_role_that_is_not_known_yet_is_unspecified():
    assert bundle_from_proto(admin_pb2.LoadedBundle(role=77)).role == "unspecified"


def test_commands(running, capsys, monkeypatch):
    monkeypatch.setattr(console.out, "width", 200)

    def fuserank(*arguments):
        code = main(["admin", *arguments, "--address", running.address])
        return code, capsys.readouterr()

    code, printed = fuserank("load", "dot", "--json")
    loaded = json.loads(printed.out)
    assert (code, loaded["role"], loaded["info"]["model"]) == (0, "candidate", "dot")
    version = loaded["info"]["version"]
    code, printed = fuserank("list")
    lines = printed.out.splitlines()
    assert lines[0].split() == [
        *("version", "role", "name", "model", "device", "items", "compared", "overlap", "failed"),
    ]
    assert lines[2].split()[:6] == [version, "candidate", "tiny", "dot", "cpu", "150"]
    monkeypatch.setattr(console.out, "width", 60)
    assert version in fuserank("list")[1].out  # to be copied, on a narrow terminal too
    assert fuserank("promote", version)[0] == 0
    code, printed = fuserank("list", "--json")
    assert [one["role"] for one in json.loads(printed.out)] == ["active", "previous"]
    assert fuserank("rollback", "--json")[0] == 0
    code, printed = fuserank("rollback")
    assert (code, printed.out) == (1, "")
    assert "no previous bundle" in printed.err
    code, printed = fuserank("forget", "u1", "--json")
    assert (code, json.loads(printed.out)) == (0, {"dropped_count": 3})
    assert "3 kept answers dropped" in fuserank("forget", "u1")[1].out
    assert fuserank("list", "--timeout-s", "0")[0] != 0


def test_commands_say_who_calls(tmp_path, monkeypatch):
    made = []

    class Client(AdminClient):
        def __init__(self, address, **options):
            made.append((address, options))
            super().__init__(address)

    monkeypatch.setattr(admin_cli, "AdminClient", Client)
    (tmp_path / "token").write_text("secret\n")
    where = ["--address", "127.0.0.1:1", "--timeout-s", "5"]
    files = ["--token-file", str(tmp_path / "token"), "--tls-ca", "ca.pem"]
    assert main(["admin", "list", *where, *files]) == 1  # nobody is there
    address, options = made[0]
    assert (address, options["token"], options["timeout_s"]) == ("127.0.0.1:1", "secret", 5.0)
    assert options["tls_ca"] == Path("ca.pem")
    assert main(["admin", "list", *where]) == 1
    assert made[1][1]["token"] is None


def test_a_token_file_that_is_missing_is_named(tmp_path, capsys):
    assert main(["admin", "list", "--token-file", str(tmp_path / "none")]) == 1
    assert "token_file: " in capsys.readouterr().err
