import hashlib
import socket
from dataclasses import fields

import grpc
import pytest

from fuserank.errors import ConfigError
from fuserank.server.client.channel import (
    ChannelKeywords,
    ChannelOptions,
    open_async_channel,
    open_channel,
)
from fuserank.server.client.client import AsyncClient, Client
from fuserank.server.pb import admin_pb2, admin_pb2_grpc, recommender_pb2_grpc
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.security.auth import AuthConfig, AuthInterceptor
from fuserank.server.security.tls import TlsConfig, server_credentials

Code = grpc.StatusCode
TOKEN = "a-token-of-a-reader"


class Recommender(recommender_pb2_grpc.RecommenderServiceServicer):
    """Fails as often as it is told, then answers; keeps the headers that come."""

    def __init__(self, name="", failures=0, code=Code.UNAVAILABLE):
        self.name, self.failures, self.code = name, failures, code
        self.headers = []

    async def Recommend(self, request, context):
        await self._begin(context)
        return pb.RecommendResponse(served_by=pb.ServedBy(bundle_name=self.name))

    async def RecommendStream(self, requests, context):
        await self._begin(context)
        async for request in requests:
            yield pb.RecommendStreamResponse(id=request.id)

    async def UpsertItems(self, requests, context):
        await self._begin(context)
        count = 0
        async for request in requests:
            count += len(request.items)
        return pb.UpsertItemsResponse(upserted_count=count)

    async def _begin(self, context):
        self.headers.append(dict(context.invocation_metadata()))
        if len(self.headers) <= self.failures:
            await context.abort(self.code, "not now")


@pytest.fixture
def serve(start_grpc):
    def start(recommender, **options):
        return start_grpc(
            lambda server: recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(
                recommender, server
            ),
            **options,
        )

    return start


@pytest.fixture(params=["sync", "async"])
def call(request, on_loop):
    """Return a function that makes one call of each kind over a channel of either kind."""
    asked = pb.RecommendStreamRequest(id=7)

    def blocking(address, options):
        with open_channel(address, options) as channel:
            stub = recommender_pb2_grpc.RecommenderServiceStub(channel)
            reply = stub.Recommend(pb.RecommendRequest(), timeout=10)
            assert [one.id for one in stub.RecommendStream(iter([asked]), timeout=10)] == [7]
            items = pb.UpsertItemsRequest(items=[pb.Item(), pb.Item()])
            assert stub.UpsertItems(iter([items]), timeout=10).upserted_count == 2
            return reply

    async def turning(address, options):
        async with open_async_channel(address, options) as channel:
            stub = recommender_pb2_grpc.RecommenderServiceStub(channel)
            reply = await stub.Recommend(pb.RecommendRequest(), timeout=10)
            assert [one.id async for one in stub.RecommendStream(iter([asked]), timeout=10)] == [7]
            items = pb.UpsertItemsRequest(items=[pb.Item(), pb.Item()])
            assert (await stub.UpsertItems(iter([items]), timeout=10)).upserted_count == 2
            return reply

    def make(address, **options):
        options = ChannelOptions(**options)
        if request.param == "sync":
            return blocking(address, options)
        return on_loop(turning(address, options))

    return make


def test_the_token_goes_with_every_call_over_tls(serve, call, authority):
    files, recommender = authority.issue("server"), Recommender()
    config = TlsConfig(certificate=files.certificate, key=files.key)
    address = serve(recommender, credentials=server_credentials(config))
    call(address, tls_ca=authority.file, token=TOKEN)
    assert [one["authorization"] for one in recommender.headers] == [f"Bearer {TOKEN}"] * 3


def test_the_token_goes_over_loopback_and_nothing_goes_without_one(serve, call):
    recommender = Recommender()
    address = serve(recommender)
    call(address, token=TOKEN)
    call(address)
    found = [one.get("authorization") for one in recommender.headers]
    assert found == [f"Bearer {TOKEN}"] * 3 + [None] * 3


def test_headers_of_a_call_go_beside_the_token(serve):
    recommender = Recommender()
    address = serve(recommender)
    with open_channel(address, ChannelOptions(token=TOKEN)) as channel:
        stub = recommender_pb2_grpc.RecommenderServiceStub(channel)
        headers = (("x-request-id", "one"),)
        stub.Recommend(pb.RecommendRequest(), metadata=headers)
        stub.Recommend.with_call(pb.RecommendRequest(), metadata=headers)
        stub.Recommend.future(pb.RecommendRequest(), metadata=headers).result(10)
    for found in recommender.headers:
        assert (found["x-request-id"], found["authorization"]) == ("one", f"Bearer {TOKEN}")
    assert len(recommender.headers) == 3


@pytest.mark.parametrize(
    "address",
    [
        "example.org:8001",
        "10.0.0.1:8001",
        "dns:///example.org:8001",
        "ipv4:127.0.0.1:8001,10.0.0.1:8001",
        "[::]:8001",
        "xds:///localhost",
        "localhost.example.org:8001",
    ],
)
def test_a_token_is_not_sent_in_the_clear_over_a_network(address):
    with pytest.raises(ConfigError, match=r"token would be sent in the clear.*tls_ca") as error:
        open_channel(address, ChannelOptions(token=TOKEN))
    assert TOKEN not in str(error.value)
    open_channel(address, ChannelOptions(token=TOKEN, tls=True)).close()
    open_channel(address, ChannelOptions(token=TOKEN, plaintext_token=True)).close()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1:1", "localhost:1", "[::1]:1", "dns:///localhost:1"),
        *("ipv4:127.0.0.1:1,127.0.0.2:1", "ipv6:[::1]:1", "unix:/run/fuserank.sock"),
    ],
)
def test_a_token_may_go_to_this_machine(address):
    open_channel(address, ChannelOptions(token=TOKEN)).close()


