"""Cutting a graph into a user part, an item part and a joint part."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.activations import apply_activation
from fuserank.export.lower import Lowered
from fuserank.export.sides import Colours
from fuserank.export.tensors import Workshop, initializer
from fuserank.schema import Side

__all__ = ["border", "cut", "fused_joint", "generic_joint", "place_states"]

Matrix = npt.NDArray[np.float32]
_FLOAT = ir.DataType.FLOAT
_SIDES = (Side.USER, Side.ITEM)


def place_states(graph: ir.Graph, logit: ir.Value, lowered: Lowered, workshop: Workshop) -> None:
    """Append the nodes that make a scorer's states: ``user_state``, ``user_constant``, ….

    States are (batch, width) float32, constants (batch,) float32.
    """
    sides = (
        (Side.USER, lowered.user_states, lowered.user_constants, lowered.bias),
        (Side.ITEM, lowered.item_states, lowered.item_constants, 0.0),
    )
    placed = []
    for side, states, constants, bias in sides:
        state = workshop.concat(states, 0)
        total = workshop.repeat(workshop.constant([bias]), state)
        for constant in constants:
            total = workshop.add(total, constant)
        total = workshop.reshape(total, ())
        placed += [(f"{side}_state", state), (f"{side}_constant", total)]
    tape = ir.tape.Tape()
    values = []
    for name, tensor in placed:
        # A state may be a value that the graph already had, even an input: give it its own name.
        value = tape.op("Identity", [workshop.materialise(tensor)])
        _finish(value, name, ["batch", *tensor.shape])
        values.append(value)
    workshop.finish()
    graph.extend(tape.nodes)
    graph.outputs.extend(values)
    graph.outputs.remove(logit)


def cut(model: ir.Model, colours: Colours, outputs: Sequence[ir.Value], side: Side) -> ir.Model:
    """Return a model of its own for values of one side; inputs they do not read are dropped."""
    is_mine = colours.is_user if side is Side.USER else colours.is_item
    inputs = [value for value in model.graph.inputs if is_mine(value)]
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    for value in list(graph.inputs):
        if not value.uses() and value not in graph.outputs:
            graph.inputs.remove(value)
    graph.name = f"{side}"
    return _model(model, graph)


def fused_joint(model: ir.Model, lowered: Lowered) -> ir.Model:
    """Return the joint part of a lowered logit.

    From ``user_state`` (users, width), ``item_state`` (items, width) and their constants to
    ``scores`` (users, items).
    """
    tape = ir.tape.Tape()
    graph = ir.Graph([], [], nodes=[], name="joint", opset_imports=dict(model.opset_imports))
    user, item = (_input(f"{side}_state", [f"{side}s", lowered.width]) for side in _SIDES)
    user_constant, item_constant = (_input(f"{side}_constant", [f"{side}s"]) for side in _SIDES)
    terms = []
    behind = 0 if lowered.weights is None else lowered.width - lowered.products
    if lowered.weights is not None:
        states = [_slice(graph, tape, state, (0, behind), lowered.width) for state in (user, item)]
        terms.append(_perceptron(graph, tape, lowered, states))
    if lowered.weights is None or lowered.products:
        left, right = (
            _slice(graph, tape, state, (behind, lowered.width), lowered.width)
            for state in (user, item)
        )
        terms.append(tape.op("MatMul", [left, tape.op("Transpose", [right], {"perm": [1, 0]})]))
    scores = terms[0] if len(terms) == 1 else tape.op("Add", terms)
    one = initializer(graph, "axis_of_items", np.array([1], dtype=np.int64))
    scores = tape.op("Add", [scores, tape.op("Unsqueeze", [user_constant, one])])
    scores = tape.op("Add", [scores, item_constant])
    _finish(scores, "scores", ["users", "items"])
    graph.inputs.extend([user, user_constant, item, item_constant])
    graph.extend(tape.nodes)
    graph.outputs.append(scores)
    return _model(model, graph)


def generic_joint(
    model: ir.Model, colours: Colours, logit: ir.Value
) -> tuple[list[ir.Value], list[ir.Value], ir.Model]:
    """Cut at the border where the sides first mix.

    Returns:
        The user values and the item values that the joint part reads, and the joint part itself,
        which repeats both over all pairs: (users, …) and (items, …) to (users, items).
    """
    edge = border(model.graph, colours, logit)
    users = [value for value in edge if colours.is_user(value)]
    items = [value for value in edge if colours.is_item(value)]
    graph = ir.convenience.extract(model.graph, [*users, *items], [logit])
    graph.name = "joint"
    states = graph.inputs[:]
    graph.inputs.clear()
    tape = ir.tape.Tape()
    counts = {}
    for side, group in ((Side.USER, states[: len(users)]), (Side.ITEM, states[len(users) :])):
        for index, value in enumerate(group):
            shape = [f"{side}s", *(value.shape or [])[1:]]
            state = ir.Value(name=f"{side}_state_{index}", type=value.type, shape=ir.Shape(shape))
            graph.inputs.append(state)
            if side not in counts:
                counts[side] = tape.op("Shape", [state], {"start": 0, "end": 1})
    repeats = tape.op("Concat", [counts[Side.USER], counts[Side.ITEM]], {"axis": 0})
    for state, value in zip(graph.inputs, states, strict=True):
        repeated = _repeat(graph, tape, state, repeats)
        value.replace_all_uses_with(repeated)
    old = graph.outputs[0]
    scores = ir.tape.Tape()
    result = scores.op("Reshape", [old, repeats], {"allowzero": 1})  # no items are no error
    _finish(result, "scores", ["users", "items"])
    for node in reversed(tape.nodes):
        graph.insert_before(graph[0], node)
    graph.extend(scores.nodes)
    graph.outputs.clear()
    graph.outputs.append(result)
    return users, items, _model(model, graph)


def border(graph: ir.Graph, colours: Colours, logit: ir.Value) -> list[ir.Value]:
    """Return the one-sided values that the joint part reads.

    A shape has no row for each user or item that could be kept as a state, and in the joint part
    the batch axis counts pairs: so shapes, and what is made of shapes alone, are worked out there.
    """
    shapes: set[ir.Value] = set()
    for node in graph:
        sources = [v for v in node.inputs if v is not None and not colours.is_constant(v)]
        if node.op_type == "Shape" or (sources and shapes.issuperset(sources)):
            shapes.update(node.outputs)
    edge: dict[ir.Value, None] = {}
    met = {logit}
    pending = [logit]
    while pending:
        value = pending.pop()
        producer = value.producer()
        if producer is None or not (colours.is_mixed(value) or value in shapes):
            edge[value] = None
            continue
        for source in producer.inputs:
            if source is not None and source not in met and not colours.is_constant(source):
                met.add(source)
                pending.append(source)
    return list(edge)


def _perceptron(
    graph: ir.Graph, tape: ir.tape.Tape, lowered: Lowered, states: list[ir.Value]
) -> ir.Value:
    """Add a perceptron over all pairs: (users, width) and (items, width) to (users, items)."""
    assert lowered.weights is not None  # the caller has looked
    user, item = (
        tape.op(
            "Unsqueeze", [state, initializer(graph, f"axis_{axis}", np.array([axis], np.int64))]
        )
        for state, axis in zip(states, (1, 0), strict=True)
    )
    summed = tape.op("Add", [user, item])
    hidden = apply_activation(tape, graph, str(lowered.activation), summed)
    for number, layer in enumerate(lowered.layers):
        matrix = initializer(graph, f"layer_{number}", np.ascontiguousarray(layer.weights.T))
        bias = initializer(graph, f"layer_{number}_bias", layer.bias)
        summed = tape.op("Add", [tape.op("MatMul", [hidden, matrix]), bias])
        hidden = apply_activation(tape, graph, layer.activation, summed)
    weights = initializer(graph, "weights", lowered.weights[:, None])
    last = initializer(graph, "axis_last", np.array([2], dtype=np.int64))
    return tape.op("Squeeze", [tape.op("MatMul", [hidden, weights]), last])


def _slice(
    graph: ir.Graph, tape: ir.tape.Tape, state: ir.Value, ends: tuple[int, int], width: int
) -> ir.Value:
    """Return a range of a state's numbers."""
    if ends == (0, width):
        return state
    name = f"{state.name}_{ends[0]}"
    numbers = [
        initializer(graph, f"{name}_{what}", np.array([number], dtype=np.int64))
        for what, number in (("start", ends[0]), ("stop", ends[1]), ("axis", 1))
    ]
    return tape.op("Slice", [state, *numbers])


