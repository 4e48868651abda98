"""The graph that every peer runs, and how: ONNX Runtime on the CPU, one thread."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

__all__ = ["GRAPH", "MAX_BATCH", "MODEL", "ROWS", "SCORES", "VECTOR", "Ranking"]

MODEL = "ranker"
VECTOR, SCORES, ROWS = "vector", "scores", "rows"
"""Input: (batch, width) float32. Outputs: (batch, k) float32, descending, and int64."""

MAX_BATCH = 64
"""Requests of one batch, in every server that batches."""

GRAPH = "FUSERANK_PEER_GRAPH"
"""Environment variable with the path of the graph: servers that start their own processes."""


class Ranking:
    """A session that ranks a catalogue for a batch of users."""

    def __init__(self, path: str | None = None) -> None:
        """Load the graph, from the path in the environment unless another is given."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            path or os.environ[GRAPH], options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return the (batch, k) scores and rows of the best items of (batch, width) users."""
        found: list[Any] = self._session.run([SCORES, ROWS], {VECTOR: vectors})
        return found[0], found[1]
