"""A bfloat16 graph, for CUDA, and the float32 graph that rounds as it does, for a CPU."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from fuserank.errors import ConfigError
from fuserank.export.passes import NarrowFloats, SplitEmbedding
from fuserank.export.precision.files import save

__all__ = ["write_bf16", "write_simulated"]

_FLOAT, _NARROW = ir.DataType.FLOAT, ir.DataType.BFLOAT16


def write_bf16(source: Path, path: Path, keep: Collection[str] = ()) -> None:
    """Write a graph that computes in bfloat16, but for pooling, and returns float32.

    ONNX Runtime has no such kernels for a CPU, which cannot load the graph. Its CUDA provider has
    them for what `NarrowFloats` narrows; processors from Ampere on have such products.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.
        keep: nothing.

    Raises:
        ConfigError: something is to stay fp32.

    Source: ONNX Runtime, docs/OperatorKernels.md (kernels by type); Kalamkar et al., "A Study of
    BFLOAT16 for Deep Learning Training", arXiv:1905.12322 (products summed in float32).
    """
    if keep:
        raise ConfigError(
            f"precision bf16: found {len(keep)} weights to keep in fp32, expected none: a graph "
            "is bfloat16 as a whole; use precision fp32"
        )
    model = ir.from_proto(onnx.load(source))
    SplitEmbedding()(model)
    NarrowFloats()(model)
    save(ir.to_proto(model), path)


def write_simulated(source: Path, path: Path) -> None:
    """Write the float32 graph that rounds to bfloat16 wherever a bfloat16 graph does.

    A kernel that adds in float32 and rounds what it returns gives the same, up to the order in
    which it adds; what a kernel rounds inside, such as the scores of attention, is not simulated.

    Args:
        source: the file of a graph that `write_bf16` wrote.
        path: the ONNX file to write.
    """
    model = ir.from_proto(onnx.load(source))
    graph = model.graph
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype is _NARROW:
            array = value.const_value.numpy().astype(np.float32)
            value.const_value, value.type = ir.tensor(array), ir.TensorType(_FLOAT)
    for node in list(graph):
        for output in node.outputs:
            if output.dtype is _NARROW:
                _round(graph, node, output)
        if node.op_type == "Cast" and node.attributes.get_int("to") == int(_NARROW):
            node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
    save(ir.to_proto(model), path)


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    """Make all that reads a value read it rounded, as float32."""
    output.type = ir.TensorType(_FLOAT)
    readers = list(output.uses())
    narrow = ir.node("Cast", [output], attributes={"to": int(_NARROW)})
    wide = ir.node("Cast", narrow.outputs, attributes={"to": int(_FLOAT)})
    for reader, slot in readers:
        reader.replace_input_with(slot, wide.outputs[0])
    graph.insert_after(node, [narrow, wide])