def test_what_stays_here_goes_to_no_proxy(serve, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    address = serve(Recommender("here"))
    with open_channel(address.replace("127.0.0.1", "localhost")) as channel:
        stub = recommender_pb2_grpc.RecommenderServiceStub(channel)
        reply = stub.Recommend(pb.RecommendRequest(), timeout=10)
        assert reply.served_by.bundle_name == "here"


def test_the_token_is_not_shown():
    assert TOKEN not in repr(ChannelOptions(token=TOKEN))


@pytest.mark.parametrize("token", ["", "two words", "line\n", "ä", "a\x00b"])
def test_what_is_no_token_is_refused(token):
    with pytest.raises(ConfigError, match="expected the token alone"):
        ChannelOptions(token=token)


def test_calls_are_tried_again_while_no_server_takes_them(serve, call):
    recommender = Recommender(failures=3)
    call(serve(recommender), attempts=4)
    assert len(recommender.headers) == 3 + 3


@pytest.mark.parametrize(
    ("attempts", "failures", "code", "made"),
    [
        (4, 9, Code.UNAVAILABLE, 4),
        (1, 9, Code.UNAVAILABLE, 1),
        (5, 9, Code.RESOURCE_EXHAUSTED, 1),
        (5, 9, Code.INTERNAL, 1),
    ],
)
def test_retries_are_bounded_and_for_what_may_pass(serve, call, attempts, failures, code, made):
    recommender = Recommender(failures=failures, code=code)
    with pytest.raises(grpc.RpcError) as error:
        call(serve(recommender), attempts=attempts)
    assert error.value.code() is code
    assert len(recommender.headers) == made


def test_servers_that_fail_are_not_asked_ever_more(serve):
    recommender = Recommender(failures=10**6)
    address = serve(recommender)
    with open_channel(address, ChannelOptions(attempts=5)) as channel:
        stub = recommender_pb2_grpc.RecommenderServiceStub(channel)
        for _ in range(20):
            with pytest.raises(grpc.RpcError):
                stub.Recommend(pb.RecommendRequest(), timeout=10)
    assert len(recommender.headers) < 20 + 15


def test_an_operators_call_is_made_once(start_grpc):
    made = []

    class Admin(admin_pb2_grpc.AdminServiceServicer):
        async def RollbackBundle(self, request, context):
            made.append(request)
            await context.abort(Code.UNAVAILABLE, "not now")

    address = start_grpc(
        lambda server: admin_pb2_grpc.add_AdminServiceServicer_to_server(Admin(), server)
    )
    with open_channel(address) as channel, pytest.raises(grpc.RpcError):
        admin_pb2_grpc.AdminServiceStub(channel).RollbackBundle(
            admin_pb2.RollbackBundleRequest(), timeout=10
        )
    assert len(made) == 1


def test_servers_are_asked_in_turn_and_one_that_is_gone_is_left_out(serve):
    addresses = [serve(Recommender(name)) for name in ("a", "b")]
    with socket.socket() as bound:  # nothing listens there
        bound.bind(("127.0.0.1", 0))
        addresses.append(f"127.0.0.1:{bound.getsockname()[1]}")
        with open_channel(f"ipv4:{','.join(addresses)}") as channel:
            stub = recommender_pb2_grpc.RecommenderServiceStub(channel)

            def ask():
                return stub.Recommend(pb.RecommendRequest(), timeout=10).served_by.bundle_name

            found = set()
            while found != {"a", "b"}:  # until both are connected
                found.add(ask())
            assert sorted(ask() for _ in range(10)) == ["a"] * 5 + ["b"] * 5


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"certificate": "crt"}, "found one of the two"),
        ({"key": "key"}, "found one of the two"),
        ({"attempts": 0}, "attempts: found 0, expected 1 to 5"),
        ({"attempts": 6}, "attempts: found 6"),
        ({"keepalive_s": 1.0}, "keepalive_s: found 1.0, expected 10 or more"),
        ({"keepalive_s": float("nan")}, "keepalive_s: found nan"),
    ],
)
def test_options_out_of_range_are_named(options, found):
    with pytest.raises(ConfigError, match=found):
        ChannelOptions(**options)


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"tls_ca: .*missing\.pem cannot be read"):
        open_channel("localhost:1", ChannelOptions(tls_ca=tmp_path / "missing.pem"))
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(ConfigError, match="holds nothing in PEM"):
        open_channel("localhost:1", ChannelOptions(tls_ca=empty))


def test_the_interceptor_takes_what_the_channel_sends(serve, call, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"all:recommend,items:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    interceptor = AuthInterceptor(AuthConfig(token_file=file), host="127.0.0.1")
    address = serve(Recommender(), interceptors=[interceptor])
    call(address, token=TOKEN)
    with pytest.raises(grpc.RpcError) as error:
        call(address, token=TOKEN + "x")
    assert error.value.code() is Code.UNAUTHENTICATED


def test_clients_take_all_options_as_keywords():
    assert set(ChannelKeywords.__annotations__) == {one.name for one in fields(ChannelOptions)}


def test_a_client_sends_its_token(serve, on_loop):
    recommender = Recommender()
    address = serve(recommender)

    async def turning():
        async with AsyncClient(address, token=TOKEN) as client:
            await client.recommend({})

    on_loop(turning())
    with Client(address, token=TOKEN) as client:
        client.recommend({})
    assert [one["authorization"] for one in recommender.headers] == [f"Bearer {TOKEN}"] * 2
