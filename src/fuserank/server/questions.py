"""What is asked of an engine, made of a request, and what it answers."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuserank.engine.results import Recommendation
from fuserank.server import conversion, validation
from fuserank.server.options import options_from_proto
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["Answer", "Question", "question_of"]

User = Mapping[str, object]
Request = pb.RecommendRequest | pb.RecommendBatchRequest

_LEAST_BUCKET, _BUCKETS_APART = 16, 8


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of an engine.

    Attributes:
        users: 1 or more.
        k: items wanted for each.
        group: equal for questions whose keywords are equal, so that they may share a call; None
            shares none.
        keywords: of `Engine.recommend_many`, beside k and plan.
        bulk: nobody waits for it.
        answer_key: under which the answer is kept, of one user alone; None keeps it not.
    """

    users: Sequence[User]
    k: int = 10
    group: Hashable | None = None
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
    group = b"%d" % _bucket(k) if plain else _group(request, k)
    key = None
    if isinstance(request, pb.RecommendBatchRequest):
        users = [conversion.user_from_proto(user) for user in request.users]
    else:
        users = [conversion.user_from_proto(request.user)]
        if keep is not None:
            # The order of a map is not fixed otherwise.
            user = request.user.SerializeToString(deterministic=True)
            key = keep(user, b"%d" % k, group)
    return Question(
        users=users,
        k=k,
        group=group,
        keywords={} if plain else options_from_proto(request),
        bulk=request.priority == pb.PRIORITY_BULK,
        answer_key=key,
    )


def _group(request: Request, k: int) -> bytes:
    """Return what those requests have in common that may share a call.

    The k best are the first of any more, whatever caps there are; with diversity they are not.
    """
    parts = [b"%d" % (k if request.HasField("diversity") else _bucket(k))]
    for message in (request.eligibility, request.diversity, *request.caps):
        serialized = message.SerializeToString()
        parts += (b"%d" % len(serialized), serialized)
    return b" ".join(parts)


def _bucket(k: int) -> int:
    """Return which k share a call: up to 16, up to 128, up to 1024, and so on.

    >>> [_bucket(k) for k in (1, 16, 17, 128, 129)]
    [16, 16, 128, 128, 1024]
    """
    bucket = _LEAST_BUCKET
    while bucket < k:
        bucket *= _BUCKETS_APART
    return bucket
