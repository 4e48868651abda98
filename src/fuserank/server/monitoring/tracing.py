"""A span of OpenTelemetry for every call; off unless told otherwise.

Where spans go, and how many of them, OpenTelemetry's own environment variables say:
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and so on. Spans hold the
method, the status and the request's id: never what a caller sent.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from fuserank.errors import ConfigError
from fuserank.server.monitoring.handlers import Behavior, Context, Wrapped
from fuserank.server.monitoring.statuses import status_after

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

__all__ = ["CallTracing", "TracingConfig", "tracer_provider"]

_HEADERS = ("traceparent", "tracestate")
_SERVERS_FAULT = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


@dataclass(frozen=True, kw_only=True)
class TracingConfig:
    """Whether calls are traced.

    Attributes:
        enabled: send a span of every call to where OTEL_EXPORTER_OTLP_ENDPOINT says.
    """

    enabled: bool = False


def tracer_provider() -> "TracerProvider":
    """Return what sends spans in batches, on a thread of its own; it is shut down by its owner.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            "tracing.enabled: found no OpenTelemetry, which an extra brings: "
            "pip install 'fuserank[otel]'"
        ) from error
    # What the environment says goes before our name.
    resource = Resource({SERVICE_NAME: "fuserank"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class CallTracing(grpc.aio.ServerInterceptor):
    """Makes the spans, each a child of the `traceparent` that the caller sends."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Take what gives out tracers, such as `tracer_provider` returns."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer: Tracer = provider.get_tracer("fuserank")
        self._propagator = TraceContextTextMapPropagator()
        self._wrapped = Wrapped(self._trace)

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Return a handler that does what the server's own does, within a span."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return self._wrapped.around(handler, handler_call_details.method)

    def _trace(self, method: str, behavior: Behavior, generates: bool) -> Behavior:
        async def traced(request: Any, context: Context) -> Any:
            with self._span(method, context):
                return await behavior(request, context)

        async def traced_generator(request: Any, context: Context) -> AsyncIterator[Any]:
            with self._span(method, context):
                async with aclosing(behavior(request, context)) as replies:
                    async for reply in replies:
                        yield reply

        return traced_generator if generates else traced

    @contextmanager
    def _span(self, method: str, context: Context) -> Iterator[None]:
        from opentelemetry.trace import SpanKind, StatusCode

        headers = {
            name: value
            for name, value in context.invocation_metadata() or ()
            if name in (*_HEADERS, "x-request-id") and isinstance(value, str)
        }
        service, _, name = method.lstrip("/").partition("/")
        span = self._tracer.start_span(
            method.lstrip("/"),
            self._propagator.extract({name: headers[name] for name in _HEADERS if name in headers}),
            SpanKind.SERVER,
            {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        if request_id := headers.get("x-request-id"):
            span.set_attribute("fuserank.request_id", request_id[:256])
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            code = status_after(failed, context)
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code in _SERVERS_FAULT:
                span.set_status(StatusCode.ERROR, code.name)
            span.end()
