"""The texts by which an int8 graph chooses its scales."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from fuserank.engine.encoder_config import TOKENIZER_FILE, EncoderConfig
from fuserank.errors import ConfigError
from fuserank.export.precision.activations import Batch

__all__ = ["LEAST_TEXTS", "calibration_batches"]

Random = np.random.Generator

LEAST_TEXTS = 8
"""Fewer say little of what an encoder will read."""

# Of each kind. Item texts of one length alone leave long ones at a mean cosine of .973, with the
# others beside them .996; drawn tokens alone leave item texts at .996, and item texts .998.
_TEXTS, _JOINED, _DRAWN = 150, 30, 20
_DRAWN_ALONE = 60
_TOKENS = (4, 256)


def calibration_batches(
    directory: Path, config: EncoderConfig, texts: Sequence[str] = ()
) -> list[Batch]:
    """Return tokens of texts, of several texts joined to long ones, and of no meaning at all.

    Args:
        directory: holds the tokenizer.
        config: of the encoder.
        texts: such as will be embedded; without any, tokens are drawn from the vocabulary.

    Raises:
        ConfigError: there are some texts, but too few.
    """
    if 0 < (found := len(dict.fromkeys(texts))) < LEAST_TEXTS:
        raise ConfigError(
            f"calibration: found {found} distinct texts, expected {LEAST_TEXTS} or more; give the "
            "texts of a catalogue, or none at all"
        )
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(config.max_tokens, _TOKENS[1]))
    rng = np.random.default_rng(0)
    ids = [tokenizer.encode(config.passage_prompt + text).ids for text in _chosen(rng, texts)]
    n_drawn = _DRAWN if texts else _DRAWN_ALONE
    ids += _drawn(rng, tokenizer, min(config.max_tokens, _TOKENS[1]), n_drawn)
    return [_batch(np.array([tokens], np.int64)) for tokens in ids]


def _chosen(rng: Random, texts: Sequence[str]) -> Iterator[str]:
    """Yield texts, each of them once at most, then runs of several."""
    if not texts:
        return
    distinct = list(dict.fromkeys(texts))
    for row in rng.permutation(len(distinct))[:_TEXTS]:
        yield distinct[row]
    for size in rng.integers(2, 20, _JOINED):
        yield " ".join(distinct[row] for row in rng.integers(0, len(distinct), size))


def _drawn(rng: Random, tokenizer: Tokenizer, max_tokens: int, n_texts: int) -> Iterator[list[int]]:
    """Yield token ids of the vocabulary between the special ones of any text."""
    first, last = _special(tokenizer.encode("film"))
    ordinary = set(tokenizer.get_vocab(with_added_tokens=False).values())
    ordinary -= set(tokenizer.get_added_tokens_decoder())
    vocabulary = np.array(sorted(ordinary))
    least, most = np.log(_TOKENS[0]), np.log(max(max_tokens, _TOKENS[0]))
    for length in np.exp(rng.uniform(least, most, n_texts)).astype(int):
        n_ordinary = max(int(length) - len(first) - len(last), 1)
        yield [*first, *rng.choice(vocabulary, n_ordinary).tolist(), *last]


def _special(encoding: Encoding) -> tuple[list[int], list[int]]:
    """Return the special tokens before a text and those behind it."""
    ordinary = [row for row, special in enumerate(encoding.special_tokens_mask) if not special]
    return encoding.ids[: ordinary[0]], encoding.ids[ordinary[-1] + 1 :]


def _batch(input_ids: npt.NDArray[np.int64]) -> Batch:
    return {
        "input_ids": input_ids,
        "attention_mask": np.ones_like(input_ids),
        "token_type_ids": np.zeros_like(input_ids),
    }
