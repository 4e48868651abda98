"""Attention over its input becomes a product and attention over its thirds."""

from collections.abc import Collection

import onnx_ir as ir

__all__ = ["SplitAttention"]

_MICROSOFT = "com.microsoft"
_KEPT = ("num_heads", "scale", "mask_filter_value")


class SplitAttention(ir.passes.InPlacePass):
    """Attention(x, W, b, mask) → MultiHeadAttention(the thirds of x·W + b, mask).

    Requires:
        Weights and bias are initializers.
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
            tape = ir.tape.Tape()
            made = tape.op("MatMul", [x, weights])
            if bias is not None:
                made = tape.op("Add", [made, bias])
            # Of like size, without being told one: what is multiplied may be pruned.
            thirds = tape.op_multi_out("Split", [made], {"axis": -1}, num_outputs=3)
            attributes = {name: node.attributes[name] for name in _KEPT if name in node.attributes}
            made = tape.op(
                "MultiHeadAttention", [*thirds, None, mask], attributes, domain=_MICROSOFT
            )
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs[:1], [made]
            )
        return ir.passes.PassResult(model, modified=bool(nodes))


def _splits(node: ir.Node, keep: Collection[str]) -> bool:
    if node.op_type != "Attention" or node.domain != _MICROSOFT:
        return False
    weights, bias = [*node.inputs, None][1:3]
    plain = not any(node.inputs[4:]) and "qkv_hidden_sizes" not in node.attributes
    causal = node.attributes.get_int("unidirectional", 0) == 1
    if weights is None or weights.const_value is None or weights.name in keep:
        return False
    if bias is not None and bias.const_value is None:
        return False
    return plain and not causal
