"""Bundles are assembled whole: every part is there, checked, and computed once."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fuserank.bundle import Bundle, Ragged, layout
from fuserank.errors import DataError, FactorisationError, ParityError
from fuserank.export import assemble as module
from fuserank.export.assemble import ItemTable, Ranker, UserTable, assemble
from fuserank.export.verify import TOLERANCE
from fuserank.schema import Field, Kind, Schema, Side

WIDTH = 3
AXIS = {"axis": np.array([1])}


@pytest.fixture(scope="module")
def full(build_graph):
    return build_graph(
        [("Mul", "user.u item.i", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        {"user.u": ("float32", ["batch", WIDTH]), "item.i": ("float32", ["batch", WIDTH])},
        AXIS,
    )


@pytest.fixture(scope="module")
def schema():
    fields = [
        Field(name="u", side=Side.USER, kind=Kind.VECTOR),
        Field(name="i", side=Side.ITEM, kind=Kind.VECTOR),
    ]
    row = [[0.0] * WIDTH]
    return Schema.fit(fields, {Side.USER: {"u": row}, Side.ITEM: {"i": row}}, text_dim=1)


def items(n_items):
    vectors = np.random.default_rng(0).standard_normal((n_items, WIDTH)).astype(np.float32)
    return ItemTable(
        ids=[str(row) for row in range(n_items)],
        attributes=[{"title": "Léon"}] * n_items,
        inputs=lambda rows: {"item.i": vectors[rows]},
    )


def users(n_users):
    nothing = Ragged.build([np.empty(0)] * n_users, np.int32)
    return UserTable(
        ids=[str(row) for row in range(n_users)],
        inputs={"user.u": np.ones((n_users, WIDTH), np.float32)},
        seen=nothing,
        history=nothing,
    )


def test_states_of_several_batches_join_seamlessly(tmp_path, full, schema):
    table, done = items(9001), []
    assemble(
        tmp_path / "b", "b", Ranker(name="dot", full=full, schema=schema), table,
        on_progress=done.append,
    )  # fmt: skip
    bundle = Bundle.open(tmp_path / "b")
    states = bundle.array(layout.item_state("item_state"))
    np.testing.assert_array_equal(states, table.inputs(slice(None))["item.i"])
    assert bundle.array(layout.item_state("item_constant")).tolist() == [0.0] * 9001
    assert len(done) == 3
    assert sum(done) == 9001


def test_the_manifest_says_what_was_assembled(tmp_path, full, schema):
    ranker = Ranker(name="dot", full=full, schema=schema, threshold=0.4, quality={"auc": 0.8})
    made = assemble(tmp_path / "b", "films", ranker, items(5), users=users(2))
    bundle = Bundle.open(tmp_path / "b")
    manifest = bundle.manifest
    assert (manifest.name, manifest.model, manifest.threshold) == ("films", "dot", 0.4)
    assert (manifest.n_items, manifest.n_users, manifest.encoder) == (5, 2, None)
    assert manifest.scorer == made.parts.scorer
    assert set(manifest.producer) == {"fuserank", "onnx", "numpy"}
    assert {n: [v.name for v in g.inputs] for n, g in manifest.graphs.items()} == {
        "full": ["user.u", "item.i"],
        "user": ["user.u"],
        "item": ["item.i"],
        "joint": ["user_state", "user_constant", "item_state", "item_constant"],
        "select": [
            *("user_state", "user_unit", "user_constant", "item_state", "item_constant"),
            *("groups", "eligible", "blocks", "k"),
        ],
    }
    dtypes = {value.name: value.dtype for value in manifest.graphs["select"].inputs}
    assert (dtypes["item_state"], dtypes["item_constant"]) == ("float16", "float32")
    assert manifest.graphs["item"].outputs[0].shape == ("batch", WIDTH)
    quality = json.loads(bundle.file(layout.QUALITY).read_bytes())
    assert quality == {"auc": 0.8, "factorisation": {"max_relative_difference": made.parity}}
    assert made.parity <= TOLERANCE
    assert bundle.file(layout.GRAPHS["full"]).read_bytes() == full.SerializeToString()
    assert bundle.schema == schema


def test_the_space_follows_the_schema(tmp_path, full, schema):
    other = Schema(tuple(f for f in schema.fields if f.field.side is Side.USER))
    spaces = set()
    for number, fitted in enumerate((schema, schema, other)):
        path = tmp_path / str(number)
        assemble(path, "b", Ranker(name="dot", full=full, schema=fitted), items(3), users=users(1))
        spaces.add(Bundle.open(path).manifest.space)
    assert len(spaces) == 2


@pytest.mark.parametrize("table", [None, users(0), users(1), users(40)])
@pytest.mark.parametrize("n_items", [0, 1, 300])
def test_any_number_of_users_and_items_does(tmp_path, full, schema, table, n_items):
    ranker = Ranker(name="dot", full=full, schema=schema)
    assemble(tmp_path / "b", "b", ranker, items(n_items), users=table)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.array(layout.item_state("item_state")).shape == (n_items, WIDTH)
    assert bundle.has(layout.USER_IDS) == (table is not None)


@pytest.mark.parametrize("twice", ["items", "users"])
def test_an_id_that_stands_there_twice_is_refused(tmp_path, full, schema, twice):
    tables = {"items": items(4), "users": users(4)}
    tables[twice] = replace(tables[twice], ids=["0", "x", "2", "x"])
    with pytest.raises(DataError, match=r"/ids: found id 'x' in rows 1 and 3, expected each id"):
        assemble(
            tmp_path / "b", "b", Ranker(name="dot", full=full, schema=schema), tables["items"],
            users=tables["users"],
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_parts_that_score_otherwise_are_not_written(
    tmp_path, full, schema, build_graph, monkeypatch
):
    other = build_graph(
        [
            ("Mul", "user.u item.i", "p"),
            ("MatMul", "p w", "s"),
            ("Squeeze", "s axis", "logit"),
        ],
        {"user.u": ("float32", ["batch", WIDTH]), "item.i": ("float32", ["batch", WIDTH])},
        {"w": np.full((WIDTH, 1), 1.1, np.float32)} | AXIS,
    )
    wrong = module.factorise(other, {"user.u": Side.USER, "item.i": Side.ITEM})
    monkeypatch.setattr(module, "factorise", lambda *_: wrong)
    with pytest.raises(ParityError, match="differ from the full graph"):
        assemble(tmp_path / "b", "b", Ranker(name="dot", full=full, schema=schema), items(3))
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_items_are_computed_leaves_nothing(tmp_path, full, schema):
    def interrupt(done):
        raise KeyboardInterrupt

    ranker = Ranker(name="dot", full=full, schema=schema)
    with pytest.raises(KeyboardInterrupt):
        assemble(tmp_path / "b", "b", ranker, items(3), on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_cannot_be_split_is_refused(tmp_path, full, schema):
    renamed = type(full)()
    renamed.CopyFrom(full)
    renamed.graph.input[0].name = "who"
    with pytest.raises(FactorisationError, match="input 'who'"):
        assemble(tmp_path / "b", "b", Ranker(name="dot", full=renamed, schema=schema), items(3))


def test_a_table_can_be_reused(tmp_path, full, schema):
    ranker = Ranker(name="dot", full=full, schema=schema)
    table = replace(items(3), title="title")
    versions = {
        Bundle.open(assemble(tmp_path / name, "b", ranker, table).path).manifest.version
        for name in "ab"
    }
    assert len(versions) == 1
