"""The engine's encoder on a graph small enough to compute by hand: normalised mean of a table."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fuserank.engine import text_runner
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import EncoderConfig, Pooling, Precision, TextRole
from fuserank.engine.session import GraphSession
from fuserank.engine.text_graph import TextGraph
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
        words = f"{config.passage_prompt}{text}".lower().split()[: config.max_tokens - 2]
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


def test_the_prompt_of_its_role_stands_before_each_text(tmp_path):
    config = replace(CONFIG, query_prompt="love : ", passage_prompt="a film : ")
    encoder = TextEncoder.load(write_encoder(tmp_path / "prompted", config))
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, expected(TEXTS, config), atol=1e-6)
    queries = expected(TEXTS, replace(config, passage_prompt="love : "))
    found = encoder.encode(TEXTS, TextRole.QUERY).vectors
    np.testing.assert_allclose(found, queries, atol=1e-6, err_msg="the cache tells roles apart")


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


def test_batches_hold_texts_of_like_length_within_the_budget(tmp_path, shapes):
    config = replace(CONFIG, max_tokens=200)
    encoder = TextEncoder.load(write_encoder(tmp_path / "long", config), cache_size=0)
    before = encoder.token_counts()
    texts = [f"word{n} " * (1 + 7 * n % 190) for n in range(300)]
    del shapes[:]
    vectors = encoder.encode(texts).vectors
    np.testing.assert_allclose(vectors, expected(texts, config), atol=1e-5)
    assert sum(rows for rows, _ in shapes) == 300
    assert all(rows == 1 or rows * width <= 384 for rows, width in shapes)
    assert len(shapes) < 250
    counts = encoder.token_counts()
    assert counts.padded - before.padded == sum(rows * width for rows, width in shapes)
    assert counts.real - before.real == sum(3 + 7 * n % 190 for n in range(300))
    assert 0 < counts.padding_waste < 0.05


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


def test_callers_who_miss_a_text_at_the_same_time_have_it_run_once(encoder, shapes, monkeypatch):
    running, go_on = Event(), Event()
    run = TextGraph.run

    def wait(self, tokens, **options):
        running.set()
        assert go_on.wait(10)
        return run(self, tokens, **options)

    monkeypatch.setattr(TextGraph, "run", wait)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(encoder.encode, ["robot"])
        assert running.wait(10)
        second = pool.submit(encoder.encode, ["robot", "robot"])
        go_on.set()
        np.testing.assert_array_equal(second.result(10).vectors[0], first.result(10).vectors[0])
    assert shapes == [(1, 3)]


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


class Killed(BaseException):
    """As a signal: no handler of errors stops it."""


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr(text_runner, "_TEXTS_PER_CHUNK", 40)


@pytest.mark.parametrize("survives", [0, 5, 12, 18])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    stored, tmp_path, shapes, monkeypatch, short_chunks, survives
):
    texts = [" ".join(["love"] * (n % 7) + [f"n{n}"]) for n in range(190)]
    texts += texts[:10]
    undisturbed = TextEncoder.load(stored, threads=1).encode(texts, keep=tmp_path / "other").vectors
    encoder = TextEncoder.load(stored, threads=2)
    keep, run, n_runs = tmp_path / "kept", TextGraph.run, count()

    def kill(self, tokens, **options):
        if next(n_runs) == survives:
            raise Killed
        return run(self, tokens, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TextGraph, "run", kill)
        with pytest.raises(Killed):
            encoder.encode(texts, keep=keep)
    finished = 40 * len(list(keep.glob("*.npy")))
    encoder = TextEncoder.load(stored, threads=2)
    encoder.encode(["n1", "n150"])  # so that the cache knows some
    steps = []
    del shapes[:]
    found = encoder.encode(texts, keep=keep, on_progress=steps.append).vectors
    np.testing.assert_array_equal(found, undisturbed)
    assert sum(rows for rows, _ in shapes) == 190 - finished
    assert sum(steps) == 200


def test_what_was_kept_is_of_the_same_texts_and_encoder(stored, tmp_path, shapes, short_chunks):
    keep = tmp_path / "kept"
    texts = [f"n{n}" for n in range(100)]
    TextEncoder.load(stored).encode(texts, keep=keep)
    del shapes[:]
    longer = TextEncoder.load(stored).encode([*texts[:80], "love"], keep=keep)
    np.testing.assert_allclose(longer.vectors, expected([*texts[:80], "love"]), atol=1e-6)
    assert shapes == [(1, 3), (1, 3)], "the check of the graph, and the new chunk"
    prompted = write_encoder(tmp_path / "prompted", replace(CONFIG, passage_prompt="a film : "))
    found = TextEncoder.load(prompted).encode(texts, keep=keep).vectors
    np.testing.assert_allclose(found, expected([f"a film : {t}" for t in texts]), atol=1e-6)


def test_damaged_chunks_are_made_again(stored, tmp_path, short_chunks):
    keep = tmp_path / "kept"
    texts = [f"n{n}" for n in range(100)]
    vectors = TextEncoder.load(stored).encode(texts, keep=keep).vectors
    first, second, _ = sorted(keep.glob("*.npy"))
    first.write_bytes(first.read_bytes()[:-5])
    np.save(second, np.zeros((3, DIM), np.float32))
    np.testing.assert_array_equal(
        TextEncoder.load(stored).encode(texts, keep=keep).vectors, vectors
    )
    assert np.load(first).shape[1] == DIM


def test_the_threads_make_no_difference(stored):
    texts = ["love " * 60, *(" ".join(["war"] * (n % 9 + 1) + [f"n{n}"]) for n in range(300))]
    vectors = [
        TextEncoder.load(stored, threads=n, cache_size=0).encode(texts).vectors for n in (1, 3)
    ]
    np.testing.assert_array_equal(*vectors)
