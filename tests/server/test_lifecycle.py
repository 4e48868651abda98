import socket
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from fuserank.errors import ServerError
from fuserank.server.client.client import Client


def test_a_free_port_is_taken_and_told(start_server):
    _, address = start_server(port=0)
    host, port = address.rsplit(":", 1)
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_an_ipv6_address_is_written_in_brackets(start_server, on_loop, engine):
    server, address = start_server(host="::1")
    assert address.startswith("[::1]:")
    on_loop(server.load(lambda: engine))
    with Client(address) as client:
        assert client.bundle_info().name == "films"


def test_a_busy_port_is_named_with_the_remedy(start_server):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} is in use.*another port"):
            start_server(port=port)


def test_a_second_server_does_not_share_the_port(start_server):
    _, address = start_server()
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=f"port {port} is in use"):
        start_server(port=port)


def test_reflection_lists_the_services_and_their_messages(serve):
    with grpc.insecure_channel(serve()) as channel:
        found = ProtoReflectionDescriptorDatabase(channel)
        assert {"fuserank.v1.RecommenderService", "grpc.health.v1.Health"} <= set(
            found.get_services()
        )
        file = found.FindFileContainingSymbol("fuserank.v1.RecommenderService")
        assert file.name == "fuserank/v1/recommender.proto"


def test_stopping_finishes_what_is_in_flight(start_server, on_loop, engine):
    server, address = start_server()
    on_loop(server.load(lambda: engine))
    begun, go_on, replies = threading.Event(), threading.Event(), []

    def block():
        begun.set()
        assert go_on.wait(20)

    engine.before = block
    with Client(address) as client, grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        call = threading.Thread(target=lambda: replies.append(client.recommend({}, 2)))
        stop = threading.Thread(target=lambda: on_loop(server.stop()))
        call.start()
        assert begun.wait(20)
        stop.start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not engine.closed
        go_on.set()
        call.join()
        stop.join()
    assert replies[0].item_ids == ("0", "1")
    assert engine.closed


def test_stopping_cuts_off_what_outlasts_the_grace(start_server, on_loop, engine):
    server, address = start_server(grace_s=0.0)
    on_loop(server.load(lambda: engine))
    begun, go_on, errors = threading.Event(), threading.Event(), []

    def block():
        begun.set()
        assert go_on.wait(20)

    def call():
        with Client(address) as client:
            try:
                client.recommend({})
            except ServerError as error:
                errors.append(error)
        go_on.set()

    engine.before = block
    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(20)
    on_loop(server.stop())
    caller.join()
    assert len(errors) == 1
