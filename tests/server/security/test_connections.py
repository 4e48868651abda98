import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.errors import ConfigError
from fuserank.server.api.health import Health
from fuserank.server.security.connections import ConnectionConfig

Code = grpc.StatusCode


@pytest.fixture
def serve(start_grpc):
    def start(**options):
        return start_grpc(
            lambda server: health_pb2_grpc.add_HealthServicer_to_server(Health([]), server),
            options=ConnectionConfig(**options).options(),
        )

    return start


def check(address, *headers):
    with grpc.insecure_channel(address) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), metadata=headers, timeout=10
            )
        except grpc.RpcError as error:
            return error.code()
        return Code.OK


def test_headers_are_bounded(serve):
    address = serve(max_metadata_bytes=2048)
    assert check(address, ("x-request-id", "a" * 1200)) is Code.OK
    for _ in range(5):  # a limit that gRPC keeps at random would let some through
        assert check(address, ("x-request-id", "a" * 2100)) is Code.RESOURCE_EXHAUSTED
    assert check(address, *((f"x-{number}", "a" * 50) for number in range(100))) is not Code.OK
    assert check(address) is Code.OK


def test_a_connection_ends_with_its_age_and_calls_go_on(serve):
    """A watch of a silent server lasts as long as its connection: it ends by its age."""
    address = serve(max_age_s=0.2, max_age_grace_s=0.1)
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        with pytest.raises(grpc.RpcError) as error:
            list(watch)
        assert error.value.code() is not Code.DEADLINE_EXCEEDED
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)


def test_who_connects_and_says_nothing_keeps_nobody_out(serve):
    address = serve()
    host, port = address.split(":")
    silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(50)]
    assert check(address) is Code.OK
    for one in silent:
        one.close()


def test_ages_are_left_out_unless_asked_for():
    assert not [name for name, _ in ConnectionConfig().options() if "age" in name.split("_")]
    assert ("grpc.max_connection_age_ms", 1500) in ConnectionConfig(max_age_s=1.5).options()


@pytest.mark.parametrize(
    "options",
    [
        {"max_metadata_bytes": 0},
        {"max_metadata_bytes": 2**21},
        {"keepalive_s": 0.5},
        {"keepalive_s": float("nan")},
        {"max_age_s": -1.0},
        {"max_age_grace_s": float("inf")},
    ],
)
def test_options_out_of_range_are_named(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name}: found"):
        ConnectionConfig(**options)


def test_a_flood_of_pings_ends_its_connection_alone(serve):
    address = serve()
    host, port = address.split(":")
    settings, ping = (
        bytes(3) + b"\x04\x00" + bytes(4),
        b"\x00\x00\x08\x06\x00" + bytes(4) + bytes(8),
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + ping * 6)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
    assert b"too_many_pings" in received
    assert check(address) is Code.OK
