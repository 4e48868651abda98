"""Assembling a bundle: factorise, verify, precompute, write."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fuserank.bundle import (
    BundleWriter,
    EncoderInfo,
    GraphInfo,
    Manifest,
    Ragged,
    Strings,
    layout,
    write_bundle,
)
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import encoder_files
from fuserank.export.columns import build_columns, write_columns
from fuserank.export.factorise import Factorised, factorise
from fuserank.export.items import write_item_codes, write_item_states
from fuserank.export.selection import select_graph
from fuserank.export.sides import sides_by_name
from fuserank.export.verify import verify_factorised
from fuserank.schema import Kind, Schema, Side, TensorSpec, pack_history

__all__ = ["Assembled", "ItemTable", "Ranker", "UserTable", "assemble"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

_VERIFIED_USERS = 16
_VERIFIED_ITEMS = 256


@dataclass(frozen=True, kw_only=True)
class ItemTable:
    """What a bundle takes over of the items.

    Attributes:
        ids: n ids, in catalogue order.
        attributes: n JSON objects, such as titles.
        inputs: from a range of rows to the inputs of the item side.
        vectors: by item field, (n, dim) float32: how histories represent items.
        title: the attribute that is shown to people, or None.
    """

    ids: Sequence[str]
    attributes: Sequence[Mapping[str, Any]]
    inputs: Callable[[slice], Mapping[str, Array]]
    vectors: Mapping[str, FloatArray] = field(default_factory=dict)
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class UserTable:
    """What a bundle takes over of the users.

    Attributes:
        ids: n ids.
        inputs: by graph input, (n, …); histories are made of `history`.
        seen: catalogue rows that each user has met.
        history: catalogue rows that each user chose, the most recent last.
    """

    ids: Sequence[str]
    inputs: Mapping[str, Array]
    seen: Ragged
    history: Ragged


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What `assemble` did.

    Attributes:
        path: the bundle.
        parity: largest relative difference between the parts and the full graph.
        parts: the factorised graphs.
    """

    path: Path
    parity: float
    parts: Factorised


@dataclass(frozen=True, kw_only=True)
class Ranker:
    """A ranker to be bundled.

    Attributes:
        name: of the interaction model.
        full: its graph, from all inputs to one logit a pair.
        schema: its fitted fields.
        threshold: probability from which a pair counts as a like.
        quality: what is known of its quality, as JSON.
    """

    name: str
    full: onnx.ModelProto
    schema: Schema
    threshold: float = 0.5
    quality: Mapping[str, Any] = field(default_factory=dict)


def assemble(
    out: Path,
    name: str,
    ranker: Ranker,
    items: ItemTable,
    *,
    users: UserTable | None = None,
    encoder: Path | None = None,
    degraded: tuple[str, ...] = (),
    on_progress: Callable[[int], None] | None = None,
) -> Assembled:
    """Make a bundle; nothing is written before the parts score as the whole does.

    Args:
        out: the bundle's directory; an older bundle there is replaced in one step.
        name: of the bundle.
        ranker: graph and schema.
        items: the catalogue.
        users: the stored users, if any.
        encoder: directory of an exported text encoder, if the schema has texts.
        degraded: why the encoder costs more ranking quality than it should, if it does.
        on_progress: called with the number of items precomputed since the last call.

    Raises:
        DataError: an item's or a user's id stands there twice.
        FactorisationError: the graph cannot be split.
        ParityError: the parts do not score as the full graph does.
    """
    parts = factorise(ranker.full, sides_by_name(v.name for v in ranker.full.graph.input))
    sample_items = items.inputs(slice(0, min(_VERIFIED_ITEMS, len(items.ids))))
    parity = verify_factorised(
        ranker.full, parts, _sample_users(ranker.schema, items, users), sample_items
    )
    with write_bundle(out) as writer:
        graphs = _write_graphs(writer, ranker.full, parts)
        writer.add_bytes(layout.SCHEMA, ranker.schema.to_json().encode())
        quality = {**ranker.quality, "factorisation": {"max_relative_difference": parity}}
        writer.add_bytes(layout.QUALITY, json.dumps(quality, indent=1).encode())
        info = None
        if encoder is not None:
            writer.add_files(layout.ENCODER, encoder_files(encoder))
            info = _encoder_info(encoder, degraded)
        _write_catalogue(writer, items)
        if users is not None:
            _write_users(writer, users)
        states = write_item_states(
            writer, graphs["item"], items.inputs, len(items.ids), on_progress
        )
        codes = write_item_codes(writer, parts.scorer, states, parts.weights)
        writer.finish(
            Manifest(
                name=name,
                version="",
                space=_space(info, ranker.schema),
                model=ranker.name,
                n_items=len(items.ids),
                n_users=0 if users is None else len(users.ids),
                title=items.title,
                threshold=ranker.threshold,
                scorer=parts.scorer,
                codes=codes,
                encoder=info,
                graphs=graphs,
                producer={p: version(p) for p in ("fuserank", "onnx", "numpy")},
            )
        )
    return Assembled(path=out, parity=parity, parts=parts)


