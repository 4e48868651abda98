"""The activations of the scan against their definitions, over all magnitudes."""

from math import erf

import numpy as np
import pytest
from numba import njit

from fuserank.engine.scoring.activations import ACTIVATIONS, activate

DEFINITIONS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "silu": lambda x: 0.5 * x * (1.0 + np.tanh(0.5 * x)),
    "gelu": lambda x: 0.5 * x * (1.0 + np.array([erf(value / np.sqrt(2.0)) for value in x])),
}


def make(code):
    @njit
    def apply(values, out):
        for i in range(len(values)):
            out[i] = activate(code, values[i])

    return lambda values: apply(values, out := np.empty_like(values)) or out


@pytest.fixture(scope="module", params=DEFINITIONS)
def activation(request):
    return make(ACTIVATIONS[request.param]), DEFINITIONS[request.param]


def test_every_activation_is_defined_here():
    assert set(DEFINITIONS) == set(ACTIVATIONS)


def test_close_to_the_definition_at_every_magnitude(activation):
    mine, definition = activation
    near = np.linspace(-12.0, 12.0, 20_001)
    far = np.geomspace(1e-30, 1e30, 2_001)
    x = np.concatenate([near, far, -far]).astype(np.float32)
    exact = definition(x.astype(np.float64))
    assert np.all(np.abs(mine(x) - exact) <= 1e-6 * (1.0 + np.abs(x.astype(np.float64))))


def test_nan_stays_nan(activation):
    mine, _ = activation
    assert np.isnan(mine(np.array([np.nan], dtype=np.float32)))[0]


def test_infinities_have_the_limits_of_the_definition():
    ends = np.array([-np.inf, np.inf], dtype=np.float32)
    limits = {"relu": [0.0, np.inf], "tanh": [-1.0, 1.0], "sigmoid": [0.0, 1.0]}
    for name, expected in limits.items():
        np.testing.assert_allclose(make(ACTIVATIONS[name])(ends), expected, atol=1e-30)
