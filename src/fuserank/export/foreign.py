"""Bringing a ranker that was trained elsewhere: its graph and a table of items become a bundle."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import TextRole
from fuserank.errors import DataError, ExportError
from fuserank.export.assemble import Assembled, ItemTable, Ranker, assemble
from fuserank.export.factorise import read_ranker
from fuserank.export.interaction import export_interaction
from fuserank.schema import Field, FittedField, Kind, Schema, Side, TensorSpec

__all__ = ["export_foreign"]

Array = npt.NDArray[Any]

_OPSET = 18


def export_foreign(
    model: Path,
    items: Path,
    out: Path,
    *,
    sides: Callable[[list[str]], Mapping[str, Side]],
    name: str = "",
    encoder: Path | None = None,
    texts: Sequence[str] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Assembled:
    """Make a bundle of any two-sided ranker; requests then carry its user inputs by name.

    Args:
        model: ``.onnx``, a Keras model ``.keras``, or a PyTorch exported program ``.pt2``; one
            logit a pair, every input with the batch axis first.
        items: ``.npz`` or ``.parquet`` with the ids under ``id`` and a column for each item input;
            other columns become attributes.
        out: the bundle's directory.
        sides: from the names of the inputs to their sides.
        name: of the bundle; the file's unless given.
        encoder: directory of an exported text encoder that goes into the bundle.
        texts: names of inputs that are embeddings of words: requests and the table carry the words,
            and the encoder makes the embeddings.
        on_progress: called with the number of items precomputed since the last call.

    Raises:
        ExportError: a file of another kind, or a graph that cannot be used.
        DataError: the table lacks an input, or has one of another dtype or shape.
    """
    full = _read_model(model)
    declared = sides([value.name for value in full.graph.input])
    words = _Words(encoder, texts, declared)
    inputs = [_input(value, declared, words) for value in full.graph.input]
    graph = _renamed(full, {entry.name: entry.spec.name for entry in inputs})
    table = _read_table(items)
    columns = {
        entry.spec.name: _column(table, entry, items, words)
        for entry in inputs
        if entry.field.side is Side.ITEM
    }
    used = {"id", *(entry.name for entry in inputs if entry.field.kind is Kind.TENSOR)}
    n_items = len(table["id"])
    if any(len(array) != n_items for array in columns.values()):
        raise DataError(f"{items}: columns of different lengths")
    return assemble(
        out,
        name or model.stem,
        Ranker(
            name=model.stem,
            full=graph,
            schema=Schema(tuple(entry.fitted for entry in inputs)),
        ),
        ItemTable(
            ids=[str(item) for item in table["id"].tolist()],
            attributes=_attributes(table, used, n_items),
            inputs=lambda rows: {key: array[rows] for key, array in columns.items()},
            title="title" if "title" in table and "title" not in used else None,
        ),
        encoder=encoder,
        on_progress=on_progress,
    )


class _Words:
    """The text encoder, and the inputs that it makes."""

    def __init__(
        self, encoder: Path | None, inputs: Sequence[str], sides: Mapping[str, Side]
    ) -> None:
        if (encoder is None) != (not inputs):
            raise ExportError(
                "expected an encoder and the names of the inputs that it makes, or neither; found "
                + ("no encoder" if encoder is None else "no such inputs")
            )
        unknown = sorted(set(inputs) - set(sides))
        if unknown:
            raise ExportError(
                f"text input {unknown[0]!r}: the ranker has no such input, only "
                f"{', '.join(sorted(sides))}"
            )
        self.inputs = frozenset(inputs)
        self._encoder = None if encoder is None else TextEncoder.load(encoder)

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return 0 if self._encoder is None else self._encoder.config.dim

    def encode(self, column: Array) -> Array:
        """Return the embeddings of a column of the items' words."""
        assert self._encoder is not None  # without one there are no such inputs
        words = [str(text) for text in column.tolist()]
        return self._encoder.encode(words, TextRole.PASSAGE).vectors


@dataclass(frozen=True, kw_only=True)
class _Input:
    """An input of the ranker: its own name, and what it is called in the bundle."""

    name: str
    field: Field
    spec: TensorSpec

    @property
    def fitted(self) -> FittedField:
        """The field as the bundle's schema has it."""
        if self.field.kind is Kind.TEXT:
            return FittedField(field=self.field, dim=int(self.spec.shape[1]))
        return FittedField(field=self.field, tensor=self.spec)


