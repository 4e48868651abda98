"""The text encoder: a tokenizer and a graph that pools and normalises, behind a cache.

A graph of int8 precision scales its activations over a whole batch, so an embedding depends a
little on the texts that share its batch (cosine about .99). In fp32 it does not.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from fuserank.bundle.read import digest
from fuserank.engine.encoder_config import (
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderConfig,
)
from fuserank.engine.providers import Device
from fuserank.engine.results import Embeddings, Timings
from fuserank.engine.session import GraphSession
from fuserank.engine.vector_cache import CacheInfo, VectorCache
from fuserank.errors import (
    BundleFormatError,
    BundleIntegrityError,
    RequestError,
    SpaceMismatchError,
)

__all__ = ["TextEncoder", "check_space"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

# Padded tokens of a batch. On two AVX-512 cores 512 is fastest for fp32 and int8 alike: 8,192,
# which no longer fits the cache, costs a quarter of the texts per second.
_TOKENS_PER_BATCH = 512
# Texts that are tokenized and sorted together: enough for batches of even length, and the tokens
# of a large catalogue never stand in memory at once.
_TEXTS_PER_CHUNK = 4096


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
        session: GraphSession,
        cache_size: int,
    ) -> None:
        """Join loaded parts; `load` reads them from a directory."""
        self.config = config
        self.space = space
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(config.max_tokens)
        self._session = session
        self._cache = VectorCache(cache_size)

    @classmethod
    def load(
        cls,
        directory: Path,
        device: Device = Device.CPU,
        *,
        threads: int = 0,
        cache_size: int = 4096,
    ) -> "TextEncoder":
        """Load the encoder of a bundle, or one that was just exported.

        Args:
            directory: holds graph, tokenizer and configuration.
            device: `CPU` or `CUDA`, as `resolve_device` returned it.
            threads: of the graph; 0 takes one for each core.
            cache_size: embeddings that are kept, the most recently used ones; 0 keeps none.

        Raises:
            BundleIntegrityError: a file is missing or damaged.
            BundleFormatError: the configuration is not one, or does not describe the graph.
            ConfigError: the cache size is negative.
            ProviderError: the graph does not run on the device.
        """
        for name in (CONFIG_FILE, TOKENIZER_FILE, MODEL_FILE):
            if not (directory / name).is_file():
                raise BundleIntegrityError(
                    f"{directory / name}: missing; export the encoder again or copy it whole"
                )
        config_path = directory / CONFIG_FILE
        config = EncoderConfig.from_json(config_path.read_bytes(), str(config_path))
        encoder = cls(
            config,
            _fingerprint(directory, config),
            _read_tokenizer(directory / TOKENIZER_FILE),
            GraphSession(directory / MODEL_FILE, device, threads=threads),
            cache_size,
        )
        encoder._check_graph(directory)
        return encoder

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return self.config.dim

    def cache_info(self) -> CacheInfo:
        """Return what the cache holds and how often it answered."""
        return self._cache.info()

    def encode(
        self, texts: Sequence[str], *, on_progress: Callable[[int], None] | None = None
    ) -> Embeddings:
        """Embed texts: (n, dim) float32, in their order; no texts give (0, dim).

        A text is cut at `max_tokens` as the reference library cuts it: the end is dropped, the
        special tokens stay.

        Args:
            texts: none of them blank.
            on_progress: called with the number of texts that were done since the last call.

        Raises:
            RequestError: a text is blank or not a string.
        """
        started = perf_counter()
        _check_texts(texts)
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct = list(rows)
        row_of = np.fromiter((rows[text] for text in texts), np.intp, len(texts))
        repeats = np.bincount(row_of, minlength=len(distinct))
        vectors = np.empty((len(distinct), self.dim), np.float32)
        missing = self._cache.read(distinct, vectors)
        if on_progress is not None and (found := len(texts) - int(repeats[missing].sum())):
            on_progress(found)
        tokenize_ms = encode_ms = 0.0
        for start in range(0, len(missing), _TEXTS_PER_CHUNK):
            chunk = missing[start : start + _TEXTS_PER_CHUNK]
            tokenize_started = perf_counter()
            tokens = self._tokenize([distinct[row] for row in chunk])
            encode_started = perf_counter()
            for batch in _batches([len(ids) for ids in tokens]):
                batch_rows = chunk[batch]
                vectors[batch_rows] = self._run([tokens[position] for position in batch])
                if on_progress is not None:
                    on_progress(int(repeats[batch_rows].sum()))
            tokenize_ms += 1e3 * (encode_started - tokenize_started)
            encode_ms += 1e3 * (perf_counter() - encode_started)
        self._cache.write(distinct, vectors, missing)
        return Embeddings(
            vectors=vectors[row_of],
            space=self.space,
            timings=Timings(
                tokenize_ms=tokenize_ms,
                encode_ms=encode_ms,
                total_ms=1e3 * (perf_counter() - started),
            ),
        )

    def warm(self) -> None:
        """Run shapes of real requests, so that the first one need not pay for set-up."""
        for n_texts, n_words in ((1, 8), (16, 24), (1, self.config.max_tokens)):
            self._run(self._tokenize([" ".join(["film"] * n_words)] * n_texts))

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        prompt = self.config.prompt
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts])
        return [encoding.ids for encoding in encodings]

    def _run(self, tokens: list[list[int]]) -> FloatArray:
        """Embed tokenized texts as one batch: (n, dim) float32."""
        lengths = np.array([len(ids) for ids in tokens])
        shape = (len(tokens), int(lengths.max()))
        input_ids: IntArray = np.full(shape, self.config.pad_token_id, np.int64)
        for row, ids in enumerate(tokens):
            input_ids[row, : len(ids)] = ids
        outputs = self._session.run(
            {
                "input_ids": input_ids,
                "attention_mask": (np.arange(shape[1]) < lengths[:, None]).astype(np.int64),
                "token_type_ids": np.zeros(shape, np.int64),
            }
        )
        return outputs["embedding"]

    def _check_graph(self, directory: Path) -> None:
        """Raise unless the graph has the inputs and the output that the configuration implies."""
        path = directory / MODEL_FILE
        needed = {"input_ids", "attention_mask"}
        inputs, outputs = set(self._session.input_names), set(self._session.output_names)
        if not needed <= inputs <= needed | {"token_type_ids"} or outputs != {"embedding"}:
            raise BundleFormatError(
                f"{path}: expected a text encoder (input_ids, attention_mask[, token_type_ids] "
                f"to embedding), found {sorted(inputs)} to {sorted(outputs)}"
            )
        if (width := self._run(self._tokenize(["film"])).shape[-1]) != self.dim:
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


def _batches(lengths: list[int]) -> Iterator[npt.NDArray[np.intp]]:
    """Yield positions of texts of like length whose padded batch keeps to the token budget."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for stop, position in enumerate(order):
        # Ascending, so the text at hand would set the width of the batch it joined.
        if stop > start and (stop - start + 1) * lengths[position] > _TOKENS_PER_BATCH:
            yield order[start:stop]
            start = stop
    if start < len(order):
        yield order[start:]


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise RequestError("texts: found one string, expected a list of strings", field="texts")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise RequestError(
                f"texts[{index}]: found {type(text).__name__}, expected a string", field="texts"
            )
        if not text or text.isspace():
            raise RequestError(f"texts[{index}]: found a blank text; leave it out", field="texts")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                f"texts[{index}]: found a lone surrogate at position {error.start}, expected "
                "valid Unicode",
                field="texts",
            ) from None


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise BundleIntegrityError(
            f"{path}: expected a tokenizer that can be read, found: {error}; "
            "export the encoder again or copy it whole"
        ) from error


def _fingerprint(directory: Path, config: EncoderConfig) -> str:
    parts = (
        digest(directory / MODEL_FILE),
        digest(directory / TOKENIZER_FILE),
        sha256(config.to_json().encode()).hexdigest(),
    )
    return f"sha256:{sha256(''.join(parts).encode()).hexdigest()}"
