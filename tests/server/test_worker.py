import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import grpc
import psutil
import pytest

from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.errors import BundleError, ServerError
from fuserank.server.client.admin_client import AdminClient
from fuserank.server.client.client import Client
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig
from fuserank.server.messages.conversion import user_to_proto
from fuserank.server.monitoring.logs import LogFormat
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.pb import recommender_pb2_grpc
from fuserank.server.process import server_process
from fuserank.server.worker import Job, seated

ITEMS = SyntheticItems(n_items=300, width=8)
WAIT_S = 30


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return synthetic_bundle(tmp_path_factory.mktemp("worker") / "bundle", ITEMS)


def serve(bundle, *options):
    command = [sys.executable, "-m", "fuserank", "serve", str(bundle), "--device", "cpu"]
    return [*command, "--port", "0", "--http.port", "-1", "--processes", "2", *options]


def job(config):
    return Job(
        bundle="a bundle",
        folder="a folder",
        device="cpu",
        config=config,
        threads=3,
        index=1,
        log_format=LogFormat.JSON,
    )


def values(config, path=""):
    """Yield every option by its path."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from values(value, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", value


@pytest.mark.parametrize(
    "config",
    [
        ServerConfig(),
        ServerConfig(host="::1", port=7, grace_s=0.1, max_k=3, http=HttpConfig(port=-1)),
    ],
)
def test_a_job_arrives_as_it_was_sent(config):
    sent = job(config)
    line = sent.to_json()
    assert b"\n" not in line
    received = Job.from_json(line)
    assert received == sent
    assert [(name, type(value)) for name, value in values(received.config)] == [
        (name, type(value)) for name, value in values(config)
    ]


def test_workers_share_a_port_and_have_http_ports_of_their_own():
    config = ServerConfig(port=0, http=HttpConfig(port=8002))
    found = [seated(config, 8001, index) for index in range(3)]
    assert [one.port for one in found] == [8001] * 3
    assert [one.http.port for one in found] == [8002, 8003, 8004]
    assert found[0] == replace(config, port=8001)


@pytest.mark.parametrize("port", [0, -1])
def test_an_http_port_that_is_free_or_none_stays_so(port):
    config = ServerConfig(http=HttpConfig(port=port))
    assert seated(config, 8001, 2).http.port == port


def test_two_workers_listen_on_one_port_and_answer(bundle):
    [request] = synthetic_requests(1, ITEMS)
    with server_process(serve(bundle)) as (process, address):
        assert len(listening(process, address)) == 2
        with Client(address) as client:
            assert len(client.recommend(request, 5).item_ids) == 5
    assert process.returncode == 0


def test_a_bundle_that_cannot_be_used_ends_the_server(tmp_path):
    with (
        pytest.raises(ServerError, match=r"(?s)exit code 1\n.*no such bundle.*before it listened"),
        server_process(serve(tmp_path / "none")),
    ):
        pass


def test_a_port_that_is_in_use_ends_the_server(bundle):
    with server_process(serve(bundle)) as (_, address):
        port = address.rsplit(":", 1)[1]
        again = serve(bundle)
        again[again.index("--port") + 1] = port
        with pytest.raises(ServerError, match=f"port {port} is in use"), server_process(again):
            pass


@pytest.fixture
def temporary(monkeypatch):
    """Return the folder in which servers make theirs; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="test-") as path:
        monkeypatch.setenv("TMPDIR", path)
        yield Path(path)


@pytest.fixture
def bundles(make_bundle, tmp_path):
    """Two bundles in a folder, of which the first is also the one that a link leads to."""
    for kind in ("additive", "dot"):
        shutil.copytree(make_bundle(kind).path, tmp_path / kind)
    (tmp_path / "current").symlink_to("additive")
    return tmp_path


@contextlib.contextmanager
def operated(bundles):
    """Serve by two workers; yield the process, the address and a client for operators."""
    command = serve(bundles / "current", "--bundles.folder", str(bundles))
    with server_process(command) as (process, address), AdminClient(address) as operator:
        yield process, address, operator


def connections(process, address, status):
    """Return how many sockets of a status each worker has on the port, by process id."""
    port, found = int(address.rsplit(":", 1)[1]), {}
    for worker in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):
            sockets = [c for c in worker.net_connections() if c.laddr.port == port]
            found[worker.pid] = sum(c.status == status for c in sockets)
    return found


def listening(process, address):
    return {pid for pid, count in connections(process, address, "LISTEN").items() if count}


def versions(process, address):
    """Ask on new connections until every worker has one, and return the versions that answered."""
    request = pb.RecommendRequest(user=user_to_proto({"user_id": "u1"}), k=3)
    before, found = connections(process, address, "ESTABLISHED"), set()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.insecure_channel(address, options))
            ask = recommender_pb2_grpc.RecommenderServiceStub(channel).Recommend
            found.add(ask(request, timeout=WAIT_S).served_by.bundle_version)
            now = connections(process, address, "ESTABLISHED")
            if all(now[pid] > before[pid] for pid in before):
                return found
    raise AssertionError("all connections went to one worker")


def test_what_an_operator_asks_of_one_worker_all_do(bundles, temporary):
    with operated(bundles) as (process, address, operator):
        [first] = operator.list()
        loaded = operator.load("dot")
        assert versions(process, address) == {first.info.version}
        assert operator.promote(loaded.info.version).role == "active"
        assert versions(process, address) == {loaded.info.version}
        assert operator.forget("u1") == 4  # of two workers, with two bundles
        assert operator.rollback().info == first.info
        assert versions(process, address) == {first.info.version}
        with pytest.raises(BundleError, match="no previous bundle"):
            operator.rollback()
        assert len(list(temporary.glob("fuserank-*"))) == 1
    assert list(temporary.glob("fuserank-*")) == []


@pytest.mark.e2e
def test_a_worker_that_was_killed_comes_back_with_what_was_promoted(bundles):
    with operated(bundles) as (process, address, operator):
        version = operator.load("dot").info.version
        operator.promote(version)
        before = listening(process, address)
        (bundles / "current").unlink()  # as an operator does, for the next start
        (bundles / "current").symlink_to("dot")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        while len(listening(process, address) - before) < 2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert process.wait(0.1) is None
        assert versions(process, address) == {version}
        with Client(address) as client:
            client.wait_until_ready(WAIT_S)
        with AdminClient(address) as anew:
            assert [one.role for one in anew.list()] == ["active", "previous"]
            anew.rollback()
        assert version not in versions(process, address)


@pytest.mark.e2e
def test_a_bundle_that_is_bad_leaves_all_on_the_old_one(bundles):
    graph = bundles / "dot" / "interaction" / "user.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with operated(bundles) as (process, address, operator):
        before = operator.list()
        with pytest.raises(BundleError, match=r"worker [01]: .*user\.onnx: found"):
            operator.load("dot")
        assert operator.list() == before
        assert versions(process, address) == {before[0].info.version}


@pytest.mark.e2e
def test_workers_whose_supervisor_was_killed_leave_nothing(bundles, temporary):
    with contextlib.suppress(ServerError), operated(bundles) as (process, address, _):
        workers = [psutil.Process(pid) for pid in listening(process, address)]
        assert len(workers) == 2
        process.kill()
        _, alive = psutil.wait_procs(workers, WAIT_S)
        assert alive == []
        assert list(temporary.glob("fuserank-*")) == []
