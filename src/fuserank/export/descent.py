"""How PyTorch networks are trained here: AdamW, a learning rate that rises and then falls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

__all__ = ["DescentConfig", "descend"]

logger = logging.getLogger(__name__)

_SHOWN = 20
"""Steps between two lines of the log."""


class DescentConfig(Protocol):
    """How.

    Attributes:
        steps: how many.
        learning_rate: at its highest.
        warm_up: share of the steps in which the learning rate rises; then it falls to 0.
        weight_decay: of AdamW.
        max_norm: to which gradients are cut.
        seed: of torch's own draws, such as dropout.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def warm_up(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def max_norm(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def descend(
    network: Any,
    draw_loss: Callable[[], Any],
    config: DescentConfig,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Train a network in place and return the loss of every step.

    Args:
        network: a torch module, on its device and in the mode it is to be trained in.
        draw_loss: draws a batch and returns its loss, a scalar.
        config: how.
        on_progress: called with (steps done, steps).

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """
    import torch

    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    losses: list[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for step in range(1, config.steps + 1):
            loss = draw_loss()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_norm)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if step % _SHOWN == 0:
                logger.info("step %d: loss %.4f", step, float(np.mean(losses[-_SHOWN:])))
            if on_progress is not None:
                on_progress(step, config.steps)
    return losses


def _rate(step: int, config: DescentConfig) -> float:
    """Return the share of the learning rate that a step has, counted from 0."""
    rising = config.warm_up * config.steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return (config.steps - step) / max(config.steps - rising, 1)
