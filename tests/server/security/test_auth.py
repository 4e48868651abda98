import hashlib
import logging

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from fuserank.errors import ConfigError
from fuserank.server.api.health import Health
from fuserank.server.monitoring.call_metrics import CallMetrics
from fuserank.server.monitoring.metrics import Metrics
from fuserank.server.pb import (
    admin_pb2,
    admin_pb2_grpc,
    grpc_service_pb2,
    recommender_pb2,
    recommender_pb2_grpc,
)
from fuserank.server.security.auth import METHODS, AuthConfig, AuthInterceptor, exposures
from fuserank.server.security.guard import Guard
from fuserank.server.security.tls import TlsConfig

Code = grpc.StatusCode
READER, WRITER, OPERATOR = "a-reader's-token", "a-writer's-token", "an-operator's-token"
KINDS = {
    "Recommend": "unary_unary",
    "RecommendStream": "stream_stream",
    "UpsertItems": "stream_unary",
}


def line(name, permissions, token):
    return f"{name}:{permissions}:{hashlib.sha256(token.encode()).hexdigest()}\n"


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(
        "# who may what\n\n"
        + line("reader", "recommend", READER)
        + line("writer", "recommend,items", WRITER)
        + line("operator", "admin", OPERATOR)
    )
    file.chmod(0o600)
    return file


class Recommender(recommender_pb2_grpc.RecommenderServiceServicer):
    """Answers every kind of call, and counts the messages that it reads."""

    n_read = 0

    async def Recommend(self, request, context):
        self.n_read += 1
        return recommender_pb2.RecommendResponse()

    async def RecommendStream(self, requests, context):
        async for request in requests:
            self.n_read += 1
            yield recommender_pb2.RecommendStreamResponse(id=request.id)

    async def UpsertItems(self, requests, context):
        async for _ in requests:
            self.n_read += 1
        return recommender_pb2.UpsertItemsResponse()


class Admin(admin_pb2_grpc.AdminServiceServicer):
    async def ListBundles(self, request, context):
        return admin_pb2.ListBundlesResponse()


@pytest.fixture
def recommender():
    return Recommender()


@pytest.fixture
def serve(start_grpc, recommender):
    """Serve behind the interceptor, and return the address."""

    def start(config, *, host="127.0.0.1", metrics=None):
        def add(server):
            recommender_pb2_grpc.add_RecommenderServiceServicer_to_server(recommender, server)
            admin_pb2_grpc.add_AdminServiceServicer_to_server(Admin(), server)
            health_pb2_grpc.add_HealthServicer_to_server(Health([]), server)
            reflection.enable_server_reflection((reflection.SERVICE_NAME,), server)

        interceptors = [AuthInterceptor(config, host=host, metrics=metrics), Guard()]
        if metrics is not None:
            interceptors.insert(0, CallMetrics(metrics))
        return start_grpc(add, interceptors=interceptors)

    return start


@pytest.fixture
def call(serve):
    """Return a function that calls a method, and returns code and message."""
    channels = {}

    def to(address, method, *headers, message=b""):
        if address not in channels:
            channels[address] = grpc.insecure_channel(address)
        kind = KINDS.get(method.rpartition("/")[2], "unary_unary")
        made = getattr(channels[address], kind)(method)
        request = iter([message]) if kind.startswith("stream") else message
        try:
            reply = made(request, metadata=headers, timeout=10)
            if kind.endswith("stream"):
                list(reply)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return Code.OK, ""

    yield to
    for channel in channels.values():
        channel.close()


def bearer(token):
    return ("authorization", f"Bearer {token}")


RECOMMEND, STREAM, UPSERT, LIST = (
    "/fuserank.v1.RecommenderService/Recommend",
    "/fuserank.v1.RecommenderService/RecommendStream",
    "/fuserank.v1.RecommenderService/UpsertItems",
    "/fuserank.v1.AdminService/ListBundles",
)


def test_a_token_opens_what_it_has_permissions_for(serve, call, token_file):
    address = serve(AuthConfig(token_file=token_file))
    allowed = {
        token: [
            call(address, method, bearer(token))[0] for method in (RECOMMEND, STREAM, UPSERT, LIST)
        ]
        for token in (READER, WRITER, OPERATOR)
    }
    assert allowed == {
        READER: [Code.OK, Code.OK, Code.PERMISSION_DENIED, Code.PERMISSION_DENIED],
        WRITER: [Code.OK, Code.OK, Code.OK, Code.PERMISSION_DENIED],
        OPERATOR: [*[Code.PERMISSION_DENIED] * 3, Code.OK],
    }


