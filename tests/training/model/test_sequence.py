"""Readings of a history against their equations."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.training.model.sequence import (  # noqa: E402
    AttentiveHistory,
    RecurrentHistory,
    SelfAttentiveHistory,
)

RNG = np.random.default_rng(0)
WIDTH, DIM, LENGTH, N = 5, 4, 6, 7
EVENTS = RNG.normal(size=(N, LENGTH, WIDTH)).astype(np.float32)
COUNTS = (6, 1, 3, 0, 2, 5, 4)
for row, count in enumerate(COUNTS):
    EVENTS[row, : LENGTH - count] = 0.0
LAYERS = {
    "attention": lambda **options: AttentiveHistory(DIM, **options),
    "gru": lambda **options: RecurrentHistory(DIM, **options),
    "sasrec": lambda **options: SelfAttentiveHistory(DIM, LENGTH, **options),
}


def run(layer, events=EVENTS):
    return keras.ops.convert_to_numpy(layer(events))


def built(name, **options):
    """Return a layer with random weights, and those by name."""
    layer = LAYERS[name](**options)
    layer(EVENTS)
    layer.set_weights([RNG.normal(size=w.shape) * 0.5 for w in layer.weights])
    return layer, {w.path.split("/", 1)[1]: np.array(w, dtype=float) for w in layer.weights}


def dense(w, name, x):
    return x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0.0)


def softmax(x):
    exp = np.exp(x - x.max())
    return exp / exp.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalised(w, name, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)
    return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]


def attention(w, events):
    logits = np.tanh(dense(w, "hidden", events)) @ w["query/kernel"][:, 0]
    pooled = softmax(logits) @ events if len(events) else np.zeros(WIDTH)
    return dense(w, "projection", pooled)


def gru(w, events):
    state = w["first"][0]
    for x in dense(w, "projection", events):
        (xz, xr, xn) = np.split(dense(w, "of_event", x), 3)
        (sz, sr, sn) = np.split(dense(w, "of_state", state), 3)
        z, r = sigmoid(xz + sz), sigmoid(xr + sr)
        state = (1 - z) * state + z * np.tanh(xn + r * sn)
    return state


def sasrec(w, events):
    """Event by event, looking back."""
    if not len(events):
        return w["nothing"][0]
    x = dense(w, "projection", events) + w["positions"][-len(events) :]
    for block in ("block_0/", "block_1/"):
        of_block = {n.removeprefix(block): a for n, a in w.items() if n.startswith(block)}
        normal = normalised(of_block, "norm_0", x)
        q, k, v = (dense(of_block, name, normal) for name in ("query", "key", "value"))
        attended = np.zeros_like(q)
        for head in (slice(0, 2), slice(2, 4)):
            for t in range(len(x)):
                weights = softmax(k[: t + 1, head] @ q[t, head] / np.sqrt(2))
                attended[t, head] = weights @ v[: t + 1, head]
        x = x + dense(of_block, "output", attended)
        hidden = np.maximum(dense(of_block, "first", normalised(of_block, "norm_1", x)), 0)
        x = x + dense(of_block, "second", hidden)
    return normalised(w, "norm", x[-1])


EQUATIONS = {"attention": attention, "gru": gru, "sasrec": sasrec}


@pytest.mark.parametrize("name", LAYERS)
def test_a_reading_is_its_equation_over_the_events(name):
    layer, weights = built(name)
    expected = [
        EQUATIONS[name](weights, events[LENGTH - count :].astype(float))
        for events, count in zip(EVENTS, COUNTS, strict=True)
    ]
    np.testing.assert_allclose(run(layer), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")  # of one event
@pytest.mark.parametrize("name", LAYERS)
def test_rows_in_front_change_nothing(name):
    layer, _ = built(name)
    for row, count in enumerate(COUNTS):
        if count:
            short = run(layer, EVENTS[[row], LENGTH - count :])
            np.testing.assert_allclose(short, run(layer, EVENTS[[row]]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gru", "sasrec"])
def test_the_order_of_events_counts(name):
    layer, _ = built(name)
    assert not np.allclose(run(layer, EVENTS[:1]), run(layer, EVENTS[:1, ::-1]), atol=1e-3)


@pytest.mark.parametrize("adapter", ["linear", "mlp", "experts"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_reading_comes_back_from_its_configuration(name, adapter):
    layer, _ = built(name, adapter=adapter)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(EVENTS)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(run(layer), run(again))
