"""The matrix products of a graph, by the names of their weights."""

from pathlib import Path

import onnx

__all__ = ["products"]


def products(source: Path) -> tuple[str, ...]:
    """Return the names of weights that a graph multiplies by, in order.

    Args:
        source: the ONNX file of a graph, fp32, fused.
    """
    graph = onnx.load(source, load_external_data=False).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    weights = [node.input[1] for node in graph.node if node.op_type in {"MatMul", "Attention"}]
    return tuple(dict.fromkeys(name for name in weights if name in matrices))
