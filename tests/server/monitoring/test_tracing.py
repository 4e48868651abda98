import asyncio
import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from fuserank.errors import ConfigError
from fuserank.server.client.client import Client
from fuserank.server.monitoring.tracing import CallTracing, TracingConfig, tracer_provider

sdk = pytest.importorskip(
    "opentelemetry.sdk.trace", reason="tracing needs OpenTelemetry: pip install 'fuserank[otel]'"
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")


async def unary(request, context):
    if request == b"raise":
        raise ValueError("a secret")
    if request == b"abort":
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a secret")
    if request == b"wait":
        await asyncio.Event().wait()
    return request


async def generate(request, context):
    yield request
    yield request


@pytest.fixture
def traced(on_loop):
    """Call a traced server, and read the spans it made."""
    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def start():
        server = grpc.aio.server(interceptors=[CallTracing(provider)])
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Generate": grpc.unary_stream_rpc_method_handler(generate),
        }
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Service", methods)]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    server, channel = on_loop(start())

    def call(request, *metadata, method="Unary", **options):
        async def run():
            if method == "Generate":
                return [
                    reply
                    async for reply in channel.unary_stream(f"/test.Service/{method}")(
                        request, metadata=metadata
                    )
                ]
            return await channel.unary_unary(f"/test.Service/{method}")(
                request, metadata=metadata, **options
            )

        with contextlib.suppress(grpc.aio.AioRpcError):
            on_loop(run())
        on_loop(server.stop(5))  # ends what the client gave up, so that its span is there
        [span] = exporter.get_finished_spans()
        return span

    yield call
    on_loop(channel.close())
    on_loop(server.stop(0))


def test_a_call_is_a_span_that_goes_on_from_the_callers(traced):
    span = traced(b"x", SAMPLED, ("x-request-id", "r-1"))
    assert span.name == "test.Service/Unary"
    assert span.kind is SpanKind.SERVER
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert dict(span.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "test.Service",
        "rpc.method": "Unary",
        "rpc.grpc.status_code": 0,
        "fuserank.request_id": "r-1",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_stream_is_one_span(traced):
    span = traced(b"x", method="Generate")
    assert span.name == "test.Service/Generate"
    assert span.parent is None


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{TRACE}-{'0' * 16}-01"])
def test_a_header_that_says_nothing_begins_a_trace(traced, header):
    span = traced(b"x", ("traceparent", header))
    assert span.parent is None
    assert span.context.trace_id


@pytest.mark.parametrize(
    ("request_", "code", "status"),
    [
        (b"raise", grpc.StatusCode.UNKNOWN, StatusCode.ERROR),
        (b"abort", grpc.StatusCode.INVALID_ARGUMENT, StatusCode.UNSET),
        (b"wait", grpc.StatusCode.DEADLINE_EXCEEDED, StatusCode.ERROR),
    ],
)
def test_a_span_says_how_the_call_ended_and_not_what_it_said(traced, request_, code, status):
    span = traced(request_, timeout=0.3)
    assert span.attributes["rpc.grpc.status_code"] == code.value[0]
    assert span.status.status_code is status
    assert "secret" not in span.to_json()


def test_without_the_packages_it_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'fuserank\[otel\]'"):
        tracer_provider()


def test_the_environment_names_the_service(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "films")
    provider = tracer_provider()
    assert provider.resource.attributes["service.name"] == "films"
    provider.shutdown()
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    provider = tracer_provider()
    assert provider.resource.attributes["service.name"] == "fuserank"
    provider.shutdown()


def test_a_collector_gets_the_spans_of_a_server(monkeypatch, start_server, on_loop, engine):
    from opentelemetry.proto.collector.trace.v1 import (
        trace_service_pb2,
        trace_service_pb2_grpc,
    )

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        def __init__(self):
            self.spans = []

        def Export(self, request, context):
            for resource in request.resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = Collector()
    receiver = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, receiver)
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    try:
        server, address = start_server(tracing=TracingConfig(enabled=True))
        on_loop(server.load(lambda: engine))
        with Client(address) as client:
            client.recommend({"user_id": "somebody"}, k=2)
        on_loop(server.stop())  # sends what was not sent yet
    finally:
        receiver.stop(None)
    (span,) = (span for span in collector.spans if span.name.endswith("/Recommend"))
    assert span.name == "fuserank.v1.RecommenderService/Recommend"
    assert span.end_time_unix_nano > span.start_time_unix_nano
    said = {attribute.key: attribute.value for attribute in span.attributes}
    assert said["rpc.grpc.status_code"].int_value == 0
    assert "somebody" not in str(span)
