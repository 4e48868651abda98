"""Clients of a fuserank server: the engine's own methods and results, over gRPC."""

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Self, TypeVar, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.engine.results import BundleInfo, Embeddings, Item, Recommendation, Scores
from fuserank.errors import FuserankError, UnavailableError
from fuserank.server.client import calls
from fuserank.server.client.calls import OptionKeywords
from fuserank.server.client.channel import (
    ChannelKeywords,
    ChannelOptions,
    open_async_channel,
    open_channel,
)
from fuserank.server.client.streams import Streamed, StreamKeywords, Template, stream, stream_async
from fuserank.server.messages.status import error_of
from fuserank.server.pb import recommender_pb2_grpc

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
User = Mapping[str, object]

_TIMEOUT_S = 30.0
_READY_TIMEOUT_S = 120.0
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
        **connection: Unpack[ChannelKeywords],
    ) -> None:
        """Take an address; the connection is made by the first call.

        Args:
            address: ``host:port``, or a target of gRPC that names several servers, which then
                answer in turn.
            timeout_s: seconds that one call may take, retries included.
            connection: the attributes of `ChannelOptions`, such as ``tls_ca="ca.pem"``,
                ``token="..."`` or ``attempts=1``.

        Raises:
            ConfigError: the options contradict each other, or a file cannot be read.
        """
        self._address, self._timeout_s = address, timeout_s
        self._channel = open_channel(address, ChannelOptions(**connection))
        self._stub = recommender_pb2_grpc.RecommenderServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def recommend(
        self,
        user: User,
        k: int = 10,
        *,
        attributes: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> Recommendation:
        """Return the k best items of a user, as `Engine.recommend` does.

        `attributes` asks also for their titles and so on.
        """
        return self._call(calls.recommend(user, k, calls.options(**options), attributes))

    def recommend_many(
        self,
        users: Sequence[User],
        k: int = 10,
        *,
        attributes: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> list[Recommendation]:
        """Return the k best items of several users, who share one pass over the catalogue."""
        return self._call(calls.recommend_many(users, k, calls.options(**options), attributes))

    def recommend_stream(
        self, users: Iterable[User], k: int = 10, **keywords: Unpack[StreamKeywords]
    ) -> Iterator[Streamed]:
        """Yield what becomes of each user, in the order in which it is known.

        A failure of one user is an outcome of its own, and the stream goes on. As many users are
        taken ahead as the server lets in. The stream ends with the iterator.

        Args:
            users: as for `recommend`; iterated on another thread.
            k: items wanted for each.
            keywords: those of `recommend`, ``bulk=True`` for what nobody waits for, and
                ``timeout_ms``, the time that one answer is worth waiting for.
        """
        template = Template.of(k, **keywords)
        return stream(self._stub.RecommendStream, users, template, self._address)

    def score(self, user: User, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user, in the order of the ids."""
        return self._call(calls.score(user, item_ids))

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts."""
        return self._call(calls.encode(texts))

    def upsert(self, items: Mapping[str, Mapping[str, object]]) -> int:
        """Add items, or replace those that the catalogue holds, as `Engine.upsert` does.

        They are sent in parts, of which each is taken as a whole; where one fails, those before it
        stay. Sending them again is safe.
        """
        return self._call(calls.upsert(items))

    def delete(self, item_ids: Collection[str]) -> int:
        """Take items out of the catalogue, and return how many it held."""
        return self._call(calls.delete(item_ids))

    def item(self, item_id: str) -> Item:
        """Return one item as the catalogue holds it now."""
        return self._call(calls.item(item_id))

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
            reply = getattr(self._stub, call.rpc)(call.sent, timeout=self._timeout_s)
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
        **connection: Unpack[ChannelKeywords],
    ) -> None:
        """Take an address; the arguments are those of `Client`."""
        self._address, self._timeout_s = address, timeout_s
        self._channel = open_async_channel(address, ChannelOptions(**connection))
        self._stub = recommender_pb2_grpc.RecommenderServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def recommend(
        self,
        user: User,
        k: int = 10,
        *,
        attributes: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> Recommendation:
        """Return the k best items of a user, as `Engine.recommend` does.

        `attributes` asks also for their titles and so on.
        """
        return await self._call(calls.recommend(user, k, calls.options(**options), attributes))

    async def recommend_many(
        self,
        users: Sequence[User],
        k: int = 10,
        *,
        attributes: bool = False,
        **options: Unpack[OptionKeywords],
    ) -> list[Recommendation]:
        """Return the k best items of several users, who share one pass over the catalogue."""
        return await self._call(
            calls.recommend_many(users, k, calls.options(**options), attributes)
        )

    def recommend_stream(
        self,
        users: Iterable[User] | AsyncIterable[User],
        k: int = 10,
        **keywords: Unpack[StreamKeywords],
    ) -> AsyncIterator[Streamed]:
        """Yield what becomes of each user, as `Client.recommend_stream` does."""
        template = Template.of(k, **keywords)
        return stream_async(self._stub.RecommendStream, users, template, self._address)

    async def score(self, user: User, item_ids: Sequence[str]) -> Scores:
        """Return the scores of named items for a user, in the order of the ids."""
        return await self._call(calls.score(user, item_ids))

    async def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts."""
        return await self._call(calls.encode(texts))

    async def upsert(self, items: Mapping[str, Mapping[str, object]]) -> int:
        """Add items, or replace those that the catalogue holds, as `Engine.upsert` does.

        They are sent in parts, of which each is taken as a whole; where one fails, those before it
        stay. Sending them again is safe.
        """
        return await self._call(calls.upsert(items))

    async def delete(self, item_ids: Collection[str]) -> int:
        """Take items out of the catalogue, and return how many it held."""
        return await self._call(calls.delete(item_ids))

    async def item(self, item_id: str) -> Item:
        """Return one item as the catalogue holds it now."""
        return await self._call(calls.item(item_id))

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
            reply = await getattr(self._stub, call.rpc)(call.sent, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise error_of(error, self._address) from error
        return call.read(reply)


def _not_ready(address: str, timeout_s: float, error: grpc.RpcError) -> FuserankError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError(f"{address}: not ready within {timeout_s:g} s")
    if error.code() is grpc.StatusCode.CANCELLED:  # what a server that goes down does to a watch
        return UnavailableError(f"{address}: the server ended its watch without serving")
    return error_of(error, address)
