import math

import pytest

from fuserank.errors import RequestError
from fuserank.server.config import ServerConfig
from fuserank.server.messages.item_validation import check_delete, check_get_item, check_upsert
from fuserank.server.pb import recommender_pb2 as pb

LIMITS = ServerConfig(max_items=3, max_fields=4, max_values=12, max_text_chars=10)


def an_item(item_id="1", **attributes):
    item = pb.Item(item_id=item_id)
    item.attributes.update(attributes)
    return item


def nested(depth):
    return {"a": nested(depth - 1)} if depth else 1


def listed(depth):
    return [listed(depth - 1)] if depth else 1


@pytest.mark.parametrize(
    "items",
    [
        [],
        [pb.Item(item_id="1")],
        [an_item("é" * 10), an_item("2"), an_item("3")],
        [an_item(title="x" * 10, year=1990, genres=["War", "Drama"], gone=None)],
        [an_item(a=list(range(10)))],
        [an_item(a=nested(3), flag=True)],
        [an_item(a=listed(7))],
    ],
)
def test_what_is_within_bounds_passes(items):
    check_upsert(pb.UpsertItemsRequest(items=items), LIMITS)


@pytest.mark.parametrize(
    ("items", "field", "found"),
    [
        ([an_item()] * 4, "items", "found 4 entries, expected 0 to 3"),
        ([an_item(), an_item("")], "items[1].item_id", "found 0 characters, expected 1 to 10"),
        ([an_item("x" * 11)], "items[0].item_id", "found 11 characters"),
        ([an_item(**dict.fromkeys("abcde", 1))], "items[0].attributes", "found 5 entries"),
        ([an_item(a=list(range(11)))], "items[0].attributes", "found 13 names and values"),
        ([an_item(a={"b" * 11: 1})], "items[0].attributes", "a text of 11 characters"),
        ([an_item(**{"b" * 11: 1})], "items[0].attributes", "a text of 11 characters"),
        ([an_item(a=["x" * 11])], "items[0].attributes", "a text of 11 characters"),
        ([an_item(a=[[math.nan]])], "items[0].attributes", "found nan, expected finite"),
        ([an_item(a={"b": -math.inf})], "items[0].attributes", "found -inf"),
        ([an_item(a=listed(8))], "items[0].attributes", "nested 9 deep, expected at most 8"),
        ([an_item(a=nested(8))], "items[0].attributes", "nested 9 deep"),
    ],
)
def test_what_is_out_of_bounds_is_named(items, field, found):
    with pytest.raises(RequestError) as error:
        check_upsert(pb.UpsertItemsRequest(items=items), LIMITS)
    assert error.value.field == field
    assert str(error.value).startswith(f"{field}: ")
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("ids", "field"),
    [
        ([], "item_ids"),
        (["1"] * 4, "item_ids"),
        (["1", ""], "item_ids[1]"),
        (["x" * 11], "item_ids[0]"),
    ],
)
def test_ids_to_delete_are_bounded(ids, field):
    check_delete(pb.DeleteItemsRequest(item_ids=["1", "2", "3"]), LIMITS)
    with pytest.raises(RequestError) as error:
        check_delete(pb.DeleteItemsRequest(item_ids=ids), LIMITS)
    assert error.value.field == field


@pytest.mark.parametrize("item_id", ["", "x" * 11])
def test_an_id_to_look_up_is_bounded(item_id):
    check_get_item(pb.GetItemRequest(item_id="x" * 10), LIMITS)
    with pytest.raises(RequestError, match="item_id: found"):
        check_get_item(pb.GetItemRequest(item_id=item_id), LIMITS)


def test_what_was_sent_is_not_quoted():
    with pytest.raises(RequestError) as error:
        check_upsert(pb.UpsertItemsRequest(items=[an_item(a="secret-text-of-one")]), LIMITS)
    assert "secret" not in str(error.value)
