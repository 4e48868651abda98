import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from fuserank.training.fitting.loss import (  # noqa: E402
    batch_softmax_loss,
    bpr_loss,
    hardest,
    interaction_loss,
    softmax_loss,
)

RNG = np.random.default_rng(0)
Z = RNG.normal(scale=2, size=(5, 4))
R = (RNG.random(Z.shape) < 0.5).astype(float)
W = RNG.random(Z.shape)
P = 1 / (1 + np.exp(-Z))


@pytest.mark.parametrize(
    ("mse_on", "estimate"),
    [("probability", P), ("logit", Z)],
)
def test_the_loss_is_weighted_cross_entropy_plus_lambda_squared_error(mse_on, estimate):
    per_example = -(R * np.log(P) + (1 - R) * np.log(1 - P)) + 0.3 * (estimate - R) ** 2
    found = interaction_loss(
        tf.constant(Z), tf.constant(R), tf.constant(W), mse_weight=0.3, mse_on=mse_on
    )
    np.testing.assert_allclose(found, (W * per_example).sum() / W.sum(), rtol=1e-12)


def test_the_gradient_of_the_literal_form_is_that_of_the_method():
    """Σ[(σ(z) − r) + 2λ(z − r)]·∂z/∂θ for a linear z = Xθ, against automatic differentiation."""
    X, theta, lam = RNG.normal(size=(8, 3)), tf.Variable(RNG.normal(size=3)), 0.1
    r = np.array([0.0, 1.0] * 4)
    with tf.GradientTape() as tape:
        z = tf.linalg.matvec(X, theta)
        loss = interaction_loss(z, r, np.ones(8), mse_weight=lam, mse_on="logit")
    values = z.numpy()
    errors = (1 / (1 + np.exp(-values)) - r) + 2 * lam * (values - r)
    np.testing.assert_allclose(8 * tape.gradient(loss, theta), errors @ X, rtol=1e-10)


def test_the_loss_of_extreme_logits_is_finite():
    z, r = tf.constant([-1e4, 1e4], tf.float64), tf.constant([1.0, 0.0], tf.float64)
    loss = interaction_loss(z, r, tf.ones_like(r), mse_weight=0.1, mse_on="probability")
    np.testing.assert_allclose(loss, 1e4 + 0.1, rtol=1e-9)


def test_a_weight_of_zero_leaves_an_example_out():
    kept = interaction_loss(
        tf.constant(Z[0]), tf.constant(R[0]), tf.constant(W[0]), mse_weight=0.1, mse_on="logit"
    )
    weights = np.zeros_like(W)
    weights[0] = W[0]
    everything = interaction_loss(
        tf.constant(Z), tf.constant(R), tf.constant(weights), mse_weight=0.1, mse_on="logit"
    )
    np.testing.assert_allclose(kept, everything, rtol=1e-12)


def test_bpr_compares_the_positive_with_each_negative():
    expected = -np.log(1 / (1 + np.exp(-(Z[:, :1] - Z[:, 1:]))))
    np.testing.assert_allclose(
        bpr_loss(tf.constant(Z), tf.constant(W)),
        (W[:, 1:] * expected).sum() / W[:, 1:].sum(),
        rtol=1e-12,
    )


def test_softmax_with_all_weights_alike_is_the_cross_entropy_of_the_first():
    log_q = np.full_like(Z, -3.0)
    found = softmax_loss(tf.constant(Z), tf.ones_like(Z), tf.constant(log_q))
    np.testing.assert_allclose(
        found, -np.log(np.exp(Z[:, 0]) / np.exp(Z).sum(axis=1)).mean(), rtol=1e-12
    )


def test_a_weight_is_how_many_candidates_one_stands_for():
    doubled = np.concatenate([Z, Z[:, 2:3]], axis=1)
    weights = np.ones_like(Z)
    weights[:, 2] = 2
    np.testing.assert_allclose(
        softmax_loss(tf.constant(Z), tf.constant(weights), tf.zeros_like(Z)),
        softmax_loss(tf.constant(doubled), tf.ones_like(doubled), tf.zeros_like(doubled)),
        rtol=1e-12,
    )


def test_the_correction_makes_sampled_softmax_that_of_all_items():
    """Over n draws from q, Σ_j exp(z_j − log q_j) has the mean n·Σ_j exp z_j."""
    n_draws = 200_000
    z, q = RNG.normal(size=50), RNG.dirichlet(np.full(50, 3.0))
    candidates = np.concatenate([[7], RNG.choice(50, size=n_draws, p=q)])[None]
    found = softmax_loss(
        tf.constant(z[candidates]), tf.ones_like(candidates, tf.float64), np.log(q)[candidates]
    )
    of_all_items = np.log(np.exp(z).sum()) - z[7]
    np.testing.assert_allclose(found - np.log(n_draws * q[7]), of_all_items, atol=0.02)


def test_only_the_hardest_negatives_count():
    logits = np.array([[3.0, 1.0, 2.0, 9.0], [0.0, 5.0, 1.0, 2.0]])
    weights = np.array([[1.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]])  # 9.0 is not a negative
    kept = hardest(tf.constant(logits), tf.constant(weights), 2).numpy()
    np.testing.assert_array_equal(kept, [[1, 0, 1, 0], [0, 0.5, 0, 0.5]])


def test_batch_softmax_is_that_of_all_items_where_all_are_there():
    positives = np.array([0, 3, 3, 1, 2])
    log_softmax = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
    expected = -log_softmax[np.arange(5), positives].mean()
    found = batch_softmax_loss(tf.constant(Z), positives, tf.zeros(4, tf.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_batch_softmax_of_a_sample_estimates_that_of_all_items():
    n, rng = 2000, np.random.default_rng(1)
    z, q = rng.normal(size=n), rng.uniform(0.2, 1.0, n)
    q[0] = 1.0  # the positive is always there
    expected = np.log(np.exp(z).sum()) - z[0]
    found = []
    for _ in range(200):
        kept = np.flatnonzero(rng.random(n) < q)
        loss = batch_softmax_loss(
            tf.constant(z[None, kept]), np.array([0]), tf.constant(np.log(q[kept]))
        )
        found.append(float(loss))
    np.testing.assert_allclose(np.mean(found), expected, atol=0.02)
