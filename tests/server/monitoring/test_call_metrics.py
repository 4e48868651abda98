"""Servers with handlers of every kind, called over real sockets."""

import asyncio

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fuserank.server.monitoring.call_metrics import CallMetrics
from fuserank.server.monitoring.metrics import Metrics


class Handlers:
    """Methods by name; each says in its request how it is to end."""

    async def unary(self, request, context):
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        if request == b"raise":
            raise ValueError
        if request == b"set":
            context.set_code(grpc.StatusCode.OUT_OF_RANGE)
        if request == b"wait":
            await asyncio.Event().wait()
        return request

    async def generate(self, request, context):
        for _ in range(3):
            yield request
        if request == b"abort":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
        if request == b"wait":
            await asyncio.Event().wait()

    async def write(self, request, context):
        await context.write(request)

    async def collect(self, requests, context):
        return b"".join([request async for request in requests])

    async def echo(self, requests, context):
        async for request in requests:
            yield request


KINDS = {
    "Unary": ("unary_unary", "unary"),
    "Generate": ("unary_stream", "generate"),
    "Write": ("unary_stream", "write"),
    "Collect": ("stream_unary", "collect"),
    "Echo": ("stream_stream", "echo"),
}


class Served:
    def __init__(self, on_loop, channel, metrics):
        self._on_loop, self._channel, self._metrics = on_loop, channel, metrics

    def call(self, method, request, **options):
        kind = KINDS.get(method, ("unary_unary",))[0]

        async def run():
            make = getattr(self._channel, kind)(f"/test.Service/{method}")
            sent = iter(request) if kind.startswith("stream") else request
            made = make(sent, **options)
            return [reply async for reply in made] if kind.endswith("stream") else await made

        return self._on_loop(run())

    def fail(self, method, request, **options):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            self.call(method, request, **options)
        return caught.value.code()

    def series(self, name):
        """Return the samples that are not zero, by method and, where there is one, status."""
        return {
            tuple(
                sample.labels[label]
                for label in ("grpc_method", "grpc_code")
                if label in sample.labels
            ): sample.value
            for family in text_string_to_metric_families(self._metrics.render().decode())
            for sample in family.samples
            if sample.name == name and sample.value
        }

    def handled(self):
        return self.series("grpc_server_handled_total")

    def until_handled(self, expected):
        """Wait for what a server counts after its client has left."""

        async def wait():
            async with asyncio.timeout(10):
                while self.handled() != expected:
                    await asyncio.sleep(0.005)

        self._on_loop(wait())


@pytest.fixture
def served(on_loop):
    metrics, handlers = Metrics(), Handlers()

    async def start():
        server = grpc.aio.server(interceptors=[CallMetrics(metrics)])
        methods = {
            name: getattr(grpc, f"{kind}_rpc_method_handler")(getattr(handlers, method))
            for name, (kind, method) in KINDS.items()
        }
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Service", methods)]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    server, channel = on_loop(start())
    yield Served(on_loop, channel, metrics)
    on_loop(channel.close())
    on_loop(server.stop(0))


def test_calls_of_every_kind_are_answered_counted_and_timed(served):
    assert served.call("Unary", b"a") == b"a"
    assert served.call("Generate", b"a") == [b"a"] * 3
    assert served.call("Write", b"a") == [b"a"]
    assert served.call("Collect", [b"a", b"b"]) == b"ab"
    assert served.call("Echo", [b"a", b"b"]) == [b"a", b"b"]
    served.until_handled({(name, "OK"): 1 for name in KINDS})
    assert served.series("grpc_server_started_total") == {(name,): 1 for name in KINDS}
    assert served.series("grpc_server_handling_seconds_count") == {(name,): 1 for name in KINDS}
    assert all(
        0 < seconds < 10 for seconds in served.series("grpc_server_handling_seconds_sum").values()
    )


@pytest.mark.parametrize(
    ("method", "request_", "code", "name"),
    [
        ("Unary", b"abort", grpc.StatusCode.NOT_FOUND, "NotFound"),
        ("Unary", b"raise", grpc.StatusCode.UNKNOWN, "Unknown"),
        ("Unary", b"set", grpc.StatusCode.OUT_OF_RANGE, "OutOfRange"),
        ("Generate", b"abort", grpc.StatusCode.RESOURCE_EXHAUSTED, "ResourceExhausted"),
    ],
)
def test_errors_are_counted_by_their_status(served, method, request_, code, name):
    assert served.fail(method, request_) is code
    served.until_handled({(method, name): 1})
    assert served.series("grpc_server_handling_seconds_count") == {(method,): 1}


@pytest.mark.parametrize("method", ["Unary", "Generate"])
def test_an_expired_call_is_counted_as_such(served, method):
    assert served.fail(method, b"wait", timeout=0.2) is grpc.StatusCode.DEADLINE_EXCEEDED
    served.until_handled({(method, "DeadlineExceeded"): 1})


@pytest.mark.parametrize("method", ["Unary", "Generate"])
def test_a_call_that_the_client_gives_up_is_counted_as_cancelled(served, on_loop, method):
    async def leave():
        make = getattr(served._channel, KINDS[method][0])(f"/test.Service/{method}")
        call = make(b"wait")
        async with asyncio.timeout(10):
            while not served.series("grpc_server_started_total"):
                await asyncio.sleep(0.005)
        call.cancel()

    on_loop(leave())
    served.until_handled({(method, "Canceled"): 1})


def test_methods_that_the_server_does_not_have_share_one_series(served):
    for index in range(20):
        assert served.fail(f"Made{index}", b"") is grpc.StatusCode.UNIMPLEMENTED
    assert served.handled() == {("other", "Unimplemented"): 20}
    assert served.series("grpc_server_started_total") == {("other",): 20}
