"""Tensors as the protocol carries them, in both directions.

The elements stand in row-major order, either raw, as little-endian bytes in which a string follows
its length, or in the typed list of their message. Values never come into an error's message: they
are texts and ids of users.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fuserank.errors import RequestError
from fuserank.server.pb import grpc_service_pb2 as pb

__all__ = [
    "Datatype",
    "Tensor",
    "TensorSpec",
    "from_raw",
    "join_strings",
    "read_tensor",
    "split_strings",
    "to_raw",
]

Message: TypeAlias = pb.ModelInferRequest.InferInputTensor
Values: TypeAlias = list[Any]

_LENGTH = struct.Struct("<I")
_ANY = -1


class Datatype(StrEnum):
    """Type of a tensor's elements, by its name in the protocol."""

    BYTES = "BYTES"
    INT32 = "INT32"
    FP32 = "FP32"
    FP64 = "FP64"


_DTYPES = {Datatype.INT32: "<i4", Datatype.FP32: "<f4", Datatype.FP64: "<f8"}
_CONTENTS = {
    Datatype.BYTES: "bytes_contents",
    Datatype.INT32: "int_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor that a model reads or makes.

    Attributes:
        name: unique among the model's inputs, or its outputs.
        datatype: of its elements.
        dims: its shape without the batch dimension; -1 where a dimension may have any size.
        optional: whether a request may leave it out.
    """

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor that came with a request.

    Attributes:
        name: of the input.
        shape: (batch, …).
        values: its elements in row-major order: strings, ints or floats.
    """

    name: str
    shape: tuple[int, ...]
    values: Values

    def row(self, index: int) -> Values:
        """Return the elements of one row."""
        width = math.prod(self.shape[1:])
        return self.values[index * width : (index + 1) * width]


def read_tensor(message: Message, raw: bytes | None, spec: TensorSpec) -> Tensor:
    """Return an input of a request.

    Args:
        message: the input; has the elements where they are not raw.
        raw: the elements, or None where the message has them.
        spec: what the model expects.

    Raises:
        RequestError: another type or shape than the model expects, or elements that do not fit it.
    """
    _check(message, spec)
    shape = tuple(message.shape)
    count = math.prod(shape)
    if raw is not None:
        if message.HasField("contents"):
            raise _error(spec.name, "found elements in contents and in raw_input_contents")
        values = from_raw(raw, spec.datatype, count, spec.name)
    else:
        values = _from_contents(message.contents, spec, count)
    return Tensor(name=spec.name, shape=shape, values=values)


def from_raw(raw: bytes, datatype: Datatype, count: int, name: str) -> Values:
    """Return the elements of raw contents.

    Raises:
        RequestError: the contents are not those of `count` elements.
    """
    if datatype is Datatype.BYTES:
        return _texts(split_strings(raw, count, name), name)
    dtype = np.dtype(_DTYPES[datatype])
    if len(raw) != count * dtype.itemsize:
        raise _error(
            name,
            f"found {len(raw)} raw bytes, expected {count * dtype.itemsize}: {count} of {datatype}",
        )
    values: Values = np.frombuffer(raw, dtype=dtype).tolist()
    return values


def to_raw(values: npt.NDArray[Any], datatype: Datatype) -> bytes:
    """Return numbers as raw contents."""
    return values.astype(_DTYPES[datatype], copy=False).tobytes()


def split_strings(raw: bytes, count: int, name: str) -> list[bytes]:
    """Return the strings of raw contents.

    Raises:
        RequestError: the contents are not those of `count` strings.
    """
    strings: list[bytes] = []
    end = 0
    while end + _LENGTH.size <= len(raw) and len(strings) < count:
        start = end + _LENGTH.size
        end = start + _LENGTH.unpack_from(raw, end)[0]
        strings.append(raw[start:end])
    if end != len(raw) or len(strings) != count:
        raise _error(
            name,
            f"the {len(raw)} raw bytes do not hold exactly {count} strings, expected each after "
            "its length, four bytes little-endian",
        )
    return strings


def join_strings(strings: Sequence[str]) -> bytes:
    """Return strings as raw contents."""
    parts = []
    for text in strings:
        encoded = text.encode()
        parts += [_LENGTH.pack(len(encoded)), encoded]
    return b"".join(parts)


def _check(message: Message, spec: TensorSpec) -> None:
    """Raise RequestError where the input is not of the type and shape that the model expects."""
    if "shared_memory_region" in message.parameters:
        raise _error(spec.name, "shared memory is not supported, send the elements")
    if message.datatype != spec.datatype:
        raise _error(
            spec.name, f"found datatype {message.datatype[:20]!r}, expected {spec.datatype}"
        )
    expected = (_ANY, *spec.dims)
    found = tuple(message.shape)
    if len(found) != len(expected) or any(
        size < 0 or dim not in (_ANY, size) for size, dim in zip(found, expected, strict=True)
    ):
        raise _error(
            spec.name,
            f"found shape {list(found[:8])}, expected {list(expected)}, of which -1 is any size "
            "and the first is the batch",
        )


def _from_contents(contents: pb.InferTensorContents, spec: TensorSpec, count: int) -> Values:
    expected = _CONTENTS[spec.datatype]
    for field, _ in contents.ListFields():
        if field.name != expected:
            raise _error(spec.name, f"found elements in {field.name}, expected {expected}")
    values = list(getattr(contents, expected))
    if len(values) != count:
        raise _error(
            spec.name, f"found {len(values)} elements in {expected}, expected {count} by its shape"
        )
    return _texts(values, spec.name) if spec.datatype is Datatype.BYTES else values


def _texts(strings: Sequence[bytes], name: str) -> Values:
    try:
        return [string.decode() for string in strings]
    except UnicodeDecodeError:
        raise _error(name, "found a string that is not UTF-8") from None


def _error(name: str, what: str) -> RequestError:
    return RequestError(f"input {name!r}: {what}", field=name)
