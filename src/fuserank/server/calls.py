"""What a client sends for each method, and how it reads the reply; the two clients share it.

A call that cannot be put into a message raises RequestError here, before anything is sent.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fuserank.engine.results import BundleInfo, Embeddings, Recommendation, Scores
from fuserank.errors import RequestError
from fuserank.server import conversion
from fuserank.server.pb import recommender_pb2 as pb

__all__ = [
    "Call",
    "bundle_info",
    "eligibility",
    "encode",
    "recommend",
    "recommend_many",
    "score",
]

T = TypeVar("T")
User = Mapping[str, object]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call, whichever client makes it: the method, what it is sent, how its reply is read."""

    rpc: str
    request: object
    read: Callable[[Any], T]


def recommend(
    user: User, k: int, eligible: pb.Eligibility, attributes: bool
) -> Call[Recommendation]:
    """Ask for the best items of one user."""
    request = _message(
        pb.RecommendRequest,
        user=conversion.user_to_proto(user),
        k=k,
        eligibility=eligible,
        include_attributes=attributes,
    )
    return Call(
        "Recommend",
        request,
        lambda reply: conversion.recommendation_from_proto(reply.recommendation),
    )


def recommend_many(
    users: Sequence[User], k: int, eligible: pb.Eligibility, attributes: bool
) -> Call[list[Recommendation]]:
    """Ask for the best items of several users."""
    request = _message(
        pb.RecommendBatchRequest,
        users=[conversion.user_to_proto(user) for user in users],
        k=k,
        eligibility=eligible,
        include_attributes=attributes,
    )
    return Call(
        "RecommendBatch",
        request,
        lambda reply: [conversion.recommendation_from_proto(one) for one in reply.recommendations],
    )


def score(user: User, item_ids: Sequence[str]) -> Call[Scores]:
    """Ask for the scores of named items."""
    ids = _strings(item_ids, "item_ids")
    request = _message(pb.ScoreRequest, user=conversion.user_to_proto(user), item_ids=ids)
    return Call("Score", request, lambda reply: conversion.scores_from_proto(reply, ids))


def encode(texts: Sequence[str]) -> Call[Embeddings]:
    """Ask for the embeddings of texts."""
    request = _message(pb.EncodeRequest, texts=_strings(texts, "texts"))
    return Call("Encode", request, conversion.embeddings_from_proto)


def bundle_info() -> Call[BundleInfo]:
    """Ask what is being served."""
    return Call(
        "GetBundleInfo",
        pb.GetBundleInfoRequest(),
        lambda reply: conversion.info_from_proto(reply.bundle_info),
    )


def eligibility(
    exclude: Collection[str], allow: Collection[str] | None, include_seen: bool
) -> pb.Eligibility:
    """Return which items may come."""
    return _message(
        pb.Eligibility,
        exclude=_strings(exclude, "exclude"),
        allow=None if allow is None else _message(pb.ItemIds, ids=_strings(allow, "allow")),
        include_seen=include_seen,
    )


def _strings(values: Collection[str], field: str) -> list[str]:
    """Refuse a single string, whose characters would pass for values, and what is no string."""
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise RequestError(f"{field}: expected a list of strings", field=field)
    return list(values)


def _message(kind: Callable[..., T], **fields: object) -> T:
    """Return a message, or raise RequestError where a value does not fit into its field."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise RequestError(f"the request cannot be sent: {error}") from error
