"""A client that offers a server calls, whether it answers them or not."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from fuserank.bench.scenarios import poisson_arrivals
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["Caller", "Calls"]

_METHOD = "/fuserank.v1.RecommenderService/Recommend"
_SENT_LATE_S = 0.005


@dataclass(kw_only=True)
class Calls:
    """What became of calls: when each was due, how long it took, and how it ended."""

    due: list[float] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    late: int = 0


class Caller:
    """Calls one server; an asynchronous context manager."""

    def __init__(
        self,
        address: str,
        requests: Sequence[bytes],
        *,
        connections: int,
        deadline_s: float,
        seed: int,
    ) -> None:
        """Take what is to be asked.

        Args:
            address: of the server.
            requests: serialized RecommendRequests, sent in turn.
            connections: over which they go in turn.
            deadline_s: seconds within which an answer is good.
            seed: of arrivals.
        """
        self._address, self._requests = address, requests
        self._connections, self._deadline_s, self._seed = connections, deadline_s, seed
        self._next = 0

    async def __aenter__(self) -> "Caller":
        # Channels to one address share a connection otherwise.
        alone = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            grpc.aio.insecure_channel(self._address, options=alone)
            for _ in range(self._connections)
        ]
        self._methods = [channel.unary_unary(_METHOD) for channel in self._channels]
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()

    async def call(self, calls: Calls, due: float, timeout_s: float | None) -> None:
        """Make the next call and write down what became of it."""
        number, self._next = self._next, self._next + 1
        method: Any = self._methods[number % len(self._methods)]
        request = self._requests[number % len(self._requests)]
        status, good, degraded = grpc.StatusCode.OK, True, False
        started = time.perf_counter()
        try:
            reply = await method(request, timeout=timeout_s)
            degraded = pb.RecommendResponse.FromString(reply).recommendation.degraded
        except grpc.RpcError as error:
            status, good = error.code(), False
        elapsed_ms = (time.perf_counter() - started) * 1e3
        good = good and elapsed_ms <= self._deadline_s * 1e3
        calls.due.append(due)
        calls.good.append(good)
        calls.statuses[status.name] += 1
        calls.late += started - due > _SENT_LATE_S
        if good:
            calls.degraded += degraded
            calls.latency_ms.append(elapsed_ms)

    async def closed(self, at_once: int, seconds: float) -> float:
        """Return the goodput of so many callers who each call again when they are answered.

        Nothing expires, so that nobody is turned away and comes again at once.
        """
        calls, began = Calls(), time.perf_counter()

        async def caller() -> None:
            while (now := time.perf_counter()) - began < seconds:
                await self.call(calls, now, None)

        await asyncio.gather(*(caller() for _ in range(at_once)))
        return sum(calls.good) / (time.perf_counter() - began)

    async def open(self, rate_per_s: float, seconds: float) -> Calls:
        """Return what became of calls that arrive on their own schedule."""
        arrivals = poisson_arrivals(
            rate_per_s, int(2 * rate_per_s * seconds) + 10, seconds, self._seed
        )
        calls, began = Calls(), time.perf_counter()
        timeout_s = self._deadline_s
        async with asyncio.TaskGroup() as tasks:
            for arrival in arrivals.tolist():
                due = began + arrival
                if (ahead := due - time.perf_counter()) > 0:
                    await asyncio.sleep(ahead)
                tasks.create_task(self.call(calls, due, timeout_s))
        calls.due = [due - began for due in calls.due]
        return calls
