"""A general matrix product becomes a matrix product and a sum."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.tensors import initializer

__all__ = ["DecomposeGemm"]

Array = npt.NDArray[Any]


class DecomposeGemm(ir.passes.InPlacePass):
    """Gemm(a, W, b) → MatMul(a, α·W') + β·b, so that later rules know one product only.

    Requires:
        W and b are constants and a is not transposed.
    Leaves alone:
        Any other Gemm, such as one whose two matrices are computed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such product."""
        modified = False
        for node in model.graph:
            if node.op_type != "Gemm" or _number(node, "transA", 0):
                continue
            weights, bias = (_constant(node, position) for position in (1, 2))
            if weights is None or (len(node.inputs) > 2 and bias is None):
                continue
            if _number(node, "transB", 0):
                weights = weights.T
            name, tape = node.outputs[0].name, ir.tape.Tape()
            matrix = initializer(
                model.graph,
                f"{name}.weight",
                _float32(weights * _number(node, "alpha", 1.0)),
            )
            total = tape.op("MatMul", [node.inputs[0], matrix])
            if bias is not None:
                shift = initializer(
                    model.graph, f"{name}.bias", _float32(bias * _number(node, "beta", 1.0))
                )
                total = tape.op("Add", [total, shift])
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs, [total]
            )
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _constant(node: ir.Node, position: int) -> Array | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None:
        return None
    array: Array = tensor.numpy()
    return array


def _float32(array: Array) -> Array:
    return np.ascontiguousarray(array, dtype=np.float32)
