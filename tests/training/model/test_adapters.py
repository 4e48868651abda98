"""Adapters against their equations."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.training.model.adapters import ADAPTERS  # noqa: E402

RNG = np.random.default_rng(0)
WIDTH, DIM, N = 5, 3, 6
VECTORS = RNG.normal(size=(N, 2, WIDTH)).astype(np.float32)


def built(name):
    layer = ADAPTERS[name](DIM, "adapter")
    layer(VECTORS)
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.weights])
    return layer, {w.path.split("/", 1)[1]: np.array(w, dtype=float) for w in layer.weights}


def experts(w):
    logits = VECTORS @ w["gate/kernel"] + w["gate/bias"]
    gates = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    kernels = np.split(w["experts/kernel"], 4, axis=1)
    shifts = np.split(w["experts/bias"], 4)
    each = [VECTORS @ kernel + shift for kernel, shift in zip(kernels, shifts, strict=True)]
    return sum(gates[..., [k]] * each[k] for k in range(4))


EQUATIONS = {
    "linear": lambda w: VECTORS @ w["kernel"] + w["bias"],
    "mlp": lambda w: (
        np.maximum(VECTORS @ w["first/kernel"] + w["first/bias"], 0) @ w["second/kernel"]
        + w["second/bias"]
    ),
    "experts": experts,
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_its_equation(name):
    layer, weights = built(name)
    found = keras.ops.convert_to_numpy(layer(VECTORS))
    np.testing.assert_allclose(found, EQUATIONS[name](weights), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_comes_back_from_its_configuration(name):
    layer, _ = built(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(VECTORS)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(VECTORS), again(VECTORS))
