"""How much two rankings of the same items agree, and two embeddings of the same texts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fuserank.engine.agreement import overlap, rank_biased_overlap

__all__ = ["Cosines", "cosines", "overlap", "rank_biased_overlap"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Cosines:
    """Cosines between two embeddings of the same texts.

    Attributes:
        n_texts: texts.
        mean: over the texts.
        least: of any text.
        first_percentile: below it is one text of a hundred.
    """

    n_texts: int
    mean: float
    least: float
    first_percentile: float


def cosines(one: Floats, other: Floats) -> Cosines | None:
    """Return how near two embeddings of the same texts are; None where there is no text.

    Args:
        one: (n_texts, dim); a row of zeros stands for no text and is left out.
        other: the same of the other encoder.
    """
    there = one.any(axis=1) & other.any(axis=1)
    if not there.any():
        return None
    a, b = one[there].astype(np.float64), other[there].astype(np.float64)
    found = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return Cosines(
        n_texts=len(found),
        mean=float(found.mean()),
        least=float(found.min()),
        first_percentile=float(np.percentile(found, 1)),
    )
