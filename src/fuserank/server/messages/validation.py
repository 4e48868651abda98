"""What a request must hold before any work is spent on it: every count and size is limited.

Whether its fields and ids mean anything is the engine's to say.
"""

import math
from collections.abc import Sequence

from fuserank.errors import RequestError
from fuserank.server.messages.limits import Limits
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["check_batch", "check_encode", "check_recommend", "check_score", "k_of"]

_DEFAULT_K = 10


def k_of(request: pb.RecommendRequest | pb.RecommendBatchRequest) -> int:
    """Return how many items a request asks for."""
    return request.k if request.HasField("k") else _DEFAULT_K


def check_recommend(request: pb.RecommendRequest, limits: Limits) -> None:
    """Raise RequestError where a request for one user is out of bounds."""
    _check_selection(request, limits)
    _check_user(request.user, "user", limits)


def check_batch(request: pb.RecommendBatchRequest, limits: Limits) -> None:
    """Raise RequestError where a request for several users is out of bounds."""
    _check_selection(request, limits)
    _check_count(request.users, "users", 1, limits.max_batch)
    for index, user in enumerate(request.users):
        _check_user(user, f"users[{index}]", limits)


def check_score(request: pb.ScoreRequest, limits: Limits) -> None:
    """Raise RequestError where a request for scores is out of bounds."""
    _check_count(request.item_ids, "item_ids", 1, limits.max_items)
    _check_texts(request.item_ids, "item_ids", limits)
    _check_user(request.user, "user", limits)


def check_encode(request: pb.EncodeRequest, limits: Limits) -> None:
    """Raise RequestError where a request for embeddings is out of bounds."""
    _check_count(request.texts, "texts", 1, limits.max_texts)
    _check_texts(request.texts, "texts", limits)
    for index, text in enumerate(request.texts):
        if not text or text.isspace():
            raise RequestError(
                f"texts[{index}]: found an empty text, expected words", field="texts"
            )


def _check_eligibility(eligibility: pb.Eligibility, limits: Limits) -> None:
    for name, ids in (("exclude", eligibility.exclude), ("allow", eligibility.allow.ids)):
        path = f"eligibility.{name}"
        _check_count(ids, path, 0, limits.max_items)
        _check_texts(ids, path, limits)
    _check_count(eligibility.where, "eligibility.where", 0, limits.max_predicates)
    for index, predicate in enumerate(eligibility.where):
        path = f"eligibility.where[{index}]"
        _check_texts([predicate.attribute], f"{path}.attribute", limits)
        _check_value(predicate.equals, f"{path}.equals", limits)
        _check_count(predicate.one_of.values, f"{path}.one_of", 0, limits.max_values)
        for value in predicate.one_of.values:
            _check_value(value, f"{path}.one_of", limits)


def _check_selection(
    request: pb.RecommendRequest | pb.RecommendBatchRequest, limits: Limits
) -> None:
    """Check what is asked for, whoever asks. Most requests have k alone, and pay for no more."""
    k = k_of(request)
    if not 1 <= k <= limits.max_k:
        raise RequestError(f"k: found {k}, expected 1 to {limits.max_k}", field="k")
    if request.HasField("eligibility"):
        _check_eligibility(request.eligibility, limits)
    _check_count(request.caps, "caps", 0, limits.max_caps)
    for index, cap in enumerate(request.caps):
        _check_texts([cap.attribute], f"caps[{index}].attribute", limits)
        if cap.most < 1:
            raise RequestError(
                f"caps[{index}].most: found {cap.most}, expected 1 or more", field="caps"
            )
    if request.HasField("diversity"):
        _check_diversity(request.diversity, limits)


def _check_diversity(diversity: pb.Diversity, limits: Limits) -> None:
    weight, candidates = diversity.weight, diversity.candidates
    if not 0.0 <= weight <= 1.0:
        raise RequestError(
            f"diversity.weight: found {weight:g}, expected 0 to 1", field="diversity"
        )
    if diversity.HasField("candidates") and not 1 <= candidates <= limits.max_candidates:
        raise RequestError(
            f"diversity.candidates: found {candidates}, expected 1 to {limits.max_candidates}",
            field="diversity",
        )


def _check_user(user: pb.User, path: str, limits: Limits) -> None:
    if len(user.fields) > limits.max_fields:
        raise RequestError(
            f"{path}.fields: found {len(user.fields)}, expected at most {limits.max_fields}",
            field=path,
        )
    for name, value in user.fields.items():
        _check_texts([name], f"{path}.fields", limits)
        _check_value(value, f"{path}.fields[{name!r}]", limits)


def _check_value(value: pb.Value, path: str, limits: Limits) -> None:
    match value.WhichOneof("kind"):
        case "string_value":
            _check_texts([value.string_value], path, limits)
        case "string_list":
            _check_count(value.string_list.values, path, 0, limits.max_values)
            _check_texts(value.string_list.values, path, limits)
        case "number_value":
            _check_numbers([value.number_value], path)
        case "number_list":
            _check_count(value.number_list.values, path, 0, limits.max_values)
            _check_numbers(value.number_list.values, path)


def _check_numbers(numbers: Sequence[float], path: str) -> None:
    # A sum is finite only where every number is, and many times quicker than to look at each.
    if math.isfinite(sum(numbers)):
        return
    for number in numbers:
        if not math.isfinite(number):
            raise RequestError(
                f"{path}: found {number}, expected a finite number; leave out a field that is not "
                "known",
                field=path,
            )


def _check_count(values: Sequence[object], path: str, least: int, most: int) -> None:
    if not least <= len(values) <= most:
        raise RequestError(
            f"{path}: found {len(values)} entries, expected {least} to {most}", field=path
        )


def _check_texts(texts: Sequence[str], path: str, limits: Limits) -> None:
    longest = max(map(len, texts), default=0)
    if longest > limits.max_text_chars:
        raise RequestError(
            f"{path}: found a text of {longest} characters, expected at most "
            f"{limits.max_text_chars}",
            field=path,
        )
