"""Callers of one server, in a process of their own: a closed loop each, on its own connection.

``python -m fuserank.bench.peers.client`` reads a `Demand` as JSON on standard input, and writes an
`Observed` on standard output.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bench.peers.ranking import MODEL, VECTOR

__all__ = ["BENTOML", "LITSERVE", "OIP", "OWN", "PROTOCOLS", "Demand", "Observed"]

OWN, OIP = "gRPC", "gRPC, Open Inference Protocol"
LITSERVE, BENTOML = "HTTP, JSON", "HTTP, JSON (BentoML)"
PROTOCOLS = (OWN, OIP, LITSERVE, BENTOML)

_RETRY_S = 0.2
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

Vector = npt.NDArray[np.float32]
Ask = Callable[[Vector], Awaitable[list[int]]]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What to ask of whom.

    Attributes:
        protocol: one of `PROTOCOLS`.
        address: ``host:port``.
        width: numbers in a user's vector.
        k: items wanted.
        callers: callers at a time.
        calls: of all callers together.
        warm_calls: before these; they are not counted.
        start_timeout_s: seconds within which the server must answer its first call.
    """

    protocol: str
    address: str
    width: int
    k: int
    callers: int
    calls: int
    warm_calls: int
    start_timeout_s: float


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What came of it.

    Attributes:
        rows: by user, the best items; of the first users, for comparison with what they should be.
        latencies_ms: of each call.
        seconds: from the first call to the last reply.
        cpu_s: that this process spent meanwhile.
    """

    rows: list[list[int]]
    latencies_ms: list[float]
    seconds: float
    cpu_s: float


def users(width: int) -> Vector:
    """Return (64, width) vectors of users, who are asked for in turn."""
    return np.random.default_rng(0).standard_normal((64, width), dtype=np.float32)


async def observe(demand: Demand) -> Observed:
    """Wait for the server, warm it up, and time calls."""
    vectors = users(demand.width)
    async with contextlib.AsyncExitStack() as stack:
        asks = [
            await stack.enter_async_context(_CONNECT[demand.protocol](demand))
            for _ in range(demand.callers)
        ]
        await _first_answer(asks[0], vectors[0], demand.start_timeout_s)
        rows = [await asks[0](vector) for vector in vectors[:8]]
        await _loop(asks, vectors, demand.warm_calls)
        started, cpu = time.perf_counter(), time.process_time()
        latencies = await _loop(asks, vectors, demand.calls)
        return Observed(
            rows=rows,
            latencies_ms=latencies,
            seconds=time.perf_counter() - started,
            cpu_s=time.process_time() - cpu,
        )


async def _first_answer(ask: Ask, vector: Vector, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            await ask(vector)
            return
        except Exception:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_RETRY_S)


async def _loop(asks: list[Ask], vectors: Vector, calls: int) -> list[float]:
    """Return the milliseconds of each call."""
    numbers = iter(range(calls))
    latencies: list[float] = []

    async def caller(ask: Ask) -> None:
        for number in numbers:  # shared: whoever is free takes the next
            vector = vectors[number % len(vectors)]
            started = time.perf_counter()
            await ask(vector)
            latencies.append((time.perf_counter() - started) * 1e3)

    async with asyncio.TaskGroup() as tasks:
        for ask in asks:
            tasks.create_task(caller(ask))
    return latencies


@contextlib.asynccontextmanager
async def _own(demand: Demand) -> AsyncIterator[Ask]:
    import grpc

    from fuserank.server.pb import recommender_pb2 as pb
    from fuserank.server.pb import recommender_pb2_grpc

    async with grpc.aio.insecure_channel(demand.address, _OWN_CONNECTION) as channel:
        stub = recommender_pb2_grpc.RecommenderServiceStub(channel)  # type: ignore[no-untyped-call]

        async def ask(vector: Vector) -> list[int]:
            request = pb.RecommendRequest(k=demand.k)
            request.user.fields["vector"].number_list.values.extend(vector.tolist())
            reply = await stub.Recommend(request, timeout=60)
            return [int(item.removeprefix("item-")) for item in reply.recommendation.item_ids]

        yield ask


@contextlib.asynccontextmanager
async def _oip(demand: Demand) -> AsyncIterator[Ask]:
    import grpc

    from fuserank.server.pb import grpc_service_pb2 as pb
    from fuserank.server.pb import grpc_service_pb2_grpc

    async with grpc.aio.insecure_channel(demand.address, _OWN_CONNECTION) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        tensor = pb.ModelInferRequest.InferInputTensor(
            name=VECTOR, datatype="FP32", shape=[1, demand.width]
        )

        async def ask(vector: Vector) -> list[int]:
            request = pb.ModelInferRequest(
                model_name=MODEL, inputs=[tensor], raw_input_contents=[vector.tobytes()]
            )
            reply = await stub.ModelInfer(request, timeout=60)
            if reply.raw_output_contents:
                rows: list[int] = np.frombuffer(reply.raw_output_contents[1], np.int64).tolist()
                return rows
            return list(reply.outputs[1].contents.int64_contents)

        yield ask


@contextlib.asynccontextmanager
async def _litserve(demand: Demand) -> AsyncIterator[Ask]:
    async with _post(f"http://{demand.address}/predict") as post:

        async def ask(vector: Vector) -> list[int]:
            rows: list[int] = (await post({"vector": vector.tolist()}))["rows"]
            return rows

        yield ask


@contextlib.asynccontextmanager
async def _bentoml(demand: Demand) -> AsyncIterator[Ask]:
    async with _post(f"http://{demand.address}/rank") as post:

        async def ask(vector: Vector) -> list[int]:
            rows: list[int] = (await post({"vectors": [vector.tolist()]}))[0][1]
            return rows

        yield ask


@contextlib.asynccontextmanager
async def _post(url: str) -> AsyncIterator[Callable[[object], Awaitable[Any]]]:
    """Yield what posts JSON on one connection that is kept."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(body: object) -> Any:
            headers = {"Content-Type": "application/json"}
            async with session.post(url, data=msgspec.json.encode(body), headers=headers) as reply:
                reply.raise_for_status()
                return msgspec.json.decode(await reply.read())

        yield post


_CONNECT = {OWN: _own, OIP: _oip, LITSERVE: _litserve, BENTOML: _bentoml}


if __name__ == "__main__":
    import uvloop

    demand = msgspec.json.decode(sys.stdin.buffer.read(), type=Demand)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            observed = runner.run(observe(demand))
        except Exception as error:
            # On one line, for a report.
            sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
    sys.stdout.buffer.write(msgspec.json.encode(observed))
