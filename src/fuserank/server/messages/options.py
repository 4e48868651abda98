"""What a request asks of its results, between protobuf messages and what the engine takes."""

from collections.abc import Sequence
from typing import Any

from fuserank.engine.caps import Cap, check_caps
from fuserank.engine.diversity import Diversity, check_diversity
from fuserank.engine.predicates import Predicate, Range, Scalar, check_where
from fuserank.errors import RequestError
from fuserank.server.messages.conversion import exact_number
from fuserank.server.pb import recommender_pb2 as pb

__all__ = [
    "caps_to_proto",
    "diversity_to_proto",
    "options_from_proto",
    "where_to_proto",
]


def options_from_proto(
    request: pb.RecommendRequest | pb.RecommendBatchRequest,
) -> dict[str, Any]:
    """Return the keywords of `Engine.recommend` by which items are eligible and chosen.

    Raises:
        RequestError: a predicate, cap or diversity that says nothing, or what nothing can be.
    """
    eligibility = request.eligibility
    return {
        "exclude": list(eligibility.exclude),
        "allow": list(eligibility.allow.ids) if eligibility.HasField("allow") else None,
        "include_seen": eligibility.include_seen,
        "where": [_predicate(index, message) for index, message in enumerate(eligibility.where)],
        "caps": [Cap(attribute=cap.attribute, most=cap.most) for cap in request.caps],
        "diversity": _diversity(request.diversity) if request.HasField("diversity") else None,
    }


def where_to_proto(where: Sequence[Predicate]) -> list[pb.Predicate]:
    """Return the messages for predicates.

    Raises:
        RequestError: no list of predicates, or a value that no message can carry.
    """
    check_where(where)
    return [_predicate_to_proto(predicate) for predicate in where]


def caps_to_proto(caps: Sequence[Cap]) -> list[pb.Cap]:
    """Return the messages for caps.

    Raises:
        RequestError: no list of caps, or a value that no message can carry.
    """
    check_caps(caps)
    try:
        return [pb.Cap(attribute=cap.attribute, most=cap.most) for cap in caps]
    except ValueError as error:
        raise RequestError(f"caps: {error}", field="caps") from error


def diversity_to_proto(diversity: Diversity | None) -> pb.Diversity | None:
    """Return the message for diversity, None of none.

    Raises:
        RequestError: something else, or a value that no message can carry.
    """
    check_diversity(diversity)
    if diversity is None:
        return None
    try:
        return pb.Diversity(weight=diversity.weight, candidates=diversity.candidates)
    except ValueError as error:
        raise RequestError(f"diversity: {error}", field="diversity") from error


def _predicate_to_proto(predicate: Predicate) -> pb.Predicate:
    name, test = predicate.attribute, predicate.test
    try:
        if isinstance(test, Range):
            bounds = pb.Range(least=test.least, most=test.most)
            return pb.Predicate(attribute=name, range=bounds)
        values = [
            pb.Value(string_value=value)
            if isinstance(value, str)
            else pb.Value(number_value=exact_number(value))
            for value in test.values
        ]
        if len(values) == 1:
            return pb.Predicate(attribute=name, equals=values[0])
        return pb.Predicate(attribute=name, one_of=pb.Values(values=values))
    except ValueError as error:  # which a text that UTF-8 cannot encode is too
        raise RequestError(f"where: attribute {name!r}: {error}", field="where") from error


def _predicate(index: int, message: pb.Predicate) -> Predicate:
    name, path = message.attribute, f"eligibility.where[{index}]"
    match message.WhichOneof("test"):
        case "equals":
            return Predicate.equals(name, _scalar(message.equals, f"{path}.equals"))
        case "one_of":
            values = [_scalar(value, f"{path}.one_of") for value in message.one_of.values]
            return Predicate.one_of(name, values)
        case "range":
            bounds = message.range
            return Predicate.between(
                name,
                bounds.least if bounds.HasField("least") else None,
                bounds.most if bounds.HasField("most") else None,
            )
    raise RequestError(
        f"{path}: found no test, expected one of equals, one_of, range", field="where"
    )


def _scalar(value: pb.Value, path: str) -> Scalar:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
    found = value.WhichOneof("kind") or "a value of no kind"
    raise RequestError(
        f"{path}: found {found}, expected string_value or number_value; where several values will "
        "do, each is an entry of one_of",
        field="where",
    )


def _diversity(message: pb.Diversity) -> Diversity:
    candidates = message.candidates if message.HasField("candidates") else None
    return Diversity(weight=message.weight, candidates=candidates)
