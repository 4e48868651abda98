"""Hand-made ONNX graphs and small real bundles."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fuserank.bundle import Ragged
from fuserank.export.assemble import ItemTable, Ranker, UserTable, assemble
from fuserank.schema import Field, Kind, Schema, Side

# sentence-transformers would import TensorFlow, whose Keras 3 its transformers do not support.
os.environ.setdefault("USE_TF", "0")

BuildGraph = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def build_graph() -> BuildGraph:
    """Return a function that makes a checked ONNX model.

    Nodes are written as ``("Add", "a b", "c")`` with attributes after that; inputs are name to
    (dtype, shape); weights are name to array; the output is (name, dtype, shape).
    """

    def value(name: str, dtype: str, shape: Sequence[Any]) -> onnx.ValueInfoProto:
        code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, code, shape)

    def build(
        nodes: Sequence[tuple[Any, ...]],
        inputs: Mapping[str, tuple[str, Sequence[Any]]],
        weights: Mapping[str, np.ndarray],
        *outputs: tuple[str, str, Sequence[Any]],
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            [
                helper.make_node(op, reads.split(), writes.split(), **(rest[0] if rest else {}))
                for op, reads, writes, *rest in nodes
            ],
            "ranker",
            [value(name, *spec) for name, spec in inputs.items()],
            [value(*output) for output in outputs or [("logit", "float32", ["batch"])]],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model

    return build


N_ITEMS, N_USERS, DIM = 150, 6, 4


@dataclass(frozen=True)
class TinyBundle:
    """A small bundle and all that is known of what went into it."""

    path: Path
    full: onnx.ModelProto
    schema: Schema
    items: ItemTable
    users: UserTable


@pytest.fixture(scope="session")
def make_bundle(
    build_graph: BuildGraph, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TinyBundle]:
    """Return a function that assembles a bundle with a ``dot``, ``additive`` or ``generic`` scorer.

    A ``deep`` one is additive, of two layers and an inner product.

    Items are ``i0``, ``i1``, …; users ``u0``, ``u1``, …; user r has chosen items r and r + 1 (the
    last user nothing) and met item r + 10 besides.
    """

    def make(kind: str, n_items: int = N_ITEMS) -> TinyBundle:
        rng = np.random.default_rng(7)
        item_columns = {
            "item_id": [f"i{row}" for row in range(n_items)],
            "vector": list(rng.standard_normal((n_items, DIM)).astype(np.float32)),
        }
        user_columns = {
            "user_id": [f"u{row}" for row in range(N_USERS)],
            "age": [20, 30, None, 50, 60, 70],
        }
        fields = [
            Field(name="user_id", side=Side.USER, kind=Kind.ID),
            Field(name="age", side=Side.USER, kind=Kind.NUMBER),
            Field(name="history", side=Side.USER, kind=Kind.HISTORY, of="vector", max_length=3),
            Field(name="hour", side=Side.CONTEXT, kind=Kind.NUMBER),
            Field(name="item_id", side=Side.ITEM, kind=Kind.ID),
            Field(name="vector", side=Side.ITEM, kind=Kind.VECTOR),
        ]
        fitted_on = {
            Side.USER: user_columns,
            Side.CONTEXT: {"hour": [0, 12, 23]},
            Side.ITEM: item_columns if n_items else item_columns | {"vector": [[0.0] * DIM]},
        }
        schema = Schema.fit(fields, fitted_on, text_dim=DIM)
        item_inputs = schema.encode(Side.ITEM, item_columns, n_items)
        known = n_items > N_USERS + 10
        history = [
            np.arange(row, row + 2 if known and row < N_USERS - 1 else row)
            for row in range(N_USERS)
        ]
        seen = [np.arange(row + 10, row + 11 if known else row + 10) for row in range(N_USERS)]
        items = ItemTable(
            ids=item_columns["item_id"],
            attributes=[{"title": f"Film {row}", "year": 1900 + row} for row in range(n_items)],
            inputs=lambda rows: {name: tensor[rows] for name, tensor in item_inputs.items()},
            vectors={"vector": item_inputs["item.vector"]},
            title="title",
        )
        users = UserTable(
            ids=user_columns["user_id"],
            inputs=schema.encode(Side.USER, user_columns, N_USERS),
            seen=Ragged.build(seen, np.int32),
            history=Ragged.build(history, np.int32),
        )
        full = _ranker(build_graph, kind, n_items)
        path = tmp_path_factory.mktemp(kind) / "bundle"
        assemble(path, "tiny", Ranker(name=kind, full=full, schema=schema), items, users=users)
        return TinyBundle(path, full, schema, items, users)

    return make


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., TinyBundle]) -> TinyBundle:
    """A bundle with an additive scorer."""
    return make_bundle("additive")


def _ranker(build_graph: BuildGraph, kind: str, n_items: int) -> onnx.ModelProto:
    """Make a ranker of ids, number, history, context and vector."""
    rng = np.random.default_rng(3)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    width = 2 * DIM
    joint = {
        "dot": [("Mul", "user item", "p"), ("MatMul", "p w", "z")],
        "additive": [
            ("Concat", "user item", "joined", {"axis": 1}),
            ("MatMul", "joined W", "h"),
            ("Add", "h b", "hb"),
            ("Relu", "hb", "act"),
            ("MatMul", "act w", "z"),
        ],
        "deep": [
            ("Concat", "user item", "joined", {"axis": 1}),
            ("MatMul", "joined W", "h"),
            ("Add", "h b", "hb"),
            ("Relu", "hb", "act"),
            ("MatMul", "act V", "h2"),
            ("Tanh", "h2", "act2"),
            ("Mul", "user item", "p"),
            ("Concat", "act2 p", "last_layer", {"axis": 1}),
            ("MatMul", "last_layer w2", "z"),
        ],
        "generic": [("Mul", "user item", "p"), ("Tanh", "p", "t"), ("MatMul", "t w", "z")],
    }[kind]
    return build_graph(
        [
            ("Gather", "users user.user_id", "u"),
            ("ReduceMean", "user.history", "past", {"axes": [1], "keepdims": 0}),
            ("Concat", "user.age context.hour", "numbers", {"axis": 1}),
            ("MatMul", "numbers N", "n"),
            ("Add", "past n", "profile"),
            ("Concat", "u profile", "user", {"axis": 1}),
            ("Gather", "items item.item_id", "i"),
            ("Concat", "i item.vector", "item", {"axis": 1}),
            *joint,
            ("Squeeze", "z last", "logit"),
        ],
        {
            "user.user_id": ("int64", ["batch"]),
            "user.age": ("float32", ["batch", 2]),
            "user.history": ("float32", ["batch", 3, DIM]),
            "context.hour": ("float32", ["batch", 2]),
            "item.item_id": ("int64", ["batch"]),
            "item.vector": ("float32", ["batch", DIM]),
        },
        {
            "users": random(N_USERS + 1, DIM),
            "items": random(n_items + 1, DIM),
            "N": random(4, DIM),
            "W": random(2 * width, width),
            "b": random(width),
            "w": random(width, 1),
            "V": random(width, 5),
            "w2": random(width + 5, 1),
            "last": np.array([1]),
        },
    )
