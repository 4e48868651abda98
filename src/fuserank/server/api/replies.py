"""Messages for what was found, and for what went wrong on a stream."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc

from fuserank.engine.results import Plan
from fuserank.errors import UnknownItemError
from fuserank.server.batching.questions import Answer
from fuserank.server.messages import conversion
from fuserank.server.messages.status import status_of
from fuserank.server.pb import recommender_pb2 as pb
from fuserank.server.security.guard import without_values

if TYPE_CHECKING:
    from fuserank.engine.engine import Engine

__all__ = ["error_reply", "recommend_response", "recommendations", "served_by"]

logger = logging.getLogger(__name__)


def recommend_response(
    engine: "Engine", request: pb.RecommendRequest, answer: Answer
) -> pb.RecommendResponse:
    """Return the reply to a request for one user."""
    (recommendation,) = recommendations(engine, request, answer)
    return pb.RecommendResponse(recommendation=recommendation, served_by=served_by(engine))


def recommendations(
    engine: "Engine", request: pb.RecommendRequest | pb.RecommendBatchRequest, answer: Answer
) -> list[pb.Recommendation]:
    """Return the message for each user of an answer."""
    messages = []
    for found in answer.recommendations:
        items = _attributes(engine, found.item_ids) if request.include_attributes else ()
        message = conversion.recommendation_to_proto(found, items)
        message.timings.queue_ms = answer.queue_ms
        # Of a batch that was answered in parts, some may be exact.
        if answer.degraded_reason and found.plan != Plan.EXACT:
            message.degraded = True
            message.degraded_reason = answer.degraded_reason
        messages.append(message)
    return messages


def error_reply(request_id: int, error: Exception) -> pb.RecommendStreamResponse:
    """Return the reply to a request of a stream that failed."""
    code, message = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        logger.error("a request of a stream failed: %s", without_values(error))
    return pb.RecommendStreamResponse(
        id=request_id, error=pb.CallError(code=code.value[0], message=message)
    )


def served_by(engine: "Engine") -> pb.ServedBy:
    """Return what a reply says about the bundle that answered."""
    info = engine.info
    return pb.ServedBy(bundle_name=info.name, bundle_version=info.version, device=info.device)


def _attributes(engine: "Engine", item_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the attributes of items; of those that were deleted since they were found, none."""
    try:
        return engine.attributes(item_ids)
    except UnknownItemError:
        if len(item_ids) == 1:
            return [{}]
        return [_attributes(engine, [item_id])[0] for item_id in item_ids]
