"""A dynamic int8 graph that scales the activations of a whole batch as it runs."""

from collections.abc import Collection
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

__all__ = ["write_int8_batch"]

# Gather stands for tables of embeddings in graphs where they do not fuse (RoBERTa, DistilBERT).
# Signed weights have the faster kernels (unsigned: 790 texts per second for 1,380), and a scale for
# each channel is what keeps the quality (one for a matrix: mean cosine .968 for .993).
_OPERATORS = ["MatMul", "Attention", "EmbedLayerNormalization", "Gather"]


def write_int8_batch(source: Path, path: Path, keep: Collection[str] = ()) -> None:
    """Write a graph that gives all tokens of a batch one scale: embeddings depend on the batch.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.
        keep: names of weights that stay fp32.

    Source: onnxruntime.quantization, dynamic.
    """
    graph = onnx.load(source, load_external_data=False)
    # Says that shapes need not be prepared: the quantizer would log advice to the root logger.
    graph.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{number}"  # the quantizer tells nodes apart by name
    kept = [n.name for n in graph.graph.node if len(n.input) > 1 and n.input[1] in keep]
    prepared = source.with_suffix(".prepared")  # finds weights that stand beside the graph
    onnx.save_model(graph, prepared)
    quantize_dynamic(
        prepared,
        path,
        op_types_to_quantize=_OPERATORS,
        per_channel=True,
        reduce_range=False,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        # Shape inference does not see through fused operators, so the type must be told.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    prepared.unlink()
