import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.training.interaction import INTERACTIONS, Bilinear, Perceptron  # noqa: E402

RNG = np.random.default_rng(0)
PHI, PSI = RNG.normal(size=(2, 7, 6)).astype(np.float32)


def randomized(layer):
    layer([PHI, PSI])
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.weights])
    return [w.astype(np.float64) for w in layer.get_weights()]


def test_bilinear_is_its_equation():
    layer = Bilinear()
    theta, user_bias, item_bias, bias = randomized(layer)
    expected = (PHI * PSI) @ theta + PHI @ user_bias[:, 0] + PSI @ item_bias[:, 0] + bias
    found = keras.ops.convert_to_numpy(layer([PHI, PSI]))
    assert found.shape == (7,)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_perceptron_is_its_equation():
    layer = Perceptron(5)
    W1, b1, w2, b2 = randomized(layer)
    expected = np.maximum(np.hstack([PHI, PSI]) @ W1 + b1, 0) @ w2[:, 0] + b2[0]
    found = keras.ops.convert_to_numpy(layer([PHI, PSI]))
    assert found.shape == (7,)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", INTERACTIONS)
def test_every_interaction_comes_back_from_its_configuration(name, make_config):
    layer = INTERACTIONS[name](make_config(model=name))
    weights = randomized(layer)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again([PHI, PSI])
    again.set_weights(weights)
    np.testing.assert_array_equal(layer([PHI, PSI]), again([PHI, PSI]))
