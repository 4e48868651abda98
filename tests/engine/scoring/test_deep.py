"""Perceptrons of any depth against NumPy in float64, and the loops they are made of."""

from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from fuserank.engine.scoring import DenseLayer, Eligibility, FusedScorer
from fuserank.engine.scoring.deep import packed
from fuserank.engine.scoring.deep_kernels import _dense, _transpose
from fuserank.engine.scoring.lanes import dense_row, dense_rows

DEFINITIONS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "silu": lambda x: 0.5 * x * (1.0 + np.tanh(0.5 * x)),
    "gelu": lambda x: 0.5 * x * (1.0 + np.vectorize(erf)(x / np.sqrt(2.0))),
}
WIDTHS = st.integers(1, 70)
ACTIVATIONS = st.sampled_from(sorted(DEFINITIONS))
SEEDS = st.integers(0, 2**32 - 1)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def make_layers(widths, activations, seed):
    return [
        DenseLayer(
            weights=normal([seed, 0, number], n_outputs, n_inputs) / np.float32(np.sqrt(n_inputs)),
            bias=normal([seed, 1, number], n_outputs),
            activation=activation,
        )
        for number, (n_inputs, n_outputs, activation) in enumerate(
            zip(widths, widths[1:], activations, strict=False)
        )
    ]


def brute_force(items, users, activation, layers, weights):
    """Return (q, n) scores and, of each, the sum of the sizes of its terms, both float64."""
    user, item = users["user_state"].astype(float), items["item_state"].astype(float)
    n_hidden = layers[0].weights.shape[1] if layers else len(weights)
    hidden = DEFINITIONS[activation](user[:, None, :n_hidden] + item[:, :n_hidden])
    for layer in layers:
        sums = hidden @ layer.weights.astype(float).T + layer.bias
        hidden = DEFINITIONS[layer.activation](sums)
    constants = users["user_constant"][:, None] + items["item_constant"].astype(float)
    products = user[:, n_hidden:] @ item[:, n_hidden:].T
    return hidden @ weights.astype(float) + products + constants


@settings(deadline=None)  # the first call compiles
@given(
    widths=st.lists(WIDTHS, min_size=1, max_size=4),
    activations=st.lists(ACTIVATIONS, min_size=4, max_size=4),
    products=st.integers(0, 20),
    n_items=st.integers(1, 200),
    n_users=st.integers(1, 3),
    seed=SEEDS,
)
def test_any_perceptron_scores_as_brute_force(
    widths, activations, products, n_items, n_users, seed
):
    activation, *others = activations
    layers = make_layers(widths, others, seed)
    weights = normal([seed, 2], widths[-1]) / np.float32(np.sqrt(widths[-1]))
    width = widths[0] + products
    items = {"item_state": normal(seed, n_items, width), "item_constant": normal(seed, n_items)}
    users = {
        "user_state": normal([seed, 3], n_users, width),
        "user_constant": normal([seed, 4], n_users),
    }
    expected = brute_force(items, users, activation, layers, weights)
    scorer = FusedScorer(items, weights=weights, activation=activation, layers=layers)
    rows = np.random.default_rng(seed).permutation(n_items)
    found = scorer.score(users, rows)
    # A score adds up numbers of about the size of a state; sums may cancel.
    tolerance = 1e-5 * (1.0 + np.abs(expected).max())
    np.testing.assert_allclose(found, expected[:, rows], rtol=0, atol=tolerance)
    k = min(n_items, 10)
    words = Eligibility(n_items).words([(np.arange(0), None)])
    best = scorer.top_k(users, words, k)
    np.testing.assert_allclose(
        best.scores, -np.sort(-expected, axis=1)[:, :k], rtol=0, atol=tolerance
    )
    in_order = np.argsort(rows)
    np.testing.assert_array_equal(
        best.scores, np.take_along_axis(found[:, in_order], best.rows, axis=1)
    )


def test_infinities_and_nan_go_through_the_layers_as_through_numpy():
    layers = make_layers([20, 20, 20], ["relu", "relu"], 0)
    weights = normal(1, 20)
    items = {"item_state": normal(2, 100, 20), "item_constant": np.zeros(100, np.float32)}
    items["item_state"][[3, 70], [0, 19]] = np.inf
    items["item_state"][4, 1] = -np.inf
    items["item_state"][99, 5] = np.nan
    users = {"user_state": normal(3, 1, 20), "user_constant": np.zeros(1, np.float32)}
    with np.errstate(invalid="ignore"):
        expected = brute_force(items, users, "relu", layers, weights)
    scorer = FusedScorer(items, weights=weights, activation="relu", layers=layers)
    found = scorer.score(users, np.arange(100))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert np.isnan(found[0, 99])
    assert np.isfinite(found[0, 4])


@pytest.mark.parametrize("dense", [dense_rows, dense_row], ids=["rows", "row"])
def test_outputs_are_those_of_numpy_however_many_at_a_time(dense):
    n_outputs = 1 if dense is dense_row else 4  # more rows than are written, on short registers

    @njit
    def call(inputs, weights, outputs):
        dense(inputs.ctypes.data, weights.ctypes.data, len(inputs), outputs.ctypes.data)

    for n_inputs in (0, 1, 5, 64):
        inputs, weights = normal(0, n_inputs, 64), normal(1, n_outputs, n_inputs)
        outputs = np.full((n_outputs, 64), np.nan, np.float32)
        call(inputs, weights, outputs)
        written = ~np.isnan(outputs[:, 0])
        assert written[0]
        np.testing.assert_allclose(
            outputs[written], (weights.astype(float) @ inputs)[written], rtol=1e-5, atol=1e-5
        )


@settings(deadline=None)
@given(n_inputs=WIDTHS, n_outputs=WIDTHS, seed=SEEDS)
def test_a_layer_of_any_shape_is_a_matrix_product(n_inputs, n_outputs, seed):
    inputs, weights = normal(seed, n_inputs, 64), normal(seed, n_outputs, n_inputs)
    outputs = np.zeros((n_outputs + 1, 64), np.float32)
    shifted = np.concatenate([np.full(3, np.nan, np.float32), weights.ravel()])
    _dense(inputs, n_inputs, shifted, 3, n_outputs, outputs)
    np.testing.assert_allclose(outputs[:-1], weights.astype(float) @ inputs, rtol=0, atol=1e-4)
    assert not outputs[-1].any()


@settings(deadline=None)
@given(n=st.integers(1, 64), width=WIDTHS, seed=SEEDS)
def test_states_of_any_shape_are_transposed(n, width, seed):
    states = normal(seed, 70, width)
    columns = np.full((width, 64), 7.0, np.float32)
    _transpose(states, 70 - n, n, columns)
    np.testing.assert_array_equal(columns[:, :n], states[70 - n :].T)
    assert (columns[:, n:] == 7.0).all()


def test_layers_are_packed_one_behind_the_other():
    layer = DenseLayer(weights=normal(0, 2, 3), bias=normal(1, 2), activation="tanh")
    parameters, widths, codes = packed("relu", [layer], np.array([5.0, 6.0], np.float32))
    assert parameters.tolist() == [*layer.weights.ravel(), *layer.bias, 5.0, 6.0]
    assert (widths.tolist(), codes.tolist()) == ([3, 2], [2, 3])
