"""The text encoder: a tokenizer and a graph that pools and normalises, behind a cache."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from fuserank.bundle.read import digest
from fuserank.engine.encoder_config import (
    CONFIG_FILE,
    DATA_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderConfig,
    Precision,
    TextRole,
)
from fuserank.engine.kept_chunks import KeptChunks
from fuserank.engine.providers import Device, resolve_device
from fuserank.engine.results import Embeddings, Timings
from fuserank.engine.text_checks import check_texts
from fuserank.engine.text_graph import TextGraph, TokenCounts
from fuserank.engine.text_runner import OnRows, RunTimes, TextRunner
from fuserank.engine.vector_cache import CacheInfo, VectorCache
from fuserank.errors import (
    BundleFormatError,
    BundleIntegrityError,
    ProviderError,
    SpaceMismatchError,
)

__all__ = ["TextEncoder", "check_space", "space_of"]

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.intp]

_FEW_TEXTS = 32
"""As many texts at most are a request that someone waits for; more of them are work in bulk."""


class TextEncoder:
    """Texts to embeddings; thread-safe.

    Attributes:
        config: as it was exported.
        space: fingerprint of the embedding space; it changes with the graph, the tokenizer or
            the configuration.
    """

    def __init__(
        self,
        config: EncoderConfig,
        space: str,
        tokenizer: Tokenizer,
        graph: TextGraph,
        cache_size: int,
    ) -> None:
        """Join loaded parts; `load` reads them from a directory."""
        self.config = config
        self.space = space
        tokenizer.no_padding()
        tokenizer.enable_truncation(config.max_tokens)
        self._graph = graph
        self._runner = TextRunner(tokenizer, graph)
        self._cache = VectorCache(cache_size)

    @classmethod
    def load(
        cls,
        directory: Path,
        device: Device | None = None,
        *,
        threads: int = 0,
        cache_size: int = 4096,
    ) -> "TextEncoder":
        """Load the encoder of a bundle, or one that was just exported.

        Args:
            directory: holds graph, tokenizer and configuration.
            device: `CPU` or `CUDA`, as `resolve_device` returned it; None takes the CPU, and CUDA
                for what runs nowhere else.
            threads: that run the graph; 0 takes one for each core.
            cache_size: embeddings that are kept, the most recently used ones; 0 keeps none.

        Raises:
            BundleIntegrityError: a file is missing or damaged.
            BundleFormatError: the configuration is not one, or does not describe the graph.
            ConfigError: the cache size is negative.
            ProviderError: the graph does not run on the device, or on any that there is.
        """
        config = EncoderConfig.load(directory)
        encoder = cls(
            config,
            space_of(directory, config),
            _read_tokenizer(directory / TOKENIZER_FILE),
            TextGraph(
                directory / MODEL_FILE,
                config.pad_token_id,
                _device_for(config.precision, device, directory),
                threads=threads,
            ),
            cache_size,
        )
        encoder._check_graph(directory)
        return encoder

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.config.dim

    @property
    def source(self) -> str:
        """Space of the fp32 encoder that it was made of, or is: what its precisions share."""
        return self.config.source or self.space

    def cache_info(self) -> CacheInfo:
        """Return what the cache holds and how often it answered."""
        return self._cache.info()

    def token_counts(self) -> TokenCounts:
        """Return how many tokens ran, and how many of them were padding."""
        return self._graph.counts()

    def encode(
        self,
        texts: Sequence[str],
        role: TextRole = TextRole.PASSAGE,
        *,
        on_progress: Callable[[int], None] | None = None,
        keep: Path | None = None,
    ) -> Embeddings:
        """Embed texts: (n, dim) float32, in their order; no texts give (0, dim).

        A text is cut at `max_tokens` as the reference library cuts it: the end is dropped, the
        special tokens stay. A few texts never wait behind calls of many.

        Args:
            texts: none of them blank.
            role: of the texts, each of which gets its prompt: users' texts are queries, items'
                texts passages.
            on_progress: called with the number of texts that were done since the last call.
            keep: a directory, made where it is missing, for the embeddings of every few thousand
                texts as they are done. A run that was killed goes on from them and ends with the
                same embeddings, to the bit. Whoever named it removes it.

        Raises:
            RequestError: a text is blank or not a string.
            OSError: `keep` cannot be written to.
        """
        started = perf_counter()
        check_texts(texts)
        # The same words are another text in another role, to the cache as well.
        prompt = self.config.prompt(role)
        rows = {text: row for row, text in enumerate(dict.fromkeys(prompt + t for t in texts))}
        distinct = list(rows)
        row_of = np.array([rows[prompt + text] for text in texts], np.intp)
        vectors = np.empty((len(distinct), self.dim), np.float32)
        advance = _counted(row_of, len(distinct), on_progress)
        every = np.arange(len(distinct))
        # What is kept must not depend on what the cache happens to hold.
        missing = every if keep is not None else self._cache.read(distinct, vectors)
        if len(missing) < len(distinct):
            advance(np.setdiff1d(every, missing))
        if keep is None and len(missing) <= _FEW_TEXTS:
            times = self._encode_few(distinct, vectors, missing)
            advance(missing)
        else:
            kept = None if keep is None else KeptChunks(keep, self.space)
            times = self._encode_many(distinct, vectors, missing, kept, advance)
        return Embeddings(
            vectors=vectors[row_of],
            space=self.space,
            timings=Timings(
                tokenize_ms=times.tokenize_ms,
                encode_ms=times.encode_ms,
                total_ms=1e3 * (perf_counter() - started),
            ),
        )

    def warm(self) -> None:
        """Run shapes of real requests, so that the first one need not pay for set-up."""
        # A decoder may take tens of thousands of tokens, whose attention memory would not hold.
        longest = min(self.config.max_tokens, 512)
        for n_texts, n_words in ((1, 8), (16, 24), (1, longest)):
            tokens = self._runner.tokenize([" ".join(["film"] * n_words)] * n_texts)
            for alone in (False, True):
                self._graph.run(tokens, alone=alone)

    def _encode_few(self, texts: list[str], vectors: FloatArray, missing: RowArray) -> RunTimes:
        """Fill the missing rows; a text that another call is embedding is waited for."""
        times = RunTimes(0.0, 0.0)
        if len(missing):
            with self._cache.making(texts, vectors, missing) as rows:
                if len(rows):
                    found = np.empty((len(rows), self.dim), np.float32)
                    times = self._runner.run_few([texts[row] for row in rows], found)
                    vectors[rows] = found
                    self._cache.write(texts, vectors, rows)
        return times

    def _encode_many(
        self,
        texts: list[str],
        vectors: FloatArray,
        missing: RowArray,
        keep: KeptChunks | None,
        advance: OnRows,
    ) -> RunTimes:
        """Fill the missing rows, in chunks that may be kept."""
        found = np.empty((len(missing), self.dim), np.float32)
        times = self._runner.run_many(
            [texts[row] for row in missing], found, lambda rows: advance(missing[rows]), keep
        )
        vectors[missing] = found
        self._cache.write(texts, vectors, missing)
        return times

    def _check_graph(self, directory: Path) -> None:
        """Raise unless the graph has the inputs and the output that the configuration implies."""
        path = directory / MODEL_FILE
        needed = {"input_ids", "attention_mask"}
        inputs, outputs = set(self._graph.input_names), set(self._graph.output_names)
        if not needed <= inputs <= needed | {"token_type_ids"} or outputs != {"embedding"}:
            raise BundleFormatError(
                f"{path}: expected a text encoder (input_ids, attention_mask[, token_type_ids] "
                f"to embedding), found {sorted(inputs)} to {sorted(outputs)}"
            )
        if (width := self._graph.run(self._runner.tokenize(["film"])).shape[-1]) != self.dim:
            raise BundleFormatError(
                f"{path}: found embeddings of width {width}, expected {self.dim} as "
                f"{CONFIG_FILE} says; export the encoder again"
            )


def check_space(found: str, expected: str, where: str) -> None:
    """Refuse text embeddings of another space than a ranker was made for.

    Raises:
        SpaceMismatchError: the fingerprints differ.
    """
    if found != expected:
        raise SpaceMismatchError(
            f"{where}: found an encoder of space {found[:19]}…, expected {expected[:19]}…, which "
            "the ranker was trained with; use that encoder, or train again with this one"
        )


def _counted(
    row_of: RowArray, n_distinct: int, on_progress: Callable[[int], None] | None
) -> OnRows:
    """Return what reports rows that are done as the number of texts that they stand for."""
    if on_progress is None:
        return lambda _: None
    repeats = np.bincount(row_of, minlength=n_distinct)

    def advance(rows: RowArray) -> None:
        if len(rows):
            on_progress(int(repeats[rows].sum()))

    return advance


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise BundleIntegrityError(
            f"{path}: expected a tokenizer that can be read, found: {error}; "
            "export the encoder again or copy it whole"
        ) from error


def space_of(directory: Path, config: EncoderConfig) -> str:
    """Return the fingerprint of an encoder's embedding space, without loading its graph."""
    files = [MODEL_FILE, TOKENIZER_FILE, *([DATA_FILE] if (directory / DATA_FILE).exists() else [])]
    parts = [digest(directory / name) for name in files]
    parts.append(sha256(config.to_json().encode()).hexdigest())
    return f"sha256:{sha256(''.join(parts).encode()).hexdigest()}"


def _device_for(precision: Precision, device: Device | None, directory: Path) -> Device:
    """Return the device that was asked for, or else the one that a precision runs on."""
    if precision is not Precision.BF16:
        return device or Device.CPU
    if (device or resolve_device(Device.AUTO)) is Device.CPU:
        raise ProviderError(
            f"{directory}: found an encoder of precision bf16 and no CUDA device to run it, which "
            "it needs: ONNX Runtime has no bfloat16 products on a CPU; export it with precision "
            "int8, or fp16"
        )
    return Device.CUDA
