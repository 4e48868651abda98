"""Matrix products become int8, with scales that were chosen beforehand."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.passes.products import is_product
from fuserank.export.passes.weights import quantize_columns

__all__ = ["QuantizeStatic", "Smoothing"]

FloatArray = npt.NDArray[np.float32]

_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Smoothing:
    """x becomes the code round(x / (divisors · step)) + zero, from 0 to 255.

    Attributes:
        divisors: (dim,) float32, one a column.
        step: of a code.
        zero: the code of 0.
    """

    divisors: FloatArray
    step: np.float32
    zero: np.uint8

    def quantized(self, rows: FloatArray) -> FloatArray:
        """Return rows as their codes stand for them, still divided."""
        codes = np.rint(rows / self.divisors / self.step) + np.float32(self.zero)
        quantized: FloatArray = (np.clip(codes, 0, 255) - np.float32(self.zero)) * self.step
        return quantized


class QuantizeStatic(ir.passes.InPlacePass):
    """x·W + b → (round(x / d / s) + z)·(d ⊙ W)₈ ⊙ s·c + b, with c of each column.

    The columns' divisors d are multiplied into W. Where x is what attention makes of values, they
    are divided out of the product that made those, and nothing is left to do when the graph runs;
    elsewhere x is divided. What reads the same x shares its codes.

    Requires:
        Opset 13 to 17; ONNX Runtime.
    Leaves alone:
        Products with anything but an initializer of two axes, and those of values that have no
        smoothing.
    """

    def __init__(self, smoothings: Mapping[str, Smoothing], keep: Collection[str] = ()) -> None:
        """Take how each value is scaled, by its name, and names of weights that stay."""
        super().__init__()
        self._smoothings = smoothings
        self._keep = frozenset(keep)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such node."""
        model.graph.opset_imports.setdefault(_MICROSOFT, 1)
        self._graph = model.graph
        nodes = [
            node
            for node in model.graph
            if is_product(node, self._keep) and _name(node.inputs[0]) in self._smoothings
        ]
        divided = _divided_values(nodes, self._smoothings)
        self._divisors = dict(divided.values())
        self._divided = frozenset(divided)
        self._codes: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}
        for node in nodes:
            self._rewrite(node)
        for name in [n for n, value in model.graph.initializers.items() if not value.uses()]:
            del model.graph.initializers[name]
        return ir.passes.PassResult(model, modified=bool(nodes))

    def _rewrite(self, node: ir.Node) -> None:
        x, weights = node.inputs
        assert x is not None
        assert weights is not None
        smoothing = self._smoothings[str(x.name)]
        tape = ir.tape.Tape()
        if x not in self._codes:
            self._codes[x] = self._quantized(tape, x, smoothing)
        codes, step, zero = self._codes[x]
        matrix = quantize_columns(_matrix(node) * smoothing.divisors[:, None])
        last, bias = _with_bias(node)
        divisors = self._divisors.get(last.outputs[0], np.float32(1))
        inputs: list[ir.Value | None] = [
            codes,
            self._constant(f"{weights.name}_quantized", matrix.codes),
            step,
            self._constant(f"{weights.name}_scale", matrix.scales / divisors),
            zero,
        ]
        if bias is not None:
            assert bias.const_value is not None
            shift = bias.const_value.numpy() / divisors
            inputs += [None, self._constant(f"{weights.name}_bias", shift)]
        made = tape.op("MatMulIntegerToFloat", inputs, domain=_MICROSOFT)
        old = [node] if last is node else [last, node]
        ir.convenience.replace_nodes_and_values(
            self._graph, last, old, tape.nodes, last.outputs, [made]
        )

    def _quantized(
        self, tape: ir.tape.Tape, x: ir.Value, smoothing: Smoothing
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the codes of a value, their step and the code of zero."""
        step = self._constant(f"{x.name}_step", smoothing.step)
        zero = self._constant(f"{x.name}_zero", smoothing.zero)
        plain = x in self._divided or bool(np.all(smoothing.divisors == 1))
        if plain:
            return tape.op("QuantizeLinear", [x, step, zero]), step, zero
        factors = 1 / (smoothing.divisors * smoothing.step)
        scaled = tape.op("Mul", [x, self._constant(f"{x.name}_factors", factors)])
        one = self._constant("one", np.float32(1))
        return tape.op("QuantizeLinear", [scaled, one, zero]), step, zero

    def _constant(self, name: str, array: npt.NDArray[np.generic] | np.generic) -> ir.Value:
        name = f"static.{name}"
        if name not in self._graph.initializers:
            tensor = ir.tensor(np.asarray(array))
            self._graph.register_initializer(ir.Value(name=name, const_value=tensor))
        return self._graph.initializers[name]


def _divided_values(
    nodes: Collection[ir.Node], smoothings: Mapping[str, Smoothing]
) -> dict[ir.Value, tuple[ir.Value, FloatArray]]:
    """Return products of attention that need no division, with the product before and its own.

    Values may be the last part of what one product makes.
    """
    product_of = {_with_bias(node)[0].outputs[0]: node for node in nodes}
    divided = {}
    for node in nodes:
        x = node.inputs[0]
        assert x is not None
        attention = x.producer()
        if attention is None or attention.op_type != "MultiHeadAttention":
            continue
        values = made = attention.inputs[2]
        split = None if values is None else values.producer()
        n_parts = 1
        if split is not None and split.op_type == "Split" and values is split.outputs[-1]:
            made, n_parts = split.inputs[0], len(split.outputs)
        divisors = smoothings[str(x.name)].divisors
        # Heads that share values make more of them than there are.
        if (
            made in product_of
            and len(made.uses()) == len(x.uses()) == 1
            and _matrix(product_of[made]).shape[1] == n_parts * len(divisors)
        ):
            others = np.ones((n_parts - 1) * len(divisors), np.float32)
            divided[x] = made, np.append(others, divisors)
    return divided


def _with_bias(node: ir.Node) -> tuple[ir.Node, ir.Value | None]:
    """Return the node whose value is the product, and the bias that it adds, if any."""
    uses = tuple(node.outputs[0].uses())
    if len(uses) == 1 and (add := uses[0].node).op_type == "Add":
        bias = next((value for value in add.inputs if value is not node.outputs[0]), None)
        if (
            bias is not None
            and bias.const_value is not None
            and bias.const_value.numpy().shape == _matrix(node).shape[1:]
        ):
            return add, bias
    return node, None


def _name(value: ir.Value | None) -> str:
    return "" if value is None else str(value.name)


def _matrix(node: ir.Node) -> FloatArray:
    weights = node.inputs[1]
    assert weights is not None
    assert weights.const_value is not None
    matrix: FloatArray = weights.const_value.numpy()
    return matrix
