import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.errors import FuserankError, UnavailableError
from fuserank.server.client.client import Client

Status = health_pb2.HealthCheckResponse

# A server over the fake engine. A line on stdin lets the engine go on from where it waits.
SERVER = """
import asyncio, runpy, sys
from fuserank.server import main
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig

engine = runpy.run_path(sys.argv[1])["FakeEngine"]()

def wait(word):
    print(word, flush=True)
    sys.stdin.readline()

def load_engine():
    if sys.argv[2] == "loading":
        wait("loading")
    if sys.argv[2] == "failing":
        raise OSError("no such bundle")
    if sys.argv[2] == "computing":
        engine.before = lambda: wait("computing")
    return engine

config = ServerConfig(port=int(sys.argv[3]), grace_s=20.0, http=HttpConfig(port=-1))
with asyncio.Runner(loop_factory=main._loop_factory()) as runner:
    sys.exit(runner.run(main.serve(config, load_engine)))
"""
FAKE_ENGINE = Path(__file__).with_name("conftest.py")


@contextlib.contextmanager
def serving(mode, port=0):
    command = [sys.executable, "-c", SERVER, str(FAKE_ENGINE), mode, str(port)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def address_of(process):
    announced = process.stdout.readline()
    assert announced.startswith("listening on 127.0.0.1:")
    return announced.removeprefix("listening on ").strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_is_in_flight_finish(number):
    replies = []
    with serving("computing") as process:
        address = address_of(process)
        with Client(address) as client, grpc.insecure_channel(address) as channel:
            client.wait_until_ready()
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == Status.SERVING
            call = threading.Thread(target=lambda: replies.append(client.recommend({}, 2)))
            call.start()
            assert process.stdout.readline() == "computing\n"
            process.send_signal(number)
            assert next(watch).status == Status.NOT_SERVING
            with pytest.raises(grpc.RpcError):
                next(watch)
            with Client(address) as late, pytest.raises(UnavailableError):
                late.bundle_info()
            process.stdin.write("go on\n")
            process.stdin.flush()
            call.join()
        assert replies[0].item_ids == ("0", "1")
        assert process.wait(20) == 0


def test_a_signal_while_loading_stops_it_too():
    with serving("loading") as process:
        address_of(process)
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate("go on\n", timeout=20)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("mode", ["loading", "computing"])
def test_a_second_signal_ends_it_whatever_hangs(mode, number):
    with serving(mode) as process:
        address = address_of(process)
        with Client(address) as client, grpc.insecure_channel(address) as channel:
            if mode == "computing":
                client.wait_until_ready()
                threading.Thread(target=give_up, args=[client]).start()
            assert process.stdout.readline() == f"{mode}\n"
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            next(watch)
            process.send_signal(number)
            with contextlib.suppress(grpc.RpcError):
                for _ in watch:  # ends once the first signal has been dealt with
                    pass
            process.send_signal(number)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 128 + number
        assert errors.endswith("told to stop twice; what was in flight is lost\n")


def give_up(client):
    with contextlib.suppress(FuserankError):
        client.recommend({}, 2)


def test_an_engine_that_does_not_load_ends_the_server():
    with serving("failing") as process:
        address_of(process)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 1
        assert errors.rstrip().endswith("OSError: no such bundle")


def test_a_busy_port_ends_the_server():
    with serving("plain") as first:
        port = address_of(first).rsplit(":", 1)[1]
        with serving("plain", port) as second:
            output, errors = second.communicate(timeout=20)
        assert (second.returncode, output) == (1, "")
        assert f"port {port} is in use" in errors
