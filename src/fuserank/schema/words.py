"""Texts as bags of words: counts of the words of a fitted vocabulary, weighted."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from fuserank.errors import SchemaError
from fuserank.schema.stop_words import ENGLISH

__all__ = ["BagOfWords", "Stem", "StopWords", "Weighting"]

Weighting = Literal["tfidf", "count", "binary"]
StopWords = Literal["english"]
Stem = Literal["porter"]

_WORD = re.compile(r"\w\w+")


@dataclass(frozen=True, kw_only=True)
class BagOfWords:
    """A fitted vocabulary and the weights of its words.

    A word is a run of two or more letters, digits and underscores, in lower case. A text becomes
    one number a word, by ``weighting``: ``count`` how often it occurs there, ``binary`` 1 where
    it does, ``tfidf`` the count times idf = ln((1 + n) / (1 + df)) + 1 for a word in df of the n
    fitted rows, with the whole scaled to length 1.

    Stop words and stems are for this representation alone: text encoders have tokenizers of
    their own.

    Source: Spärck Jones, "A statistical interpretation of term specificity", 1972; smoothed and
    scaled as scikit-learn's ``TfidfVectorizer`` does by default. Stems: Porter, "An algorithm for
    suffix stripping", 1980.

    >>> films = BagOfWords.fit(["The old house", "Old men", ""], "plot", min_rows=1, max_words=2)
    >>> films.words
    ('house', 'old')
    >>> films.encode(["old old house", "unheard of"]).round(2).tolist()
    [[0.550000011920929, 0.8399999737739563], [0.0, 0.0]]

    Attributes:
        words: the vocabulary, in alphabetical order.
        idf: one weight a word; none unless the weighting is tfidf.
        weighting: what a word counts for.
        stop_words: the language whose function words are left out.
        stem: the algorithm that makes one word of its forms.
    """

    words: tuple[str, ...]
    idf: tuple[float, ...] = ()
    weighting: Weighting = "tfidf"
    stop_words: StopWords | None = None
    stem: Stem | None = None
    _row: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the words; raise SchemaError where one occurs twice or has no weight."""
        rows = {word: row for row, word in enumerate(self.words)}
        if len(rows) != len(self.words):
            raise SchemaError("bag of words: a word occurs twice")
        if len(self.idf) != (len(self.words) if self.weighting == "tfidf" else 0):
            raise SchemaError(
                f"bag of words: found {len(self.idf)} weights for {len(self.words)} words with "
                f"weighting {self.weighting}, expected one a word for tfidf and none otherwise"
            )
        object.__setattr__(self, "_row", rows)

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        name: str,
        *,
        weighting: Weighting = "tfidf",
        max_words: int = 1000,
        min_rows: int = 2,
        stop_words: StopWords | None = None,
        stem: Stem | None = None,
    ) -> Self:
        """Take the words that occur in most texts; among equals the alphabetically first.

        Args:
            texts: n texts, an empty one where nothing is known.
            name: of the field.
            weighting: what a word counts for.
            max_words: words to take at most.
            min_rows: texts that a word must occur in.
            stop_words: the language whose function words are left out.
            stem: the algorithm that makes one word of its forms.

        Raises:
            SchemaError: there is no such word.
        """
        rows: Counter[str] = Counter()
        for counts in _bags(texts, stop_words, stem):
            rows.update(counts.keys())
        ranked = sorted((-df, word) for word, df in rows.items() if df >= min_rows)
        words = tuple(sorted(word for _, word in ranked[:max_words]))
        if not words:
            raise SchemaError(
                f"field {name!r}: found no word in {min_rows} or more of its {len(texts)} rows, "
                "expected at least one; lower min_rows, or remove the field"
            )
        idf = tuple(math.log((1 + len(texts)) / (1 + rows[word])) + 1 for word in words)
        return cls(
            words=words,
            idf=idf if weighting == "tfidf" else (),
            weighting=weighting,
            stop_words=stop_words,
            stem=stem,
        )

    def __len__(self) -> int:
        """The number of words."""
        return len(self.words)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n, n_words) float32; a text without any known word is a row of zeros."""
        encoded = np.zeros((len(texts), len(self.words)), dtype=np.float32)
        idf = np.asarray(self.idf)
        for row, counts in zip(encoded, _bags(texts, self.stop_words, self.stem), strict=True):
            known = [word for word in counts if word in self._row]
            if not known:
                continue
            places = [self._row[word] for word in known]
            weights = np.array([counts[word] for word in known], dtype=np.float64)
            if self.weighting == "binary":
                weights[:] = 1
            if self.weighting == "tfidf":
                weights *= idf[places]
                weights /= np.linalg.norm(weights)
            row[places] = weights
        return encoded

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, for JSON."""
        shown = (option.name for option in fields(self) if option.init)
        return {name: getattr(self, name) for name in shown}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, from JSON too.

        Raises:
            SchemaError: words or weights that do not fit together.
        """
        return cls(**{**found, "words": tuple(found["words"]), "idf": tuple(found["idf"])})


def _bags(
    texts: Sequence[str], stop_words: StopWords | None, stem: Stem | None
) -> Iterator[Counter[str]]:
    """Yield the counted words of each text."""
    left_out = frozenset() if stop_words is None else ENGLISH
    # Stemming takes longer than all the rest, and most words come again.
    stems: dict[str, str] = {}
    stem_of = None if stem is None else _porter()
    for text in texts:
        words = [word for word in _WORD.findall(text.lower()) if word not in left_out]
        if stem_of is not None:
            for word in words:
                if word not in stems:
                    stems[word] = stem_of(word)
            words = [stems[word] for word in words]
        yield Counter(words)


def _porter() -> Callable[[str], str]:
    """Return a stemmer of the caller's own: it keeps state while it works on a word."""
    import snowballstemmer

    stem: Callable[[str], str] = snowballstemmer.stemmer("porter").stemWord
    return stem
