"""What a small encoder is trained on: texts, excerpts of them and pairs of excerpts.

A catalogue has few texts for an encoder to learn from. What a teacher makes of any text is known,
so more can be made of them: their sentences, runs of their words, and two of these side by side.
They need not make sense, only be of the same words: the teacher says what becomes of them.

Source: Jiao et al., "TinyBERT", Findings of EMNLP 2020 (data augmentation for a student).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fuserank.errors import DataError

__all__ = ["divide", "with_excerpts"]

_SENTENCE_ENDS = re.compile(r"(?<=[.!?;:])\s+|(?<=[。！？])|\n+")
_FEW_WORDS = 4


def divide(
    texts: Sequence[str], share: float, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Divide distinct texts at random into those that are learned from and those held out.

    Args:
        texts: as they come; empty and repeated ones are left out.
        share: of those held out, of which there is at least one.
        rng: what is drawn from.

    Raises:
        DataError: there are fewer than two texts.
    """
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    if len(distinct) < 2:
        raise DataError(
            f"texts: found {len(distinct)} that differ, expected at least 2: one to learn from and "
            "one to hold out"
        )
    n_held = min(max(round(share * len(distinct)), 1), len(distinct) - 1)
    held = set(rng.choice(len(distinct), n_held, replace=False).tolist())
    return (
        [text for row, text in enumerate(distinct) if row not in held],
        [text for row, text in enumerate(distinct) if row in held],
    )


def with_excerpts(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return texts, their sentences, a run of the words of each, and pairs of all of these.

    There are as many pairs as there is of the rest; what comes twice is left out.

    Args:
        texts: at least one.
        rng: what is drawn from.
    """
    single = list(texts)
    for text in texts:
        single += [part.strip() for part in _SENTENCE_ENDS.split(text) if part.strip()]
        single.append(_run(text, rng))
    single = list(dict.fromkeys(single))
    pairs = rng.integers(len(single), size=(len(single), 2)).tolist()
    return list(dict.fromkeys([*single, *(f"{single[a]} {single[b]}" for a, b in pairs)]))


def _run(text: str, rng: np.random.Generator) -> str:
    """Return some words in a row, at least a few where there are so many."""
    words = text.split()
    least = min(_FEW_WORDS, len(words))
    n = int(rng.integers(least, len(words) + 1))
    start = int(rng.integers(len(words) - n + 1))
    return " ".join(words[start : start + n])
