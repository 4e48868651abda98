"""Every process of a server is killed while items come and go: what was acknowledged holds."""

import itertools
import threading

import grpc
import numpy as np
import pytest
from tests.e2e.serving import WAIT_S, connect, serving, stub_of

import fuserank
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle, synthetic_requests
from fuserank.errors import UnknownItemError
from fuserank.server.client.client import Client
from fuserank.server.messages.items_conversion import item_to_proto
from fuserank.server.pb import recommender_pb2 as pb

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ITEMS = SyntheticItems(n_items=2_000, width=16)
WRITERS = 3
K = 1_000
BULK = K  # items of some messages; ten such are folded


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return synthetic_bundle(tmp_path_factory.mktemp("live-faults") / "bundle", ITEMS)


class Writer:
    """Changes items that nobody else does, one call after the other, until its server is gone.

    Attributes:
        held: attributes of its items, as the catalogue must hold them; None where it must not.
        sent: messages of the call that is not acknowledged, in order, as `held` is.
        acknowledged: calls.
        error: what ended it.
    """

    def __init__(self, number, seed):
        self._number, self._rng = number, np.random.default_rng([seed, number])
        own = [f"live-{number}-{i}" for i in range(40)]
        of_bundle = [f"item-{i}" for i in range(number, 20 * WRITERS, WRITERS)]
        self.ids, self._stamps = own + of_bundle, itertools.count()
        self.held = dict.fromkeys(own) | {item_id: {} for item_id in of_bundle}
        self.sent, self.acknowledged, self.error = [], 0, None

    def run(self, address, acknowledged):
        """Write until a call fails; `acknowledged` is called after each that does not."""
        with connect(address, retries=False) as channel:
            try:
                while True:
                    self._change(stub_of(channel))
                    self.acknowledged += 1
                    acknowledged()
            except grpc.RpcError as error:
                self.error = error

    def _change(self, stub):
        if self._rng.random() < 0.3:
            gone = [str(item_id) for item_id in self._rng.choice(self.ids, 4, replace=False)]
            self.sent = [dict.fromkeys(gone)]
            stub.DeleteItems(pb.DeleteItemsRequest(item_ids=gone), timeout=WAIT_S)
        else:
            self.sent = [self._items() for _ in range(self._rng.integers(1, 5))]
            stub.UpsertItems(map(message_of, self.sent), timeout=WAIT_S)
        for message in self.sent:
            self.held |= message
        self.sent = []

    def _items(self):
        """Return the items of one message, which all have its stamp."""
        ids = self._rng.choice(self.ids, 5, replace=False)
        if self._rng.random() < 0.1:
            ids = [f"bulk-{self._number}-{i}" for i in range(BULK)]
        stamp = f"{self._number}.{next(self._stamps)}"
        vectors = self._rng.standard_normal((len(ids), ITEMS.width), dtype=np.float32)
        return {
            str(item_id): {"vector": vector, "stamp": stamp}
            for item_id, vector in zip(ids, vectors.tolist(), strict=True)
        }

    def settle(self, found):
        """Take over what became of the call that was not acknowledged: its first messages alone.

        Args:
            found: attributes of all its items that the catalogue holds.
        """
        may_be = [self.held]
        for message in self.sent:
            may_be.append(may_be[-1] | message)
        states = [state for state in may_be if present(state) == found]
        assert states, (self._number, self.acknowledged)
        self.held, self.sent = states[-1], []


def message_of(items):
    return pb.UpsertItemsRequest(items=[item_to_proto(*item) for item in items.items()])


def present(state):
    return {item_id: attributes for item_id, attributes in state.items() if attributes is not None}


def recommended(recommend, user, ids, **keywords):
    """Return all that is recommended of these items, in as many parts as it takes."""
    parts = [ids[at : at + K] for at in range(0, len(ids), K)]
    return [recommend(user, K, allow=part, **keywords) for part in parts]


def kill_under_way(served, writers, rng):
    """Have all write, and kill the server at a moment of its own."""
    changed, count = threading.Condition(), itertools.count(1)
    reached, moment = threading.Event(), int(rng.integers(10, 80))

    def acknowledged():
        with changed:
            if next(count) == moment:
                reached.set()

    threads = [
        threading.Thread(target=writer.run, args=(served.address, acknowledged))
        for writer in writers
    ]
    for thread in threads:
        thread.start()
    assert reached.wait(WAIT_S), [writer.error for writer in writers]
    assert not any(writer.error for writer in writers)
    threading.Event().wait(rng.uniform(0.0, 0.02))  # into the midst of a commit
    served.kill()
    for thread in threads:
        thread.join(WAIT_S)
    for writer in writers:
        assert writer.error.code() is grpc.StatusCode.UNAVAILABLE, writer.error
        writer.error = None


def check(address, writers, user, rng):
    """Have a server show all that the writers know of, in every way there is."""
    with Client(address) as client:
        for writer in writers:
            ids = list(writer.held | dict.fromkeys(itertools.chain(*writer.sent)))
            found = {}
            for part in recommended(client.recommend, user, ids, attributes=True):
                found |= dict(zip(part.item_ids, part.attributes, strict=True))
            writer.settle(found)
            for item_id in writer.ids:
                assert looked_up(client, item_id) == writer.held[item_id]
            for item_id in rng.choice(writer.ids, 10, replace=False):
                alone = client.recommend(user, allow=[str(item_id)])
                assert alone.item_ids == (str(item_id),)[: writer.held[item_id] is not None]


def looked_up(client, item_id):
    """Return the attributes of one item; None where it is not there."""
    try:
        item = client.item(item_id)
    except UnknownItemError:
        return None
    assert item.live == bool(item.attributes)  # the bundle's have none
    return item.attributes


def scores_of(found):
    return dict(zip(found.item_ids, found.scores.tolist(), strict=True))


@pytest.mark.parametrize(("processes", "rounds"), [(1, 5), (2, 3)])
def test_what_was_acknowledged_is_there_after_all_was_killed(bundle, tmp_path, processes, rounds):
    options = [f"--live={tmp_path / 'live'}"]
    rng, (user,) = np.random.default_rng(processes), synthetic_requests(1, ITEMS)
    writers = [Writer(number, processes) for number in range(WRITERS)]
    interrupted = 0
    for _ in range(rounds):
        with serving(bundle, processes, options=options) as served:
            check(served.address, writers, user, rng)
            kill_under_way(served, writers, rng)
            interrupted += sum(bool(writer.sent) for writer in writers)
    assert interrupted > rounds  # else no call was under way when all was killed
    with serving(bundle, processes, options=options) as served:
        check(served.address, writers, user, rng)
        held = {k: v for writer in writers for k, v in writer.held.items()}
        with (
            Client(served.address) as client,
            fuserank.load(bundle, "cpu", live=tmp_path / "other") as engine,
        ):
            # The states are those of the attributes: as if all had been sent just now.
            engine.upsert({item_id: item for item_id, item in held.items() if item})
            engine.delete([item_id for item_id, item in held.items() if item is None])
            for found, expected in zip(
                recommended(client.recommend, user, list(held)),
                recommended(engine.recommend, user, list(held)),
                strict=True,
            ):
                assert scores_of(found) == pytest.approx(scores_of(expected), rel=1e-5, abs=1e-5)
        assert served.stop() == 0
