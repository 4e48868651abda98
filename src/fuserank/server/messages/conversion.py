"""Between protobuf messages and what the engine takes and gives.

Arrays become lists before they enter a message: protobuf reads an array element by element, as
numpy scalars, which is many times slower.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from google.protobuf.struct_pb2 import ListValue, Struct

from fuserank.engine.results import (
    BundleInfo,
    Embeddings,
    FieldInfo,
    Recommendation,
    Scores,
    Timings,
)
from fuserank.errors import RequestError
from fuserank.server.pb import recommender_pb2 as pb

__all__ = [
    "embeddings_from_proto",
    "embeddings_to_proto",
    "exact_number",
    "info_from_proto",
    "info_to_proto",
    "recommendation_from_proto",
    "recommendation_to_proto",
    "scores_from_proto",
    "scores_to_proto",
    "user_from_proto",
    "user_to_proto",
]

# Whole numbers up to here are exact in a double.
_EXACT = 2**53

_SERVED_AS = {
    "known": pb.SERVED_AS_KNOWN,
    "unknown": pb.SERVED_AS_UNKNOWN,
    "cold": pb.SERVED_AS_COLD,
}
_SERVED_AS_NAMES = {number: name for name, number in _SERVED_AS.items()}


def user_to_proto(user: Mapping[str, object]) -> pb.User:
    """Return the message for a user.

    Raises:
        RequestError: a name or value that no message can carry.
    """
    fields = {}
    for name, value in user.items():
        if not isinstance(name, str):
            raise RequestError(f"user: found the field name {name!r}, expected a string")
        fields[name] = _value_to_proto(name, value)
    try:
        return pb.User(fields=fields)
    except ValueError as error:
        raise RequestError(f"user: a field name is not valid text: {error}") from error


def user_from_proto(user: pb.User) -> dict[str, object]:
    """Return a user's fields by name: strings, numbers, lists of strings or of numbers.

    Raises:
        RequestError: a value of no kind.
    """
    return {name: _value_from_proto(name, value) for name, value in user.fields.items()}


def recommendation_to_proto(
    found: Recommendation, attributes: Sequence[Mapping[str, Any]] = ()
) -> pb.Recommendation:
    """Return the message for one user's items, with their attributes if there are any."""
    message = pb.Recommendation(
        item_ids=found.item_ids,
        scores=found.scores.tolist(),
        probabilities=found.probabilities.tolist(),
        served_as=_SERVED_AS[found.served_as],
        plan=found.plan,
        timings=_timings_to_proto(found.timings),
        degraded=found.degraded,
        degraded_reason=found.degraded_reason,
    )
    for item in attributes:
        message.attributes.add().update(item)
    return message


def recommendation_from_proto(message: pb.Recommendation) -> Recommendation:
    """Return what `recommendation_to_proto` was given."""
    return Recommendation(
        item_ids=tuple(message.item_ids),
        scores=np.array(message.scores, dtype=np.float32),
        probabilities=np.array(message.probabilities, dtype=np.float32),
        plan=message.plan,
        served_as=_SERVED_AS_NAMES.get(message.served_as, "unspecified"),
        timings=_timings_from_proto(message.timings),
        attributes=tuple(_plain(item) for item in message.attributes),
        degraded=message.degraded,
        degraded_reason=message.degraded_reason,
    )


def scores_to_proto(scores: Scores) -> pb.ScoreResponse:
    """Return the reply with scores, but for `served_by`."""
    return pb.ScoreResponse(
        scores=scores.scores.tolist(),
        probabilities=scores.probabilities.tolist(),
        served_as=_SERVED_AS[scores.served_as],
        timings=_timings_to_proto(scores.timings),
    )


def scores_from_proto(message: pb.ScoreResponse, item_ids: Sequence[str]) -> Scores:
    """Return the scores of the items that were asked for."""
    return Scores(
        item_ids=tuple(item_ids),
        scores=np.array(message.scores, dtype=np.float32),
        probabilities=np.array(message.probabilities, dtype=np.float32),
        served_as=_SERVED_AS_NAMES.get(message.served_as, "unspecified"),
        timings=_timings_from_proto(message.timings),
    )


def embeddings_to_proto(embeddings: Embeddings) -> pb.EncodeResponse:
    """Return the reply with embeddings, but for `served_by`."""
    return pb.EncodeResponse(
        vectors=embeddings.vectors.astype("<f4", copy=False).tobytes(),
        dim=embeddings.vectors.shape[1],
        space=embeddings.space,
        timings=_timings_to_proto(embeddings.timings),
    )


def embeddings_from_proto(message: pb.EncodeResponse) -> Embeddings:
    """Return the embeddings of a reply; the vectors are read-only, they are the reply's bytes."""
    vectors = np.frombuffer(message.vectors, dtype="<f4").reshape(-1, max(message.dim, 1))
    return Embeddings(
        vectors=vectors.astype(np.float32, copy=False),
        space=message.space,
        timings=_timings_from_proto(message.timings),
    )


