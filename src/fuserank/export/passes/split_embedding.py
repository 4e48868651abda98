"""A fused lookup of embeddings becomes lookups, sums and a normalisation."""

import numpy as np
import onnx_ir as ir

__all__ = ["SplitEmbedding"]

_INT32 = 6  # of onnx.TensorProto


class SplitEmbedding(ir.passes.InPlacePass):
    """EmbedLayerNormalization(ids, types, W, P, T, γ, β, mask) → LayerNormalization(W[ids] + …).

    Requires:
        Opset 17; texts padded on the right.
    Leaves alone:
        Nodes with positions of their own, without a mask, or whose sum is used.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        nodes = [node for node in model.graph if _splits(node)]
        for node in nodes:
            ids, types, words, positions, kinds, gamma, beta, mask = node.inputs[:8]
            tape = ir.tape.Tape()
            zero, one = (_axis(model.graph, n) for n in range(2))
            length = tape.op("Shape", [ids], {"start": 1, "end": 2})
            total = tape.op("Gather", [words, ids])
            total = tape.op("Add", [total, tape.op("Slice", [positions, zero, length])])
            if types is not None and kinds is not None:
                total = tape.op("Add", [total, tape.op("Gather", [kinds, types])])
            epsilon = node.attributes.get_float("epsilon", 1e-12)
            made = tape.op(
                "LayerNormalization", [total, gamma, beta], {"axis": -1, "epsilon": epsilon}
            )
            # How many tokens a text has is where its mask ends.
            counts = tape.op(
                "ReduceSum", [tape.op("Cast", [mask], {"to": _INT32}), one], {"keepdims": 0}
            )
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs[:2], [made, counts]
            )
        return ir.passes.PassResult(model, modified=bool(nodes))


def _splits(node: ir.Node) -> bool:
    return (
        node.op_type == "EmbedLayerNormalization"
        and len(node.inputs) >= 8
        and node.inputs[7] is not None
        and not any(node.inputs[8:])
        and not any(output.uses() for output in node.outputs[2:])
    )


def _axis(graph: ir.Graph, number: int) -> ir.Value:
    name = f"embedding.axis_{number}"
    if name not in graph.initializers:
        array = np.array([number], dtype=np.int64)
        graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(array)))
    return graph.initializers[name]
