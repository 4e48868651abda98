"""Which items may be recommended: one bit an item."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fuserank.engine.scoring.kernels import BLOCK

__all__ = ["Eligibility", "full_words", "pack"]

Rows = npt.NDArray[np.integer]
Words = npt.NDArray[np.uint64]


class Eligibility:
    """Makes the bitmaps that a scan reads; item i is bit i mod 64 of word i // 64.

    >>> Eligibility(3).words([(np.array([1]), None)])
    array([[5]], dtype=uint64)
    """

    def __init__(self, n_items: int) -> None:
        """Start from a catalogue in which every item is eligible."""
        self._all = full_words(n_items)

    @classmethod
    def of(cls, words: Words) -> "Eligibility":
        """Start from a catalogue in which those of a bitmap, (n_words,) uint64, are eligible."""
        made = cls(0)
        made._all = words
        return made

    def words(self, users: Sequence[tuple[Rows, Rows | None]]) -> Words:
        """Return (q, n_words) uint64 for q users.

        Args:
            users: for each user the rows that are excluded and, where not None, the only rows
                that are allowed.
        """
        words = np.empty((len(users), len(self._all)), dtype=np.uint64)
        for mine, (excluded, allowed) in zip(words, users, strict=True):
            if allowed is None:
                mine[:] = self._all
            else:
                mine[:] = 0
                np.bitwise_or.at(mine, *_bits(allowed))
            if len(excluded):
                words_of, bits = _bits(excluded)
                np.bitwise_and.at(mine, words_of, ~bits)
        return words


def full_words(n_items: int) -> Words:
    """Return (n_words,) uint64: the bitmap in which each of n items is eligible."""
    words = np.full(-(-n_items // BLOCK), ~np.uint64(0), dtype=np.uint64)
    if n_items % BLOCK:
        words[-1] = (1 << n_items % BLOCK) - 1
    return words


def pack(bits: npt.NDArray[np.bool_]) -> Words:
    """Return (…, n / 64) uint64 of (…, n) bool, n being a multiple of 64."""
    words: Words = np.packbits(bits, axis=-1, bitorder="little").view(np.dtype("<u8"))
    return words


def _bits(rows: Rows) -> tuple[npt.NDArray[np.int64], Words]:
    bits: Words = np.left_shift(np.uint64(1), (rows % BLOCK).astype(np.uint64))
    return (rows // BLOCK).astype(np.int64), bits
