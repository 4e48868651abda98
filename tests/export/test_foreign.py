"""Rankers that were trained elsewhere, from a file to a served request."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import parquet

from fuserank.engine.encoder_config import Precision
from fuserank.engine.engine import load
from fuserank.errors import DataError, ExportError, RequestError
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.foreign import export_foreign
from fuserank.export.sides import sides_by_name
from fuserank.schema import Side

N_ITEMS, WIDTH = 70, 3
SIDES = {"taste": Side.USER, "kind": Side.ITEM, "look": Side.ITEM}


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def ranker(build_graph, tmp_path):
    """⟨taste, table[kind] + look⟩, with names that say nothing of the sides."""
    table = random(5, WIDTH)
    model = build_graph(
        [
            ("Gather", "table kind", "e"),
            ("Add", "e look", "i"),
            ("Mul", "taste i", "p"),
            ("ReduceSum", "p axis", "logit", {"keepdims": 0}),
        ],
        {
            "taste": ("float32", ["batch", WIDTH]),
            "kind": ("int64", ["batch"]),
            "look": ("float32", ["batch", WIDTH]),
        },
        {"table": table, "axis": np.array([1])},
    )
    path = tmp_path / "ranker.onnx"
    onnx.save(model, path)
    return path, table


def columns(**changes):
    made = {
        "id": np.array([f"sku-{row}" for row in range(N_ITEMS)]),
        "kind": np.arange(N_ITEMS) % 5,
        "look": random(N_ITEMS, WIDTH, seed=1),
        "title": np.array([f"thing {row}" for row in range(N_ITEMS)]),
    }
    return {name: array for name, array in (made | changes).items() if array is not None}


def export(ranker, tmp_path, table, sides=SIDES):
    np.savez(tmp_path / "items.npz", **table)
    out = tmp_path / "made.bundle"
    return export_foreign(ranker[0], tmp_path / "items.npz", out, sides=lambda _: sides)


def test_requests_carry_the_inputs_by_name(ranker, tmp_path):
    made = export(ranker, tmp_path, table := columns())
    taste = random(WIDTH, seed=3)
    expected = (ranker[1][table["kind"]] + table["look"]) @ taste
    with load(made.path, "cpu") as engine:
        found = engine.recommend({"taste": taste.tolist()}, k=N_ITEMS)
        order = np.argsort(-expected, kind="stable")
        assert found.item_ids == tuple(table["id"][order].tolist())
        np.testing.assert_allclose(found.scores, expected[order], rtol=1e-5, atol=1e-6)
        assert engine.attributes(["sku-4"]) == [{"title": "thing 4"}]
        assert engine.info.user_fields[0].kind == "tensor"


def test_items_may_come_from_parquet(ranker, tmp_path):
    table = columns()
    path = tmp_path / "items.parquet"
    parquet.write_table(pa.table({name: array.tolist() for name, array in table.items()}), path)
    made = export_foreign(ranker[0], path, tmp_path / "b", sides=lambda _: SIDES)
    assert made.parity <= 1e-5


@pytest.mark.parametrize(
    ("value", "message"),
    [([1.0], "shape"), ("words", "float32"), ([1.0, 2.0, float("inf")], "float32")],
)
def test_requests_of_another_form_are_refused(ranker, tmp_path, value, message):
    with (
        load(export(ranker, tmp_path, columns()).path, "cpu") as engine,
        pytest.raises(RequestError, match=message),
    ):
        engine.recommend({"taste": value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"look": None}, "no column for the item input 'look'"),
        ({"look": random(N_ITEMS, 2)}, r"expected float32 rows of shape \(3,\)"),
        ({"kind": np.array(["a"] * N_ITEMS)}, "expected int64"),
        ({"kind": np.arange(N_ITEMS) + 0.5}, "expected int64"),
        ({"id": np.array(["x"] * N_ITEMS)}, "occurs twice"),
        ({"id": None}, "expected a column 'id'"),
        ({"kind": np.arange(3)}, "different lengths"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(ranker, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        export(ranker, tmp_path, columns(**changes))
    assert not (tmp_path / "made.bundle").exists()


def test_other_files_are_refused(ranker, tmp_path):
    with pytest.raises(ExportError, match=r"\.onnx, \.keras or \.pt2"):
        export_foreign(tmp_path / "m.bin", tmp_path / "i.npz", tmp_path / "b", sides=sides_by_name)
    with pytest.raises(DataError, match="no such file"):
        export_foreign(ranker[0], tmp_path / "none.npz", tmp_path / "b", sides=lambda _: SIDES)


def test_a_keras_ranker(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    taste = keras.Input([WIDTH], name="user.taste")
    look = keras.Input([WIDTH], name="item.look")
    hidden = keras.layers.Dense(4, activation="relu")(keras.layers.Concatenate()([taste, look]))
    logit = keras.ops.squeeze(keras.layers.Dense(1)(hidden), -1)
    model = keras.Model({"user.taste": taste, "item.look": look}, logit)
    model.save(tmp_path / "ranker.keras")
    table = columns(kind=None)
    np.savez(tmp_path / "items.npz", **table)
    made = export_foreign(
        tmp_path / "ranker.keras", tmp_path / "items.npz", tmp_path / "b", sides=sides_by_name
    )
    words = random(WIDTH, seed=3)
    inputs = {"user.taste": np.tile(words, (N_ITEMS, 1)), "item.look": table["look"]}
    expected = np.asarray(keras.ops.convert_to_numpy(model(inputs)))
    with load(made.path, "cpu") as engine:
        found = engine.score({"taste": words.tolist()}, table["id"].tolist())
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def encoder(tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("encoder") / "tiny"
    export_encoder(str(tiny_model("bert")), out, EncoderExportConfig(precision=Precision.FP32))
    return out


@pytest.fixture
def wordy(build_graph, tmp_path):
    """⟨wish, story⟩, both embeddings of words."""
    model = build_graph(
        [("Mul", "wish story", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        {"wish": ("float32", ["batch", 32]), "story": ("float32", ["batch", 32])},
        {"axis": np.array([1])},
    )
    onnx.save(model, tmp_path / "wordy.onnx")
    return tmp_path / "wordy.onnx"


WORDY = {"wish": Side.USER, "story": Side.ITEM}


def export_wordy(wordy, encoder, stories, texts=("wish", "story")):
    folder = wordy.parent
    np.savez(folder / "stories.npz", id=np.arange(len(stories)), story=stories)
    return export_foreign(
        wordy, folder / "stories.npz", folder / "wordy.bundle",
        sides=lambda _: WORDY, encoder=encoder, texts=texts,
    )  # fmt: skip


def test_words_become_embeddings_where_the_ranker_reads_them(wordy, encoder, film_texts):
    made = export_wordy(wordy, encoder, np.array(film_texts))
    with load(made.path, "cpu") as engine:
        found = engine.recommend({"wish": "two sisters in Vienna"}, k=5)
        vectors = engine.encode(["two sisters in Vienna", *film_texts]).vectors
        expected = vectors[1:] @ vectors[0]
        best = np.argsort(-expected, kind="stable")[:5]
        np.testing.assert_allclose(found.scores, expected[best], rtol=1e-5, atol=1e-6)
        assert found.item_ids == tuple(map(str, best))
        assert engine.attributes(["3"]) == [{"story": film_texts[3]}]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((), "no such inputs"),
        (("wish", "plot"), "text input 'plot': the ranker has no such input"),
    ],
)
def test_text_inputs_that_do_not_fit_are_refused(wordy, encoder, texts, message):
    with pytest.raises(ExportError, match=message):
        export_wordy(wordy, encoder, np.array(["a"]), texts)


def test_a_text_input_without_encoder_is_refused(wordy):
    with pytest.raises(ExportError, match="found no encoder"):
        export_wordy(wordy, None, np.array(["a"]))


def test_an_encoder_of_another_width_is_refused(ranker, encoder, tmp_path):
    np.savez(tmp_path / "items.npz", **columns())
    with pytest.raises(ExportError, match="expected float32 rows of the encoder's 32 numbers"):
        export_foreign(
            ranker[0], tmp_path / "items.npz", tmp_path / "b",
            sides=lambda _: SIDES, encoder=encoder, texts=["taste"],
        )  # fmt: skip


def test_a_text_column_of_numbers_is_refused(wordy, encoder):
    with pytest.raises(DataError, match="expected words, one text an item"):
        export_wordy(wordy, encoder, random(4, 32))


@pytest.mark.e2e
def test_the_example_serves_a_pytorch_program(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "bring_your_own_ranker.py"
    command = [sys.executable, str(example), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("scorer additive")
    assert done.stdout.count("sku-") == 3
