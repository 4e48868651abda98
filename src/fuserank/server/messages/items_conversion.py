"""Between messages about items and what the engine takes and gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.struct_pb2 import Struct, Value

from fuserank.engine.results import Item
from fuserank.errors import RequestError
from fuserank.server.messages.conversion import exact_number
from fuserank.server.pb import recommender_pb2 as pb

__all__ = ["item_from_proto", "item_reply", "item_to_proto", "items_from_proto"]

# Whole numbers up to here are exact in a double.
_EXACT = 2**53


def item_to_proto(item_id: str, attributes: Mapping[str, object]) -> pb.Item:
    """Return the message for an item; attributes that are None are left out.

    Raises:
        RequestError: something that no message can carry.
    """
    if not isinstance(attributes, Mapping):
        raise RequestError(
            f"item {item_id!r}: found {type(attributes).__name__}, expected a mapping of "
            "attributes to values",
            field="items",
        )
    try:
        message = pb.Item(item_id=item_id)
        for name, value in attributes.items():
            if value is not None:
                message.attributes[name] = _sendable(value)
    except (TypeError, ValueError) as error:
        raise RequestError(f"item {item_id!r} cannot be sent: {error}", field="items") from error
    return message


def items_from_proto(message: pb.UpsertItemsRequest) -> dict[str, dict[str, Any]]:
    """Return the attributes of items by id; of an item that comes twice the last ones."""
    return {item.item_id: _fields(item.attributes) for item in message.items}


def item_reply(item: Item) -> pb.GetItemResponse:
    """Return the reply with an item, but for `served_by`."""
    return pb.GetItemResponse(item=item_to_proto(item.item_id, item.attributes), live=item.live)


def item_from_proto(message: pb.GetItemResponse) -> Item:
    """Return what `item_reply` was given."""
    return Item(
        item_id=message.item.item_id,
        attributes=_fields(message.item.attributes),
        live=message.live,
    )


def _sendable(value: object) -> Any:
    """Return a value as a Struct takes it."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)):
        return exact_number(value)
    if isinstance(value, (list, tuple)):
        return [_sendable(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _sendable(entry) for name, entry in value.items()}
    raise TypeError(
        f"found {type(value).__name__}, expected a text, a number, true or false, or a list or "
        "mapping of these"
    )


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    """Return the Python value; as in JSON there is no separate integer, so 42.0 is 42."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_plain(entry) for entry in value.list_value.values]
        case "struct_value":
            return _fields(value.struct_value)
    return None
