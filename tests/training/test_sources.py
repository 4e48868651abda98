import numpy as np
import pytest

from fuserank.schema import Side

keras = pytest.importorskip("keras")

from fuserank.training.sources import MeanEmbedding, MeanHistory, Presence, build_source  # noqa: E402

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
def test_every_kind_of_field_has_a_source_of_its_width(schema, side, name, width):
    fitted = schema.find(side, name)
    tensor = np.zeros([5, *fitted.spec.shape[1:]], fitted.spec.dtype)
    assert run(build_source(fitted, 8), tensor).shape == (5, width)


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