@pytest.mark.parametrize("method", [RECOMMEND, STREAM, UPSERT, LIST])
def test_without_a_token_or_with_a_wrong_one_the_answer_is_the_same(
    serve, call, token_file, recommender, method
):
    address = serve(AuthConfig(token_file=token_file))
    answers = {
        call(address, method, *headers)
        for headers in (
            (),
            (bearer("wrong"),),
            (bearer(READER + "x"),),
            (bearer(""),),
            (("authorization", READER),),
            (("authorization", f"Basic {READER}"),),
            (("authorization-bin", f"Bearer {READER}".encode()),),
            (bearer(READER), bearer("wrong")),
            (bearer(hashlib.sha256(READER.encode()).hexdigest()),),
        )
    }
    assert len(answers) == 1
    code, message = answers.pop()
    assert code is Code.UNAUTHENTICATED
    assert message.startswith("expected a valid token")
    assert recommender.n_read == 0


def test_the_scheme_is_read_in_any_case(serve, call, token_file):
    address = serve(AuthConfig(token_file=token_file))
    assert call(address, RECOMMEND, ("authorization", f"bearer  {READER} "))[0] is Code.OK


def test_a_refused_stream_ends_before_anything_is_sent_on_it(serve, token_file, recommender):
    address = serve(AuthConfig(token_file=token_file))
    with grpc.insecure_channel(address) as channel:
        replies = channel.stream_stream(STREAM)(iter([b"\xff"] * 3), timeout=10)
        with pytest.raises(grpc.RpcError) as error:
            next(replies)
    assert error.value.code() is Code.UNAUTHENTICATED
    assert recommender.n_read == 0


def test_probes_need_no_token(serve, call, token_file):
    address = serve(AuthConfig(token_file=token_file))
    assert call(address, "/grpc.health.v1.Health/Check")[0] is Code.OK
    assert services_of(address)


def services_of(address, *headers):
    with grpc.insecure_channel(address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([request]), metadata=headers, timeout=10
        )
        return [one.name for one in next(replies).list_services_response.service]


def test_reflection_can_be_guarded(serve, token_file):
    address = serve(AuthConfig(token_file=token_file, guard_reflection=True))
    with pytest.raises(grpc.RpcError) as error:
        services_of(address)
    assert error.value.code() is Code.UNAUTHENTICATED
    for token in (READER, OPERATOR):
        assert services_of(address, bearer(token)) == [reflection.SERVICE_NAME]


@pytest.mark.parametrize("known", [True, False])
def test_a_method_that_does_not_exist_is_unimplemented(serve, call, token_file, known):
    metrics = Metrics()
    address = serve(AuthConfig(token_file=token_file), metrics=metrics)
    headers = [bearer(READER)] if known else []
    for number in range(3):
        method = f"/fuserank.v1.RecommenderService/Nothing{number}"
        assert call(address, method, *headers)[0] is Code.UNIMPLEMENTED
    assert b"Nothing" not in metrics.render()  # callers make no series


def test_a_method_that_is_not_listed_needs_admin(start_grpc, call, token_file):
    async def answer(request, context):
        return b""

    handlers = {"New": grpc.unary_unary_rpc_method_handler(answer)}
    generic = grpc.method_handlers_generic_handler("fuserank.v1.RecommenderService", handlers)
    address = start_grpc(
        lambda server: server.add_generic_rpc_handlers((generic,)),
        interceptors=[AuthInterceptor(AuthConfig(token_file=token_file), host="127.0.0.1")],
    )
    method = "/fuserank.v1.RecommenderService/New"
    assert call(address, method, bearer(WRITER))[0] is Code.PERMISSION_DENIED
    assert call(address, method, bearer(OPERATOR))[0] is Code.OK


