"""Texts on a device: a few shapes, each with memory of its own, so that a run is one launch."""

import threading
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fuserank.engine.session import BoundRun, GraphSession

__all__ = ["BoundTexts", "bucket"]

FloatArray = npt.NDArray[np.float32]
Inputs = Mapping[str, npt.NDArray[np.int64]]

_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (8, 16, 32, 64, 128, 256, 512)


def bucket(n_texts: int, n_tokens: int) -> tuple[int, int] | None:
    """Return the shape in which so many texts of so many tokens run; None where they have none.

    >>> bucket(3, 17), bucket(1, 8), bucket(1, 600)
    ((4, 32), (1, 8), None)
    """
    rows = next((size for size in _TEXTS if size >= n_texts), None)
    width = next((size for size in _TOKENS if size >= n_tokens), None)
    return None if rows is None or width is None else (rows, width)


class BoundTexts:
    """Runs a text encoder's graph in buckets of shapes; thread-safe.

    On CUDA each bucket is recorded as a graph by its first run: a launch for each operator, which
    is most of the time of a short text, becomes one launch. Inputs and outputs keep their place.
    """

    def __init__(self, session: GraphSession) -> None:
        """Take a graph from tokens to ``embedding``; nothing is bound yet."""
        self._session = session
        self._runs: dict[tuple[int, int], BoundRun] = {}
        self._lock = threading.Lock()

    def run(self, inputs: Inputs, pad_token_id: int) -> FloatArray:
        """Embed texts.

        Args:
            inputs: (n, tokens) int64 each, the mask 1 for a text's tokens, which stand first.
            pad_token_id: stands behind a text.

        Returns:
            (n, dim) float32.
        """
        n_texts, n_tokens = inputs["input_ids"].shape
        shape = bucket(n_texts, n_tokens)
        if shape is None:
            embedding: FloatArray = self._session.run(inputs)["embedding"]
            return embedding
        padded = {
            name: _padded(array, shape, pad_token_id if name == "input_ids" else 0)
            for name, array in inputs.items()
        }
        found: FloatArray = self._bound(shape, padded).run(padded)["embedding"]
        return found[:n_texts]

    def _bound(self, shape: tuple[int, int], padded: Inputs) -> BoundRun:
        with self._lock:
            if shape not in self._runs:
                # How wide embeddings are, and in which type, a run says.
                outputs = {"embedding": self._session.run(padded)["embedding"]}
                changing = {name: padded[name] for name in self._session.input_names}
                self._runs[shape] = self._session.bind({}, changing, outputs)
            return self._runs[shape]


def _padded(
    array: npt.NDArray[np.int64], shape: tuple[int, int], filler: int
) -> npt.NDArray[np.int64]:
    """Return an array of a bucket; rows without a text repeat the first, for a mask not empty."""
    padded = np.full(shape, filler, np.int64)
    padded[: len(array), : array.shape[1]] = array
    padded[len(array) :] = padded[0]
    return padded
