"""What a client sends for each method, and how it reads the reply; the two clients share it.

A call that cannot be put into a message raises RequestError here, before anything is sent.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

from fuserank.engine.caps import Cap
from fuserank.engine.diversity import Diversity
from fuserank.engine.predicates import Predicate
from fuserank.engine.results import BundleInfo, Embeddings, Item, Recommendation, Scores
from fuserank.errors import RequestError
from fuserank.server.messages import conversion
from fuserank.server.messages.items_conversion import item_from_proto, item_to_proto
from fuserank.server.messages.options import caps_to_proto, diversity_to_proto, where_to_proto
from fuserank.server.pb import recommender_pb2 as pb

__all__ = [
    "Call",
    "OptionKeywords",
    "Options",
    "bundle_info",
    "delete",
    "encode",
    "item",
    "options",
    "recommend",
    "recommend_many",
    "score",
    "upsert",
]

_ITEMS_A_MESSAGE = 256
"""Each message is encoded and committed by itself."""

T = TypeVar("T")
User = Mapping[str, object]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call, whichever client makes it: the method, what it is sent, how its reply is read.

    Of a method that takes a stream, the request is a tuple of messages.
    """

    rpc: str
    request: object
    read: Callable[[Any], T]

    @property
    def sent(self) -> object:
        """What a stub is given."""
        return iter(self.request) if isinstance(self.request, tuple) else self.request


class OptionKeywords(TypedDict, total=False):
    """Which items may come and how they are chosen, as keywords of the clients."""

    exclude: Collection[str]
    allow: Collection[str] | None
    include_seen: bool
    where: Sequence[Predicate]
    caps: Sequence[Cap]
    diversity: Diversity | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which items may come and how they are chosen, as it is sent."""

    eligibility: pb.Eligibility
    caps: Sequence[pb.Cap]
    diversity: pb.Diversity | None


def recommend(user: User, k: int, options: Options, attributes: bool) -> Call[Recommendation]:
    """Ask for the best items of one user."""
    request = _message(
        pb.RecommendRequest,
        user=conversion.user_to_proto(user),
        k=k,
        include_attributes=attributes,
        eligibility=options.eligibility,
        caps=options.caps,
        diversity=options.diversity,
    )
    return Call(
        "Recommend",
        request,
        lambda reply: conversion.recommendation_from_proto(reply.recommendation),
    )


def recommend_many(
    users: Sequence[User], k: int, options: Options, attributes: bool
) -> Call[list[Recommendation]]:
    """Ask for the best items of several users."""
    request = _message(
        pb.RecommendBatchRequest,
        users=[conversion.user_to_proto(user) for user in users],
        k=k,
        include_attributes=attributes,
        eligibility=options.eligibility,
        caps=options.caps,
        diversity=options.diversity,
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


def upsert(items: Mapping[str, Mapping[str, object]]) -> Call[int]:
    """Send items to add or to replace."""
    if not isinstance(items, Mapping):
        raise RequestError(
            f"items: found {type(items).__name__}, expected a mapping of item ids to attributes",
            field="items",
        )
    messages = [item_to_proto(item_id, given) for item_id, given in items.items()]
    parts = tuple(
        pb.UpsertItemsRequest(items=messages[at : at + _ITEMS_A_MESSAGE])
        for at in range(0, len(messages), _ITEMS_A_MESSAGE)
    )
    return Call("UpsertItems", parts, lambda reply: int(reply.upserted_count))


def delete(item_ids: Collection[str]) -> Call[int]:
    """Ask to take items out of the catalogue."""
    request = _message(pb.DeleteItemsRequest, item_ids=_strings(item_ids, "item_ids"))
    return Call("DeleteItems", request, lambda reply: int(reply.deleted_count))


def item(item_id: str) -> Call[Item]:
    """Ask for one item."""
    return Call("GetItem", _message(pb.GetItemRequest, item_id=item_id), item_from_proto)


def options(
    *,
    exclude: Collection[str] = (),
    allow: Collection[str] | None = None,
    include_seen: bool = False,
    where: Sequence[Predicate] = (),
    caps: Sequence[Cap] = (),
    diversity: Diversity | None = None,
) -> Options:
    """Return which items may come and how they are chosen."""
    eligibility = _message(
        pb.Eligibility,
        exclude=_strings(exclude, "exclude"),
        allow=None if allow is None else _message(pb.ItemIds, ids=_strings(allow, "allow")),
        include_seen=include_seen,
        where=where_to_proto(where),
    )
    return Options(
        eligibility=eligibility,
        caps=caps_to_proto(caps),
        diversity=diversity_to_proto(diversity),
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