def info_to_proto(info: BundleInfo) -> pb.BundleInfo:
    """Return the message that describes a bundle."""
    return pb.BundleInfo(
        name=info.name,
        version=info.version,
        format_version=info.format_version,
        space=info.space,
        model=info.model,
        scorer=info.scorer,
        item_count=info.n_items,
        user_count=info.n_users,
        title=info.title,
        threshold=info.threshold,
        encoder=info.encoder,
        precision=info.precision,
        device=info.device,
        user_fields=[pb.FieldInfo(name=field.name, kind=field.kind) for field in info.user_fields],
        degraded=info.degraded,
    )


def info_from_proto(message: pb.BundleInfo) -> BundleInfo:
    """Return what `info_to_proto` was given."""
    return BundleInfo(
        name=message.name,
        version=message.version,
        format_version=message.format_version,
        space=message.space,
        model=message.model,
        scorer=message.scorer,
        n_items=message.item_count,
        n_users=message.user_count,
        title=message.title if message.HasField("title") else None,
        threshold=message.threshold,
        encoder=message.encoder if message.HasField("encoder") else None,
        precision=message.precision if message.HasField("precision") else None,
        device=message.device,
        user_fields=tuple(
            FieldInfo(name=field.name, kind=field.kind) for field in message.user_fields
        ),
        degraded=tuple(message.degraded),
    )


def _value_to_proto(name: str, value: object) -> pb.Value:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    try:
        if isinstance(value, str):
            return pb.Value(string_value=value)
        if isinstance(value, Real):
            return pb.Value(number_value=exact_number(value))
        if isinstance(value, (list, tuple)):
            return _list_to_proto(value)
    except ValueError as error:  # which a text that UTF-8 cannot encode is too
        raise RequestError(f"user field {name!r}: {error}", field=name) from error
    raise RequestError(
        f"user field {name!r}: found {type(value).__name__}, expected a string, a number, or a "
        "list of strings or of numbers; leave the field out where nothing is known",
        field=name,
    )


def _list_to_proto(values: Sequence[object]) -> pb.Value:
    texts = [entry for entry in values if isinstance(entry, str)]
    if len(texts) == len(values):
        return pb.Value(string_list=pb.StringList(values=texts))
    numbers = [exact_number(entry) for entry in values if isinstance(entry, Real)]
    if len(numbers) == len(values):
        return pb.Value(number_list=pb.NumberList(values=numbers))
    kinds = ", ".join(sorted({type(entry).__name__ for entry in values}))
    raise ValueError(f"found a list of {kinds}, expected all strings or all numbers")


def exact_number(value: Real | float) -> float:
    """Return a number as messages carry it.

    Raises:
        ValueError: a whole number that a double does not hold.
    """
    if isinstance(value, Integral) and abs(int(value)) > _EXACT:
        raise ValueError("found a whole number beyond 2^53, expected it as a string")
    return float(value)


def _value_from_proto(name: str, value: pb.Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return _number(value.number_value)
        case "string_list":
            return list(value.string_list.values)
        case "number_list":
            numbers = list(value.number_list.values)
            # A call of `_number` for each of a vector's would cost more than all else here.
            whole = any(map(float.is_integer, numbers))
            return list(map(_number, numbers)) if whole else numbers
    raise RequestError(
        f"user field {name!r}: found a value of no kind, expected one of string_value, "
        "number_value, string_list, number_list; a field that is not known is left out",
        field=name,
    )


def _number(value: float) -> int | float:
    # An id that was a whole number must not come out as "42.0".
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _timings_to_proto(timings: Timings) -> pb.Timings:
    return pb.Timings(
        tokenize_ms=timings.tokenize_ms,
        encode_ms=timings.encode_ms,
        user_graph_ms=timings.user_graph_ms,
        scan_ms=timings.scan_ms,
        total_ms=timings.total_ms,
        queue_ms=timings.queue_ms,
    )


def _timings_from_proto(message: pb.Timings) -> Timings:
    return Timings(
        tokenize_ms=message.tokenize_ms,
        encode_ms=message.encode_ms,
        user_graph_ms=message.user_graph_ms,
        scan_ms=message.scan_ms,
        total_ms=message.total_ms,
        queue_ms=message.queue_ms,
    )


def _plain(value: object) -> Any:
    """Return the Python value of a part of a Struct; whole numbers become int again."""
    if isinstance(value, Struct):
        return {key: _plain(value[key]) for key in value}
    if isinstance(value, ListValue):
        return [_plain(entry) for entry in value]
    return _number(value) if isinstance(value, float) else value
