"""Factorisation: one ranker graph becomes a user part, an item part and a joint part."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from fuserank.bundle import ScorerInfo, ScorerKind
from fuserank.engine.scoring import DenseLayer
from fuserank.errors import FactorisationError
from fuserank.export.lower import NotLowered, lower
from fuserank.export.partition import border, cut, fused_joint, generic_joint, place_states
from fuserank.export.passes import (
    DecomposeGemm,
    FoldBatchNorm,
    SplitConcatMatMul,
    SquareAsProduct,
)
from fuserank.export.sides import Colours
from fuserank.export.tensors import Workshop
from fuserank.schema import Side

__all__ = ["Factorised", "factorise", "read_ranker"]

logger = logging.getLogger(__name__)


_OPSETS = (13, 26)
"""From the first in which axes are inputs everywhere, to the last that ONNX Runtime reads."""

_CONTROL_FLOW = {"If", "Loop", "Scan"}


@dataclass(frozen=True, kw_only=True)
class Factorised:
    """A ranker in three parts with the scores of the whole.

    Attributes:
        user: from user and context inputs to the user states; axis ``batch``.
        item: from item inputs to the item states; axis ``batch``.
        joint: from both states to ``scores`` (users, items).
        scorer: how the joint part is run, and how much work a pair is left.
        weights: float32 of an additive scorer, one for each unit of its last layer.
        layers: of an additive scorer, those behind the first.
    """

    user: onnx.ModelProto
    item: onnx.ModelProto
    joint: onnx.ModelProto
    scorer: ScorerInfo
    weights: npt.NDArray[np.float32] | None = None
    layers: tuple[DenseLayer, ...] = ()


def read_ranker(path: Path) -> onnx.ModelProto:
    """Read a ranker's graph.

    Raises:
        FactorisationError: no such file, or not a valid ONNX model.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise FactorisationError(f"{path}: no such file; expected an ONNX model") from None
    except Exception as error:  # protobuf and the checker raise classes of their own
        raise FactorisationError(f"{path}: expected an ONNX model, found: {error}") from error
    return model


def factorise(full: onnx.ModelProto, sides: Mapping[str, Side]) -> Factorised:
    """Split a ranker by the sides its values depend on.

    Args:
        full: a graph whose inputs share the batch axis, row i of each belonging to pair i, and
            whose only output is one float32 logit a pair. It is not modified.
        sides: the side of every input by name.

    Raises:
        FactorisationError: an input without side or without a free batch axis, an output that is
            not one logit a pair, control flow, an opset that is not supported.
    """
    model = ir.from_proto(full)
    _check(model)
    model = _prepare(model)
    (logit,) = model.graph.outputs
    full_work = _multiply_adds(model.graph)
    passes = {
        "decompose-gemm": DecomposeGemm(),
        "fold-batch-norm": FoldBatchNorm(),
        "square-as-product": SquareAsProduct(),
        "split-concat-matmul": SplitConcatMatMul(sides),
    }
    rewrites = []
    for name, rewrite in passes.items():
        if rewrite(model).modified:
            rewrites.append(name)
            common.ShapeInferencePass()(model)
    (logit,) = model.graph.outputs
    colours = Colours(model.graph, sides)
    if not colours.is_mixed(logit):
        found = " and ".join(sorted(colours.of(logit))) or "constants"
        raise FactorisationError(
            f"output {logit.name!r} depends on {found} alone, expected a user and an item; "
            "inputs that are one object in the example of an export become one input"
        )
    precomputed = tuple(
        str(value.name) for value in border(model.graph, colours, logit) if colours.is_item(value)
    )
    trial = model.clone()  # an attempt that fails leaves nodes behind
    (logit_of_trial,) = trial.graph.outputs
    workshop = Workshop(trial.graph)
    try:
        lowered = lower(logit_of_trial, Colours(trial.graph, sides), workshop)
    except NotLowered as reason:
        return _generic(model, colours, logit, (full_work, tuple(rewrites), str(reason)))
    model = trial
    rewrites.append(f"lower-{lowered.kind.value}")
    place_states(model.graph, logit_of_trial, lowered, workshop)
    outputs = {str(value.name): value for value in model.graph.outputs}
    colours = Colours(model.graph, sides)
    parts = {
        side: cut(model, colours, [outputs[f"{side}_state"], outputs[f"{side}_constant"]], side)
        for side in (Side.USER, Side.ITEM)
    }
    return Factorised(
        user=_finish(parts[Side.USER]),
        item=_finish(parts[Side.ITEM]),
        joint=_finish(fused_joint(model, lowered)),
        weights=lowered.weights,
        layers=lowered.layers,
        scorer=ScorerInfo(
            kind=lowered.kind,
            activation=lowered.activation,
            layers=tuple(layer.activation for layer in lowered.layers),
            products=lowered.products,
            full_multiply_adds=full_work,
            joint_multiply_adds=lowered.multiply_adds,
            rewrites=tuple(rewrites),
            precomputed=precomputed,
        ),
    )


