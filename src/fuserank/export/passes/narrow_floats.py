"""A text encoder's layers in bfloat16: lookups, products, attention and normalisations."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

__all__ = ["NarrowFloats"]

_FLOAT, _NARROW = ir.DataType.FLOAT, ir.DataType.BFLOAT16
_LARGEST = (2 - 2**-7) * 2.0**127  # of the numbers of bfloat16

# Which inputs share the type that is narrowed; None stands for all of them. Every operator here has
# a bfloat16 kernel in ONNX Runtime 1.31's CUDA provider.
_LOOKUPS = {"Gather": (0,), "Slice": (0,)}
_FUSED_LOOKUP = "EmbedLayerNormalization"  # of which there is none
_NARROWED: dict[str, Sequence[int] | None] = {
    "MatMul": None,
    "Gemm": None,
    "LayerNormalization": None,
    "SimplifiedLayerNormalization": None,
    "SkipLayerNormalization": None,
    "SkipSimplifiedLayerNormalization": None,
    "BiasGelu": None,
    "FastGelu": None,
    "Gelu": None,
    "Attention": (0, 1, 2, 5),
    "MultiHeadAttention": (0, 1, 2, 3, 5),
    "RotaryEmbedding": (0, 2, 3),
}
_FOLLOWING: dict[str, Sequence[int] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Concat", "Max", "Min")),
    **dict.fromkeys(("Erf", "Identity", "Neg", "Relu", "Sigmoid", "Softmax", "Tanh")),
    **dict.fromkeys(
        ("Gather", "Slice", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Split"), (0,)
    ),
    "Where": (1, 2),
}
# The first output, and of a normalised sum the sum; means and deviations stay float32.
_SUMS = {"SkipLayerNormalization": 3, "SkipSimplifiedLayerNormalization": 3}


class NarrowFloats(ir.passes.InPlacePass):
    """Compute in bfloat16 from the lookup of embeddings on; what is read and returned stays.

    Three kinds of values stay float32: what is made of ids and masks alone, such as positions,
    angles and biases of attention, until an operator in bfloat16 reads it; what an operator without
    a bfloat16 kernel reads and returns; and sums over tokens or over an embedding, with all that
    comes after them but products. Constants beyond the range of bfloat16, such as the least float32
    in masks, become its bounds: an infinity would make a row that is masked as a whole NaN.

    Requires:
        Opset 17; no subgraphs. An EmbedLayerNormalization is better split before.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert every node that depends on an embedding, and its weights."""
        _Narrowing(model.graph).convert()
        RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=True)


class _Narrowing:
    """What is known of a graph while its nodes are converted in order."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._narrow: set[ir.Value] = set()
        self._wide: set[ir.Value] = set()  # float32 that depends on an embedding
        self._cast: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def convert(self) -> None:
        """Convert all nodes, then what the graph returns."""
        for node in list(self._graph):
            self._convert(node)
        for index, value in enumerate(self._graph.outputs):
            if value in self._narrow:
                self._graph.outputs[index] = self._returned(value)
        self._clamp()

    def _convert(self, node: ir.Node) -> None:
        if node.op_type in _LOOKUPS and _is_table(node.inputs[0]):
            self._make_narrow(node, _LOOKUPS[node.op_type])
        elif node.op_type == _FUSED_LOOKUP:
            self._make_wide(node)
        elif node.op_type == "Shape" or not any(map(self._depends, node.inputs)):
            return
        elif node.op_type in _NARROWED:
            self._make_narrow(node, _NARROWED[node.op_type])
        elif self._follows(node):
            self._make_narrow(node, _FOLLOWING[node.op_type])
        else:
            self._make_wide(node)

    def _depends(self, value: ir.Value | None) -> bool:
        return value in self._narrow or value in self._wide

    def _follows(self, node: ir.Node) -> bool:
        if node.op_type not in _FOLLOWING:
            return False
        read = [node.inputs[slot] for slot in _slots(node, _FOLLOWING[node.op_type])]
        return all(value in self._narrow or _constant(value) is not None for value in read)

    def _make_narrow(self, node: ir.Node, slots: Sequence[int] | None) -> None:
        for slot in _slots(node, slots):
            value = node.inputs[slot]
            assert value is not None  # an input that is left out is no slot
            if value not in self._narrow:
                node.replace_input_with(slot, self._as(value, _NARROW, node))
        outputs = node.outputs if node.op_type == "Split" else node.outputs[:1]
        total = _SUMS.get(node.op_type)
        for output in [*outputs, *(node.outputs[total:] if total else ())]:
            output.type = ir.TensorType(_NARROW)
            self._narrow.add(output)

    def _make_wide(self, node: ir.Node) -> None:
        for slot, value in enumerate(node.inputs):
            if value in self._narrow:
                assert value is not None
                node.replace_input_with(slot, self._as(value, _FLOAT, node))
        self._wide.update(node.outputs)

    def _as(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        """Return a value in another type, made once, before its first reader."""
        if (value, dtype) not in self._cast:
            array = _constant(value)
            if array is not None:
                narrowed = np.clip(array, -_LARGEST, _LARGEST).astype(ml_dtypes.bfloat16)
                made = ir.Value(
                    name=f"{value.name}.bfloat16",
                    const_value=ir.tensor(narrowed),
                    type=ir.TensorType(dtype),
                )
                self._graph.register_initializer(made)
            else:
                made = self._casting(value, dtype, f"{value.name}.{dtype.name.lower()}")
                producer = made.producer()
                assert producer is not None
                self._graph.insert_before(reader, producer)
            self._cast[value, dtype] = made
        return self._cast[value, dtype]

    def _returned(self, value: ir.Value) -> ir.Value:
        name, value.name = value.name, f"{value.name}.bfloat16"
        made = self._casting(value, _FLOAT, str(name))
        made.shape = value.shape
        producer = made.producer()
        assert producer is not None
        self._graph.append(producer)
        return made

    def _casting(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        node = ir.node("Cast", [value], attributes={"to": int(dtype)})
        made = node.outputs[0]
        made.name, made.type = name, ir.TensorType(dtype)
        return made

    def _clamp(self) -> None:
        """Bring the constants that stayed float32 into the range of bfloat16."""
        for value in list(self._graph.initializers.values()):
            if (clamped := _clamped(value.const_value)) is not None:
                value.const_value = clamped
        for node in self._graph:
            held = node.attributes.get("value")
            if held is None or node.op_type not in ("Constant", "ConstantOfShape"):
                continue
            if (clamped := _clamped(held.as_tensor())) is not None:
                node.attributes["value"] = ir.AttrTensor("value", clamped)


def _slots(node: ir.Node, slots: Sequence[int] | None) -> list[int]:
    chosen = range(len(node.inputs)) if slots is None else slots
    return [slot for slot in chosen if slot < len(node.inputs) and node.inputs[slot] is not None]


def _constant(value: ir.Value | None) -> np.ndarray | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.dtype is not _FLOAT else tensor.numpy()


def _is_table(value: ir.Value | None) -> bool:
    array = _constant(value)
    return array is not None and array.ndim > 1


def _clamped(tensor: ir.TensorProtocol | None) -> ir.TensorProtocol | None:
    """Return a float32 tensor within the range of bfloat16; None where it is already."""
    if tensor is None or tensor.dtype is not _FLOAT:
        return None
    array = tensor.numpy()
    if not array.size or np.abs(array).max() <= _LARGEST:
        return None
    return ir.tensor(np.clip(array, -_LARGEST, _LARGEST).astype(np.float32))
