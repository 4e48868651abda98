import asyncio
import contextlib
import functools
import socket
import threading
from dataclasses import replace

import grpc
import numpy as np
import pytest

from fuserank.errors import (
    BundleError,
    RequestError,
    ServerError,
    UnavailableError,
    UnknownItemError,
)
from fuserank.server.client import client as client_module
from fuserank.server.client.client import AsyncClient, Client

KNOWN, COLD = {"user_id": "42"}, {"history": ["0", "2"], "age": 24.5}


class Blocking:
    """An AsyncClient with the methods of a Client, to put both to the same tests."""

    def __init__(self, address, on_loop, **options):
        async def make():
            return AsyncClient(address, **options)

        self._on_loop, self._client = on_loop, on_loop(make())

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *args, **options: self._on_loop(method(*args, **options))


@pytest.fixture(params=["sync", "async"])
def connect(request, on_loop):
    make = Client if request.param == "sync" else functools.partial(Blocking, on_loop=on_loop)
    with contextlib.ExitStack() as stack:

        def to(address, **options):
            client = make(address, **options)
            stack.callback(client.close)
            return client

        yield to


@pytest.fixture
def client(serve, connect):
    return connect(serve(max_k=15, grace_s=0.0))


def same(remote, local):
    assert (remote.item_ids, remote.served_as) == (local.item_ids, local.served_as)
    assert remote.timings == replace(local.timings, queue_ms=remote.timings.queue_ms)
    for name in ("scores", "probabilities"):
        arrived, sent = getattr(remote, name), getattr(local, name)
        assert arrived.dtype == np.float32
        np.testing.assert_array_equal(arrived, sent)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 3},
        {"exclude": {"1", "5"}},
        {"allow": ["3", "2", "nobody"]},
        {"allow": ()},
        {"include_seen": True},
    ],
)
def test_recommend_answers_as_the_engine(client, engine, options):
    remote, local = client.recommend(COLD, **options), engine.recommend(COLD, **options)
    same(remote, local)
    assert (remote.plan, remote.attributes) == ("exact", ())


def test_recommend_many_answers_as_the_engine(client, engine):
    remote = client.recommend_many([KNOWN, COLD], 4, exclude=["1"])
    local = engine.recommend_many([KNOWN, COLD], 4, exclude=["1"])
    assert len(remote) == 2
    for one, other in zip(remote, local, strict=True):
        same(one, other)


def test_score_answers_as_the_engine(client, engine):
    same(client.score(KNOWN, ("5", "0")), engine.score(KNOWN, ("5", "0")))


def test_encode_answers_as_the_engine(client, engine):
    remote, local = client.encode(["ab", "ü"]), engine.encode(["ab", "ü"])
    np.testing.assert_array_equal(remote.vectors, local.vectors)
    assert (remote.space, remote.timings) == (local.space, local.timings)


def test_bundle_info_answers_as_the_engine(client, engine):
    assert client.bundle_info() == engine.info


