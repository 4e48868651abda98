"""The graph of a text encoder, in the two ways in which it is quickest."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fuserank.engine.bound_texts import BoundTexts, bucket
from fuserank.engine.providers import Device, cores
from fuserank.engine.session import GraphSession
from fuserank.engine.text_batches import token_batches

__all__ = ["TextGraph", "TokenCounts"]

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.intp]
Tokens = Sequence[Sequence[int]]

# Padded tokens of a batch. On a CPU 384 is best for int8, for texts of 13 and of 130 tokens on
# average: 128 take up to 6 % longer, 256 and 512 1 % and 1,024 up to 6 %. A device wants enough to
# keep it busy; not measured.
_TOKENS_PER_BATCH = {Device.CPU: 384, Device.CUDA: 8192}
# A run costs what this share of a full batch does, besides what its tokens cost.
_SPARE_SHARE = 1 / 64
# From here on, a batch that has the machine to itself is quicker on all threads than on one. MiniLM
# in int8, two cores: 0.94 ms for 0.88 with 5 tokens, 0.90 for 1.21 with 11, 6.9 for 11.6 with 128.
_WIDE_TOKENS = 8
# Of larger graphs there is no second copy: their operators keep all threads busy by themselves.
_TWICE_BYTES = 256 << 20


class TokenCounts(NamedTuple):
    """Tokens that a graph has run: those of texts, and all, those that pad batches included."""

    real: int
    padded: int

    @property
    def padding_waste(self) -> float:
        """The share of padding, 0 where nothing ran."""
        return 1 - self.real / self.padded if self.padded else 0.0


class TextGraph:
    """A loaded graph from tokens to embeddings; thread-safe.

    On a CPU of several threads it is loaded twice: on one thread, for lanes of batches beside each
    other, none of which waits for another inside an operator, and on all, for a long text alone.
    The embeddings are the same, to the bit. A large graph is loaded once, on all threads. On CUDA
    it runs in buckets of shapes, which are recorded (`BoundTexts`); it was not yet run there.

    Attributes:
        lanes: batches that are best run at a time.
        input_names: names of the graph's inputs.
        output_names: names of the graph's outputs.
    """

    def __init__(
        self, path: Path, pad_token_id: int, device: Device = Device.CPU, *, threads: int = 0
    ) -> None:
        """Load a graph.

        Args:
            path: an ONNX file.
            pad_token_id: fills a batch.
            device: `CPU` or `CUDA`, as `resolve_device` returned it.
            threads: in all; 0 takes one for each core.

        Raises:
            BundleIntegrityError: the file is not an ONNX graph that ONNX Runtime can load.
            ProviderError: the graph does not run on the device.
        """
        threads = threads or cores()
        size_bytes = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
        laned = device is Device.CPU and threads > 1 and size_bytes <= _TWICE_BYTES
        self.lanes = threads if laned else 1
        on_device = device is not Device.CPU
        self._wide = GraphSession(path, device, threads=threads, spinning=laned, captured=on_device)
        self._bound = BoundTexts(self._wide) if on_device else None
        self._narrow = GraphSession(path, device, threads=1) if laned else self._wide
        self._pad_token_id = pad_token_id
        self._budget = _TOKENS_PER_BATCH[device]
        self._counts = TokenCounts(0, 0)
        self._lock = Lock()
        self.input_names = self._narrow.input_names
        self.output_names = self._narrow.output_names

    def batches(self, tokens: Tokens) -> list[RowArray]:
        """Divide texts into batches of like length."""
        spare = int(self._budget * _SPARE_SHARE)
        return token_batches([len(ids) for ids in tokens], self._budget, spare)

    def run(self, tokens: Tokens, *, alone: bool = False) -> FloatArray:
        """Embed texts as one batch.

        Args:
            tokens: of n texts.
            alone: whether nothing else runs, so that all threads are free for it.

        Returns:
            (n, dim) float32.
        """
        lengths = [len(ids) for ids in tokens]
        shape = (len(tokens), max(lengths))
        real, padded = sum(lengths), shape[0] * shape[1]
        embedding: FloatArray
        mask = np.ones(shape, np.int64)
        if real == padded:
            input_ids = np.array(tokens, np.int64)
        else:
            input_ids = np.full(shape, self._pad_token_id, np.int64)
            for row, ids in enumerate(tokens):
                input_ids[row, : len(ids)] = ids
                mask[row, len(ids) :] = 0
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if "token_type_ids" in self.input_names:
            inputs["token_type_ids"] = np.zeros(shape, np.int64)
        if self._bound is not None:
            embedding = self._bound.run(inputs, self._pad_token_id)
            padded = int(np.prod(bucket(*shape) or shape))
        else:
            session = self._wide if alone and padded >= _WIDE_TOKENS else self._narrow
            embedding = session.run(inputs)["embedding"]
        with self._lock:
            self._counts = TokenCounts(self._counts.real + real, self._counts.padded + padded)
        return embedding

    def counts(self) -> TokenCounts:
        """Return what ran so far."""
        return self._counts
