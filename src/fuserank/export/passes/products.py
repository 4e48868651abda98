"""Which nodes multiply by a matrix of weights."""

from collections.abc import Collection

import onnx_ir as ir

__all__ = ["is_product"]


def is_product(node: ir.Node, keep: Collection[str] = ()) -> bool:
    """Return whether a node multiplies by an initializer of two axes, not one of `keep`."""
    if node.op_type != "MatMul" or node.domain:
        return False
    weights = node.inputs[1]
    return (
        weights is not None
        and weights.const_value is not None
        and len(weights.const_value.shape) == 2
        and weights.name not in keep
    )
