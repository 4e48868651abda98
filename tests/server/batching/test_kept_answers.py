"""Answers that are kept, over a catalogue that changes: none of them holds what is gone."""

import subprocess
import sys
import threading

import grpc
import pytest

from fuserank.engine.engine import load
from fuserank.server.client.client import Client
from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode
TIMEOUT_S = 60
# Less than a reply takes on its way: only an answer that is kept comes so soon.
NO_TIME_MS, TIME_ENOUGH_MS = 1, 60_000

ELSEWHERE = """
import sys
from fuserank.engine.engine import load

engine = load(sys.argv[1], device="cpu", live=sys.argv[2], threads=1)
exec(sys.argv[3])
engine.close()
"""


@pytest.fixture
def live(tmp_path):
    """Where the live items are."""
    return tmp_path / "live"


@pytest.fixture
def engine(tiny_bundle, live):
    return load(tiny_bundle.path, device="cpu", live=live, threads=1)


@pytest.fixture
def address(serve):
    return serve()


@pytest.fixture
def client(address):
    with Client(address) as connected:
        yield connected


@pytest.fixture
def elsewhere(tiny_bundle, live, client):
    """Return a function that changes items in a process of its own."""

    def change(code):
        command = [sys.executable, "-c", ELSEWHERE, tiny_bundle.path, live, code]
        subprocess.run(command, check=True, timeout=TIMEOUT_S)

    return change


@pytest.fixture
def ask(address, connect):
    """Return a function that asks on a stream, and returns the reply."""
    stub = connect(address)

    def once(timeout_ms, user_id="u1"):
        user = pb.User(fields={"user_id": pb.Value(string_value=user_id)})
        request = pb.RecommendStreamRequest(
            id=1, request=pb.RecommendRequest(user=user, k=5), timeout_ms=timeout_ms
        )
        (reply,) = stub.RecommendStream(iter([request]), timeout=TIMEOUT_S)
        return reply

    return once


def computed(ask):
    """Have the answer computed and kept; returns its items."""
    found = ask(TIME_ENOUGH_MS).response.recommendation
    assert (found.plan, len(found.item_ids)) == ("exact", 5)
    return list(found.item_ids)


def kept(ask):
    """Return the items that are kept; None where there are none."""
    reply = ask(NO_TIME_MS)
    if reply.HasField("error"):
        assert reply.error.code == Code.DEADLINE_EXCEEDED.value[0]
        return None
    found = reply.response.recommendation
    assert (found.plan, found.degraded, found.degraded_reason) == ("cached", True, "deadline")
    return list(found.item_ids)


def until(condition):
    """Wait until something is so; it is looked at every 10 ms."""
    waited = threading.Event()
    for _ in range(100 * TIMEOUT_S):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it did not become so")


def test_the_last_answer_comes_where_there_is_no_time(ask, client):
    assert kept(ask) is None
    assert kept(ask) is None  # what came to nothing is not kept either
    items = computed(ask)
    assert kept(ask) == items
    client.upsert({})  # changes nothing
    assert kept(ask) == items


def test_what_was_deleted_is_in_no_answer_that_is_kept(ask, client):
    gone, *others = computed(ask)
    client.delete([gone])
    assert kept(ask) is None
    assert computed(ask)[:4] == others
    assert kept(ask)[:4] == others


def test_what_was_replaced_or_came_is_ranked_anew(ask, client):
    first = computed(ask)
    client.upsert({first[0]: {"title": "Nothing is known of it but its name"}})
    assert kept(ask) is None
    second = computed(ask)
    client.upsert({"new": {}})
    assert kept(ask) is None
    assert computed(ask) == kept(ask)
    client.delete(["new"])  # the same items as before are another edition all the same
    assert kept(ask) is None
    assert computed(ask) == second


@pytest.mark.parametrize("how", ["delete", "upsert"])
def test_changes_of_other_processes_count_too(ask, client, elsewhere, how):
    gone = computed(ask)[0]
    assert kept(ask)[0] == gone
    if how == "delete":
        elsewhere(f"engine.delete([{gone!r}])")
        until(lambda: client.bundle_info().n_items == 149)
        assert kept(ask) is None
        assert gone not in computed(ask)
    else:
        elsewhere(f"engine.upsert({{{gone!r}: {{'title': 'Other'}}}})")
        until(lambda: client.item(gone).attributes == {"title": "Other"})
        assert kept(ask) is None
        computed(ask)
    assert kept(ask) == computed(ask)


def test_folding_changes_no_answer(ask, client, elsewhere, engine):
    client.upsert({"new": {"title": "New"}})
    items = computed(ask)
    elsewhere("assert engine._live.fold()")
    until(lambda: engine._live._folded_up_to == 1)
    assert kept(ask) == items