def test_attributes_come_with_the_items(client, engine):
    assert client.recommend(KNOWN, 2, attributes=True).attributes == tuple(
        engine.attributes(["0", "1"])
    )
    (found,) = client.recommend_many([COLD], 1, attributes=True)
    assert found.attributes == tuple(engine.attributes(["1"]))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda c: c.recommend(KNOWN, 0), RequestError, "^k: found 0, expected 1 to 15$"),
        (lambda c: c.recommend(KNOWN, 2**40), RequestError, "cannot be sent"),
        (lambda c: c.recommend(KNOWN, 1.5), RequestError, "cannot be sent"),
        (lambda c: c.recommend(KNOWN, exclude="15"), RequestError, "exclude: expected a list"),
        (lambda c: c.recommend(KNOWN, allow=[1]), RequestError, "allow: expected a list"),
        (lambda c: c.recommend(KNOWN, allow=["\ud800"]), RequestError, "cannot be sent"),
        (lambda c: c.recommend({"age": None}), RequestError, "user field 'age': found NoneType"),
        (lambda c: c.recommend({"age": float("nan")}), RequestError, "'age'.*found nan"),
        (lambda c: c.recommend({"flavour": 1}), RequestError, "no field 'flavour'"),
        (lambda c: c.recommend_many([]), RequestError, "users: found 0 entries"),
        (lambda c: c.score(KNOWN, "15"), RequestError, "item_ids: expected a list of strings"),
        (lambda c: c.score(KNOWN, ["99"]), UnknownItemError, "catalogue does not hold"),
        (lambda c: c.encode("word"), RequestError, "texts: expected a list of strings"),
        (lambda c: c.encode(["a", ""]), RequestError, "texts\\[1\\]: found an empty text"),
    ],
)
def test_errors_are_raised_as_in_process(client, ask, error, message):
    with pytest.raises(error, match=message) as caught:
        ask(client)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("raised", "error"), [(BundleError("no encoder"), BundleError), (OSError("x"), ServerError)]
)
def test_faults_of_the_server_name_it(client, engine, raised, error):
    def fail():
        raise raised

    engine.before = fail
    with pytest.raises(error, match=r"^127\.0\.0\.1:\d+: [A-Z_]+: ") as caught:
        client.recommend(KNOWN)
    assert type(caught.value) is error


def test_a_call_that_takes_too_long_fails(serve, connect, engine, request):
    go_on = threading.Event()
    request.addfinalizer(go_on.set)  # before the server stops, which waits for its engine
    engine.before = lambda: go_on.wait(20)
    client = connect(serve(grace_s=0.0), timeout_s=0.1)
    with pytest.raises(ServerError, match="DEADLINE_EXCEEDED"):
        client.recommend(KNOWN)
    go_on.set()


def test_a_client_takes_messages_up_to_its_limit(serve, connect):
    address = serve()
    texts = ["word"] * 1_000
    assert len(connect(address).encode(texts).vectors) == 1_000
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED"):
        connect(address, max_message_bytes=4_096).encode(texts)


def test_more_than_four_megabytes_pass_by_default(serve, connect):
    # gRPC's own limit, which is 4 MB, would stop both this request and a reply of its size.
    client = connect(serve(max_text_chars=5_000_000))
    assert client.encode(["x" * 5_000_000]).vectors[0, 0] == 5_000_000


def test_where_no_server_listens_it_is_unavailable(connect):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    client = connect(address)
    with pytest.raises(UnavailableError, match=address):
        client.bundle_info()
    with pytest.raises(UnavailableError, match=f"{address}: not ready within 0.1 s"):
        client.wait_until_ready(0.1)


def test_waiting_ends_when_the_engine_is_loaded(start_server, on_loop, engine, connect):
    server, address = start_server()
    client = connect(address)
    with pytest.raises(UnavailableError, match=r"not ready within 0\.05 s"):
        client.wait_until_ready(0.05)
    on_loop(server.load(lambda: engine))
    client.wait_until_ready(20)
    assert client.bundle_info().name == "films"


def test_the_clients_are_context_managers(serve, on_loop):
    address = serve()
    with Client(address) as client:
        assert client.bundle_info().n_items == 20

    async def ask():
        async with AsyncClient(address) as async_client:
            return await asyncio.gather(
                async_client.recommend(KNOWN, 1), async_client.score(KNOWN, ["0"])
            )

    found, scores = on_loop(ask())
    assert found.item_ids == scores.item_ids == ("0",)


def test_a_watch_that_a_stopping_server_cancels_means_unavailable():
    class Cancelled(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.CANCELLED

    error = client_module._not_ready("host:1", 1.0, Cancelled())
    assert isinstance(error, UnavailableError)
    assert "ended its watch" in str(error)


def test_a_keyword_that_does_not_exist_is_refused_by_every_method(client):
    for ask in (client.recommend, client.recommend_many, client.recommend_stream):
        with pytest.raises(TypeError, match="excludes"):
            ask({"user_id": "42"}, excludes=["1"])