def test_every_method_is_listed():
    services = [
        service
        for file in (recommender_pb2, admin_pb2, grpc_service_pb2, health_pb2, reflection_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    ]
    methods = {f"/{one.full_name}/{method.name}" for one in services for method in one.methods}
    unserved = {one for one in methods if "SharedMemory" in one or "Trace" in one or "Log" in one}
    assert methods - unserved <= set(METHODS)
    ours = {name for name in METHODS if name.startswith(("/fuserank.", "/inference."))}
    assert ours <= methods


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", Code.OK),
        ("::1", Code.OK),
        ("localhost", Code.OK),
        ("0.0.0.0", Code.PERMISSION_DENIED),
        ("::", Code.PERMISSION_DENIED),
        ("::ffff:10.0.0.1", Code.PERMISSION_DENIED),
        ("some-name", Code.PERMISSION_DENIED),
    ],
)
def test_without_tokens_admin_is_for_loopback_alone(serve, call, host, code):
    address = serve(AuthConfig(), host=host)
    assert call(address, LIST)[0] is code
    assert call(address, RECOMMEND)[0] is Code.OK
    assert call(address, UPSERT)[0] is Code.OK


def test_tokens_are_read_again_when_the_file_changed(serve, call, token_file):
    address = serve(AuthConfig(token_file=token_file))
    assert call(address, RECOMMEND, bearer(READER))[0] is Code.OK
    assert call(address, RECOMMEND, bearer("new"))[0] is Code.UNAUTHENTICATED
    token_file.write_text(line("reader", "recommend", "new"))
    assert call(address, RECOMMEND, bearer("new"))[0] is Code.OK
    assert call(address, RECOMMEND, bearer(READER))[0] is Code.UNAUTHENTICATED
    # Another file in its place, of the same length, as an editor or a cluster puts it there.
    other = token_file.with_name("other")
    other.write_text(line("reader", "recommend", "old"))
    other.replace(token_file)
    assert call(address, RECOMMEND, bearer("old"))[0] is Code.OK
    assert call(address, RECOMMEND, bearer("new"))[0] is Code.UNAUTHENTICATED


@pytest.mark.parametrize("damage", ["gone", "empty", "nonsense", "half"])
def test_a_file_that_is_no_good_leaves_the_old_tokens(serve, call, token_file, caplog, damage):
    address = serve(AuthConfig(token_file=token_file))
    if damage == "gone":
        token_file.unlink()
    else:
        text = token_file.read_text()
        token_file.write_text({"empty": "", "nonsense": READER, "half": text[:-9]}[damage])
    for _ in range(3):
        assert call(address, LIST, bearer(OPERATOR))[0] is Code.OK
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith(f"auth.token_file: {token_file}")
    assert READER not in caplog.text


def test_guarding_reflection_takes_tokens():
    with pytest.raises(ConfigError, match=r"auth\.token_file: not set"):
        AuthConfig(guard_reflection=True)


def test_refusals_are_counted_and_operators_calls_are_logged_by_name(
    serve, call, token_file, caplog
):
    caplog.set_level(logging.DEBUG)
    metrics = Metrics()
    address = serve(AuthConfig(token_file=token_file), metrics=metrics)
    call(address, RECOMMEND)
    call(address, STREAM, bearer("wrong-token"))
    call(address, LIST, bearer(READER))
    call(address, LIST, bearer(OPERATOR))
    text = metrics.render().decode()
    assert 'fuserank_rejections_total{reason="unauthenticated"} 3.0' in text
    assert 'grpc_code="Unauthenticated",grpc_method="Recommend"' in text
    assert f"{LIST} called by operator" in caplog.messages
    for token in (READER, OPERATOR, "wrong-token"):
        assert token not in caplog.text
        assert token not in text


def test_what_is_open_to_a_network_is_warned_of(token_file, tmp_path):
    auth = AuthConfig(token_file=token_file)
    files = {"certificate": tmp_path / "crt", "key": tmp_path / "key"}
    tls, mutual = TlsConfig(**files), TlsConfig(**files, client_ca=tmp_path / "ca")
    assert exposures("::1", TlsConfig(), AuthConfig()) == ()
    assert exposures("0.0.0.0", tls, auth) == exposures("0.0.0.0", mutual, AuthConfig()) == ()
    (no_tokens,) = exposures("0.0.0.0", tls, AuthConfig())
    assert "may call it" in no_tokens
    (no_tls,) = exposures("0.0.0.0", TlsConfig(), auth)
    assert "tokens too" in no_tls
    assert len(exposures("box", TlsConfig(), AuthConfig())) == 2
