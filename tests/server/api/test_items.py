"""The calls about items, over a real engine, a real socket, and the clients."""

import asyncio
import math
import threading
import time

import grpc
import numpy as np
import pytest

from fuserank.engine.engine import load
from fuserank.engine.results import Item
from fuserank.errors import BundleError, RequestError, UnavailableError, UnknownItemError
from fuserank.server.api.items import ItemCalls
from fuserank.server.client import calls
from fuserank.server.client.client import AsyncClient, Client
from fuserank.server.config import ServerConfig
from fuserank.server.messages.items_conversion import (
    item_from_proto,
    item_reply,
    item_to_proto,
    items_from_proto,
)
from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode


def vector(seed):
    return np.random.default_rng(seed).standard_normal(4).astype(np.float32)


@pytest.fixture
def live(tiny_bundle, tmp_path):
    """Return a function that loads an engine over the tiny bundle; servers close it."""
    return lambda: load(tiny_bundle.path, device="cpu", live=tmp_path / "live", threads=1)


@pytest.fixture
def address(start_server, on_loop, live):
    server, address = start_server()
    on_loop(server.load(live))
    return address


@pytest.fixture
def client(address):
    with Client(address) as connected:
        yield connected


def test_items_that_are_sent_are_recommended_and_found(client):
    items = {"new": {"vector": vector(1), "title": "New", "year": 2024, "tags": ["a", "b"]}}
    assert client.upsert(items) == 1
    found = client.recommend({}, k=1000, attributes=True)
    at = found.item_ids.index("new")
    assert found.attributes[at]["title"] == "New"
    item = client.item("new")
    assert item == Item(
        item_id="new",
        attributes={
            "vector": [float(x) for x in vector(1)],
            "title": "New",
            "year": 2024,
            "tags": ["a", "b"],
        },
        live=True,
    )
    assert isinstance(item.attributes["year"], int)
    assert client.bundle_info().n_items == 151


def test_items_of_the_bundle_are_found_too(client):
    item = client.item("i3")
    assert (item.attributes, item.live) == ({"title": "Film 3", "year": 1903}, False)


def test_deleted_items_are_gone(client):
    client.upsert({"new": {}})
    assert client.delete(["new", "i3", "gone", "i3"]) == 2
    assert {"new", "i3"}.isdisjoint(client.recommend({}, k=1000).item_ids)
    for item_id in ("new", "i3"):
        with pytest.raises(UnknownItemError, match="item_id: found 1 item id"):
            client.item(item_id)


def test_many_items_go_in_parts(client):
    items = {f"n{i}": {"vector": vector(i)} for i in range(600)}
    assert len(calls.upsert(items).request) == 3
    assert client.upsert(items) == 600
    assert client.bundle_info().n_items == 750
    assert client.upsert({}) == 0


def test_the_client_of_an_event_loop_does_the_same(address, on_loop):
    async def work():
        async with AsyncClient(address) as client:
            assert await client.upsert({"a": {"title": "A"}, "b": {}}) == 2
            assert (await client.item("a")).attributes == {"title": "A"}
            assert await client.delete(["a"]) == 1
            return (await client.bundle_info()).n_items

    assert on_loop(work()) == 151


def test_what_is_acknowledged_is_there_in_another_server(client, start_server, on_loop, live):
    client.upsert({"new": {"title": "New"}})
    server, address = start_server()
    on_loop(server.load(live))
    with Client(address) as other:
        assert other.item("new").attributes == {"title": "New"}
        client.delete(["new"])
        waited = threading.Event()
        for _ in range(1000):
            if other.bundle_info().n_items == 150:
                break
            waited.wait(0.01)
        with pytest.raises(UnknownItemError):
            other.item("new")


def test_a_message_is_taken_as_a_whole_or_not_at_all(address, connect):
    stub = connect(address)
    fine = pb.UpsertItemsRequest(items=[item_to_proto("a", {"title": "A"})])
    bad = pb.UpsertItemsRequest(
        items=[item_to_proto("b", {}), item_to_proto("c", {"vector": [1.0]})]
    )
    with pytest.raises(grpc.RpcError) as caught:
        stub.UpsertItems(iter([fine, bad, fine]))
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert "item 'c': field 'vector'" in caught.value.details()
    assert stub.GetItem(pb.GetItemRequest(item_id="a")).live
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetItem(pb.GetItemRequest(item_id="b"))
    assert caught.value.code() is Code.NOT_FOUND


def test_messages_are_committed_while_the_stream_is_open(address, connect):
    stub = connect(address)
    first_is_there, found = threading.Event(), []

    def messages():
        yield pb.UpsertItemsRequest(items=[item_to_proto("a", {})])
        first_is_there.wait(30)
        yield pb.UpsertItemsRequest(items=[item_to_proto("b", {})])

    reply = stub.UpsertItems.future(messages())
    waited = threading.Event()
    for _ in range(1000):
        try:
            found.append(stub.GetItem(pb.GetItemRequest(item_id="a")))
            break
        except grpc.RpcError:
            waited.wait(0.01)
    first_is_there.set()
    assert reply.result(30).upserted_count == 2
    assert reply.result().served_by.bundle_name == "tiny"
    assert found