def _sample_users(schema: Schema, items: ItemTable, users: UserTable | None) -> dict[str, Array]:
    """Take real users where there are any, else random inputs of the right shape."""
    count = _VERIFIED_USERS if users is None else min(_VERIFIED_USERS, len(users.ids))
    rng = np.random.default_rng(0)
    sample = {
        spec.name: _random(spec, count, rng) for spec in schema.specs(Side.USER, Side.CONTEXT)
    }
    if users is None:
        return sample
    sample |= {name: array[:count] for name, array in users.inputs.items()}
    for fitted in schema.side(Side.USER):
        if fitted.field.kind is Kind.HISTORY:
            vectors = items.vectors[fitted.field.of or ""]
            events = [vectors[users.history[row]] for row in range(count)]
            sample[fitted.field.tensor] = pack_history(events, fitted)
    return sample


def _random(spec: TensorSpec, count: int, rng: np.random.Generator) -> Array:
    shape = (count, *(int(axis) for axis in spec.shape[1:]))
    if spec.dtype == "int64":
        return rng.integers(0, 2, shape)  # the first two rows of any table
    return rng.standard_normal(shape).astype(np.float32)


def _write_graphs(
    writer: BundleWriter, full: onnx.ModelProto, parts: Factorised
) -> dict[str, GraphInfo]:
    graphs = {
        "full": full,
        "user": parts.user,
        "item": parts.item,
        "joint": parts.joint,
        "select": select_graph(parts.joint, parts.scorer),
    }
    for name, graph in graphs.items():
        writer.add_bytes(layout.GRAPHS[name], graph.SerializeToString())
    if parts.weights is not None:
        writer.add_array(layout.WEIGHTS, parts.weights)
    for index, layer in enumerate(parts.layers):
        writer.add_array(layout.layer(index, "weights"), layer.weights)
        writer.add_array(layout.layer(index, "bias"), layer.bias)
    return {name: _graph_info(graph) for name, graph in graphs.items()}


def _graph_info(model: onnx.ModelProto) -> GraphInfo:
    def spec(value: onnx.ValueInfoProto) -> TensorSpec:
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = tuple(d.dim_param or int(d.dim_value) for d in tensor.shape.dim)
        return TensorSpec(name=value.name, dtype=str(dtype), shape=shape)

    return GraphInfo(
        inputs=tuple(map(spec, model.graph.input)), outputs=tuple(map(spec, model.graph.output))
    )


def _encoder_info(directory: Path, degraded: tuple[str, ...]) -> EncoderInfo:
    encoder = TextEncoder.load(directory, cache_size=0)
    config = encoder.config
    return EncoderInfo(
        model=config.model,
        dim=config.dim,
        precision=config.precision.value,
        space=encoder.space,
        degraded=degraded,
    )


def _space(encoder: EncoderInfo | None, schema: Schema) -> str:
    joined = f"{encoder.space if encoder else ''}\n{schema.fingerprint}"
    return "sha256:" + hashlib.sha256(joined.encode()).hexdigest()


def _write_catalogue(writer: BundleWriter, items: ItemTable) -> None:
    writer.add_ids(layout.ITEM_IDS, items.ids)
    attributes = (json.dumps(entry, ensure_ascii=False) for entry in items.attributes)
    writer.add_strings(layout.ATTRIBUTES, Strings.build(attributes))
    write_columns(writer, build_columns(items.attributes))
    for name, vectors in items.vectors.items():
        writer.add_array(layout.item_vectors(name), vectors)


def _write_users(writer: BundleWriter, users: UserTable) -> None:
    writer.add_ids(layout.USER_IDS, users.ids)
    writer.add_ragged(layout.SEEN, users.seen)
    writer.add_ragged(layout.HISTORY, users.history)
    for name, array in users.inputs.items():
        writer.add_array(layout.user_tensor(name), array)
