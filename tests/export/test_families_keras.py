"""Model families as Keras and tf2onnx write them: factorised, verified, lowered."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from fuserank.bundle import ScorerKind
from fuserank.export.factorise import factorise
from fuserank.export.interaction import export_interaction
from fuserank.export.sides import sides_by_name
from fuserank.export.verify import verify_factorised
from fuserank.schema import TensorSpec

N_FIELDS, N_VALUES, DIM = 3, 11, 4
SIDE = N_FIELDS * DIM
SPECS = (
    TensorSpec(name="user.fields", dtype="int64", shape=("batch", N_FIELDS)),
    TensorSpec(name="item.fields", dtype="int64", shape=("batch", N_FIELDS)),
)


def flat(x):
    return layers.Flatten()(x)


def both(u, i):
    return layers.Concatenate()([flat(u), flat(i)])


def dense(x, *widths, batch_norm=False):
    for width in widths:
        x = layers.Dense(width)(x)
        if width != 1:
            if batch_norm:
                x = layers.BatchNormalization(
                    moving_mean_initializer="normal", moving_variance_initializer="ones"
                )(x)
            x = layers.ReLU()(x)
    return x


def gmf(u, i):
    return layers.Dense(1)(flat(u) * flat(i))


def two_tower(u, i):
    return ops.sum(dense(flat(u), 8) * dense(flat(i), 8), axis=-1)


def fm(u, i):
    v = layers.Concatenate(axis=1)([u, i])
    pairs = ops.square(ops.sum(v, axis=1)) - ops.sum(ops.square(v), axis=1)
    return 0.5 * ops.sum(pairs, axis=1, keepdims=True) + layers.Dense(1)(both(u, i))


def cross(u, i, depth=1):
    x0 = x = both(u, i)
    for _ in range(depth):
        x = x0 * layers.Dense(2 * SIDE)(x) + x
    return layers.Dense(1)(x)


def final_mlp(u, i):
    one, two = dense(flat(u), 8, 6), dense(flat(i), 7, 5)
    fused = ops.sum(layers.Dense(5, use_bias=False)(one) * two, axis=1, keepdims=True)
    return layers.Dense(1)(one) + layers.Dense(1)(two) + fused


def perceptron(u, i):
    return dense(both(u, i), 8, 1)


def perceptron_with_batch_norm(u, i):
    return dense(both(u, i), 8, 1, batch_norm=True)


def deep_perceptron(u, i):
    return dense(both(u, i), 8, 6, 1)


def neumf(u, i):
    product = flat(u) * flat(i)
    return layers.Dense(1)(layers.Concatenate()([product, dense(both(u, i), 8, 6)]))


def wide_and_deep(u, i):
    return dense(both(u, i), 8, 6, 1) + layers.Dense(1)(both(u, i))


def deep_fm(u, i):
    return fm(u, i) + dense(both(u, i), 8, 6, 1)


def two_cross_layers(u, i):
    return cross(u, i, depth=2)


def bilinear(u, i):
    return ops.sum(layers.Dense(SIDE, use_bias=False)(flat(u)) * flat(i), axis=-1)


def fwfm(u, i):
    pairs = [ops.sum(u[:, a] * i[:, b], axis=1, keepdims=True)
             for a in range(N_FIELDS) for b in range(N_FIELDS)]  # fmt: skip
    return layers.Dense(1)(layers.Concatenate()(pairs)) + layers.Dense(1)(both(u, i))


def din(u, i):
    target = ops.tile(i[:, :1], (1, N_FIELDS, 1))
    compared = layers.Concatenate()([u, target, u - target, u * target])
    pooled = ops.sum(dense(compared, 6, 1) * u, axis=1)
    return dense(layers.Concatenate()([pooled, i[:, 0], i[:, 1]]), 6, 1)


def auto_int(u, i):
    x = layers.Concatenate(axis=1)([u, i])
    q, k, v = (layers.Dense(DIM, use_bias=False)(x) for _ in range(3))
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))), axis=-1)
    return layers.Dense(1)(flat(ops.relu(ops.matmul(weights, v) + x)))


LOWERED = {
    gmf: (ScorerKind.DOT, SIDE),
    bilinear: (ScorerKind.DOT, SIDE),
    fwfm: (ScorerKind.DOT, SIDE),
    two_tower: (ScorerKind.DOT, 8),
    fm: (ScorerKind.DOT, DIM),
    cross: (ScorerKind.DOT, 2 * SIDE),
    final_mlp: (ScorerKind.DOT, 5),
    perceptron: (ScorerKind.ADDITIVE, 8),
    perceptron_with_batch_norm: (ScorerKind.ADDITIVE, 8),
    deep_perceptron: (ScorerKind.ADDITIVE, 8 * 6 + 6),
    neumf: (ScorerKind.ADDITIVE, 8 * 6 + 6 + SIDE),
    wide_and_deep: (ScorerKind.ADDITIVE, 8 * 6 + 6),
    deep_fm: (ScorerKind.ADDITIVE, 8 * 6 + 6 + DIM),
    two_cross_layers: (ScorerKind.GENERIC, None),
    din: (ScorerKind.GENERIC, None),
    auto_int: (ScorerKind.GENERIC, None),
}


@pytest.mark.parametrize("family", LOWERED, ids=lambda family: family.__name__)
def test_families_from_keras(family, check_top_100):
    keras.utils.set_random_seed(0)
    inputs = {
        spec.name: keras.Input(spec.shape[1:], dtype=spec.dtype, name=spec.name) for spec in SPECS
    }
    u, i = (layers.Embedding(N_VALUES, DIM)(value) for value in inputs.values())
    logit = ops.reshape(family(u, i), (-1,))
    trained = keras.Model(inputs, logit)
    rng = np.random.default_rng(0)
    for weight in trained.trainable_weights:
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    model = export_interaction(trained, SPECS)
    parts = factorise(model, sides_by_name(value.name for value in model.graph.input))
    users = {"user.fields": rng.integers(0, N_VALUES, (9, N_FIELDS))}
    items = {"item.fields": rng.integers(0, N_VALUES, (400, N_FIELDS))}
    assert verify_factorised(model, parts, users, items) <= 1e-5
    check_top_100(model, parts, users, items)
    kind, width = LOWERED[family]
    assert parts.scorer.kind is kind, parts.scorer.note
    if width is not None:
        assert parts.scorer.joint_multiply_adds == width
