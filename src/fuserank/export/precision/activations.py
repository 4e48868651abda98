"""What a graph multiplies by weights when it reads texts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

__all__ = ["Activations", "Batch", "record"]

FloatArray = npt.NDArray[np.float32]
Batch = Mapping[str, npt.NDArray[np.int64]]
"""Tokens by the name of an input: (texts, tokens) int64."""

_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Activations:
    """The rows of one value over all texts.

    Attributes:
        least: (dim,) of each column.
        largest: (dim,) of each column.
        rows: (n, dim) a sample, a thousand or so.
    """

    least: FloatArray
    largest: FloatArray
    rows: FloatArray


def record(
    model: ir.Model, values: Collection[str], batches: Sequence[Batch]
) -> dict[str, Activations]:
    """Run a graph over batches and return what some of its values were.

    Args:
        model: the graph.
        values: names of float32 values whose last axis is `dim`.
        batches: without padding, which would count like text.
    """
    names = list(values)
    graph = ir.to_proto(model)
    graph.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    per_batch = -(-_ROWS // len(batches))
    rng = np.random.default_rng(0)
    found: dict[str, list[FloatArray]] = {name: [] for name in names}
    least: dict[str, FloatArray] = {}
    largest: dict[str, FloatArray] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recorded.onnx"  # beside its weights, which may be over 2 GB
        onnx.save_model(graph, path, save_as_external_data=True, location="weights")
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {value.name for value in session.get_inputs()}
        for batch in batches:
            given = {name: array for name, array in batch.items() if name in inputs}
            for name, value in zip(names, session.run(names, given), strict=True):
                rows = value.reshape(-1, value.shape[-1])
                low, high = rows.min(axis=0), rows.max(axis=0)
                least[name] = np.minimum(least.get(name, low), low)
                largest[name] = np.maximum(largest.get(name, high), high)
                found[name].append(rng.permutation(rows)[:per_batch])
    return {
        name: Activations(
            least=least[name], largest=largest[name], rows=np.concatenate(found[name])
        )
        for name in names
    }
