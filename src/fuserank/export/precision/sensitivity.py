"""What each matrix product costs in a precision, quantized alone."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from fuserank.engine.encoder_config import MODEL_FILE, Precision
from fuserank.engine.session import GraphSession
from fuserank.errors import ConfigError
from fuserank.export.precision.activations import Batch
from fuserank.export.precision.products import products
from fuserank.export.precision.writing import write_precision

__all__ = ["sensitivity"]


def sensitivity(
    source: Path, batches: Sequence[Batch], precision: Precision = Precision.INT8
) -> dict[str, float]:
    """Return what is lost of the mean cosine to fp32 where one product alone is quantized.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        batches: tokens of texts such as it will read, each of them texts of one length.
        precision: in which a product is quantized.

    Returns:
        Loss by the name of weights, the largest first: what `write_precision` is to keep.

    Raises:
        ConfigError: no batches, or the precision is fp32.
    """
    if not batches:
        raise ConfigError("sensitivity: found no batches, expected texts like those to be embedded")
    names = products(source)
    with TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE

        def embed(keep: Sequence[str]) -> npt.NDArray[np.float32]:
            write_precision(source, path, precision, keep, batches)
            return _embed(path, batches)

        # Not the fp32 graph itself: its tables are quantized in every case.
        reference = embed(names)
        losses = {
            name: 1 - _cosine(embed([other for other in names if other != name]), reference)
            for name in names
        }
    return dict(sorted(losses.items(), key=lambda pair: -pair[1]))


def _embed(path: Path, batches: Sequence[Batch]) -> npt.NDArray[np.float32]:
    session = GraphSession(path)
    return np.concatenate([session.run(batch)["embedding"] for batch in batches])


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).mean())
