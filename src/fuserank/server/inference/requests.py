"""What a request must hold before a model runs: the right tensors, of one batch, within limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuserank.errors import RequestError
from fuserank.server.inference.models import ITEM_IDS, Model, Task
from fuserank.server.inference.tensors import Datatype, Tensor, TensorSpec, read_tensor
from fuserank.server.messages.limits import Limits
from fuserank.server.pb import grpc_service_pb2 as pb

__all__ = ["Inputs", "max_batch_size", "read_inputs", "wanted_outputs"]

_MAX_QUOTED_CHARS = 100


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The tensors of a request.

    Attributes:
        batch: rows of each; 1 where there is no tensor.
        tensors: by input name.
    """

    batch: int
    tensors: Mapping[str, Tensor]


def max_batch_size(model: Model, limits: Limits) -> int:
    """Return how many rows a request to the model may have."""
    return limits.max_texts if model.task is Task.ENCODE else limits.max_batch


def read_inputs(request: pb.ModelInferRequest, model: Model, limits: Limits) -> Inputs:
    """Return the inputs of a request.

    Raises:
        RequestError: inputs that the model does not read, or not so, or more than the server takes
            on; the message names the input.
    """
    raw: Sequence[bytes | None] = request.raw_input_contents
    if not raw:
        raw = [None] * len(request.inputs)
    if len(raw) != len(request.inputs):
        raise RequestError(
            f"raw_input_contents: found {len(raw)} entries, expected none or one for each of the "
            f"{len(request.inputs)} inputs",
            field="raw_input_contents",
        )
    specs = {spec.name: spec for spec in model.inputs}
    tensors: dict[str, Tensor] = {}
    for message, content in zip(request.inputs, raw, strict=True):
        spec = _known(message.name, specs, "inputs", model)
        if spec.name in tensors:
            raise RequestError(f"input {spec.name!r}: found twice", field=spec.name)
        tensors[spec.name] = tensor = read_tensor(message, content, spec)
        _check_limits(tensor, spec, limits)
    for spec in model.inputs:
        if not spec.optional and spec.name not in tensors:
            raise RequestError(f"input {spec.name!r}: missing", field=spec.name)
    return Inputs(batch=_batch_of(tensors, max_batch_size(model, limits)), tensors=tensors)


def wanted_outputs(request: pb.ModelInferRequest, model: Model) -> tuple[TensorSpec, ...]:
    """Return the outputs that a request asks for, in its order; all where it names none.

    Raises:
        RequestError: an output that the model does not make, or not so.
    """
    specs = {spec.name: spec for spec in model.outputs}
    wanted = []
    for message in request.outputs:
        wanted.append(_known(message.name, specs, "outputs", model))
        for parameter in ("classification", "shared_memory_region"):
            if parameter in message.parameters:
                raise RequestError(
                    f"output {message.name!r}: {parameter} is not supported, leave it out",
                    field=message.name,
                )
    return tuple(wanted) or model.outputs


def _known(name: str, specs: Mapping[str, TensorSpec], what: str, model: Model) -> TensorSpec:
    if name not in specs:
        raise RequestError(
            f"{what}: {model.name} has no {name[:_MAX_QUOTED_CHARS]!r}, it has {', '.join(specs)}",
            field=what,
        )
    return specs[name]


def _check_limits(tensor: Tensor, spec: TensorSpec, limits: Limits) -> None:
    """Raise RequestError where an input is larger than a request of our own API may be."""
    if spec == ITEM_IDS:
        found, most, what = len(tensor.values), limits.max_items, "ids"
    else:
        found, most, what = len(tensor.row(0)), limits.max_values, "elements a row"
    if found > most:
        raise RequestError(
            f"input {spec.name!r}: found {found} {what}, expected at most {most}", field=spec.name
        )
    if spec.datatype is Datatype.BYTES:
        longest = max(map(len, tensor.values), default=0)
        if longest > limits.max_text_chars:
            raise RequestError(
                f"input {spec.name!r}: found a text of {longest} characters, expected at most "
                f"{limits.max_text_chars}",
                field=spec.name,
            )


def _batch_of(tensors: Mapping[str, Tensor], most: int) -> int:
    batch = 1
    first: Tensor | None = None
    for tensor in tensors.values():
        first = first or tensor
        batch = tensor.shape[0]
        if batch != first.shape[0]:
            raise RequestError(
                f"input {tensor.name!r}: found a batch of {batch}, expected {first.shape[0]} as "
                f"input {first.name!r} has",
                field=tensor.name,
            )
        if not 1 <= batch <= most:
            raise RequestError(
                f"input {tensor.name!r}: found a batch of {batch}, expected 1 to {most}",
                field=tensor.name,
            )
    return batch
