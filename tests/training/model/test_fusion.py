"""Fusions against their equations."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.training.model.fusion import (  # noqa: E402
    FUSIONS,
    AttentionFusion,
    ChannelFusion,
    ConcatFusion,
    WeightedFusion,
)

RNG = np.random.default_rng(0)
WIDTHS, DIM, N = (2, 3, 5), 4, 6
SOURCES = [RNG.normal(size=(N, width)).astype(np.float32) for width in WIDTHS]
PRESENCE = np.ones((N, 3), dtype=np.float32)
PRESENCE[1, 0] = PRESENCE[2, [0, 2]] = 0.0
PRESENCE[3] = 0.0


def built(layer):
    """Return the layer with random weights, and those by name."""
    layer(SOURCES, presence=PRESENCE)
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.weights])
    return layer, {w.path.split("/", 1)[1]: np.array(w) for w in layer.weights}


def run(layer, presence=PRESENCE):
    return keras.ops.convert_to_numpy(layer(SOURCES, presence=presence))


def project(weights):
    return np.stack(
        [
            s @ weights[f"projection_{i}/kernel"] + weights[f"projection_{i}/bias"]
            for i, s in enumerate(SOURCES)
        ],
        axis=1,
    )


def softmax(logits, presence=PRESENCE):
    masked = np.where(presence > 0, logits, -np.inf)
    masked = np.where(presence.any(axis=1, keepdims=True), masked, 0.0)
    exp = np.exp(masked - masked.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def test_concat_is_a_linear_map_of_the_concatenation():
    layer, weights = built(ConcatFusion(DIM))
    expected = np.hstack(SOURCES) @ weights["projection/kernel"] + weights["projection/bias"]
    np.testing.assert_allclose(run(layer), expected, rtol=1e-5, atol=1e-5)


def test_weighted_is_its_equation_over_what_is_there():
    layer, weights = built(WeightedFusion(DIM))
    alpha = softmax(np.broadcast_to(weights["importance"], (N, 3)))
    expected = (project(weights) * alpha[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(run(layer), expected, rtol=1e-4, atol=1e-5)


def test_attention_is_its_equation_over_what_is_there():
    layer, weights = built(AttentionFusion(DIM))
    projected = project(weights)
    alpha = softmax((projected @ weights["query"])[:, :, 0] / np.sqrt(DIM))
    expected = (projected * alpha[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(run(layer), expected, rtol=1e-4, atol=1e-5)


def test_channel_is_its_equation():
    layer, weights = built(ChannelFusion(DIM))
    projected = project(weights)
    means = projected.mean(axis=2) * PRESENCE
    hidden = np.maximum(means @ weights["squeeze/kernel"] + weights["squeeze/bias"], 0)
    gates = 1 / (1 + np.exp(-(hidden @ weights["excite/kernel"] + weights["excite/bias"])))
    expected = (projected * (gates * PRESENCE)[:, :, None]).sum(axis=1)
    np.testing.assert_allclose(run(layer), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["weighted", "attention", "channel"])
def test_what_is_not_there_has_no_part(name):
    layer, _ = built(FUSIONS[name](DIM))
    weights = keras.ops.convert_to_numpy(layer.weigh(layer.project(SOURCES), PRESENCE))
    assert weights.shape == (N, 3)
    assert np.all(weights[1:3][PRESENCE[1:3] == 0] == 0)
    if name != "channel":
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", FUSIONS)
def test_fields_apart_keep_their_places(name):
    layer, weights = built(FUSIONS[name](DIM, apart=True))
    found = run(layer)
    assert found.shape == (N, 3, DIM)
    projected = project(weights)
    if name == "concat":
        np.testing.assert_allclose(found, projected, rtol=1e-4, atol=1e-5)
    else:  # each field is its projection, scaled
        ratio = found[0] / projected[0]
        np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones((1, DIM)), rtol=1e-3)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_comes_back_from_its_configuration(name, apart):
    layer, _ = built(FUSIONS[name](DIM, apart=apart))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(SOURCES, presence=PRESENCE)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(layer), run(again))
