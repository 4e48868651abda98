"""A text encoder with fewer attention heads and narrower feed-forward layers.

Every layer loses the same number of each, so that the model stays an ordinary one: its
configuration says how wide the feed-forward layers are, and which heads there are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuserank.errors import ConfigError
from fuserank.export.imitation import Imitation, ImitationConfig, ImitationReport, n_parameters
from fuserank.export.importance import Importance, measure
from fuserank.export.prunable import PrunableLayer, prunable_layers, set_width

__all__ = ["PruneConfig", "PruneReport", "prune"]


@dataclass(frozen=True, kw_only=True)
class PruneConfig(ImitationConfig):
    """How a text encoder is pruned: what `ImitationConfig` says of the training that follows.

    Attributes:
        steps: batches from which what is left learns to make up for the rest; 0 is none.
        heads: share of each layer's attention heads that is removed.
        width: share of each feed-forward layer's neurons that is removed.
        samples: texts and excerpts on which importance is measured, at most.
    """

    steps: int = 500
    heads: float = 0.0
    width: float = 0.25
    samples: int = 1024

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is out of range."""
        super().__post_init__()
        for name in ("heads", "width"):
            self._check(name, "a share from 0 to below 1", 0 <= getattr(self, name) < 1)
        self._check("width", "a share above 0 where heads is 0", self.heads > 0 or self.width > 0)
        self._check("samples", "a whole number from 1", self.samples >= 1)


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What pruning came to.

    Attributes:
        heads_before: of each layer.
        heads: left.
        width_before: neurons of each feed-forward layer.
        width: left.
        n_parameters: of what is left.
        n_parameters_before: of the model.
        imitation: how near the embeddings are to the model's.
        seconds: time spent.
    """

    heads_before: tuple[int, ...]
    heads: tuple[int, ...]
    width_before: int
    width: int
    n_parameters: int
    n_parameters_before: int
    imitation: ImitationReport
    seconds: float


def prune(
    model: str | Path,
    texts: Sequence[str],
    config: PruneConfig,
    out: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> PruneReport:
    """Write a copy of a model without its least important parts, for `export_encoder` to take.

    Args:
        model: a folder with a text encoder, or its name on the Hugging Face hub.
        texts: such as the encoder will be given, without prompts.
        config: how.
        out: the folder to write, which appears when it is complete.
        on_progress: called with (steps done, steps).

    Raises:
        ConfigError: heads of an architecture that cannot lose any, or shares of nothing.
        DataError: fewer than two texts that differ.
        ExportError: the model cannot be had.

    Source: Michel et al., "Are Sixteen Heads Really Better than One?", NeurIPS 2019; Molchanov et
    al., "Importance Estimation for Neural Network Pruning", CVPR 2019. `measure` has the measure.
    """
    from fuserank.export.pretrained import load_pretrained
    from fuserank.export.pretrained.save import save_like

    started = time.perf_counter()
    teacher = load_pretrained(model)
    layers = prunable_layers(teacher.model)
    if config.heads and any(layer.attended is None for layer in layers):
        raise ConfigError(
            f"prune: heads is {config.heads}, expected 0 for a model of type "
            f"{teacher.model.config.model_type}, which takes no fewer; prune its width alone"
        )
    imitation = Imitation(teacher, texts, config)
    importance = measure(teacher, imitation.texts, n=config.samples, seed=config.seed)
    student = deepcopy(teacher.model)
    _narrow(student, importance, config)
    _behead(student, importance, config)
    report = imitation.train(student, on_progress)
    save_like(teacher, student, out)
    left = prunable_layers(student)
    return PruneReport(
        heads_before=_heads(layers),
        heads=_heads(left),
        width_before=layers[0].width,
        width=left[0].width,
        n_parameters=n_parameters(student),
        n_parameters_before=n_parameters(teacher.model),
        imitation=report,
        seconds=time.perf_counter() - started,
    )


def _heads(layers: Sequence[PrunableLayer]) -> tuple[int, ...]:
    return tuple(layer.n_heads for layer in layers)


def _narrow(network: Any, importance: Importance, config: PruneConfig) -> None:
    """Remove the least important neurons of each feed-forward layer."""
    layers = prunable_layers(network)
    n_left = layers[0].width - _n_removed(layers[0].width, config.width)
    for layer, of_neurons in zip(layers, importance.neurons, strict=True):
        layer.keep(_least(of_neurons)[len(of_neurons) - n_left :].sort().values)
    set_width(network.config, n_left)


def _behead(network: Any, importance: Importance, config: PruneConfig) -> None:
    """Remove the least important heads of each layer."""
    pruned = network.config.pruned_heads
    heads: dict[int, list[int]] = {}
    for number, of_heads in enumerate(importance.heads):
        # Those that were removed before are still counted.
        absent = set(pruned.get(number, ()))
        there = [h for h in range(network.config.num_attention_heads) if h not in absent]
        removed = _least(of_heads)[: _n_removed(len(of_heads), config.heads)]
        if len(removed):
            heads[number] = sorted(there[head] for head in removed.tolist())
    if heads:
        network.prune_heads(heads)


def _least(importance: Any) -> Any:
    """Return (n,) places in the order of importance, the least first."""
    return importance.argsort(stable=True)


def _n_removed(n: int, share: float) -> int:
    return min(round(share * n), n - 1)
