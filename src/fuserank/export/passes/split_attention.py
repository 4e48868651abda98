"""Attention over its input becomes three products and attention over them."""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

__all__ = ["SplitAttention"]

_MICROSOFT = "com.microsoft"
_KEPT = ("num_heads", "scale", "mask_filter_value")


class SplitAttention(ir.passes.InPlacePass):
    """Attention(x, [Q K V], [q k v], mask) → MultiHeadAttention(x·Q + q, x·K + k, x·V + v, mask).

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
            assert weights is not None
            tape = ir.tape.Tape()
            terms = [tape.op("MatMul", [x, part]) for part in _parts(model.graph, weights)]
            if bias is not None:
                biases = _parts(model.graph, bias)
                terms = [tape.op("Add", pair) for pair in zip(terms, biases, strict=True)]
            attributes = {name: node.attributes[name] for name in _KEPT if name in node.attributes}
            made = tape.op(
                "MultiHeadAttention", [*terms, None, mask], attributes, domain=_MICROSOFT
            )
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs[:1], [made]
            )
            for whole in (weights, bias):
                if whole is not None and not whole.uses():
                    del model.graph.initializers[str(whole.name)]
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


def _parts(graph: ir.Graph, whole: ir.Value) -> list[ir.Value]:
    """Return the thirds of an initializer along its last axis, as initializers."""
    assert whole.const_value is not None
    parts = []
    for letter, part in zip("qkv", np.split(whole.const_value.numpy(), 3, axis=-1), strict=True):
        tensor = ir.tensor(np.ascontiguousarray(part), name=f"{whole.name}_{letter}")
        value = ir.Value(name=tensor.name, const_value=tensor)
        graph.register_initializer(value)
        parts.append(value)
    return parts
