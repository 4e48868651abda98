"""A dynamic int8 graph that scales each token's activations as it runs."""

from collections.abc import Collection
from pathlib import Path

import onnx
import onnx_ir as ir

from fuserank.export.passes import QuantizeRows, QuantizeTables, SplitAttention, SplitEmbedding
from fuserank.export.precision.files import save

__all__ = ["write_int8_dynamic"]


def write_int8_dynamic(source: Path, path: Path, keep: Collection[str] = ()) -> None:
    """Write a graph that gives each token a scale: embeddings do not depend on batch mates.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.
        keep: names of weights that stay fp32.
    """
    model = ir.from_proto(onnx.load(source))
    SplitAttention(keep)(model)
    QuantizeRows(keep)(model)
    SplitEmbedding()(model)
    QuantizeTables()(model)
    save(ir.to_proto(model), path)
