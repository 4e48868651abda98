"""Activations: recognised in a graph, however they are spelled there, and spelled out again."""

from math import sqrt

import numpy as np
import onnx_ir as ir

from fuserank.export.tensors import initializer

__all__ = ["activation_of", "apply_activation"]

_OPERATORS = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}


def activation_of(value: ir.Value) -> tuple[str, ir.Value] | None:
    """Return the activation that made a value, and of what; None where none did.

    silu(x) = x·σ(x) and gelu(x) = ½x(1 + erf(x/√2)) are several operators each.
    """
    node = value.producer()
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type in _OPERATORS:
        return _OPERATORS[node.op_type], node.inputs[0]
    factors, scale = _factors(value) if node.op_type == "Mul" else ([], 1.0)
    for x, gate in (factors, factors[::-1]) if len(factors) == 2 else ():
        if scale == 1.0 and _made_by(gate, "Sigmoid") is x:
            return "silu", x
        if np.isclose(scale, 0.5) and _is_erf_gate(gate, x):
            return "gelu", x
    return None


def apply_activation(tape: ir.tape.Tape, graph: ir.Graph, name: str, x: ir.Value) -> ir.Value:
    """Add the nodes of an activation and return its value."""
    if name == "silu":
        return tape.op("Mul", [x, tape.op("Sigmoid", [x])])
    if name == "gelu":
        half, root, one = (
            _constant(graph, f"gelu_{what}", number)
            for what, number in (("half", 0.5), ("root", 1 / sqrt(2)), ("one", 1.0))
        )
        gate = tape.op("Add", [tape.op("Erf", [tape.op("Mul", [x, root])]), one])
        return tape.op("Mul", [tape.op("Mul", [x, half]), gate])
    operators = {activation: operator for operator, activation in _OPERATORS.items()}
    return tape.op(operators[name], [x])


def _constant(graph: ir.Graph, name: str, number: float) -> ir.Value:
    """Return a constant of a graph, which several activations may share."""
    known = graph.initializers.get(name)
    return initializer(graph, name, np.array(number, np.float32)) if known is None else known


def _factors(value: ir.Value) -> tuple[list[ir.Value], float]:
    """Read a tree of products as its factors and the product of its constants."""
    node = value.producer()
    number = _number(value)
    if number is not None:
        return [], number
    if node is None or node.op_type not in ("Mul", "Div"):
        return [value], 1.0
    left, right = node.inputs
    divisor = _number(right)
    if node.op_type == "Div":
        if divisor is None or left is None:
            return [value], 1.0
        factors, scale = _factors(left)
        return factors, scale / divisor
    assert left is not None  # products have no optional inputs
    assert right is not None
    (factors, scale), (more, other) = _factors(left), _factors(right)
    return [*factors, *more], scale * other


def _is_erf_gate(gate: ir.Value, x: ir.Value) -> bool:
    """Whether a value is 1 + erf(x/√2)."""
    node = gate.producer()
    if node is None or node.op_type != "Add":
        return False
    for erf, one in (node.inputs, node.inputs[::-1]):
        source = None if erf is None else _made_by(erf, "Erf")
        if source is not None and _number(one) == 1.0:
            factors, scale = _factors(source)
            return factors == [x] and bool(np.isclose(scale, 1 / sqrt(2), rtol=1e-5))
    return False


def _made_by(value: ir.Value, operator: str) -> ir.Value | None:
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == operator else None


def _number(value: ir.Value | None) -> float | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return float(tensor.numpy().item()) if tensor is not None and tensor.size == 1 else None
