"""Attention over its input becomes three products and attention over them."""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

__all__ = ["SplitAttention"]

_MICROSOFT = "com.microsoft"
_KEPT = ("num_heads", "scale", "mask_filter_value")


class SplitAttention(ir.passes.InPlacePass):
    """Attention(x, [Q K V], b, mask) → MultiHeadAttention(x·Q, x·K, x·V, b, mask).

    Requires:
        The weights are an initializer.
    Leaves alone:
        Attention with a past, an additive bias, causality or values of another width, and that
        whose weights are named.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        """Take the names of weights whose attention stays as it is."""
        super().__init__()
        self._keep = frozenset(keep)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        nodes = [node for node in model.graph if _splits(node, self._keep)]
        for node in nodes:
            x, weights, bias, mask = [*node.inputs, None][:4]
            assert weights is not None
            assert weights.const_value is not None
            tape = ir.tape.Tape()
            products = []
            parts = np.split(weights.const_value.numpy(), 3, axis=1)
            for letter, part in zip("qkv", parts, strict=True):
                tensor = ir.tensor(np.ascontiguousarray(part), name=f"{weights.name}_{letter}")
                value = ir.Value(name=tensor.name, const_value=tensor)
                model.graph.register_initializer(value)
                products.append(tape.op("MatMul", [x, value]))
            attributes = {name: node.attributes[name] for name in _KEPT if name in node.attributes}
            made = tape.op(
                "MultiHeadAttention", [*products, bias, mask], attributes, domain=_MICROSOFT
            )
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs[:1], [made]
            )
            if not weights.uses():
                del model.graph.initializers[str(weights.name)]
        return ir.passes.PassResult(model, modified=bool(nodes))


def _splits(node: ir.Node, keep: Collection[str]) -> bool:
    if node.op_type != "Attention" or node.domain != _MICROSOFT:
        return False
    weights = node.inputs[1]
    plain = not any(node.inputs[4:]) and "qkv_hidden_sizes" not in node.attributes
    causal = node.attributes.get_int("unidirectional", 0) == 1
    if weights is None or weights.const_value is None or weights.name in keep:
        return False
    return plain and not causal
