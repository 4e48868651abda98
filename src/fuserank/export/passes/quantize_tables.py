"""Tables of embeddings become int8."""

import numpy as np
import onnx_ir as ir

__all__ = ["QuantizeTables"]

_FLOAT = 1  # of onnx.TensorProto
_LEAST = 1e-20


class QuantizeTables(ir.passes.InPlacePass):
    """Gather(W, ids) → Cast(Gather(W₈, ids)) ⊙ Gather(r, ids), with r of each row.

    Leaves alone:
        Anything but rows of a float32 initializer of two axes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        nodes = [node for node in model.graph if _is_lookup(node)]
        for node in nodes:
            table, rows = node.inputs
            assert table is not None
            codes, scales = _stored(model.graph, table)
            tape = ir.tape.Tape()
            found = tape.op("Cast", [tape.op("Gather", [codes, rows])], {"to": _FLOAT})
            made = tape.op("Mul", [found, tape.op("Gather", [scales, rows])])
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs, [made]
            )
            if not table.uses():
                del model.graph.initializers[str(table.name)]
        return ir.passes.PassResult(model, modified=bool(nodes))


def _is_lookup(node: ir.Node) -> bool:
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return False
    table = node.inputs[0]
    return (
        table is not None
        and table.const_value is not None
        and len(table.const_value.shape) == 2
        and table.const_value.dtype == ir.DataType.FLOAT
    )


def _stored(graph: ir.Graph, table: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return int8 codes and a scale for each row, which lookups in one table share."""
    names = f"{table.name}_quantized", f"{table.name}_row_scales"
    if names[0] not in graph.initializers:
        assert table.const_value is not None
        array = table.const_value.numpy()
        scales = np.maximum(np.abs(array).max(axis=1, keepdims=True), _LEAST) / np.float32(127)
        codes = np.rint(array / scales).astype(np.int8)
        for name, made in zip(names, (codes, scales.astype(np.float32)), strict=True):
            graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(made)))
    return graph.initializers[names[0]], graph.initializers[names[1]]
