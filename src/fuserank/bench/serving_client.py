"""Callers of our server, in a process of their own, so that what they cost is not the server's.

``python -m fuserank.bench.serving_client`` reads a `Demand` as JSON on standard input, and writes a
`Seen` on standard output. Requests are made beforehand: what is timed is the call.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
import msgspec
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.bench.peers.client import users as user_vectors
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.pb import recommender_pb2_grpc

__all__ = ["Demand", "Mode", "Seen"]

_MAX_BYTES = 64 * 2**20
_CONNECTIONS = 4


class Mode(StrEnum):
    """How the server is asked."""

    UNARY = "unary calls"
    STREAM = "streams"
    BATCH = "batches"
    ALONE = "one at a time"
    NOOP = "no-op"
    NOOP_BETWEEN = "no-op after a call"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What to ask.

    Attributes:
        mode: how.
        address: ``host:port``.
        server_pid: process whose CPU time is counted, with its children.
        width: numbers in a user's vector.
        k: items wanted.
        at_once: requests under way at a time; of batches, so many calls of `batch` users.
        batch: users of a batch.
        seconds: that requests may start in.
        max_requests: of them, at most.
        warm_requests: before, not counted.
    """

    mode: Mode
    address: str
    server_pid: int
    width: int
    k: int
    at_once: int
    batch: int
    seconds: float
    max_requests: int
    warm_requests: int


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of it.

    Attributes:
        users: that were answered; calls where nobody is recommended anything.
        seconds: from the first request to the last reply.
        p50_ms: of a request; of a stream, from its sending to its reply.
        reported_p50_ms: of the time that the replies say the engine took; 0 where they do not.
        overhead_p50_ms: of what is beyond that time, request by request.
        client_cpu_ms: of this process, for a user.
        server_cpu_ms: of the server's processes, for a user.
    """

    users: int
    seconds: float
    p50_ms: float
    reported_p50_ms: float
    overhead_p50_ms: float
    client_cpu_ms: float
    server_cpu_ms: float


@dataclass(frozen=True, kw_only=True)
class _Answered:
    users: int
    latency_ms: float
    engine_ms: float


async def see(demand: Demand) -> Seen:
    """Warm up, ask, and count."""
    async with _asking(demand) as ask:
        await ask(demand.warm_requests, 3600.0)
        before, cpu = _cpu_s(demand.server_pid), time.process_time()
        started = time.perf_counter()
        answered = await ask(demand.max_requests, demand.seconds)
        seconds = time.perf_counter() - started
        client_s, server_s = time.process_time() - cpu, _cpu_s(demand.server_pid) - before
    users = sum(one.users for one in answered)
    return Seen(
        users=users,
        seconds=seconds,
        p50_ms=_median([one.latency_ms for one in answered]),
        reported_p50_ms=_median([one.engine_ms for one in answered]),
        overhead_p50_ms=_median([one.latency_ms - one.engine_ms for one in answered]),
        client_cpu_ms=client_s / users * 1e3,
        server_cpu_ms=server_s / users * 1e3,
    )


Asking = Callable[[int, float], Awaitable[list[_Answered]]]


@asynccontextmanager
async def _asking(demand: Demand) -> AsyncIterator[Asking]:
    """Yield what makes so many requests for so many seconds, on connections of its own."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", _MAX_BYTES),
        ("grpc.max_send_message_length", _MAX_BYTES),
    ]
    count = min(_CONNECTIONS, demand.at_once)
    channels = [grpc.aio.insecure_channel(demand.address, options) for _ in range(count)]
    try:
        if demand.mode is Mode.STREAM:
            yield lambda most, seconds: _streams(channels, demand, most, seconds)
        else:
            calls = [_calls(channel, demand) for channel in channels]
            yield lambda most, seconds: _loops(calls, demand.at_once, most, seconds)
    finally:
        for channel in channels:
            await channel.close()


Call = Callable[[], Awaitable[_Answered]]


