"""What callers send appears in no line of the log, whatever becomes of it."""

import hashlib
import logging

import grpc
import pytest

from fuserank.engine.engine import load
from fuserank.server.pb import admin_pb2, admin_pb2_grpc, recommender_pb2_grpc
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.security.auth import AuthConfig, AuthInterceptor
from fuserank.server.security.guard import Guard

# One for each place, so that a failure tells which one it was.
WORDS = [
    *("text-sentinel", "id-sentinel", "name-sentinel", "item-sentinel", "value-sentinel"),
    *("noise-sentinel", "raised-sentinel", "token-sentinel", "caused-sentinel", "header-sentinel"),
]
# By name, since a line of the test itself is part of a trace.
RAISED, CAUSE = "raised-sentinel", "caused-sentinel"
NUMBER = 8675309.125
TOKEN = "token-sentinel"


@pytest.fixture
def serve_guarded(start_server, on_loop, monkeypatch, tmp_path):
    """Serve an engine behind tokens and a guard, and return a channel to it."""
    file = tmp_path / "tokens"
    file.write_text(f"all:recommend,items,admin:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    auth = AuthInterceptor(AuthConfig(token_file=file), host="127.0.0.1")
    make, channels = grpc.aio.server, []
    monkeypatch.setattr(
        grpc.aio, "server", lambda **options: make(**{**options, "interceptors": [auth, Guard()]})
    )

    def start(load_engine):
        server, address = start_server()
        on_loop(server.load(load_engine))
        channels.append(grpc.insecure_channel(address))
        return channels[-1]

    yield start
    for channel in channels:
        channel.close()


@pytest.fixture
def log(caplog):
    """Take what every logger says, down to DEBUG."""
    for logger in [logging.getLogger(name) for name in logging.root.manager.loggerDict]:
        if logger.level:
            caplog.set_level(logging.DEBUG, logger.name)
    caplog.set_level(logging.DEBUG)
    return caplog


def requests():
    """Return requests that succeed and that fail, with something of a user in every place."""
    text, number = pb.Value(string_value="text-sentinel"), pb.Value(number_value=NUMBER)
    history = pb.Value(string_list=pb.StringList(values=["item-sentinel", "i3"]))
    vector = pb.Value(number_list=pb.NumberList(values=[NUMBER, 1.0]))
    users = [
        pb.User(fields={"user_id": pb.Value(string_value="id-sentinel"), "history": history}),
        pb.User(fields={"user_id": pb.Value(string_value="u1"), "age": text}),
        pb.User(fields={"user_id": number, "age": vector}),
        pb.User(fields={"name-sentinel": text}),
        pb.User(fields={"age": pb.Value()}),
    ]
    wanted = pb.Eligibility(
        exclude=["item-sentinel"],
        where=[
            pb.Predicate(attribute="title", equals=pb.Value(string_value="value-sentinel")),
            pb.Predicate(attribute="name-sentinel", range=pb.Range(least=NUMBER)),
        ],
    )
    for user in users:
        plain = pb.RecommendRequest(user=user, k=2)
        yield "Recommend", plain
        yield "Recommend", pb.RecommendRequest(user=user, eligibility=wanted)
        yield "RecommendBatch", pb.RecommendBatchRequest(users=[user, users[0]])
        yield "RecommendStream", pb.RecommendStreamRequest(id=1, request=plain)
        yield "Score", pb.ScoreRequest(user=user, item_ids=["item-sentinel"])
        yield "Score", pb.ScoreRequest(user=user, item_ids=["i1", "1"])
    yield "Encode", pb.EncodeRequest(texts=["text-sentinel"])
    item = pb.Item(item_id="item-sentinel")
    item.attributes.update({"title": "text-sentinel", "year": NUMBER, "name-sentinel": [NUMBER]})
    yield "UpsertItems", pb.UpsertItemsRequest(items=[item])
    yield "GetItem", pb.GetItemRequest(item_id="item-sentinel")
    yield "DeleteItems", pb.DeleteItemsRequest(item_ids=["item-sentinel"])
    for name in ("Recommend", "RecommendStream", "UpsertItems", "Encode"):
        yield name, b"\xff noise-sentinel"


def send_all(channel):
    """Make every call with the token, without one, and with a wrong one; return all statuses."""
    statuses = set()
    service = f"/{pb.DESCRIPTOR.services_by_name['RecommenderService'].full_name}/"
    kinds = {"RecommendStream": "stream_stream", "UpsertItems": "stream_unary"}
    for name, request in requests():
        kind = kinds.get(name, "unary_unary")
        sent = request if isinstance(request, bytes) else request.SerializeToString()
        for token in (TOKEN, None, "token-sentinel-of-a-stranger"):
            headers = [("x-fuserank-bundle-version", "header-sentinel")] if name == "Score" else []
            if token:
                headers.append(("authorization", f"Bearer {token}"))
            call = getattr(channel, kind)(service + name)
            try:
                reply = call(
                    iter([sent]) if kind.startswith("stream") else sent,
                    metadata=headers,
                    timeout=20,
                )
                list(reply if kind == "stream_stream" else ())
                statuses.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                statuses.add(error.code())
    return statuses


def clean(log, capfd):
    """Assert that nothing sent was logged or printed, and return what was."""
    printed = "".join(capfd.readouterr())
    lines = [f"{log.text}\n{printed}"]
    lines += [f"{record.__dict__}" for record in log.records]
    for word in (*WORDS, str(NUMBER), "8675309"):
        assert not any(word in line for line in lines), word
    return log.text


def test_of_a_real_engine(serve_guarded, tiny_bundle, log, capfd):
    channel = serve_guarded(lambda: load(tiny_bundle.path))
    statuses = send_all(channel)
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= statuses
    assert grpc.StatusCode.UNAUTHENTICATED in statuses
    assert "serving tiny" in clean(log, capfd)  # the log is looked at indeed


def test_of_an_engine_that_breaks(serve_guarded, engine, log, capfd):
    def fail():
        try:
            raise KeyError(CAUSE)
        except KeyError as error:
            raise ValueError(RAISED, NUMBER) from error

    engine.before = fail
    statuses = send_all(serve_guarded(lambda: engine))
    assert grpc.StatusCode.INTERNAL in statuses
    text = clean(log, capfd)
    assert "ValueError at" in text  # and yet it says what to look for
    assert "caused by KeyError at" in text
    assert "in fail" in text


def test_of_methods_that_break_outside_a_servicer(on_loop, log, capfd):
    """Where no servicer turns an exception into a status, the guard does."""

    class Admin(admin_pb2_grpc.AdminServiceServicer):
        async def ForgetUser(self, request, context):
            raise RuntimeError(f"{RAISED} {request.user_id}")

    class Recommender(recommender_pb2_grpc.RecommenderServiceServicer):
        async def RecommendStream(self, requests, context):
            async for request in requests:
                yield pb.RecommendStreamResponse(id=request.id)
                raise RuntimeError(RAISED)

    async def begin():
        server = grpc.aio.server(interceptors=[Guard()])
        admin_pb2_grpc.add_AdminServiceServicer_to_server(Admin(), server)
        recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(Recommender(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = on_loop(begin())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as failed:
            admin_pb2_grpc.AdminServiceStub(channel).ForgetUser(
                admin_pb2.ForgetUserRequest(user_id="id-sentinel"), timeout=10
            )
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert failed.value.details() == "internal error; the server's log has the details"
        stub = recommender_pb2_grpc.RecommenderServiceStub(channel)
        replies = stub.RecommendStream(iter([pb.RecommendStreamRequest(id=5)]), timeout=10)
        assert next(replies).id == 5
        with pytest.raises(grpc.RpcError) as failed:
            next(replies)
        assert failed.value.code() is grpc.StatusCode.INTERNAL
    on_loop(server.stop(None))
    text = clean(log, capfd)
    assert "/fuserank.v1.AdminService/ForgetUser failed: RuntimeError at" in text
