"""The loss: cross-entropy plus λ times the squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import ops

if TYPE_CHECKING:
    from fuserank.training.train_config import MseOn

__all__ = ["interaction_loss"]


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
