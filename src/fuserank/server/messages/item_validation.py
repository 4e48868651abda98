"""What a request about items of the catalogue must hold, as `validation` does for the others."""

import math
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.struct_pb2 import Struct, Value

from fuserank.errors import RequestError
from fuserank.server.messages.limits import Limits
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["check_delete", "check_get_item", "check_upsert"]

# Attributes come back with recommendations, as JSON: what they hold is shallow.
_MAX_DEPTH = 8


def check_upsert(request: pb.UpsertItemsRequest, limits: Limits) -> None:
    """Raise RequestError where one message of a stream of items is out of bounds.

    No items at all are within them: a stream may begin so.
    """
    _check_count(request.items, "items", 0, limits.max_items)
    for index, item in enumerate(request.items):
        path = f"items[{index}]"
        _check_id(item.item_id, f"{path}.item_id", limits)
        _check_attributes(item.attributes, f"{path}.attributes", limits)


def check_delete(request: pb.DeleteItemsRequest, limits: Limits) -> None:
    """Raise RequestError where a request to delete items is out of bounds."""
    _check_count(request.item_ids, "item_ids", 1, limits.max_items)
    for index, item_id in enumerate(request.item_ids):
        _check_id(item_id, f"item_ids[{index}]", limits)


def check_get_item(request: pb.GetItemRequest, limits: Limits) -> None:
    """Raise RequestError where a request for an item is out of bounds."""
    _check_id(request.item_id, "item_id", limits)


def _check_id(item_id: str, path: str, limits: Limits) -> None:
    if not 1 <= len(item_id) <= limits.max_text_chars:
        raise RequestError(
            f"{path}: found {len(item_id)} characters, expected 1 to {limits.max_text_chars}",
            field=path,
        )


def _check_attributes(attributes: Struct, path: str, limits: Limits) -> None:
    _check_count(attributes.fields, path, 0, limits.max_fields)
    found = 0
    for value, depth in _parts(attributes.fields, 1):
        found += 1
        if depth > _MAX_DEPTH:
            raise RequestError(
                f"{path}: found values nested {depth} deep, expected at most {_MAX_DEPTH}",
                field=path,
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestError(
                f"{path}: found {value}, expected finite numbers; leave a field that is not known "
                "out",
                field=path,
            )
        if isinstance(value, str) and len(value) > limits.max_text_chars:
            raise RequestError(
                f"{path}: found a text of {len(value)} characters, expected at most "
                f"{limits.max_text_chars}",
                field=path,
            )
    if found > limits.max_values:
        raise RequestError(
            f"{path}: found {found} names and values, expected at most {limits.max_values}",
            field=path,
        )


def _parts(fields: Mapping[str, Value], depth: int) -> Iterator[tuple[str | float | None, int]]:
    """Yield every name and value of attributes, and how deep each is."""
    for name, value in fields.items():
        yield name, depth
        yield from _parts_of(value, depth)


def _parts_of(value: Value, depth: int) -> Iterator[tuple[str | float | None, int]]:
    # A list of lists is as deep as its innermost one; protobuf itself stops at a hundred.
    match value.WhichOneof("kind"):
        case "struct_value":
            yield None, depth + 1
            yield from _parts(value.struct_value.fields, depth + 1)
        case "list_value":
            yield None, depth + 1
            for entry in value.list_value.values:
                yield from _parts_of(entry, depth + 1)
        case "string_value":
            yield value.string_value, depth
        case "number_value":
            yield value.number_value, depth
        case _:
            yield None, depth


def _check_count(
    values: Sequence[object] | Mapping[str, object], path: str, least: int, most: int
) -> None:
    if not least <= len(values) <= most:
        raise RequestError(
            f"{path}: found {len(values)} entries, expected {least} to {most}", field=path
        )
