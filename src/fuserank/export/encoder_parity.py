"""Holding an exported text encoder against the model it came from, on samples."""

import numpy as np
import numpy.typing as npt
import torch

from fuserank.engine.encoder import TextEncoder
from fuserank.errors import ParityError
from fuserank.export.pretrained import PretrainedEncoder
from fuserank.export.trace import PooledModel, tokenized

__all__ = ["check_cosines", "check_fp32", "encode_samples"]

FloatArray = npt.NDArray[np.float32]

_MAX_ABS_ERROR = 1e-5
_MIN_MEAN_COSINE = 0.97

# Of different lengths; the last is cut by models of 512 tokens, and longer than local windows.
_SENTENCES = (
    "Alien",
    "Fargo (1996). Crime Drama Thriller",
    "A retired thief is talked into one last job.",
    "Two strangers meet on a train to Vienna and spend the night walking through the city.",
    "Ein Engel über Berlin möchte ein Mensch werden; 1987, Schwarzweiß & Farbe!",
    "七人の侍: a village hires seven masterless samurai to defend its harvest from bandits.",
    "In a city of endless rain a worn-out policeman hunts artificial humans who have come back to "
    "Earth to ask their maker for a longer life, and begins to doubt what sets him apart.",
    "The family saga of a reluctant heir who takes over his father's dark business. " * 60,
)


def encode_samples(encoder: TextEncoder) -> FloatArray:
    """Return (samples, dim) embeddings of the samples, as passages."""
    return encoder.encode(_SENTENCES).vectors


def check_fp32(pretrained: PretrainedEncoder, exported: FloatArray) -> float:
    """Return the largest error against the torch model.

    Args:
        pretrained: the model.
        exported: what `encode_samples` made of its fp32 graph.

    Raises:
        ParityError: it is too large.
    """
    inputs = tokenized(pretrained, [pretrained.passage_prompt + text for text in _SENTENCES])
    with torch.inference_mode():
        expected = PooledModel(pretrained)(**inputs).numpy()
    error = float(np.abs(exported - expected).max())
    # Embeddings that are not normalised have values above 1, and errors in proportion.
    tolerance = _MAX_ABS_ERROR * max(1.0, float(np.abs(expected).max()))
    if not error <= tolerance:
        raise ParityError(
            f"model {pretrained.name!r}: the exported graph differs from the model by "
            f"{error:.1e}, expected at most {tolerance:.1e}; nothing was written"
        )
    return error


def check_cosines(name: str, exported: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the cosine of each embedding to its reference.

    Args:
        name: of the model.
        exported: what `encode_samples` made of a quantized graph.
        reference: and of the fp32 graph.

    Raises:
        ParityError: their mean is low.
    """
    norms = np.linalg.norm(exported, axis=1) * np.linalg.norm(reference, axis=1)
    cosines: FloatArray = (exported * reference).sum(axis=1) / norms
    if not (mean := float(cosines.mean())) >= _MIN_MEAN_COSINE:
        raise ParityError(
            f"model {name!r}: quantized embeddings have a mean cosine of {mean:.3f} to the fp32 "
            f"ones, expected at least {_MIN_MEAN_COSINE}; export with precision fp32"
        )
    return cosines
