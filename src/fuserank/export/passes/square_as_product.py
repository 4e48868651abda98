"""A square becomes a product of a value with itself."""

import onnx_ir as ir

__all__ = ["SquareAsProduct"]


class SquareAsProduct(ir.passes.InPlacePass):
    """Pow(x, 2) → Mul(x, x), so that a square is multiplied out like any product.

    Requires:
        The exponent is the constant 2.
    Leaves alone:
        Any other power.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such power."""
        modified = False
        for node in model.graph:
            if node.op_type != "Pow" or node.inputs[1] is None:
                continue
            exponent = ir.convenience.get_const_tensor(node.inputs[1])
            if exponent is None or exponent.size != 1 or exponent.numpy().item() != 2:
                continue
            tape = ir.tape.Tape()
            square = tape.op("Mul", [node.inputs[0], node.inputs[0]])
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], tape.nodes, node.outputs, [square]
            )
            modified = True
        return ir.passes.PassResult(model, modified=modified)
