"""The engine's encoder on a graph small enough to compute by hand: normalised mean of a table."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import EncoderConfig, Pooling, Precision
from fuserank.engine.session import GraphSession
from fuserank.errors import BundleFormatError, BundleIntegrityError, RequestError

DIM = 8
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "a", "of", "love", "war", "and", "peace"]
WORDS += ["robot", "samurai", "train", "vienna", ":", "the"]
CONFIG = EncoderConfig(
    model="tiny",
    dim=DIM,
    max_tokens=12,
    pad_token_id=0,
    pooling=Pooling.MEAN,
    normalized=True,
    precision=Precision.FP32,
)
TEXTS = [
    "a film of love and war",
    "robot",
    "the seven samurai",
    "a train to vienna",
    "war and peace",
    "love",
    "a film of robot love and robot war",
]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), DIM)).astype(np.float32)


def expected(texts, config=CONFIG):
    """What the graph computes, in numpy."""
    rows = []
    for text in texts:
        words = f"{config.prompt}{text}".lower().split()[: config.max_tokens - 2]
        ids = [2, *(WORDS.index(w) if w in WORDS else 1 for w in words), 3]
        mean = TABLE[ids].mean(0)
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows, np.float32)


def graph(output="embedding", token_types=False):
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * token_types
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["weights"]),
        helper.make_node("Mul", ["hidden", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum"], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Div", ["sum", "norm"], [output]),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [
                helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"])
                for n in names
            ],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIM])],
            [
                numpy_helper.from_array(TABLE, "table"),
                numpy_helper.from_array(np.array([1]), "one"),
                numpy_helper.from_array(np.array([2]), "two"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def write_encoder(folder: Path, config=CONFIG, model=None) -> Path:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    onnx.save(model or graph(), folder / "model.onnx")
    (folder / "config.json").write_text(config.to_json())
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture
def damaged(stored, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(stored, tmp_path / "tiny")


@pytest.fixture
def encoder(stored):
    return TextEncoder.load(stored, threads=1)


@pytest.fixture
def shapes(monkeypatch):
    """The shapes of the batches that graphs run, as they come."""
    seen = []
    run = GraphSession.run

    def record(self, inputs):
        seen.append(inputs["input_ids"].shape)
        return run(self, inputs)

    monkeypatch.setattr(GraphSession, "run", record)
    return seen


def test_embeds_in_the_order_of_the_texts(encoder):
    result = encoder.encode(TEXTS)
    assert result.vectors.dtype == np.float32
    assert result.space == encoder.space
    np.testing.assert_allclose(result.vectors, expected(TEXTS), atol=1e-6)
    reverse = encoder.encode(TEXTS[::-1]).vectors
    np.testing.assert_array_equal(reverse, result.vectors[::-1])


def test_alone_as_in_a_batch(stored):
    encoder = TextEncoder.load(stored, cache_size=0)
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(alone, encoder.encode(TEXTS).vectors, atol=1e-5)


def test_reports_where_the_time_went(encoder):
    timings = encoder.encode(TEXTS).timings
    assert timings.tokenize_ms > 0
    assert timings.encode_ms > 0
    assert timings.total_ms >= timings.tokenize_ms + timings.encode_ms


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).vectors.shape == (0, DIM)


def test_graphs_with_token_types(tmp_path):
    model = graph(token_types=True)
    zero = helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, zero)
    encoder = TextEncoder.load(write_encoder(tmp_path / "typed", model=model))
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, expected(TEXTS), atol=1e-6)


def test_the_prompt_stands_before_each_text(tmp_path):
    config = replace(CONFIG, prompt="a film : ")
    encoder = TextEncoder.load(write_encoder(tmp_path / "prompted", config))
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, expected(TEXTS, config), atol=1e-6)


def test_the_end_of_a_long_text_is_cut_and_special_tokens_stay(encoder):
    long = "love " * 10 + "war " * 50
    np.testing.assert_allclose(encoder.encode([long]).vectors, expected([long]), atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode([long]).vectors, encoder.encode(["love " * 10]).vectors, atol=1e-6
    )


def test_repeated_texts_are_run_once(stored, shapes):
    encoder = TextEncoder.load(stored, cache_size=0)
    del shapes[:]
    vectors = encoder.encode(["robot", "love", "robot", "robot"]).vectors
    assert shapes == [(2, 3)]
    np.testing.assert_allclose(vectors, expected(["robot", "love", "robot", "robot"]), atol=1e-6)


def test_batches_hold_texts_of_like_length_within_the_budget(stored, shapes):
    config = replace(CONFIG, max_tokens=200)
    encoder = TextEncoder.load(stored, cache_size=0)
    encoder = TextEncoder(config, encoder.space, encoder._tokenizer, encoder._session, 0)
    texts = [f"word{n} " * (1 + 7 * n % 190) for n in range(300)]
    del shapes[:]
    vectors = encoder.encode(texts).vectors
    np.testing.assert_allclose(vectors, expected(texts, config), atol=1e-5)
    assert sum(rows for rows, _ in shapes) == 300
    assert all(rows * width <= 512 for rows, width in shapes)
    assert [width for _, width in shapes] == sorted(width for _, width in shapes)
    assert len(shapes) < 100
    padded, real = sum(r * w for r, w in shapes), sum(3 + 7 * n % 190 for n in range(300))
    assert padded < 1.1 * real


def test_many_texts_keep_their_order(encoder):
    texts = [" ".join(["love"] * (n % 5) + ["war"] * (n % 3) + [f"n{n}"]) for n in range(9000)]
    np.testing.assert_allclose(encoder.encode(texts).vectors, expected(texts), atol=1e-5)
    assert encoder.cache_info().size == 4096


def test_known_texts_are_not_run_again(encoder, shapes):
    first = encoder.encode(["robot", "love", "robot"]).vectors
    runs = len(shapes)
    assert encoder.cache_info() == (0, 2, 4096, 2)
    np.testing.assert_array_equal(encoder.encode(["robot", "love", "robot"]).vectors, first)
    assert len(shapes) == runs
    assert encoder.cache_info() == (2, 2, 4096, 2)


def test_no_cache(stored):
    encoder = TextEncoder.load(stored, cache_size=0)
    for _ in range(2):
        np.testing.assert_allclose(
            encoder.encode(["robot"]).vectors, expected(["robot"]), atol=1e-6
        )
    assert encoder.cache_info() == (0, 2, 0, 0)


def test_answers_do_not_share_memory_with_the_cache(encoder):
    for _ in range(2):
        encoder.encode(["robot"]).vectors[:] = 0
    np.testing.assert_allclose(encoder.encode(["robot"]).vectors, expected(["robot"]), atol=1e-6)


def test_threads_share_an_encoder(stored):
    encoder = TextEncoder.load(stored, threads=1, cache_size=5)
    batches = [[*TEXTS[n % 5 :], f"robot {n % 7}", "love"] for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(encoder.encode, batches))
    for batch, result in zip(batches, results, strict=True):
        np.testing.assert_allclose(result.vectors, expected(batch), atol=1e-5)
    assert encoder.cache_info().size == 5


def test_progress_counts_every_text_once(encoder):
    encoder.encode(["robot"])
    texts = [*(f"love {n}" for n in range(500)), "robot", "robot", "love 7"]
    steps = []
    encoder.encode(texts, on_progress=steps.append)
    assert steps[0] == 2, "the texts of the cache"
    assert min(steps) > 0
    assert sum(steps) == len(texts)


def test_warming_runs_the_graph_and_leaves_the_cache(encoder, shapes):
    encoder.warm()
    assert {rows for rows, _ in shapes} == {1, 16}
    assert max(width for _, width in shapes) == CONFIG.max_tokens
    assert encoder.cache_info() == (0, 0, 4096, 0)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["love", ""], r"texts\[1\]: found a blank text"),
        (["love", " \t\n"], r"texts\[1\]: found a blank text"),
        (["love", None], r"texts\[1\]: found NoneType, expected a string"),
        ([b"love"], r"texts\[0\]: found bytes, expected a string"),
        (["love \ud83d"], r"texts\[0\]: found a lone surrogate at position 5"),
        ("love", "texts: found one string, expected a list"),
    ],
)
def test_bad_texts_are_named_and_not_quoted(encoder, texts, message):
    with pytest.raises(RequestError, match=message) as caught:
        encoder.encode(texts)
    assert caught.value.field == "texts"
    assert "love" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.onnx"])
def test_a_missing_file_is_named(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(BundleIntegrityError, match=rf"{name}: missing; export the encoder again"):
        TextEncoder.load(damaged)


@pytest.mark.parametrize(
    ("name", "message"),
    [("tokenizer.json", "expected a tokenizer"), ("model.onnx", "expected an ONNX graph")],
)
def test_a_damaged_file_is_named(damaged, name, message):
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleIntegrityError, match=rf"{name}: {message}"):
        TextEncoder.load(damaged)


def test_a_graph_of_another_width_is_refused(tmp_path):
    folder = write_encoder(tmp_path / "wide", replace(CONFIG, dim=16))
    with pytest.raises(
        BundleFormatError, match=r"model.onnx: found embeddings of width 8, expected 16"
    ):
        TextEncoder.load(folder)


def test_another_graph_is_refused(tmp_path):
    folder = write_encoder(tmp_path / "other", model=graph(output="logit"))
    with pytest.raises(
        BundleFormatError, match=r"model.onnx: expected a text encoder .*\['logit'\]"
    ):
        TextEncoder.load(folder)


def test_the_space_is_that_of_the_files(stored, damaged):
    space = TextEncoder.load(stored).space
    assert space.startswith("sha256:")
    assert len(space) == 7 + 64
    assert TextEncoder.load(damaged).space == space, "the place of the files does not matter"
    (damaged / "config.json").write_text(json.dumps(json.loads(CONFIG.to_json())))
    assert TextEncoder.load(damaged).space == space, "the form of the JSON does not matter"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.onnx"])
def test_the_space_changes_with_each_file(stored, damaged, name):
    if name == "config.json":
        (damaged / name).write_text(replace(CONFIG, max_tokens=11).to_json())
    elif name == "tokenizer.json":
        (damaged / name).write_text((damaged / name).read_text() + "\n")
    else:
        model = onnx.load(damaged / name)
        model.producer_version = "2"
        onnx.save(model, damaged / name)
    assert TextEncoder.load(damaged).space != TextEncoder.load(stored).space
