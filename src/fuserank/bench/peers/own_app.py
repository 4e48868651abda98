"""This package's server over the peers' graph, in the place of its engine: the server alone.

Called over gRPC by the API of its own, as when it serves a bundle.
"""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from fuserank.bench.peers.ranking import Ranking
from fuserank.engine.engine import Engine
from fuserank.engine.results import BundleInfo, FieldInfo, Recommendation, Timings
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig
from fuserank.server.main import serve

__all__ = ["GraphEngine"]


class GraphEngine:
    """What a server calls of an engine where nobody asks for more than the best items."""

    info = BundleInfo(
        name="graph",
        version="1",
        format_version=1,
        space="",
        model="perceptron",
        scorer="graph",
        n_items=0,
        n_users=0,
        title=None,
        threshold=0.5,
        encoder=None,
        precision=None,
        device="cpu",
        user_fields=(FieldInfo(name="vector", kind="vector"),),
    )

    catalogue_version = 0

    def __init__(self) -> None:
        """Load the graph."""
        self._rank = Ranking()

    def recommend_many(
        self, users: Sequence[Mapping[str, Any]], k: int = 10, **_: Any
    ) -> list[Recommendation]:
        """Return the k best items of each user."""
        started = time.perf_counter()
        scores, rows = self._rank(np.array([user["vector"] for user in users], dtype=np.float32))
        probabilities = 0.5 * (1.0 + np.tanh(0.5 * scores))
        timings = Timings(total_ms=(time.perf_counter() - started) * 1e3)
        return [
            Recommendation(
                item_ids=tuple(f"item-{row}" for row in rows[index, :k].tolist()),
                scores=scores[index, :k],
                probabilities=probabilities[index, :k],
                plan="exact",
                served_as="cold",
                timings=timings,
            )
            for index in range(len(users))
        ]

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    config = ServerConfig(port=int(sys.argv[1]), http=HttpConfig(port=-1))
    sys.exit(asyncio.run(serve(config, lambda: cast(Engine, GraphEngine()))))
