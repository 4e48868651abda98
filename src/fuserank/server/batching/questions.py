"""What is asked of an engine, made of a request, and what it answers."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuserank.engine.filters import EVERYTHING, ItemFilter
from fuserank.engine.results import Recommendation
from fuserank.server.messages import conversion, validation
from fuserank.server.messages.options import options_from_proto
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["Answer", "Question", "keyword_question", "question_of"]

User = Mapping[str, object]
Request = pb.RecommendRequest | pb.RecommendBatchRequest

_LEAST_BUCKET, _BUCKETS_APART = 16, 8


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of an engine.

    Attributes:
        users: 1 or more.
        k: items wanted for each.
        group: equal for questions that may share a call; their keywords are equal. None shares
            none.
        filter: which items may come back to each.
        keywords: of `Engine.recommend_many`, beside k, plan and those that the filter stands for.
        bulk: nobody waits for it.
        answer_key: under which the answer is kept, of one user alone; None keeps it not.
    """

    users: Sequence[User]
    k: int = 10
    group: Hashable | None = None
    filter: ItemFilter = EVERYTHING
    keywords: Mapping[str, Any] = field(default_factory=dict)
    bulk: bool = False
    answer_key: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        recommendations: for each user; its `plan` says how it came about.
        queue_ms: milliseconds of waiting for other requests.
        degraded_reason: why other items may have come than the exact ones; "" where they are
            exact.
    """

    recommendations: list[Recommendation]
    queue_ms: float
    degraded_reason: str


def question_of(request: Request, *, keep: Callable[..., bytes] | None = None) -> Question:
    """Return what a request asks.

    Args:
        request: within all limits.
        keep: hashes the request, where its answer is to be kept.

    Raises:
        RequestError: a value of no kind, or a predicate, cap or diversity that cannot be.
    """
    k = validation.k_of(request)
    plain = not (request.HasField("eligibility") or request.HasField("diversity") or request.caps)
    one, keywords = (EVERYTHING, {}) if plain else _filtered(options_from_proto(request))
    group = _group(request, k)
    key = None
    if isinstance(request, pb.RecommendBatchRequest):
        users = [conversion.user_from_proto(user) for user in request.users]
    else:
        users = [conversion.user_from_proto(request.user)]
        if keep is not None:
            # The order of a map is not fixed otherwise.
            user = request.user.SerializeToString(deterministic=True)
            key = keep(user, b"%d" % k, request.eligibility.SerializeToString(), group)
    return Question(
        users=users,
        k=k,
        group=group,
        filter=one,
        keywords=keywords,
        bulk=request.priority == pb.PRIORITY_BULK,
        answer_key=key,
    )


def keyword_question(users: Sequence[User], k: int, keywords: Mapping[str, Any]) -> Question:
    """Return a question of this process's own.

    Args:
        users: fields by name.
        k: items wanted for each.
        keywords: of `Engine.recommend`, beside plan. Who has others than those of a filter shares
            no call.
    """
    one, rest = _filtered(keywords)
    group = None if rest else _filter_group(k, allows=one.allow is not None)
    return Question(users=users, k=k, group=group, filter=one, keywords=rest)


def _filtered(keywords: Mapping[str, Any]) -> tuple[ItemFilter, dict[str, Any]]:
    """Return the filter that keywords of `Engine.recommend` say, and those that say none of it."""
    names = ("exclude", "allow", "include_seen")
    said = {name: keywords[name] for name in names if name in keywords}
    rest = {name: value for name, value in keywords.items() if name not in names}
    return (ItemFilter(**said) if said else EVERYTHING), rest


def _group(request: Request, k: int) -> bytes:
    """Return what those requests have in common that may share a call.

    What each excludes, allows or has seen is its own. The k best are the first of any more,
    whatever caps there are; with diversity they are not.
    """
    eligibility = request.eligibility
    spread = request.HasField("diversity")
    group = _filter_group(k, allows=eligibility.HasField("allow"), exactly=spread)
    if not (spread or request.caps or eligibility.where):
        return group
    parts = [group]
    for message in (pb.Eligibility(where=eligibility.where), request.diversity, *request.caps):
        serialized = message.SerializeToString()
        parts += (b"%d" % len(serialized), serialized)
    return b" ".join(parts)


def _filter_group(k: int, *, allows: bool, exactly: bool = False) -> bytes:
    """Return the group of those that only a filter and k tell apart.

    Who allows few items is not to wait for a scan of all of them.
    """
    return b"%d%s" % (k if exactly else _bucket(k), b" of some" if allows else b"")


def _bucket(k: int) -> int:
    """Return which k share a call: up to 16, up to 128, up to 1024, and so on.

    >>> [_bucket(k) for k in (1, 16, 17, 128, 129)]
    [16, 16, 128, 128, 1024]
    """
    bucket = _LEAST_BUCKET
    while bucket < k:
        bucket *= _BUCKETS_APART
    return bucket
