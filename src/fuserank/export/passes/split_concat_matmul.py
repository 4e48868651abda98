"""A matrix product of concatenated sides becomes a sum of one product a side."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fuserank.export.sides import Colours
from fuserank.export.tensors import initializer
from fuserank.schema import Side

__all__ = ["SplitConcatMatMul"]


class SplitConcatMatMul(ir.passes.InPlacePass):
    """MatMul(Concat(a, b), W) → MatMul(a, W_a) + MatMul(b, W_b), parts of a side kept together.

    The products of a side then depend on that side alone, so that they leave the joint part.

    Requires:
        The concatenation is along the last axis of values whose last dimension is known, its
        parts are not all of one colour, and W is a constant matrix.
    Leaves alone:
        A product of parts of one colour, mixed or not (nothing would be gained), a W that is
        computed, and the concatenation itself where something else reads it.
    """

    def __init__(self, sides: Mapping[str, Side]) -> None:
        """Take the declared sides of the graph's inputs."""
        self._sides = sides

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite every such product."""
        graph = model.graph
        colours = Colours(graph, self._sides)
        modified = False
        for node in graph:
            if node.op_type != "MatMul" or not colours.is_mixed(node.outputs[0]):
                continue
            concat = node.inputs[0].producer() if node.inputs[0] is not None else None
            weight = ir.convenience.get_const_tensor(node.inputs[1])  # type: ignore[arg-type]
            if concat is None or weight is None or len(weight.shape) != 2:
                continue
            widths = _widths(concat)
            if widths is None or sum(widths) != weight.shape[0]:
                continue
            groups: dict[frozenset[Side], list[int]] = {}
            for index, value in enumerate(concat.inputs):
                groups.setdefault(colours.of(value), []).append(index)  # type: ignore[arg-type]
            if len(groups) == 1:
                continue
            self._split(graph, node, concat, (widths, weight.numpy()), groups)
            modified = True
        return ir.passes.PassResult(model, modified=modified)

    @staticmethod
    def _split(
        graph: ir.Graph,
        node: ir.Node,
        concat: ir.Node,
        parts: tuple[list[int], npt.NDArray[Any]],
        groups: Mapping[frozenset[Side], list[int]],
    ) -> None:
        widths, weight = parts
        starts = np.cumsum([0, *widths])
        tape = ir.tape.Tape()
        total: ir.Value | None = None
        for colour, indices in groups.items():
            rows = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in indices])
            values = [concat.inputs[i] for i in indices]
            joined = values[0]
            if len(values) > 1:
                joined = tape.op("Concat", values, {"axis": -1})
            side = "_".join(sorted(colour)) or "constant"
            name = f"{node.outputs[0].name}.{side}.weight"
            rows_of_weight = initializer(graph, name, np.ascontiguousarray(weight[rows]))
            product = tape.op("MatMul", [joined, rows_of_weight])
            total = product if total is None else tape.op("Add", [total, product])
        ir.convenience.replace_nodes_and_values(
            graph,
            node,
            [node],
            tape.nodes,
            node.outputs,
            [total],  # type: ignore[list-item]
        )


def _widths(concat: ir.Node) -> list[int] | None:
    """Return the last dimensions of what is concatenated, or None where the rule does not fit."""
    if concat.op_type != "Concat":
        return None
    widths = []
    axis = concat.attributes["axis"].as_int()
    for value in concat.inputs:
        shape = None if value is None else value.shape
        if shape is None or axis not in (-1, len(shape) - 1) or not isinstance(shape[-1], int):
            return None
        widths.append(shape[-1])
    return widths
