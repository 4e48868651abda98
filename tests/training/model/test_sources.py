import numpy as np
import pytest

from fuserank.schema import Field, Kind, Schema, Side

keras = pytest.importorskip("keras")

from fuserank.training.model.sources import (  # noqa: E402
    MeanEmbedding,
    MeanHistory,
    Presence,
    SourceDropout,
    build_source,
)

RNG = np.random.default_rng(0)


def run(layer, inputs):
    return keras.ops.convert_to_numpy(layer(inputs))


@pytest.mark.parametrize(
    ("side", "name", "width"),
    [
        (Side.USER, "user_id", 8),
        (Side.USER, "city", 2),
        (Side.USER, "age", 2),
        (Side.USER, "about", 8),
        (Side.USER, "history", 8),
        (Side.ITEM, "genres", 2),
        (Side.ITEM, "poster", 8),
    ],
)
def test_every_kind_of_field_has_a_source_of_its_width(schema, make_config, side, name, width):
    fitted = schema.find(side, name)
    tensor = np.zeros([5, *fitted.spec.shape[1:]], fitted.spec.dtype)
    assert run(build_source(fitted, make_config()), tensor).shape == (5, width)


def test_a_bag_of_words_is_read_as_a_vector_is(make_config):
    field = Field(name="plot", side=Side.ITEM, kind=Kind.WORDS, min_rows=1)
    plots = ["war and love", "love", None]
    (fitted,) = Schema.fit([field], {Side.ITEM: {"plot": plots}}, text_dim=1).fields
    rows = fitted.encode(plots)
    layer = build_source(fitted, make_config())
    found = run(layer, rows)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(found, rows @ kernel + bias, atol=1e-6)
    assert run(Presence(Kind.WORDS), rows).tolist() == [[1.0], [1.0], [0.0]]


def test_categories_are_the_mean_of_the_known_ones():
    layer = MeanEmbedding(4, 3)
    rows = np.array([[1, 3, 0], [2, 0, 0], [0, 0, 0]])
    found = run(layer, rows)
    (table,) = layer.get_weights()
    np.testing.assert_allclose(found, [table[[1, 3]].mean(axis=0), table[2], table[0]], atol=1e-7)


def test_a_history_is_the_projected_mean_of_its_events():
    layer = MeanHistory(5)
    events = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    events[0, :2] = 0  # zero rows are no events
    events[1] = 0
    found = run(layer, events)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(found[0], events[0, 2:].mean(axis=0) @ kernel + bias, atol=1e-6)
    np.testing.assert_allclose(found[1], bias, atol=1e-7)


def test_a_history_may_be_given_as_its_mean():
    layer = MeanHistory(5)
    events = RNG.normal(size=(3, 4, 3)).astype(np.float32)
    mean = events.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(run(layer, events), run(layer, mean), atol=1e-6)


@pytest.mark.parametrize("adapter", ["linear", "mlp", "experts"])
def test_a_mean_history_comes_back_from_its_configuration(adapter):
    layer = MeanHistory(5, adapter)
    events = RNG.normal(size=(3, 4, 3)).astype(np.float32)
    layer(events)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(events)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(layer, events), run(again, events))


@pytest.mark.parametrize(
    ("tensor", "missing"),
    [
        (np.arange(1, 1001), [0.0]),
        (np.stack([np.arange(1, 1001), np.zeros(1000)], axis=1).astype(np.float32), [0.5, 1.0]),
        (np.ones((1000, 4, 3), np.float32), [0.0]),
    ],
    ids=["category", "number", "history"],
)
def test_dropout_hides_a_share_of_rows_in_training_alone(tensor, missing):
    layer = SourceDropout(0.3, missing, seed=1)
    np.testing.assert_array_equal(run(layer, tensor), tensor)
    found = keras.ops.convert_to_numpy(layer(tensor, training=True))
    assert found.dtype == tensor.dtype
    hidden = (found != tensor).reshape(1000, -1).any(axis=1)
    assert 0.2 < hidden.mean() < 0.4
    np.testing.assert_array_equal(found[~hidden], tensor[~hidden])
    expected = np.broadcast_to(np.array(missing, tensor.dtype), found[hidden].shape)
    np.testing.assert_array_equal(found[hidden], expected.reshape(found[hidden].shape))
    again = SourceDropout.from_config(layer.get_config())
    np.testing.assert_array_equal(found, again(tensor, training=True))


@pytest.mark.parametrize(
    ("side", "name", "missing", "said"),
    [
        (Side.USER, "user_id", [0], [3]),
        (Side.USER, "city", [0], [1]),
        (Side.ITEM, "genres", [[0, 0]], [[0, 2]]),
        (Side.USER, "age", [[0.3, 1.0]], [[0.0, 0.0]]),
        (Side.USER, "about", [[0.0] * 12], [[0.0] * 11 + [0.1]]),
        (Side.USER, "history", [[[0.0] * 12] * 4], [[[0.0] * 12] * 3 + [[0.2] * 12]]),
    ],
)
def test_presence_tells_what_a_field_says(schema, side, name, missing, said):
    layer = Presence(schema.find(side, name).field.kind)
    assert run(layer, np.array(missing)).tolist() == [[0.0]]
    assert run(layer, np.array(said)).tolist() == [[1.0]]
