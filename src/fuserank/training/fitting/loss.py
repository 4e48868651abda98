"""Losses: cross-entropy plus λ times the squared error, BPR, and sampled softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import ops

if TYPE_CHECKING:
    from fuserank.training.train_config import MseOn

__all__ = ["batch_softmax_loss", "bpr_loss", "hardest", "interaction_loss", "softmax_loss"]


def interaction_loss(
    logits: Any, labels: Any, weights: Any, *, mse_weight: float, mse_on: MseOn
) -> Any:
    """Return the weighted mean over examples of −[r log p + (1−r) log(1−p)] + λ(e − r)².

    Here p = σ(z), and e is p (Brier score) or the logit z itself, for which an example's
    gradient is [(σ(z) − r) + 2λ(z − r)]·∂z/∂θ.

    Args:
        logits: z, float32 of any shape.
        labels: r, 0 or 1, of the same shape.
        weights: 0 or more, of the same shape.
        mse_weight: λ.
        mse_on: what the squared error compares with r.

    Source: Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather
    Review 78(1), 1950; the cross-entropy is written so that it never overflows.
    """
    cross_entropy = ops.softplus(logits) - labels * logits
    estimate = ops.sigmoid(logits) if mse_on == "probability" else logits
    per_example = cross_entropy + mse_weight * ops.square(estimate - labels)
    return ops.sum(weights * per_example) / ops.sum(weights)


def bpr_loss(logits: Any, weights: Any) -> Any:
    """Return the weighted mean over a row's other candidates of −log σ(z₀ − z_j).

    Args:
        logits: (B, C) float32; z₀, the first, is the positive's.
        weights: (B, C), 0 or more; the first column is not read.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009,
    section 4.1.
    """
    per_pair = ops.softplus(logits[:, 1:] - logits[:, :1])
    return ops.sum(weights[:, 1:] * per_pair) / ops.maximum(ops.sum(weights[:, 1:]), 1e-9)


def softmax_loss(logits: Any, weights: Any, log_chances: Any) -> Any:
    """Return the mean over rows of −log(exp z′₀ / Σ_j w_j exp z′_j), z′ = z − log q.

    q is how likely a candidate was to be drawn: without log q, what is drawn often would be pushed
    down for being drawn often.

    Args:
        logits: (B, C) float32; z₀, the first, is the positive's.
        weights: (B, C), 0 or more: how many negatives a candidate stands for.
        log_chances: (B, C) float32: log q.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, equations 3 and 4.
    """
    corrected = logits - log_chances + ops.log(ops.maximum(weights, 1e-30))
    return ops.mean(ops.logsumexp(corrected, axis=1) - corrected[:, 0])


def batch_softmax_loss(logits: Any, positives: Any, log_presence: Any) -> Any:
    """Return the mean over rows of −log softmax of the positive among all items of a batch.

    z′ = z − log q stands for z, q being how likely an item was to be in the batch: what often is
    would be pushed down for it. Where the batch holds the catalogue, log q is 0.

    Args:
        logits: z, (B, M) float32, of every row with every item.
        positives: (B,) column of a row's positive.
        log_presence: (M,) float32: log q.

    Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
    Recommendations", RecSys 2019, equations 3 and 4.
    """
    corrected = logits - log_presence
    liked = ops.take_along_axis(corrected, positives[:, None], axis=1)[:, 0]
    return ops.mean(ops.logsumexp(corrected, axis=1) - liked)


def hardest(logits: Any, weights: Any, count: int) -> Any:
    """Return the weights with all but the best-scored `count` of the negatives at 0.

    Args:
        logits: (B, n) float32 of the negatives.
        weights: (B, n).
        count: negatives kept a row.

    Source: Zhang et al., "Optimizing Top-N Collaborative Filtering via Dynamic Negative Item
    Sampling", SIGIR 2013.
    """
    usable = ops.where(weights > 0, logits, -1e30)
    least = ops.top_k(usable, count)[0][:, -1:]
    return ops.where(usable >= least, weights, 0.0)