def _check(model: ir.Model) -> None:
    """Refuse graphs whose parts could not be told apart."""
    opset = model.opset_imports.get("", 0)
    if not _OPSETS[0] <= opset <= _OPSETS[1]:
        raise FactorisationError(
            f"opset: found {opset}, expected {_OPSETS[0]} to {_OPSETS[1]}; export the model again, "
            "or convert it with onnx.version_converter"
        )
    for node in model.graph.all_nodes():
        if node.op_type in _CONTROL_FLOW:
            raise FactorisationError(
                f"node {node.name!r}: found {node.op_type}, whose work depends on the data; "
                "expected a graph without control flow"
            )
    for value in model.graph.inputs:
        if value.shape is None or len(value.shape) == 0 or isinstance(value.shape[0], int):
            raise FactorisationError(
                f"input {value.name!r}: expected a free batch axis first, found shape "
                f"{value.shape}; all inputs share that axis, row i belonging to pair i: export "
                "the model with a dynamic first axis"
            )


def _prepare(model: ir.Model) -> ir.Model:
    if len(model.graph.outputs) != 1:
        names = [value.name for value in model.graph.outputs]
        raise FactorisationError(f"expected one output, a logit a pair; found {names}")
    (logit,) = model.graph.outputs
    if logit.dtype != ir.DataType.FLOAT:
        raise FactorisationError(f"output {logit.name!r}: expected float32, found {logit.dtype}")
    shape = logit.shape
    if shape is not None and not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise FactorisationError(
            f"output {logit.name!r}: expected one logit a pair, found shape {shape}"
        )
    common.LiftConstantsToInitializersPass()(model)
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.ShapeInferencePass()(model)
    return model


def _generic(
    model: ir.Model,
    colours: Colours,
    logit: ir.Value,
    found: tuple[int, tuple[str, ...], str],
) -> Factorised:
    """Cut where the sides first mix; the joint part stays a graph."""
    full_work, rewrites, reason = found
    logger.warning("the joint part stays a graph: %s", reason)
    users, items, joint = generic_joint(model, colours, logit)
    parts = {}
    for side, values in ((Side.USER, users), (Side.ITEM, items)):
        part = cut(model, colours, values, side)
        tape = ir.tape.Tape()
        states = [tape.op("Identity", [value]) for value in part.graph.outputs]
        for index, (state, value) in enumerate(zip(states, values, strict=True)):
            state.name, state.type = f"{side}_state_{index}", value.type
            state.shape = ir.Shape(["batch", *(value.shape or [])[1:]])
        part.graph.extend(tape.nodes)
        part.graph.outputs.clear()
        part.graph.outputs.extend(states)
        parts[side] = _finish(part)
    return Factorised(
        user=parts[Side.USER],
        item=parts[Side.ITEM],
        joint=_finish(joint),
        scorer=ScorerInfo(
            kind=ScorerKind.GENERIC,
            full_multiply_adds=full_work,
            joint_multiply_adds=_multiply_adds(joint.graph),
            rewrites=rewrites,
            precomputed=tuple(str(value.name) for value in items),
            note=reason,
        ),
    )


def _finish(model: ir.Model) -> onnx.ModelProto:
    common.RemoveUnusedNodesPass()(model)
    common.NameFixPass()(model)
    for value in model.graph.inputs:
        if value.shape is not None and str(value.name).partition(".")[0] in list(Side):
            value.shape = ir.Shape(["batch", *value.shape[1:]])
    proto = ir.to_proto(model)
    # Extraction keeps no order of its own; the same ranker must give the same bytes.
    proto.graph.initializer.sort(key=lambda tensor: tensor.name)
    onnx.checker.check_model(proto)
    return proto


def _multiply_adds(graph: ir.Graph) -> int:
    """Count the multiply-adds a pair of all matrix products whose shapes are known."""
    total = 0
    for node in graph:
        if node.op_type not in ("MatMul", "Gemm") or node.inputs[1] is None:
            continue
        weight = node.inputs[1].shape
        rows = node.inputs[0].shape if node.inputs[0] is not None else None
        if weight is None or len(weight) != 2:
            continue
        inner = [d for d in (rows or [])[1:-1] if isinstance(d, int)]
        total += int(np.prod([*inner, *(d for d in weight if isinstance(d, int))]))
    return total
