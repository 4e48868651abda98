"""A small engine without a bundle, and servers over it on one event loop.

Scripts of a server process run this file by path for the engine, so that it imports no test.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import asdict

import aiohttp
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
from fuserank.errors import RequestError, UnavailableError, UnknownItemError
from fuserank.server.api.servicer import RecommenderServicer
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.batching.served import Served
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.client.client import Client
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig
from fuserank.server.http.http_port import HttpPort
from fuserank.server.http.sources import HttpSources
from fuserank.server.lifecycle import Server
from fuserank.server.monitoring.metrics import Metrics
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
    catalogue_version = 0
    timings = Timings(tokenize_ms=1.5, encode_ms=2.5, user_graph_ms=0.25, scan_ms=0.5, total_ms=5)

    def __init__(self):
        self.users = []  # every user that was computed for
        self.selections = []  # where, caps, diversity and plan of each
        self.before = lambda: None  # called on the engine's thread before it computes
        self.closed = False

    def recommend(self, user, k=10, *, exclude=(), allow=None, include_seen=False, **selection):
        self._begin(user)
        self.selections.append(selection)
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

    def recommend_many(self, users, k=10, *, filters=None, **options):
        each = [{}] * len(users) if filters is None else map(asdict, filters)
        return [
            self.recommend(user, k, **options, **mine)
            for user, mine in zip(users, each, strict=True)
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

    def text_stats(self):
        return None

    def user_ids(self, limit):
        return tuple(str(i) for i in range(self.info.n_users))[:limit]

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


class OneBundle:
    """What `Bundles` is to a servicer: one engine, or none yet. Made on the event loop."""

    def __init__(self):
        self.served = None
        self.loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def lease(self, version=None):
        if self.served is None:
            raise UnavailableError("the bundle is still loading; wait until health says SERVING")
        yield self.served


class AttachedServicer(RecommenderServicer):
    """A servicer over one engine, without a server."""

    def __init__(self, config, **options):
        self.bundle = OneBundle()
        super().__init__(config, self.bundle, **options)

    def attach(self, engine, **options):
        self.bundle.served = Served(engine, loop=self.bundle.loop, **options)

    def close(self):
        """Not on the event loop."""
        if self.bundle.served is not None:
            self.bundle.served.close()


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
            config = ServerConfig(
                **{"port": 0, "grace_s": 5.0, "http": HttpConfig(port=-1), **options}
            )

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
def servicer(on_loop, engine) -> AttachedServicer:
    """Return a servicer over the fake engine, to be called on the loop."""

    async def begin():
        answers = Answers()
        attached = AttachedServicer(ServerConfig(), answers=answers)
        attached.attach(engine, answers=answers)
        return attached

    attached = on_loop(begin())
    yield attached
    attached.close()


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


class Page:
    """Requests to an HTTP port, from the thread of a test."""

    def __init__(self, on_loop, address, load):
        self._on_loop, self.url, self._load = on_loop, f"http://{address}", load

    def load(self):
        """Have the server answer, where it does not yet."""
        self._on_loop(self._load())

    def get(self, path, **options):
        return self._ask("GET", path, **options)

    def post(self, path, **options):
        return self._ask("POST", path, **options)

    def recommend(self, request, **options):
        return self.post("/api/recommend", json=request, **options)

    def _ask(self, method, path, **options):
        async def ask():
            async with (
                aiohttp.ClientSession() as session,
                session.request(method, self.url + path, **options) as reply,
            ):
                return reply.status, reply.headers, await reply.text()

        return self._on_loop(ask())


@pytest.fixture
def open_port(on_loop, engine):
    """Open HTTP ports over the fake engine, which close after the test."""
    with contextlib.ExitStack() as stack:

        def start(*, loaded=True, config=None, **sources) -> Page:
            async def begin():
                loop = asyncio.get_running_loop()
                bundles, metrics = Bundles(lambda _: None), Metrics()

                async def load():
                    # An engine that a test has wait must not stop the loop.
                    batching = BatchingConfig(inline_ms=0.0)
                    await bundles.start(
                        lambda: Served(engine, batching, loop=loop, metrics=metrics)
                    )

                if loaded:
                    await load()
                found = {
                    "metrics": metrics,
                    "recommender": RecommenderServicer(ServerConfig(max_k=200), bundles),
                    "ready": lambda: bundles.active is not None,
                    "user_ids": engine.user_ids,
                    **sources,
                }
                port = HttpPort(config or HttpConfig(port=0), HttpSources(**found))
                stack.callback(lambda: on_loop(bundles.close()))
                stack.callback(lambda: on_loop(port.stop()))
                return Page(on_loop, await port.start(), load)

            return on_loop(begin())

        yield start
