"""The gRPC service: checks a request, has the engine answer it, and replies."""
# ruff: noqa: N802 - methods have the names of their RPCs.

import asyncio
import functools
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from fuserank.errors import UnavailableError
from fuserank.server import conversion, validation
from fuserank.server.config import ServerConfig
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.pb import recommender_pb2_grpc
from fuserank.server.status import status_of

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["SERVICE_NAME", "RecommenderServicer"]

logger = logging.getLogger(__name__)

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["RecommenderService"].full_name

# What a caller sends comes back with the status, and both must fit into one block of headers.
_MAX_HEADER_CHARS = 256

T = TypeVar("T")
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[["RecommenderServicer", Any, Context], Awaitable[T]]


def _answered(handler: Handler[T]) -> Handler[T]:
    """Turn what a handler raises into a status, and return the caller's tracing headers."""

    @functools.wraps(handler)
    async def answer(self: "RecommenderServicer", request: Any, context: Context) -> T:
        headers = dict(context.invocation_metadata() or ())
        headers.setdefault("x-request-id", uuid.uuid4().hex)
        trailers = tuple(
            (name, headers[name][:_MAX_HEADER_CHARS])
            for name in ("x-request-id", "traceparent")
            if name in headers
        )
        context.set_trailing_metadata(trailers)
        try:
            return await handler(self, request, context)
        except Exception as error:
            code, message = status_of(error)
            if code is grpc.StatusCode.INTERNAL:
                logger.exception("%s failed, request id %s", handler.__name__, trailers[0][1])
            await context.abort(code, message)
            raise  # never reached: abort raises

    return answer


class RecommenderServicer(recommender_pb2_grpc.RecommenderServiceServicer):
    """`fuserank.v1.RecommenderService` over one engine.

    The engine releases the GIL, so its calls run on a few threads while the event loop goes on
    reading and writing. Until an engine is attached every call is UNAVAILABLE.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Limit requests to what `config` allows."""
        self._config = config
        self._engine: Engine | None = None
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="engine")

    def attach(self, engine: "Engine") -> None:
        """Answer from this engine from now on; calls under way keep the one they began with."""
        self._engine = engine

    def close(self) -> None:
        """Wait for the engine calls that run, drop those that wait, and close the engine."""
        self._pool.shutdown(cancel_futures=True)
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @_answered
    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Return the best items of one user."""
        engine = self._ready()
        validation.check_recommend(request, self._config)
        user = conversion.user_from_proto(request.user)

        def work() -> pb.Recommendation:
            found = engine.recommend(
                user, validation.k_of(request), **_eligibility(request.eligibility)
            )
            attributes = engine.attributes(found.item_ids) if request.include_attributes else ()
            return conversion.recommendation_to_proto(found, attributes)

        recommendation = await self._compute(context, work)
        return pb.RecommendResponse(recommendation=recommendation, served_by=_served_by(engine))

    @_answered
    async def RecommendBatch(
        self, request: pb.RecommendBatchRequest, context: Context
    ) -> pb.RecommendBatchResponse:
        """Return the best items of several users."""
        engine = self._ready()
        validation.check_batch(request, self._config)
        users = [conversion.user_from_proto(user) for user in request.users]

        def work() -> list[pb.Recommendation]:
            found = engine.recommend_many(
                users, validation.k_of(request), **_eligibility(request.eligibility)
            )
            return [
                conversion.recommendation_to_proto(
                    one, engine.attributes(one.item_ids) if request.include_attributes else ()
                )
                for one in found
            ]

        recommendations = await self._compute(context, work)
        return pb.RecommendBatchResponse(
            recommendations=recommendations, served_by=_served_by(engine)
        )

    @_answered
    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Return the scores of named items for one user."""
        engine = self._ready()
        validation.check_score(request, self._config)
        user = conversion.user_from_proto(request.user)
        scores = await self._compute(context, lambda: engine.score(user, list(request.item_ids)))
        response = conversion.scores_to_proto(scores)
        response.served_by.CopyFrom(_served_by(engine))
        return response

    @_answered
    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Return the embeddings of texts."""
        engine = self._ready()
        validation.check_encode(request, self._config)
        embeddings = await self._compute(context, lambda: engine.encode(list(request.texts)))
        response = conversion.embeddings_to_proto(embeddings)
        response.served_by.CopyFrom(_served_by(engine))
        return response

    @_answered
    async def GetBundleInfo(
        self, request: pb.GetBundleInfoRequest, context: Context
    ) -> pb.GetBundleInfoResponse:
        """Return what is being served."""
        return pb.GetBundleInfoResponse(bundle_info=conversion.info_to_proto(self._ready().info))

    def _ready(self) -> "Engine":
        if self._engine is None:
            raise UnavailableError("the bundle is still loading; wait until health says SERVING")
        return self._engine

    async def _compute(self, context: Context, work: Callable[[], T]) -> T:
        """Run an engine call on a thread, unless the caller has gone by the time one is free.

        gRPC cancels the handler of a call that is cancelled or expires, which takes work that
        waits off the pool; the look at the clock is for what expires while the loop is busy.
        """
        remaining_s = context.time_remaining()
        expires = math.inf if remaining_s is None else time.monotonic() + remaining_s

        def run() -> T:
            if time.monotonic() >= expires:
                raise TimeoutError("the deadline passed before the engine was free")
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)


def _eligibility(message: pb.Eligibility) -> dict[str, Any]:
    """Return the keywords by which the engine knows which items are eligible."""
    return {
        "exclude": list(message.exclude),
        "allow": list(message.allow.ids) if message.HasField("allow") else None,
        "include_seen": message.include_seen,
    }


def _served_by(engine: "Engine") -> pb.ServedBy:
    info = engine.info
    return pb.ServedBy(bundle_name=info.name, bundle_version=info.version, device=info.device)
