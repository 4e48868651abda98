"""A small engine without a bundle, and servers over it on one event loop.

Scripts of a server process run this file by path for the engine, so that it imports no test.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from fuserank.engine.results import (
    BundleInfo,
    Embeddings,
    FieldInfo,
    Recommendation,
    Scores,
    Timings,
)
from fuserank.errors import RequestError, UnknownItemError
from fuserank.server.client import Client
from fuserank.server.config import ServerConfig
from fuserank.server.lifecycle import Server
from fuserank.server.pb import recommender_pb2_grpc


class FakeEngine:
    """Items "0" to "19", of which item i scores 10 - i / 2; a history counts as seen."""

    info = BundleInfo(
        name="films",
        version="3",
        format_version=1,
        space="a1b2",
        model="neumf",
        scorer="dot",
        n_items=20,
        n_users=7,
        title="title",
        threshold=0.25,
        encoder=None,
        precision="fp32",
        device="cpu",
        user_fields=(FieldInfo(name="user_id", kind="id"), FieldInfo(name="age", kind="number")),
    )
    timings = Timings(tokenize_ms=1.5, encode_ms=2.5, user_graph_ms=0.25, scan_ms=0.5, total_ms=5)

    def __init__(self):
        self.users = []  # every user that was computed for
        self.before = lambda: None  # called on the engine's thread before it computes
        self.closed = False

    def recommend(self, user, k=10, *, exclude=(), allow=None, include_seen=False):
        self._begin(user)
        seen = [] if include_seen else user.get("history", [])
        ids = [str(i) for i in range(20) if str(i) not in exclude and str(i) not in seen]
        ids = [i for i in ids if allow is None or i in allow][:k]
        scores = self._scores(ids)
        return Recommendation(
            item_ids=tuple(ids),
            scores=scores,
            probabilities=1 / (1 + np.exp(-scores)),
            plan="exact",
            served_as="known" if user.get("user_id") == "42" else "cold",
            timings=self.timings,
        )

    def recommend_many(self, users, k=10, *, exclude=(), allow=None, include_seen=False):
        return [
            self.recommend(user, k, exclude=exclude, allow=allow, include_seen=include_seen)
            for user in users
        ]

    def score(self, user, item_ids):
        self._begin(user)
        if not {*item_ids} <= {str(i) for i in range(20)}:
            raise UnknownItemError("item_ids: the catalogue does not hold them", field="item_ids")
        scores = self._scores(item_ids)
        return Scores(
            item_ids=tuple(item_ids),
            scores=scores,
            probabilities=1 / (1 + np.exp(-scores)),
            served_as="unknown",
            timings=self.timings,
        )

    def encode(self, texts):
        self.before()
        vectors = np.array([[len(text), 1 / 3, -0.5] for text in texts], dtype=np.float32)
        return Embeddings(vectors=vectors, space="a1b2", timings=self.timings)

    def attributes(self, item_ids):
        return [
            {"title": f"Film {i} é", "year": 1990, "stars": 4.5, "genres": ["War"], "gone": None}
            for i in item_ids
        ]

    def close(self):
        self.closed = True

    def _begin(self, user):
        if "flavour" in user:
            raise RequestError("user: this bundle has no field 'flavour'", field="flavour")
        self.before()
        self.users.append(user)

    @staticmethod
    def _scores(ids):
        return np.array([10 - int(i) / 2 for i in ids], dtype=np.float32)


@pytest.fixture(scope="session")
def on_loop():
    """Run coroutines on one event loop, which turns on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def start_server(on_loop):
    """Start servers, which stop after the test; each with its address."""
    with contextlib.ExitStack() as stack:

        def start(**options) -> tuple[Server, str]:
            config = ServerConfig(**{"port": 0, "grace_s": 5.0, **options})

            async def begin():
                server = Server(config)
                return server, await server.start()

            server, address = on_loop(begin())
            stack.callback(lambda: on_loop(server.stop()))
            return server, address

        yield start


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def serve(start_server, on_loop, engine) -> Callable[..., str]:
    """Serve the fake engine and return the address."""

    def start(**options) -> str:
        server, address = start_server(**options)
        on_loop(server.load(lambda: engine))
        return address

    return start


@pytest.fixture
def client(serve):
    with Client(serve()) as connected:
        yield connected


@pytest.fixture
def connect():
    """Return stubs, to send what `Client` would not."""
    with contextlib.ExitStack() as stack:

        def to(address: str) -> recommender_pb2_grpc.RecommenderServiceStub:
            channel = stack.enter_context(grpc.insecure_channel(address))
            return recommender_pb2_grpc.RecommenderServiceStub(channel)

        yield to