def _calls(channel: grpc.aio.Channel, demand: Demand) -> Call:
    """Return what makes one call after another, each for other users."""
    stub = recommender_pb2_grpc.RecommenderServiceStub(channel)  # type: ignore[no-untyped-call]
    users = [_user(vector) for vector in user_vectors(demand.width).tolist()]
    noop = demand.mode in (Mode.NOOP, Mode.NOOP_BETWEEN)
    singles = itertools.cycle(pb.RecommendRequest(user=user, k=demand.k) for user in users)
    if noop:
        ask = health_pb2_grpc.HealthStub(channel).Check
        requests: Iterator[Any] = itertools.repeat(health_pb2.HealthCheckRequest())
    elif demand.mode is Mode.BATCH:
        ask = stub.RecommendBatch
        ring = itertools.cycle(users)
        requests = itertools.repeat(
            pb.RecommendBatchRequest(users=itertools.islice(ring, demand.batch), k=demand.k)
        )
    else:
        ask, requests = stub.Recommend, singles

    async def call() -> _Answered:
        if demand.mode is Mode.NOOP_BETWEEN:
            await stub.Recommend(next(singles))
        request = next(requests)
        started = time.perf_counter()
        reply = await ask(request)
        latency_ms = (time.perf_counter() - started) * 1e3
        if noop:
            return _Answered(users=1, latency_ms=latency_ms, engine_ms=0.0)
        found = reply.recommendations if demand.mode is Mode.BATCH else [reply.recommendation]
        return _Answered(
            users=len(found), latency_ms=latency_ms, engine_ms=found[0].timings.total_ms
        )

    return call


async def _loops(calls: list[Call], at_once: int, most: int, seconds: float) -> list[_Answered]:
    """Make calls in so many closed loops."""
    until, numbers = time.perf_counter() + seconds, iter(range(most))
    answered: list[_Answered] = []

    async def loop(call: Call) -> None:
        for _ in numbers:  # shared: whoever is free makes the next
            if time.perf_counter() >= until:
                return
            answered.append(await call())

    async with asyncio.TaskGroup() as tasks:
        for index in range(at_once):
            tasks.create_task(loop(calls[index % len(calls)]))
    return answered


async def _streams(
    channels: list[grpc.aio.Channel], demand: Demand, most: int, seconds: float
) -> list[_Answered]:
    """Make requests on one stream a connection, so many of them open at a time."""
    until, numbers = time.perf_counter() + seconds, iter(range(most))
    users = [_user(vector) for vector in user_vectors(demand.width).tolist()]
    requests = [pb.RecommendRequest(user=user, k=demand.k) for user in users]
    answered: list[_Answered] = []

    async def stream(channel: grpc.aio.Channel, at_once: int) -> None:
        stub = recommender_pb2_grpc.RecommenderServiceStub(channel)  # type: ignore[no-untyped-call]
        call, sent = stub.RecommendStream(), dict[int, float]()

        async def send() -> bool:
            number = next(numbers, None)
            if number is None or time.perf_counter() >= until:
                return False
            sent[number] = time.perf_counter()
            request = requests[number % len(requests)]
            await call.write(pb.RecommendStreamRequest(id=number, request=request))
            return True

        for _ in range(at_once):
            await send()
        while sent:
            reply = await call.read()
            latency_ms = (time.perf_counter() - sent.pop(reply.id)) * 1e3
            found = reply.response.recommendation
            if not found.item_ids:
                raise RuntimeError(f"a request of a stream failed: {reply.error.message}")
            answered.append(
                _Answered(users=1, latency_ms=latency_ms, engine_ms=found.timings.total_ms)
            )
            await send()
        await call.done_writing()

    async with asyncio.TaskGroup() as tasks:
        for channel in channels:
            tasks.create_task(stream(channel, max(demand.at_once // len(channels), 1)))
    return answered


def _user(vector: list[float]) -> pb.User:
    values = pb.Value(number_list=pb.NumberList(values=vector))
    return pb.User(fields={"vector": values})


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its children so far."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


if __name__ == "__main__":
    import uvloop

    demand = msgspec.json.decode(sys.stdin.buffer.read(), type=Demand)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(msgspec.json.encode(runner.run(see(demand))))
