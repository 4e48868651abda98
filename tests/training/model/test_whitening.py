import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.errors import DataError  # noqa: E402
from fuserank.schema import Schema, Side  # noqa: E402
from fuserank.training.model.whitening import Whiten, fit_whitening, text_whitening  # noqa: E402

RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(200, 6)) @ RNG.normal(size=(6, 6)) + 3).astype(np.float32)


def whiten(whitening, vectors):
    layer = Whiten(whitening.matrix.shape[1])
    layer(vectors)
    layer.set_weights([whitening.mean, whitening.matrix])
    return keras.ops.convert_to_numpy(layer(vectors))


@pytest.mark.parametrize("kept", [6, 2])
def test_whitened_vectors_have_no_mean_and_unit_covariance(kept):
    found = whiten(fit_whitening(VECTORS, kept), VECTORS)
    np.testing.assert_allclose(found.mean(axis=0), np.zeros(kept), atol=1e-4)
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(kept), atol=1e-3)


def test_the_directions_kept_are_those_of_largest_variance():
    whitening = fit_whitening(VECTORS, 1)
    centred = VECTORS.astype(float) - VECTORS.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred)
    expected = directions[0] / (singular[0] / np.sqrt(len(VECTORS)))
    sign = np.sign(expected @ whitening.matrix[:, 0])
    np.testing.assert_allclose(whitening.matrix[:, 0], sign * expected, rtol=1e-3, atol=1e-5)


def test_a_row_of_zeros_says_nothing_before_and_after():
    whitening = fit_whitening(np.concatenate([VECTORS, np.zeros((50, 6))]), 3)
    np.testing.assert_allclose(whitening.mean, VECTORS.mean(axis=0), rtol=1e-4)
    events = np.stack([VECTORS[:4], np.concatenate([np.zeros((2, 6), np.float32), VECTORS[:2]])])
    found = whiten(whitening, events)
    assert found.shape == (2, 4, 3)
    assert not found[1, :2].any()
    np.testing.assert_allclose(found[1, 2:], found[0, :2], atol=1e-6)


def test_the_mean_of_whitened_events_is_the_whitened_mean():
    whitening = fit_whitening(VECTORS, 3)
    mean = whiten(whitening, VECTORS[:5].mean(axis=0, keepdims=True))
    np.testing.assert_allclose(whiten(whitening, VECTORS[:5]).mean(axis=0), mean[0], atol=1e-5)


def test_whitening_is_not_trained():
    layer = Whiten(2)
    layer.build((None, 6))
    assert len(layer.weights) == 2
    assert layer.trainable_variables == []
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.trainable_variables == []


def test_the_texts_of_items_are_what_is_fitted(features, schema):
    assert text_whitening(features, schema, 0) is None
    found = text_whitening(features, schema, 2)
    expected = fit_whitening(features.items.tensors["item.words"], 2)
    np.testing.assert_array_equal(found.matrix, expected.matrix)


def test_more_directions_than_there_are_is_an_error():
    flat = VECTORS[:, :2] @ RNG.normal(size=(2, 6)).astype(np.float32)
    with pytest.raises(DataError, match=r"200 embeddings that differ in 2 directions, expected 3"):
        fit_whitening(flat, 3)
    with pytest.raises(DataError, match="found no embedding, expected more than 3"):
        fit_whitening(np.zeros((4, 6)), 3)


def test_items_without_texts_cannot_be_whitened(features, schema):
    no_texts = Schema(tuple(f for f in schema.side(Side.ITEM) if f.field.name != "words"))
    with pytest.raises(DataError, match="found no text field of the items"):
        text_whitening(features, no_texts, 2)
