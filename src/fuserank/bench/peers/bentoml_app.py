"""BentoML, over HTTP."""

import os
import sys
from typing import Any

import bentoml  # type: ignore[import-not-found]
import numpy as np

from fuserank.bench.peers.ranking import MAX_BATCH, Ranking


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Ranker:
    """Takes {"vectors": [[…]]}, returns [[scores, rows], …]."""

    def __init__(self) -> None:
        """Load the graph."""
        self._rank = Ranking()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=10_000)
    def rank(self, vectors: list[list[float]]) -> list[Any]:
        """Rank a batch."""
        scores, rows = self._rank(np.array(vectors, dtype=np.float32))
        return [list(one) for one in zip(scores.tolist(), rows.tolist(), strict=True)]


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "fuserank.bench.peers.bentoml_app:Ranker"]
    options = ["--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execv(sys.executable, command + options)  # noqa: S606 - a command of our own making
