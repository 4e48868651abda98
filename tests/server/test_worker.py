import sys
from dataclasses import fields, is_dataclass, replace

import psutil
import pytest

from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.errors import ServerError
from fuserank.server.client import Client
from fuserank.server.config import ServerConfig
from fuserank.server.http_port import HttpConfig
from fuserank.server.logs import LogFormat
from fuserank.server.process import server_process
from fuserank.server.worker import Job, _seated

ITEMS = SyntheticItems(n_items=300, width=8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return synthetic_bundle(tmp_path_factory.mktemp("worker") / "bundle", ITEMS)


def serve(bundle, *options):
    command = [sys.executable, "-m", "fuserank", "serve", str(bundle), "--device", "cpu"]
    return [*command, "--port", "0", "--http.port", "-1", "--processes", "2", *options]


def job(config):
    return Job(
        bundle="a bundle",
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
    seated = [_seated(config, 8001, index) for index in range(3)]
    assert [one.port for one in seated] == [8001] * 3
    assert [one.http.port for one in seated] == [8002, 8003, 8004]
    assert seated[0] == replace(config, port=8001)


@pytest.mark.parametrize("port", [0, -1])
def test_an_http_port_that_is_free_or_none_stays_so(port):
    config = ServerConfig(http=HttpConfig(port=port))
    assert _seated(config, 8001, 2).http.port == port


def test_two_workers_listen_on_one_port_and_answer(bundle):
    [request] = synthetic_requests(1, ITEMS)
    with server_process(serve(bundle)) as (process, address):
        port = int(address.rsplit(":", 1)[1])
        listening = [
            worker.pid
            for worker in psutil.Process(process.pid).children()
            if any(c.status == "LISTEN" and c.laddr.port == port for c in worker.net_connections())
        ]
        assert len(listening) == 2
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
