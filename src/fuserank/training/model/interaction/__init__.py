"""Interaction models: what is known of a user and an item becomes the logit that they match."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fuserank.training.model.interaction.bilinear import (
    Bilinear,
    BilinearMatrix,
    Cosine,
    GeneralizedMatrixFactorization,
    TwoTower,
)
from fuserank.training.model.interaction.crossing import AutoInt, CrossNetwork, MaskNet
from fuserank.training.model.interaction.factorization_machine import (
    DeepFM,
    FactorizationMachine,
    FieldWeightedFactorizationMachine,
    WideAndDeep,
)
from fuserank.training.model.interaction.layers import Interaction
from fuserank.training.model.interaction.perceptron import (
    DeepPerceptron,
    FinalMLP,
    NeuMF,
    Perceptron,
)
from fuserank.training.model.interaction.target_attention import TargetAttention

if TYPE_CHECKING:
    from fuserank.training.train_config import TrainConfig

__all__ = ["INTERACTIONS", "Interaction"]


def _widths(config: TrainConfig) -> list[int]:
    """Return the widths of the hidden layers: each half as wide as the one before."""
    return [max(config.hidden >> layer, 1) for layer in range(config.depth)]


INTERACTIONS: dict[str, Callable[[TrainConfig], Interaction]] = {
    "bilinear": lambda _: Bilinear(name="interaction"),
    "bilinear-matrix": lambda _: BilinearMatrix(name="interaction"),
    "gmf": lambda _: GeneralizedMatrixFactorization(name="interaction"),
    "cosine": lambda _: Cosine(name="interaction"),
    "two-tower": lambda config: TwoTower(config.hidden, name="interaction"),
    "perceptron": lambda config: Perceptron(config.hidden, name="interaction"),
    "deep-perceptron": lambda config: DeepPerceptron(_widths(config), name="interaction"),
    "neumf": lambda config: NeuMF(_widths(config), name="interaction"),
    "finalmlp": lambda config: FinalMLP(_widths(config), name="interaction"),
    "fm": lambda _: FactorizationMachine(name="interaction"),
    "fwfm": lambda _: FieldWeightedFactorizationMachine(name="interaction"),
    "wide-and-deep": lambda config: WideAndDeep(_widths(config), name="interaction"),
    "deepfm": lambda config: DeepFM(_widths(config), name="interaction"),
    "dcn": lambda config: CrossNetwork(config.depth, name="interaction"),
    "autoint": lambda _: AutoInt(name="interaction"),
    "masknet": lambda config: MaskNet(config.hidden, name="interaction"),
    "din": lambda config: TargetAttention(
        max(config.hidden // 4, 1), _widths(config), name="interaction"
    ),
}
"""Interaction models by the name that a configuration gives."""
