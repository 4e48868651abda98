"""RecommendStream over sockets, from the server's side and from the clients'."""

import asyncio
import contextlib
import threading

import grpc
import numpy as np
import pytest

from fuserank.engine.results import Recommendation
from fuserank.errors import RequestError, ServerError, UnavailableError
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.client.client import AsyncClient, Client
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.pb import recommender_pb2_grpc

Code = grpc.StatusCode


def a_request(number, *, k=1, timeout_ms=0, **fields):
    user = pb.User(
        fields={"age": pb.Value(number_value=number)}
        | {name: pb.Value(string_value=value) for name, value in fields.items()}
    )
    request = pb.RecommendRequest(user=user, k=k)
    return pb.RecommendStreamRequest(id=number, request=request, timeout_ms=timeout_ms)


class Gate:
    """Holds the engine before it computes, until it is opened."""

    def __init__(self, engine):
        self._begun, self._open = threading.Event(), threading.Event()
        engine.before = self._wait

    def _wait(self):
        self._begun.set()
        assert self._open.wait(20)

    def wait(self):
        assert self._begun.wait(20)

    def open(self):
        self._open.set()


@contextlib.asynccontextmanager
async def connected(address, **options):
    async with grpc.aio.insecure_channel(address, options=list(options.items())) as channel:
        yield recommender_pb2_grpc.RecommenderServiceStub(channel)


def test_every_request_has_its_reply(serve, connect):
    replies = list(connect(serve()).RecommendStream(a_request(n, k=n % 3 + 1) for n in range(200)))
    assert sorted(reply.id for reply in replies) == list(range(200))
    for reply in replies:
        found = reply.response.recommendation
        assert list(found.item_ids) == ["0", "1", "2"][: reply.id % 3 + 1]
        assert reply.response.served_by.bundle_version == "3"


def test_a_reply_is_that_of_a_call(serve, connect):
    stub = connect(serve())
    sent = a_request(1, k=5)
    sent.request.include_attributes = True
    sent.request.eligibility.exclude.append("0")
    (streamed,) = stub.RecommendStream(iter([sent]))
    called = stub.Recommend(sent.request)
    called.recommendation.timings.queue_ms = streamed.response.recommendation.timings.queue_ms
    assert streamed.response == called


def test_an_empty_stream_ends(serve, connect):
    assert list(connect(serve()).RecommendStream(iter([]))) == []


def test_one_that_fails_does_not_end_the_stream(serve, connect):
    requests = [a_request(0), a_request(1, k=0), a_request(2, flavour="x"), a_request(3)]
    replies = {reply.id: reply for reply in connect(serve()).RecommendStream(iter(requests))}
    assert set(replies) == {0, 1, 2, 3}
    assert (replies[1].error.code, replies[1].error.message[:10]) == (3, "k: found 0")
    assert replies[2].error.code == Code.INVALID_ARGUMENT.value[0]
    assert "flavour" in replies[2].error.message
    assert replies[0].HasField("response")
    assert replies[3].HasField("response")


def test_a_defect_is_not_shown(serve, connect, engine, caplog):
    def fail():
        raise ZeroDivisionError(secret)

    secret = "the " + "secret"
    engine.before = fail
    (reply,) = connect(serve()).RecommendStream(iter([a_request(0)]))
    assert reply.error.code == Code.INTERNAL.value[0]
    assert secret not in reply.error.message
    assert "ZeroDivisionError" in caplog.text
    assert secret not in caplog.text


def test_a_request_that_runs_out_of_time_is_told_so_while_the_others_wait(serve, connect, engine):
    gate = Gate(engine)
    replies = connect(serve()).RecommendStream(
        iter([a_request(0), a_request(1, timeout_ms=50), a_request(2)])
    )
    first = next(replies)
    assert (first.id, first.error.code) == (1, Code.DEADLINE_EXCEEDED.value[0])
    gate.open()
    assert {reply.id for reply in replies} == {0, 2}
    assert [user["age"] for user in engine.users].count(1) <= 1


def test_what_waits_for_a_client_that_has_gone_is_not_computed(serve, connect, engine, on_loop):
    gate = Gate(engine)
    address = serve(batching=BatchingConfig(inline_ms=0.0))

    async def leave():
        async with connected(address) as stub:
            call = stub.RecommendStream()
            await call.write(a_request(0))
            await asyncio.to_thread(gate.wait)
            for number in range(1, 50):
                await call.write(a_request(number))
            call.cancel()

    asyncio.run(leave())
    stub = connect(address)
    later = stub.Recommend.future(a_request(99).request)
    gate.open()
    later.result(20)
    ages = [user["age"] for user in engine.users]
    assert ages[0] == 0
    assert ages[-1] == 99


