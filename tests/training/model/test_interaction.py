"""Interaction models against their equations."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.training.model.interaction import INTERACTIONS  # noqa: E402

RNG = np.random.default_rng(0)
DIM, N = 6, 7
PHI, PSI = RNG.normal(size=(2, N, DIM)).astype(np.float32)
USER, ITEM = (RNG.normal(size=(N, k, DIM)).astype(np.float32) for k in (3, 2))
USER[0, 2] = 0.0  # to a model that reads the history: no event
BOTH = np.concatenate([USER, ITEM], axis=1).astype(float)
FLAT = BOTH.reshape(N, -1)


def inputs_of(layer):
    return [USER, ITEM] if layer.reads_fields or layer.reads_history else [PHI, PSI]


def built(name, make_config):
    """Return a model with random weights, and those by name."""
    layer = INTERACTIONS[name](make_config(model=name))
    layer(inputs_of(layer))
    layer.set_weights([RNG.normal(size=w.shape) * 0.5 for w in layer.weights])
    return layer, {w.path.split("/", 1)[1]: np.array(w, dtype=float) for w in layer.weights}


def relu(x):
    return np.maximum(x, 0)


def dense(w, name, x):
    return x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0.0)


def stack(w, name, x):
    for depth in range(2):
        if f"{name}_{depth}/kernel" in w:
            x = relu(dense(w, f"{name}_{depth}", x))
    return x


def biases(w):
    return (PHI @ w["user_bias"] + PSI @ w["item_bias"])[:, 0] + w["bias"]


def pairs(weight=lambda f, g: 1.0):
    n = BOTH.shape[1]
    return sum(
        weight(f, g) * (BOTH[:, f] * BOTH[:, g]).sum(axis=1)
        for f in range(n)
        for g in range(f + 1, n)
    )


def normalised(w, name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)
    return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]


def two_tower(w):
    sides = [
        dense(w, f"{side}_second", relu(dense(w, f"{side}_first", x)))
        for side, x in (("user", PHI), ("item", PSI))
    ]
    return (sides[0] * sides[1]).sum(axis=1) / np.sqrt(sides[0].shape[1]) + w["bias"]


def cosine(w):
    cosines = (PHI * PSI).sum(axis=1) / np.linalg.norm(PHI, axis=1) / np.linalg.norm(PSI, axis=1)
    return cosines / 0.2 + biases(w)


def final_mlp(w):
    one, two = stack(w, "user", PHI), stack(w, "item", PSI)
    fused = (dense(w, "fusion", one) * two).sum(axis=1)
    return dense(w, "user_linear", one)[:, 0] + dense(w, "item_linear", two)[:, 0] + fused


def dcn(w):
    x = FLAT
    for layer in range(2):
        x = FLAT * dense(w, f"cross_{layer}", x) + x
    return dense(w, "output", x)[:, 0]


def autoint(w):
    q, k, v, residual = (dense(w, n, BOTH) for n in ("query", "key", "value", "residual"))
    logits = q @ k.transpose(0, 2, 1)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return dense(w, "output", relu(weights @ v + residual).reshape(N, -1))[:, 0]


def masknet(w):
    mask = dense(w, "project", relu(dense(w, "aggregate", FLAT)))
    masked = dense(w, "block", mask * normalised(w, "field_norm", BOTH).reshape(N, -1))
    return dense(w, "output", relu(normalised(w, "block_norm", masked)))[:, 0]


def din(w):
    (phi, *events), (psi, own) = USER.transpose(1, 0, 2), ITEM.transpose(1, 0, 2)
    interest = 0.0
    for event in events:
        hidden = dense(w, "of_event", event) + dense(w, "of_item", own)
        weight = dense(w, "weight", relu(hidden + dense(w, "of_both", event * own)))
        interest = interest + weight * event
    return dense(w, "output", stack(w, "hidden", np.hstack([phi, interest, psi])))[:, 0]


JOINED = np.hstack([PHI, PSI]).astype(float)
EQUATIONS = {
    "bilinear": lambda w: (PHI * PSI) @ w["theta"] + biases(w),
    "bilinear-matrix": lambda w: ((PHI @ w["theta"]) * PSI).sum(axis=1) + biases(w),
    "gmf": lambda w: dense(w, "output", PHI * PSI)[:, 0],
    "cosine": cosine,
    "two-tower": two_tower,
    "perceptron": lambda w: dense(w, "output", stack(w, "hidden", JOINED))[:, 0],
    "deep-perceptron": lambda w: dense(w, "output", stack(w, "hidden", JOINED))[:, 0],
    "neumf": lambda w: dense(w, "output", np.hstack([PHI * PSI, stack(w, "hidden", JOINED)]))[:, 0],
    "finalmlp": final_mlp,
    "fm": lambda w: dense(w, "linear", FLAT)[:, 0] + pairs(),
    "fwfm": lambda w: dense(w, "linear", FLAT)[:, 0] + pairs(lambda f, g: w["strength"][f, g]),
    "wide-and-deep": lambda w: (
        dense(w, "linear", FLAT) + dense(w, "output", stack(w, "hidden", FLAT))
    )[:, 0],
    "deepfm": lambda w: (
        (dense(w, "linear", FLAT) + dense(w, "output", stack(w, "hidden", FLAT)))[:, 0] + pairs()
    ),
    "dcn": dcn,
    "autoint": autoint,
    "masknet": masknet,
    "din": din,
}


def test_every_model_has_its_equation_here():
    assert EQUATIONS.keys() == INTERACTIONS.keys()


@pytest.mark.parametrize("name", INTERACTIONS)
def test_a_model_is_its_equation(name, make_config):
    layer, weights = built(name, make_config)
    found = keras.ops.convert_to_numpy(layer(inputs_of(layer)))
    assert found.shape == (N,)
    np.testing.assert_allclose(found, EQUATIONS[name](weights), rtol=1e-3, atol=1e-3)


def test_all_pairs_at_once_are_the_pairs_one_by_one(make_config):
    layer, _ = built("cosine", make_config)
    found = layer.all_pairs(PHI, PSI)
    for row in range(N):
        one_by_one = layer([np.repeat(PHI[row : row + 1], N, axis=0), PSI])
        np.testing.assert_allclose(found[row], one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", INTERACTIONS)
def test_every_interaction_comes_back_from_its_configuration(name, make_config):
    layer, _ = built(name, make_config)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(inputs_of(layer))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(inputs_of(layer)), again(inputs_of(layer)))
