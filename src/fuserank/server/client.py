"""Clients of a fuserank server: the engine's own methods and results, over gRPC."""

from collections.abc import Collection, Mapping, Sequence
from typing import Self, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.engine.results import BundleInfo, Embeddings, Recommendation, Scores
from fuserank.errors import FuserankError, UnavailableError
from fuserank.server import calls
from fuserank.server.config import ServerConfig
from fuserank.server.pb import recommender_pb2_grpc
from fuserank.server.status import error_of

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
User = Mapping[str, object]

_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 120.0
_MAX_MESSAGE_BYTES = ServerConfig.max_message_bytes
_SERVING = health_pb2.HealthCheckResponse.SERVING


class Client:
    """Calls a server and waits for each answer. Safe under concurrent callers.

    A failed call raises what the engine would raise in this process: RequestError,
    UnknownItemError, BundleError; beside these UnavailableError where no server answers, and
    ServerError for a call that failed or took too long.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = _TIMEOUT_S,
        max_message_bytes: int = _MAX_MESSAGE_BYTES,
    ) -> None:
        """Take an address; the connection is made by the first call.

        Args:
            address: ``host:port``.
            timeout_s: seconds that one call may take.
            max_message_bytes: size of one message, either way.
        """
        self._address, self._timeout_s = address, timeout_s
        self._channel = grpc.insecure_channel(address, _options(max_message_bytes))
        self._stub = recommender_pb2_grpc.RecommenderServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def recommend(
        self,
        user: User,
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
        attributes: bool = False,
    ) -> Recommendation:
        """Return the k best items of a user; `attributes` asks also for their titles and so on."""
        eligibility = calls.eligibility(exclude, allow, include_seen)
        return self._call(calls.recommend(user, k, eligibility, attributes))

    def recommend_many(
        self,
        users: Sequence[User],
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
        attributes: bool = False,
    ) -> list[Recommendation]:
        """Return the k best items of several users, who share one pass over the catalogue."""
        eligibility = calls.eligibility(exclude, allow, include_seen)
        return self._call(calls.recommend_many(users, k, eligibility, attributes))

    def score(self, user: User, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user, in the order of the ids."""
        return self._call(calls.score(user, item_ids))

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts."""
        return self._call(calls.encode(texts))

    def bundle_info(self) -> BundleInfo:
        """Return what the server has loaded."""
        return self._call(calls.bundle_info())

    def wait_until_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Return once the server answers requests.

        Raises:
            UnavailableError: it does not within `timeout_s` seconds, or it stops.
        """
        watch = self._health.Watch(
            health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
        )
        try:
            for reply in watch:
                if reply.status == _SERVING:
                    return
        except grpc.RpcError as error:
            raise _not_ready(self._address, timeout_s, error) from error
        finally:
            watch.cancel()
        raise UnavailableError(f"{self._address}: the server ended its watch without serving")

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, call: calls.Call[T]) -> T:
        try:
            reply = getattr(self._stub, call.rpc)(call.request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, self._address) from error
        return call.read(reply)


class AsyncClient:
    """`Client` for an event loop; made and used on one that runs."""

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = _TIMEOUT_S,
        max_message_bytes: int = _MAX_MESSAGE_BYTES,
    ) -> None:
        """Take an address; the arguments are those of `Client`."""
        self._address, self._timeout_s = address, timeout_s
        self._channel = grpc.aio.insecure_channel(address, _options(max_message_bytes))
        self._stub = recommender_pb2_grpc.RecommenderServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def recommend(
        self,
        user: User,
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
        attributes: bool = False,
    ) -> Recommendation:
        """Return the k best items of a user; `attributes` asks also for their titles and so on."""
        eligibility = calls.eligibility(exclude, allow, include_seen)
        return await self._call(calls.recommend(user, k, eligibility, attributes))

    async def recommend_many(
        self,
        users: Sequence[User],
        k: int = 10,
        *,
        exclude: Collection[str] = (),
        allow: Collection[str] | None = None,
        include_seen: bool = False,
        attributes: bool = False,
    ) -> list[Recommendation]:
        """Return the k best items of several users, who share one pass over the catalogue."""
        eligibility = calls.eligibility(exclude, allow, include_seen)
        return await self._call(calls.recommend_many(users, k, eligibility, attributes))

    async def score(self, user: User, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user, in the order of the ids."""
        return await self._call(calls.score(user, item_ids))

    async def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts."""
        return await self._call(calls.encode(texts))

    async def bundle_info(self) -> BundleInfo:
        """Return what the server has loaded."""
        return await self._call(calls.bundle_info())

    async def wait_until_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Return once the server answers requests.

        Raises:
            UnavailableError: it does not within `timeout_s` seconds, or it stops.
        """
        watch = self._health.Watch(
            health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
        )
        try:
            async for reply in watch:
                if reply.status == _SERVING:
                    return
        except grpc.RpcError as error:
            raise _not_ready(self._address, timeout_s, error) from error
        finally:
            watch.cancel()
        raise UnavailableError(f"{self._address}: the server ended its watch without serving")

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._channel.close(grace=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, call: calls.Call[T]) -> T:
        try:
            reply = await getattr(self._stub, call.rpc)(call.request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, self._address) from error
        return call.read(reply)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def _not_ready(address: str, timeout_s: float, error: grpc.RpcError) -> FuserankError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError(f"{address}: not ready within {timeout_s:g} s")
    if error.code() is grpc.StatusCode.CANCELLED:  # what a server that goes down does to a watch
        return UnavailableError(f"{address}: the server ended its watch without serving")
    return error_of(error, address)
