import numpy as np
import pytest

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import EncoderConfig
from fuserank.errors import ConfigError
from fuserank.export.calibration import LEAST_TEXTS, calibration_batches
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.more_precise import more_precise
from fuserank.export.passes.quantize_static import Smoothing
from fuserank.export.passes.weights import quantize_columns
from fuserank.export.precision import products
from fuserank.export.precision.activations import Activations
from fuserank.export.precision.smoothing import choose_smoothing


@pytest.fixture(scope="module", params=["bert", "roberta", "qwen3"])
def encoder(request, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "fp32"
    export_encoder(tiny_model(request.param), out, EncoderExportConfig(precision="fp32"))
    return out


def config_of(directory):
    return EncoderConfig.from_json((directory / "config.json").read_bytes())


def test_texts_are_read_alone_joined_and_beside_drawn_tokens(encoder, film_texts):
    batches = calibration_batches(encoder, config_of(encoder), film_texts)
    assert len(batches) == len(film_texts) + 30 + 20
    alone = TextEncoder.load(encoder)
    tokens = {tuple(alone._runner.tokenize([text])[0]) for text in film_texts}
    read = {tuple(batch["input_ids"][0].tolist()) for batch in batches[: len(film_texts)]}
    assert read == tokens
    for batch in batches:
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert batch["attention_mask"].all()
        assert batch["input_ids"].shape[1] <= config_of(encoder).max_tokens


def test_drawn_tokens_stand_between_the_special_ones_of_a_text(encoder):
    drawn = calibration_batches(encoder, config_of(encoder))
    plain, other = TextEncoder.load(encoder)._runner.tokenize(["film", "two sisters"])
    lengths = {batch["input_ids"].shape[1] for batch in drawn}
    assert len(lengths) > 5
    for batch in drawn:
        ids = batch["input_ids"][0].tolist()
        assert ids[-1] == plain[-1]
        assert ids[0] == plain[0] or plain[0] != other[0]


def test_the_same_texts_give_the_same_batches(encoder, film_texts):
    first, second = (calibration_batches(encoder, config_of(encoder), film_texts) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["input_ids"], other["input_ids"])


def test_a_few_texts_are_refused(encoder):
    texts = [f"text {number}" for number in range(LEAST_TEXTS - 1)] * 3
    with pytest.raises(ConfigError, match=r"found 7 distinct texts, expected 8 or more"):
        calibration_batches(encoder, config_of(encoder), texts)


def error_of(smoothing, rows, weights):
    scaled = quantize_columns(weights * smoothing.divisors[:, None])
    made = smoothing.quantized(rows) @ (scaled.codes * scaled.scales)
    return np.square(made - rows @ weights).sum()


def test_smoothing_tames_a_column_that_is_large():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 32)).astype(np.float32)
    rows[:, 3] *= 200
    weights = rng.normal(size=(32, 16)).astype(np.float32)
    x = Activations(least=rows.min(0), largest=rows.max(0), rows=rows)
    smoothing = choose_smoothing(x, [weights[:, :8], weights[:, 8:]])
    step = np.float32((rows.max() - rows.min()) / 255)
    plain = Smoothing(np.ones(32, np.float32), step, np.uint8(round(-rows.min() / float(step))))
    assert error_of(smoothing, rows, weights) < error_of(plain, rows, weights) / 20
    assert smoothing.divisors[3] > 10 * np.median(smoothing.divisors)


def test_a_column_that_is_always_zero_is_no_trouble():
    rows = np.zeros((10, 4), np.float32)
    x = Activations(least=rows.min(0), largest=rows.max(0), rows=rows)
    smoothing = choose_smoothing(x, [np.eye(4, dtype=np.float32)])
    assert np.isfinite(smoothing.divisors).all()
    assert smoothing.step > 0
    np.testing.assert_array_equal(smoothing.quantized(rows), rows)


def directions(encoder, texts):
    vectors = encoder.encode(texts).vectors
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_more_precise_encoders_come_nearer(tiny_model, film_texts, tmp_path):
    for name in ("fp32", "int8"):
        export_encoder(
            tiny_model("bert"), tmp_path / name, EncoderExportConfig(precision=name), film_texts
        )
    work = tmp_path / "work"
    work.mkdir()
    reference = TextEncoder.load(tmp_path / "fp32")
    exact = directions(reference, film_texts)
    made = list(more_precise(tmp_path / "int8", tmp_path / "fp32", film_texts, work))
    losses = [
        1 - (directions(TextEncoder.load(path), film_texts) * exact).sum(1).mean()
        for path in (tmp_path / "int8", *made)
    ]
    # Errors of a model as small as this one partly cancel each other: one less may even cost.
    assert max(losses) < losses[0] * 1.5
    assert losses[-1] < losses[0] / 1.5
    n_products = len(products(tmp_path / "fp32" / "model.onnx"))
    kept = [len(TextEncoder.load(path).config.kept) for path in made]
    assert kept == [max(round(n_products * share), 1) for share in (1 / 8, 1 / 4, 1 / 2)]
    assert all(TextEncoder.load(path).source == reference.space for path in made)
    assert list(more_precise(tmp_path / "fp32", tmp_path / "fp32", film_texts, work)) == []