def _repeat(graph: ir.Graph, tape: ir.tape.Tape, state: ir.Value, repeats: ir.Value) -> ir.Value:
    """Repeat a state over all pairs, the user outside: (n, …) → (users·items, …)."""
    axis = 1 if str(state.name).startswith(Side.USER) else 0
    axes = initializer(graph, f"{state.name}_axis", np.array([axis], dtype=np.int64))
    tail = tape.op("Shape", [state], {"start": 1})
    wide = tape.op("Concat", [repeats, tail], {"axis": 0})
    spread = tape.op("Expand", [tape.op("Unsqueeze", [state, axes]), wide])
    flat = initializer(graph, f"{state.name}_flat", np.array([-1], dtype=np.int64))
    return tape.op("Reshape", [spread, tape.op("Concat", [flat, tail], {"axis": 0})])


def _finish(value: ir.Value, name: str, shape: list[int | str]) -> None:
    value.name = name
    value.type = ir.TensorType(_FLOAT)
    value.shape = ir.Shape(shape)


def _input(name: str, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(_FLOAT), shape=ir.Shape(shape))


def _model(like: ir.Model, graph: ir.Graph) -> ir.Model:
    return ir.Model(
        graph,
        ir_version=like.ir_version,
        producer_name="fuserank",
        functions=list(like.functions.values()),
    )