def test_stopping_answers_what_was_read_and_ends_the_stream(start_server, on_loop, engine):
    server, address = start_server(batching=BatchingConfig(inline_ms=0.0))
    on_loop(server.load(lambda: engine))
    gate = Gate(engine)
    replies, ended = [], []

    async def scenario():
        async with connected(address) as stub:
            call = stub.RecommendStream()  # never done writing
            await call.write(a_request(7))
            await asyncio.to_thread(gate.wait)
            stopping = asyncio.to_thread(on_loop, server.stop())
            stopped = asyncio.create_task(stopping)
            await asyncio.sleep(0)
            gate.open()
            try:
                async for reply in call:
                    replies.append(reply)  # noqa: PERF401 - those before the error count
            except grpc.RpcError as error:
                ended.append(error.code())
            await stopped

    asyncio.run(scenario())
    assert [reply.id for reply in replies] == [7]
    assert ended == [Code.UNAVAILABLE]
    assert engine.closed


def test_a_stream_before_a_bundle_is_there_fails_by_request(start_server, connect):
    _, address = start_server()
    (reply,) = connect(address).RecommendStream(iter([a_request(0)]))
    assert reply.error.code == Code.UNAVAILABLE.value[0]


USERS = [{"age": number, "history": ["0"] if number % 2 else []} for number in range(60)]


def read_sync(address, users, *args, **keywords):
    with Client(address) as client:
        return list(client.recommend_stream(iter(users), *args, **keywords))


def read_async(address, users, *args, **keywords):
    async def read():
        async with AsyncClient(address) as client:
            return [one async for one in client.recommend_stream(users, *args, **keywords)]

    return asyncio.run(read())


@pytest.fixture(params=[read_sync, read_async])
def read(request):
    return request.param


def test_clients_stream_what_the_engine_answers(serve, engine, read):
    address = serve()
    found = read(address, USERS, 4, exclude=["3"], attributes=True)
    assert sorted(one.index for one in found) == list(range(60))
    for one in found:
        local = engine.recommend(USERS[one.index], 4, exclude=["3"])
        remote = one.result()
        assert isinstance(remote, Recommendation)
        assert remote.item_ids == local.item_ids
        np.testing.assert_array_equal(remote.scores, local.scores)
        assert remote.attributes[0]["title"].startswith("Film")


def test_a_user_that_fails_is_an_outcome_of_its_own(serve, read):
    users = [{"age": 1}, {"flavour": "x"}, {"age": object()}, {"age": 2}]
    found = {one.index: one for one in read(serve(), users)}
    assert set(found) == {0, 1, 2, 3}
    for index in (1, 2):
        with pytest.raises(RequestError):
            found[index].result()
    assert found[3].result().item_ids[0] == "0"


def test_bulk_reaches_the_server(serve, read, engine):
    assert len(read(serve(), USERS, bulk=True, timeout_ms=20_000)) == 60


def test_an_iterator_that_raises_raises(serve, read):
    def users():
        yield {"age": 1}
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read(serve(), users())


def test_a_server_that_is_not_there_is_named(read):
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1\b"):
        read("127.0.0.1:1", USERS)


def test_a_client_may_leave_a_stream_early(serve, engine):
    address = serve()

    def endless():
        number = 0
        while True:
            number += 1
            yield {"age": number}

    with Client(address) as client:
        stream = client.recommend_stream(endless())
        assert next(stream).result().item_ids[0] == "0"
        stream.close()
        assert client.recommend({}, 1).item_ids == ("0",)


def test_users_may_come_asynchronously(serve):
    address = serve()

    async def users():
        for number in range(5):
            await asyncio.sleep(0)
            yield {"age": number}

    async def read():
        async with AsyncClient(address) as client:
            return [one.index async for one in client.recommend_stream(users())]

    assert sorted(asyncio.run(read())) == [0, 1, 2, 3, 4]


def test_a_stream_that_breaks_is_an_error_of_the_server(start_server, on_loop, engine):
    server, address = start_server(grace_s=0.0, batching=BatchingConfig(inline_ms=0.0))
    on_loop(server.load(lambda: engine))
    gate = Gate(engine)
    with Client(address) as client:
        stream = client.recommend_stream(iter(USERS))
        stop = threading.Thread(target=lambda: (gate.wait(), on_loop(server.stop())))
        stop.start()
        with pytest.raises(ServerError):
            list(stream)
        gate.open()
        stop.join()