def test_items_sent_twice_count_twice_and_the_last_one_holds(address, connect):
    stub = connect(address)
    items = [item_to_proto("a", {"title": title}) for title in ("first", "last")]
    assert stub.UpsertItems(iter([pb.UpsertItemsRequest(items=items)])).upserted_count == 2
    found = stub.GetItem(pb.GetItemRequest(item_id="a")).item
    assert found.attributes["title"] == "last"


def test_limits_hold(start_server, on_loop, live, connect):
    server, address = start_server(max_items=2, max_fields=2, max_text_chars=10)
    on_loop(server.load(live))
    stub = connect(address)
    refused = [
        pb.UpsertItemsRequest(items=[pb.Item(item_id=f"{i}") for i in range(3)]),
        pb.UpsertItemsRequest(items=[pb.Item(item_id="")]),
        pb.UpsertItemsRequest(items=[item_to_proto("a", {"x": 1, "y": 2, "z": 3})]),
        pb.UpsertItemsRequest(items=[item_to_proto("a", {"x": "much too long"})]),
    ]
    for message in refused:
        with pytest.raises(grpc.RpcError) as caught:
            stub.UpsertItems(iter([message]))
        assert caught.value.code() is Code.INVALID_ARGUMENT
    for request in (pb.DeleteItemsRequest(), pb.DeleteItemsRequest(item_ids=["a", "b", "c"])):
        with pytest.raises(grpc.RpcError) as caught:
            stub.DeleteItems(request)
        assert caught.value.code() is Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetItem(pb.GetItemRequest())
    assert caught.value.code() is Code.INVALID_ARGUMENT


def test_a_server_without_live_items_says_what_it_lacks(start_server, on_loop, tiny_bundle):
    server, address = start_server()
    on_loop(server.load(lambda: load(tiny_bundle.path, device="cpu", threads=1)))
    with Client(address) as client:
        for change in (lambda: client.upsert({"a": {}}), lambda: client.delete(["i3"])):
            with pytest.raises(BundleError, match="--live"):
                change()
        assert client.item("i3").attributes["title"] == "Film 3"


def test_a_full_disk_is_unavailable_and_nothing_was_taken(start_server, on_loop, live):
    server, address = start_server()
    engine = live()
    on_loop(server.load(lambda: engine))
    writer = engine._live._journal._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages}")
    with Client(address, attempts=1) as client:
        with pytest.raises(UnavailableError, match="full"):
            client.upsert({"a": {"text": "x" * 20_000, "more": "y" * 20_000}})
        assert len(client.recommend({}, k=1000)) == 150


@pytest.mark.parametrize(
    "attributes",
    [{"x": {1, 2}}, {"x": 2**60}, {3: 4}, {"x": [{"y": object()}]}, {"x": "\ud800"}, ["x"]],
)
def test_what_no_message_carries_is_refused_before_anything_is_sent(attributes):
    with pytest.raises(RequestError, match="'a'"):
        calls.upsert({"fine": {}, "a": attributes})
    for wrong in (["a"], "a", None):
        with pytest.raises(RequestError, match="items: found"):
            calls.upsert(wrong)


def test_attributes_come_back_as_they_were_sent():
    attributes = {
        "text": "Été",
        "whole": 3,
        "real": 0.5,
        "flag": True,
        "many": ["a", 1, 2.5, False, None, ["b"]],
        "map": {"a": {"b": [1]}},
        "array": np.array([1.5, 2.0], dtype=np.float32),
        "number": np.int64(7),
        "nothing": None,
    }
    sent = item_to_proto("a", attributes)
    plain = {k: v for k, v in attributes.items() if k != "nothing"}
    plain |= {"array": [1.5, 2], "number": 7}
    assert items_from_proto(pb.UpsertItemsRequest(items=[sent])) == {"a": plain}
    item = Item(item_id="a", attributes=plain, live=True)
    assert item_from_proto(item_reply(item)) == item


def test_work_for_a_caller_that_is_gone_is_not_begun(on_loop):
    class Gone:
        engine = None

        async def call(self, work, deadline):
            if time.monotonic() >= deadline:
                raise TimeoutError
            return work()

        def lease(self, version):
            assert version == "3"
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    async def messages():
        yield pb.UpsertItemsRequest(items=[pb.Item(item_id="a")])

    items = ItemCalls(ServerConfig(), Gone())
    with pytest.raises((TimeoutError, asyncio.TimeoutError)):
        on_loop(items.upsert(messages(), "3", -math.inf))
