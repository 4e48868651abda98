import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.errors import BundleError, UnavailableError
from fuserank.server.client.client import Client

Status = health_pb2.HealthCheckResponse
NAME = "fuserank.v1.RecommenderService"
NAMES = (NAME, "fuserank.v1.AdminService", "inference.GRPCInferenceService")


def request(service=""):
    return health_pb2.HealthCheckRequest(service=service)


@pytest.fixture
def health():
    channels = []

    def connect(address):
        channels.append(grpc.insecure_channel(address))
        return health_pb2_grpc.HealthStub(channels[-1])

    yield connect
    for channel in channels:
        channel.close()


def test_serving_begins_with_the_engine(start_server, on_loop, engine, health):
    server, address = start_server()
    stub = health(address)
    for service in ("", *NAMES):
        assert stub.Check(request(service)).status == Status.NOT_SERVING
    on_loop(server.load(lambda: engine))
    for service in ("", *NAMES):
        assert stub.Check(request(service)).status == Status.SERVING


def test_calls_before_the_engine_are_unavailable(start_server):
    _, address = start_server()
    with Client(address) as client, pytest.raises(UnavailableError, match="still loading"):
        client.bundle_info()


@pytest.mark.parametrize(
    "service", ["nobody", NAME.lower(), f"{NAME} ", "fuserank.v1", "grpc.health.v1.Health"]
)
def test_an_unknown_service_is_not_found(serve, health, service):
    with pytest.raises(grpc.RpcError) as caught:
        health(serve()).Check(request(service))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert all(name in caught.value.details() for name in NAMES)


def test_an_engine_that_does_not_load_leaves_it_not_serving(start_server, on_loop, health):
    server, address = start_server()

    def fail():
        raise OSError("no such bundle")

    with pytest.raises(BundleError, match="OSError: no such bundle"):
        on_loop(server.load(fail))
    assert health(address).Check(request()).status == Status.NOT_SERVING


def test_watches_see_every_change_and_end_with_the_server(start_server, on_loop, engine, health):
    server, address = start_server()
    watches = [health(address).Watch(request(service)) for service in ("", NAME, "")]
    assert [next(watch).status for watch in watches] == [Status.NOT_SERVING] * 3
    watches.pop().cancel()  # whoever leaves takes nothing from those who stay
    on_loop(server.load(lambda: engine))
    assert [next(watch).status for watch in watches] == [Status.SERVING] * 2
    on_loop(asyncio.wait_for(server.stop(), 4))  # shorter than the grace: no watch holds it up
    assert [next(watch).status for watch in watches] == [Status.NOT_SERVING] * 2
    for watch in watches:
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_watch_of_an_unknown_service_says_so(serve, health):
    watch = health(serve()).Watch(request("nobody"))
    assert next(watch).status == Status.SERVICE_UNKNOWN
    watch.cancel()
