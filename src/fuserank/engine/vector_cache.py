"""A bounded cache of embeddings."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from threading import Condition
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fuserank.errors import ConfigError

__all__ = ["CacheInfo", "VectorCache"]

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.intp]


class CacheInfo(NamedTuple):
    """Counters of the embedding cache; texts that repeat within one call count once."""

    hits: int
    misses: int
    max_size: int
    size: int

    @property
    def hit_rate(self) -> float:
        """The share of texts that the cache knew, 0 where none was asked for."""
        return self.hits / asked if (asked := self.hits + self.misses) else 0.0


class VectorCache:
    """The most recently used embeddings, by the digest of their text: texts are not kept."""

    def __init__(self, max_size: int) -> None:
        """Make room for `max_size` embeddings; 0 keeps none.

        Raises:
            ConfigError: the size is negative.
        """
        if max_size < 0:
            raise ConfigError(f"encoder cache size: found {max_size}, expected 0 or more")
        self._max_size = max_size
        self._vectors: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._making: set[bytes] = set()
        self._lock = Condition()

    def read(self, texts: list[str], vectors: FloatArray) -> RowArray:
        """Fill the rows of known texts and return the other rows."""
        missing = self._fill(texts, vectors, np.arange(len(texts)))
        with self._lock:
            self._hits += len(texts) - len(missing)
            self._misses += len(missing)
        return missing

    @contextmanager
    def making(self, texts: list[str], vectors: FloatArray, rows: RowArray) -> Iterator[RowArray]:
        """Have some rows' texts to oneself, and yield those rows that are still missing.

        Callers who miss the same text at the same time come one after the other, so that the first
        embeds it and the others find it here: what they find is filled in.
        """
        if not self._max_size:
            yield rows
            return
        keys = {_key(texts[row]) for row in rows}
        with self._lock:
            # All of them at once, so that no two callers wait for each other.
            self._lock.wait_for(lambda: not keys & self._making)
            self._making |= keys
        try:
            yield self._fill(texts, vectors, rows)
        finally:
            with self._lock:
                self._making -= keys
                self._lock.notify_all()

    def write(self, texts: list[str], vectors: FloatArray, rows: RowArray) -> None:
        """Keep the last of some rows, as many as there is room for."""
        kept = rows[max(0, len(rows) - self._max_size) :]
        entries = [(_key(texts[row]), vectors[row].copy()) for row in kept]
        with self._lock:
            for key, vector in entries:
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > self._max_size:
                self._vectors.popitem(last=False)

    def info(self) -> CacheInfo:
        """Return the counters."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, self._max_size, len(self._vectors))

    def _fill(self, texts: list[str], vectors: FloatArray, rows: RowArray) -> RowArray:
        """Fill those of some rows whose texts are known, and return the others."""
        if not self._max_size:
            return rows
        keys = [_key(texts[row]) for row in rows]
        missing = []
        with self._lock:
            for row, key in zip(rows, keys, strict=True):
                if (vector := self._vectors.get(key)) is None:
                    missing.append(row)
                else:
                    self._vectors.move_to_end(key)
                    vectors[row] = vector
        return np.array(missing, np.intp)


def _key(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()