def _input(value: onnx.ValueInfoProto, sides: Mapping[str, Side], words: _Words) -> _Input:
    side = sides[value.name]
    bare = value.name.removeprefix(f"{side}.")
    clean = "".join(c if c.isalnum() or c == "_" else "_" for c in bare)
    tensor = value.type.tensor_type
    axes = tensor.shape.dim[1:]
    if any(not axis.dim_value for axis in axes):
        raise ExportError(
            f"input {value.name!r}: expected known axes behind the batch, found "
            f"{[axis.dim_param or axis.dim_value for axis in tensor.shape.dim]}"
        )
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = ("batch", *(axis.dim_value for axis in axes))
    is_text = value.name in words.inputs
    if is_text and (dtype, shape[1:]) != ("float32", (words.dim,)):
        raise ExportError(
            f"text input {value.name!r}: expected float32 rows of the encoder's {words.dim} "
            f"numbers, found {dtype} rows of shape {shape[1:]}"
        )
    field = Field(name=clean, side=side, kind=Kind.TEXT if is_text else Kind.TENSOR)
    return _Input(
        name=value.name,
        field=field,
        spec=TensorSpec(name=field.tensor, dtype=dtype, shape=shape),
    )


def _renamed(full: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy whose inputs have the bundle's names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(full)
    for value in copy.graph.input:
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in copy.graph.node:
        node.input[:] = [names.get(source, source) for source in node.input]
    return copy


def _read_model(path: Path) -> onnx.ModelProto:
    if path.suffix == ".keras":
        import keras

        model = keras.saving.load_model(path, safe_mode=True)
        if not isinstance(model.input, dict):
            raise ExportError(f"{path}: expected a model of named inputs (a dict of them)")
        specs = [
            TensorSpec(name=key, dtype=tensor.dtype, shape=("batch", *tensor.shape[1:]))
            for key, tensor in model.input.items()
        ]
        return export_interaction(model, specs)
    if path.suffix == ".pt2":
        return _read_program(path)
    if path.suffix != ".onnx":
        raise ExportError(f"{path}: expected a ranker in .onnx, .keras or .pt2")
    return read_ranker(path)


def _read_program(path: Path) -> onnx.ModelProto:
    """Convert a PyTorch exported program, whose inputs keep the names of its arguments."""
    import torch

    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected a PyTorch exported program")
    program = torch.onnx.export(
        torch.export.load(path), opset_version=_OPSET, dynamo=True, verbose=False
    )
    assert program is not None  # the exporter returns the program it made
    proto: onnx.ModelProto = program.model_proto
    return proto


def _read_table(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected items in .npz or .parquet")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            table = dict(arrays)
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        columns = parquet.read_table(path).to_pydict()
        table = {name: np.asarray(values) for name, values in columns.items()}
    else:
        raise DataError(f"{path}: expected items in .npz or .parquet")
    if "id" not in table:
        raise DataError(f"{path}: expected a column 'id', found {', '.join(sorted(table))}")
    ids, counts = np.unique(table["id"], return_counts=True)
    if len(ids) != len(table["id"]):
        raise DataError(f"{path}: id {ids[counts > 1][0]!r} occurs twice; ids are unique")
    return table


def _column(table: Mapping[str, Array], entry: _Input, path: Path, words: _Words) -> Array:
    found = table.get(entry.name, table.get(entry.field.name))
    if found is None:
        raise DataError(
            f"{path}: no column for the item input {entry.name!r}, found {', '.join(sorted(table))}"
        )
    shape = tuple(entry.spec.shape[1:])
    if entry.field.kind is Kind.TEXT:
        if found.ndim != 1 or found.dtype.kind not in "UO":
            raise DataError(
                f"{path}: column {entry.name!r}: expected words, one text an item, found "
                f"{found.dtype} rows of shape {found.shape[1:]}"
            )
        return words.encode(found)
    if found.shape[1:] != shape or not np.can_cast(found.dtype, entry.spec.dtype, "same_kind"):
        raise DataError(
            f"{path}: column {entry.name!r}: expected {entry.spec.dtype} rows of shape {shape}, "
            f"found {found.dtype} rows of shape {found.shape[1:]}"
        )
    return found.astype(entry.spec.dtype, copy=False)


def _attributes(table: Mapping[str, Array], used: set[str], n_items: int) -> list[dict[str, Any]]:
    columns = {name: array.tolist() for name, array in table.items() if name not in used}
    rows = [{name: values[row] for name, values in columns.items()} for row in range(n_items)]
    if rows:
        json.dumps(rows[0])  # what JSON has no form for shows at the first row
    return rows
