"""Keras ranker to ONNX: the full graph, from all inputs to one logit a pair."""

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx

from fuserank.errors import ExportError
from fuserank.schema import TensorSpec

if TYPE_CHECKING:
    import keras

__all__ = ["export_interaction"]

_OPSET = 17
_IR_VERSION = 10
_OUTPUT = "logit"


def export_interaction(model: "keras.Model", specs: Sequence[TensorSpec]) -> onnx.ModelProto:
    """Convert a trained ranker.

    Args:
        model: from a dict of arrays by input name to (batch,) logits.
        specs: its inputs.

    Returns:
        A graph whose inputs are named as the specs, with the first axis ``batch``, and whose
        output is ``logit`` (batch,) float32.

    Raises:
        ExportError: the converter does not know an operator of the model.
    """
    import tensorflow as tf
    import tf2onnx

    # The converter wants names that are identifiers, and calls every free axis differently.
    signature = [
        tf.TensorSpec([None, *spec.shape[1:]], spec.dtype, name=f"input_{index}")
        for index, spec in enumerate(specs)
    ]

    @tf.function(input_signature=[signature], autograph=False)
    def ranker(arrays: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        named = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
        return {_OUTPUT: model(named, training=False)}

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            proto, _ = tf2onnx.convert.from_function(
                ranker, input_signature=[signature], opset=_OPSET
            )
    except Exception as error:  # the converter raises whatever its parts raise
        raise ExportError(f"model {model.name!r}: tf2onnx cannot convert it: {error}") from error
    _rename_inputs(proto.graph, specs)
    proto.ir_version = _IR_VERSION
    proto.producer_name = "fuserank"
    # A graph that the converter writes wrong comes without an error: check it here.
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _rename_inputs(graph: onnx.GraphProto, specs: Sequence[TensorSpec]) -> None:
    names = {f"input_{index}": spec.name for index, spec in enumerate(specs)}
    for value in graph.input:
        value.name = names[value.name]
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    found = {value.name for value in graph.input}
    # An input that the model ignores is dropped by the converter; requests still carry it.
    for spec in specs:
        if spec.name not in found:
            kind = onnx.helper.np_dtype_to_tensor_dtype(onnx.numpy_helper.np.dtype(spec.dtype))
            graph.input.append(onnx.helper.make_tensor_value_info(spec.name, kind, spec.shape))
