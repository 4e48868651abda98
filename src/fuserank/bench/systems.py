"""Systems under test: one way each of answering the same request."""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from fuserank.bench.workloads import Request
from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.engine import Engine
from fuserank.engine.providers import Device
from fuserank.engine.results import Recommendation, Timings
from fuserank.engine.session import GraphSession
from fuserank.engine.stored_users import StoredUsers
from fuserank.engine.user_inputs import UserInputs
from fuserank.server.client.client import AsyncClient

__all__ = ["NAIVE", "NAIVE_TILED", "TILE", "Grpc", "InProcess", "NaiveFullGraph", "System"]

Array = npt.NDArray[Any]

NAIVE, NAIVE_TILED = "naive", "naive tiled"

TILE = 8192
"""Pairs a run of the tiled naive way."""


class System(Protocol):
    """Answers requests.

    A system that computes in this process does so without yielding: it takes one request at a
    time, as a caller does who already spends every core on one scan.

    Attributes:
        name: for reports.
    """

    name: str

    async def recommend(self, request: Request, k: int) -> Recommendation:
        """Return the k best items for a request."""


class InProcess:
    """The engine, called in this process."""

    name = "in-process"

    def __init__(self, engine: Engine) -> None:
        """Take a loaded engine."""
        self._engine = engine

    async def recommend(self, request: Request, k: int) -> Recommendation:
        """Return the k best items for a request."""
        return self._engine.recommend(request, k)


class Grpc:
    """A server, called over gRPC from this process; an asynchronous context manager."""

    name = "gRPC"

    def __init__(self, address: str) -> None:
        """Take the address of a running server."""
        self._address = address

    async def recommend(self, request: Request, k: int) -> Recommendation:
        """Return the k best items for a request."""
        return await self._client.recommend(request, k)

    async def __aenter__(self) -> Self:
        # A client belongs to the event loop it is made on.
        self._client = AsyncClient(self._address)
        await self._client.wait_until_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


class NaiveFullGraph:
    """The same ranker without factorisation: its full graph over all pairs, then a top-k.

    ONNX Runtime runs as it does in the engine and with as many threads; the user's inputs are
    repeated once a request, the items' lie in memory. ``naive`` gives it all pairs in one run, as
    one would at first; ``naive tiled`` gives it tiles whose intermediate values stay in the cache.
    """

    def __init__(
        self,
        bundle: Bundle,
        item_inputs: Mapping[str, Array],
        device: Device = Device.CPU,
        *,
        threads: int = 1,
        tile: int | None = None,
    ) -> None:
        """Load the full graph of a bundle.

        Args:
            bundle: the bundle.
            item_inputs: by graph input, (n_items, …), in catalogue order.
            device: `CPU` or `CUDA`, as `resolve_device` returned it.
            threads: threads of ONNX Runtime.
            tile: pairs a run; None runs all at once.
        """
        self.name = NAIVE if tile is None else NAIVE_TILED
        self._tile = tile
        self._full = GraphSession(bundle.file(layout.GRAPHS["full"]), device, threads=threads)
        self._item_inputs = dict(item_inputs)
        self._catalogue = Catalogue(bundle)
        encode = None
        if bundle.manifest.encoder is not None:
            directory = bundle.file(layout.ENCODER)
            encode = TextEncoder.load(directory, device, threads=threads).encode
        self._inputs = UserInputs(bundle.schema, self._catalogue, StoredUsers(bundle), encode)

    async def recommend(self, request: Request, k: int) -> Recommendation:
        """Return the k best items for a request."""
        prepared = self._inputs.prepare([request])
        scores = self._scores(prepared.tensors)
        scores[prepared.seen[0]] = -np.inf
        k = min(k, len(scores) - len(np.unique(prepared.seen[0])))
        best = np.argpartition(-scores, k - 1)[:k] if k else np.empty(0, dtype=np.int64)
        best = best[np.lexsort((best, -scores[best]))]
        return Recommendation(
            item_ids=self._catalogue.ids(best),
            scores=scores[best],
            probabilities=np.reciprocal(1.0 + np.exp(-scores[best]), dtype=np.float32),
            plan="naive",
            served_as=prepared.served_as[0],
            timings=Timings(),
        )

    def _scores(self, user: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        """Return (n_items,) scores of every item for one user."""
        n_items = len(self._catalogue)
        scores = np.empty(n_items, dtype=np.float32)
        tile = max(1, min(self._tile or n_items, n_items))
        repeated = {name: np.repeat(array, tile, axis=0) for name, array in user.items()}
        for first in range(0, n_items, tile):
            rows = slice(first, min(first + tile, n_items))
            size = rows.stop - first
            feeds = {name: array[:size] for name, array in repeated.items()}
            feeds |= {name: array[rows] for name, array in self._item_inputs.items()}
            scores[rows] = next(iter(self._full.run(feeds).values())).reshape(-1)
        return scores
