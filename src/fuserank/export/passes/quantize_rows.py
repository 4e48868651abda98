"""Matrix products become int8, each row of what is multiplied having a scale of its own."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.passes.products import is_product
from fuserank.export.passes.weights import quantize_columns

__all__ = ["QuantizeRows"]

_MICROSOFT = "com.microsoft"
_GELUS = frozenset({"BiasGelu", "Gelu", "FastGelu"})
# Least value of a Gelu, and of its tanh approximation, is -0.17004.
_GELU_FLOOR = 0.1701
# A row of zeros has a scale too.
_LEAST = 1e-20


class QuantizeRows(ir.passes.InPlacePass):
    """x·W → r ⊙ (round(x / r)·W₈ ⊙ c), with r of each row and c of each column.

    A row is a token, so that an embedding does not depend on the texts that share its batch, nor
    one token's precision on the largest number of another. Rows are symmetric, unsigned about 128;
    those that a Gelu made are not: they are moved by its least value, which takes half a bit.

    Requires:
        Opset 13 to 17; ONNX Runtime.
    Leaves alone:
        Products with anything but an initializer of two axes, and those that are named.

    Source: per-token activations and per-channel weights are those of Yao et al., "ZeroQuant",
    NeurIPS 2022, and Dettmers et al., "LLM.int8()", NeurIPS 2022.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        """Take the names of weights whose products stay as they are."""
        super().__init__()
        self._keep = frozenset(keep)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        model.graph.opset_imports.setdefault(_MICROSOFT, 1)
        self._constants: dict[str, ir.Value] = {}
        self._weights: dict[str, tuple[ir.Value, ir.Value, npt.NDArray[np.float32]]] = {}
        # What is quantized once serves every product of it.
        self._rows: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value, bool]] = {}
        nodes = [node for node in model.graph if is_product(node, self._keep)]
        for node in nodes:
            self._rewrite(model.graph, node)
        for name in self._weights:
            if not model.graph.initializers[name].uses():
                del model.graph.initializers[name]
        return ir.passes.PassResult(model, modified=bool(nodes))

    def _rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        x, weights = node.inputs
        assert x is not None
        assert weights is not None
        tape = ir.tape.Tape()
        if x not in self._rows:
            self._rows[x] = self._quantized(graph, tape, x)
        codes, scales, zero, moved = self._rows[x]
        matrix, columns, sums = self._quantized_weights(graph, weights)
        one = self._constant(graph, "one", np.float32(1))
        made = tape.op(
            "MatMulIntegerToFloat", [codes, matrix, one, columns, zero], domain=_MICROSOFT
        )
        made = tape.op("Mul", [made, scales])
        if moved:
            floor = (-_GELU_FLOOR * sums).astype(np.float32)
            made = tape.op("Add", [made, self._constant(graph, f"{weights.name}_floor", floor)])
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], tape.nodes, node.outputs, [made]
        )

    def _quantized(
        self, graph: ir.Graph, tape: ir.tape.Tape, x: ir.Value
    ) -> tuple[ir.Value, ir.Value, ir.Value, bool]:
        """Return the codes of rows, their scales, the code of zero, and whether they are moved."""
        producer = x.producer()
        moved = producer is not None and producer.op_type in _GELUS
        if moved:
            floor = self._constant(graph, "gelu_floor", np.float32(_GELU_FLOOR))
            x = size = tape.op("Add", [x, floor])
        else:
            size = tape.op("Abs", [x])
        zero, steps = (np.uint8(0), 255) if moved else (np.uint8(128), 127)
        largest = tape.op("ReduceMax", [size], {"axes": [-1], "keepdims": 1})
        least = self._constant(graph, "least", np.float32(_LEAST))
        share = self._constant(graph, f"one_{steps}th", np.float32(1 / steps))
        scales = tape.op("Mul", [tape.op("Max", [largest, least]), share])
        code = self._constant(graph, f"zero_{zero}", zero)
        unit = self._constant(graph, "one", np.float32(1))
        codes = tape.op("QuantizeLinear", [tape.op("Div", [x, scales]), unit, code])
        return codes, scales, code, moved

    def _quantized_weights(
        self, graph: ir.Graph, weights: ir.Value
    ) -> tuple[ir.Value, ir.Value, npt.NDArray[np.float32]]:
        """Return int8 weights, a scale for each column, and the sums of what they stand for."""
        name = str(weights.name)
        if name not in self._weights:
            assert weights.const_value is not None
            matrix = weights.const_value.numpy()
            codes, scales = quantize_columns(matrix)
            self._weights[name] = (
                self._constant(graph, f"{name}_quantized", codes),
                self._constant(graph, f"{name}_scale", scales),
                codes.sum(axis=0) * scales,
            )
        return self._weights[name]

    def _constant(
        self, graph: ir.Graph, name: str, array: npt.NDArray[np.generic] | np.generic
    ) -> ir.Value:
        if name not in self._constants:
            value = ir.Value(name=f"rows.{name}", const_value=ir.tensor(np.asarray(array)))
            graph.register_initializer(value)
            self._constants[name] = value
        return self._constants[name]
