"""The gRPC service: checks a request, has it answered by what is loaded, and replies."""
# ruff: noqa: N802 - methods have the names of their RPCs.

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Callable

from fuserank.errors import RequestError
from fuserank.server.api.answering import Context, answered, deadline_of
from fuserank.server.api.items import ItemCalls
from fuserank.server.api.replies import (
    error_reply,
    recommend_response,
    recommendations,
    served_by,
)
from fuserank.server.api.stream import RequestStream
from fuserank.server.batching.admission import Admission, AdmissionConfig
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.questions import Answer, Question, question_of
from fuserank.server.batching.served import Served
from fuserank.server.bundles.bundles import VERSION_HEADER, Bundles
from fuserank.server.bundles.shadow import Shadow
from fuserank.server.messages import conversion, validation
from fuserank.server.messages.limits import Limits
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.pb import recommender_pb2_grpc

__all__ = ["SERVICE_NAME", "RecommenderServicer"]

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["RecommenderService"].full_name


class RecommenderServicer(recommender_pb2_grpc.RecommenderServiceServicer):
    """`fuserank.v1.RecommenderService` over the bundles that are loaded.

    Until one is loaded every call is UNAVAILABLE. A request may name the version of the bundle
    that is to answer it, in the metadata of `VERSION_HEADER`.

    Attributes:
        admission: of every call.
    """

    def __init__(
        self,
        limits: Limits,
        bundles: Bundles[Served],
        *,
        shadow: Shadow[Served, Question] | None = None,
        answers: Answers | None = None,
        admission: Admission | None = None,
    ) -> None:
        """Take what is loaded; nothing is answered yet.

        Args:
            limits: of what a request may hold.
            bundles: what is loaded.
            shadow: compares candidates on what is answered; None compares none.
            answers: keeps answers for requests that come when there is no time.
            admission: of every call, shared with other services; None makes one of its own.
        """
        self._limits, self._bundles, self._answers = limits, bundles, answers
        self._shadow = shadow
        self._items = ItemCalls(limits, bundles)
        self.admission = admission or Admission(AdmissionConfig())
        self._streams: set[RequestStream] = set()

    def drain(self) -> None:
        """Read no more of the streams; each ends when what was read of it is answered."""
        for stream in self._streams:
            stream.drain()

    @answered
    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Return the best items of one user."""
        deadline = deadline_of(context)
        with self._bundles.lease(_version(context)) as served:
            served.check(deadline, bulk=request.priority == pb.PRIORITY_BULK)
            validation.check_recommend(request, self._limits)
            question = question_of(request, keep=self._keep_by(served, deadline))
            answer = await served.answer(question, deadline)
            self._offer(question, answer, served)
            return recommend_response(served.engine, request, answer)

    @answered
    async def RecommendBatch(
        self, request: pb.RecommendBatchRequest, context: Context
    ) -> pb.RecommendBatchResponse:
        """Return the best items of several users."""
        validation.check_batch(request, self._limits)
        with self._bundles.lease(_version(context)) as served:
            answer = await served.answer(question_of(request), deadline_of(context))
            return pb.RecommendBatchResponse(
                recommendations=recommendations(served.engine, request, answer),
                served_by=served_by(served.engine),
            )

    @answered
    async def RecommendStream(
        self, requests: AsyncIterator[pb.RecommendStreamRequest], context: Context
    ) -> None:
        """Write the best items of each user that comes, as they are found."""
        version, deadline = _version(context), deadline_of(context)
        stream = RequestStream(
            requests,
            context,
            lambda request, reply: self._begin(request, version, deadline, reply),
            max_open=self.admission.config.max_outstanding,
        )
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    @answered
    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Return the scores of named items for one user."""
        validation.check_score(request, self._limits)
        user = conversion.user_from_proto(request.user)
        with self._bundles.lease(_version(context)) as served:
            engine = served.engine
            scores = await served.call(
                lambda: engine.score(user, list(request.item_ids)), deadline_of(context)
            )
            response = conversion.scores_to_proto(scores)
            response.served_by.CopyFrom(served_by(engine))
            return response

    @answered
    async def Encode(self, request: pb.EncodeRequest, context: Context) -> pb.EncodeResponse:
        """Return the embeddings of texts."""
        validation.check_encode(request, self._limits)
        with self._bundles.lease(_version(context)) as served:
            engine = served.engine
            embeddings = await served.call(
                lambda: engine.encode(list(request.texts)), deadline_of(context)
            )
            response = conversion.embeddings_to_proto(embeddings)
            response.served_by.CopyFrom(served_by(engine))
            return response

    @answered
    async def GetBundleInfo(
        self, request: pb.GetBundleInfoRequest, context: Context
    ) -> pb.GetBundleInfoResponse:
        """Return what is being served."""
        with self._bundles.lease(_version(context)) as served:
            return pb.GetBundleInfoResponse(
                bundle_info=conversion.info_to_proto(served.engine.info)
            )

    @answered
    async def UpsertItems(
        self, requests: AsyncIterator[pb.UpsertItemsRequest], context: Context
    ) -> pb.UpsertItemsResponse:
        """Add or replace the items that come."""
        return await self._items.upsert(requests, _version(context), deadline_of(context))

    @answered
    async def DeleteItems(
        self, request: pb.DeleteItemsRequest, context: Context
    ) -> pb.DeleteItemsResponse:
        """Take items out of the catalogue."""
        return await self._items.delete(request, _version(context), deadline_of(context))

    @answered
    async def GetItem(self, request: pb.GetItemRequest, context: Context) -> pb.GetItemResponse:
        """Return one item."""
        return self._items.get(request, _version(context))

    def _begin(
        self,
        message: pb.RecommendStreamRequest,
        version: str | None,
        deadline: float,
        reply: Callable[[pb.RecommendStreamResponse], None],
    ) -> Callable[[], None]:
        """Start on one request of a stream, and return what drops it."""
        request, timeout_s = message.request, message.timeout_ms / 1e3
        if timeout_s:
            deadline = min(deadline, time.monotonic() + timeout_s)
        # A lease for each request: a stream may outlast many bundles.
        lease = self._bundles.lease(version)
        timer: asyncio.TimerHandle | None = None

        def end() -> None:
            if timer is not None:
                timer.cancel()
            lease.__exit__(None, None, None)

        def settle(outcome: Answer | Exception) -> None:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                self._offer(question, outcome, served)
                found = recommend_response(served.engine, request, outcome)
                result = pb.RecommendStreamResponse(id=message.id, response=found)
            except Exception as error:
                result = error_reply(message.id, error)
            end()
            reply(result)

        def expire() -> None:
            served.cancel(job)
            settle(TimeoutError("the answer was not there in time"))

        def drop() -> None:
            served.cancel(job)
            end()

        try:
            validation.check_recommend(request, self._limits)
            served = lease.__enter__()
        except Exception as error:
            reply(error_reply(message.id, error))
            return _nothing
        try:
            question = question_of(request, keep=self._keep_by(served, deadline))
        except Exception as error:
            settle(error)
            return _nothing
        job = served.ask(question, deadline, settle)
        if job.settled:
            return _nothing
        if timeout_s:
            timer = asyncio.get_running_loop().call_later(timeout_s, expire)
        return drop

    def _offer(self, question: Question, answer: Answer, served: Served) -> None:
        """Have candidates answer it too, perhaps; what came out otherwise for lack of time not."""
        if self._shadow is not None and not answer.degraded_reason:
            found = answer.recommendations[0].item_ids
            self._shadow.offer(question, found, version=served.engine.info.version)

    def _keep_by(self, served: Served, deadline: float) -> Callable[..., bytes] | None:
        """Return what hashes a request to the bundle, where its answer is to be kept.

        Whoever has no deadline never lacks the time for an answer.
        """
        if self._answers is None or deadline == math.inf:
            return None
        engine = served.engine
        # Items come and go as the catalogue's version does.
        about = (engine.info.name, engine.info.version, str(engine.catalogue_version))
        return functools.partial(self._answers.key, *map(str.encode, about))


def _nothing() -> None:
    """Drop what is answered already."""


def _version(context: Context) -> str | None:
    """Return the bundle version that a caller wants, if any."""
    for name, value in context.invocation_metadata() or ():
        if name == VERSION_HEADER:
            if not isinstance(value, str):
                raise RequestError(f"{VERSION_HEADER}: expected text", field=VERSION_HEADER)
            return value
    return None
