"""A text encoder of fewer layers, which learns from the whole one to embed the user's own texts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuserank.errors import ConfigError, ExportError
from fuserank.export.imitation import Imitation, ImitationConfig, ImitationReport, n_parameters

__all__ = ["DistilConfig", "DistilReport", "distil"]

_LAYER = re.compile(r"\b(layers?)\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class DistilConfig(ImitationConfig):
    """How a text encoder is distilled: what `ImitationConfig` says, and how many layers are left.

    Attributes:
        layers: of the student, fewer than the teacher has.
        steps: batches; 0 leaves the student as it is.
        learning_rate: at its highest; a student that begins with a half of a model has far to go.
    """

    layers: int = 3
    steps: int = 2000
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is out of range."""
        super().__post_init__()
        self._check("layers", "a whole number from 1", self.layers >= 1)


@dataclass(frozen=True, kw_only=True)
class DistilReport:
    """What distillation came to.

    Attributes:
        taken: the teacher's layers that the student began with, counted from 0.
        n_layers: of the teacher.
        n_parameters: of the student.
        n_parameters_before: of the teacher.
        imitation: how near the student's embeddings are to the teacher's.
        seconds: time spent.
    """

    taken: tuple[int, ...]
    n_layers: int
    n_parameters: int
    n_parameters_before: int
    imitation: ImitationReport
    seconds: float


def distil(
    model: str | Path,
    texts: Sequence[str],
    config: DistilConfig,
    out: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> DistilReport:
    """Write a copy of a model with fewer layers, a folder that `export_encoder` takes.

    The m-th of M layers begins as the teacher's layer m·N/M of N, rounded up; all learn together to
    reproduce the embeddings, and token by token what comes out of the last layer. Token embeddings,
    tokenizer, pooling and dense layers are the teacher's.

    Args:
        model: a folder with a text encoder, or its name on the Hugging Face hub.
        texts: such as the encoder will be given, without prompts.
        config: how.
        out: the folder to write, which appears when it is complete.
        on_progress: called with (steps done, steps).

    Raises:
        ConfigError: no fewer layers than the teacher has.
        DataError: fewer than two texts that differ.
        ExportError: the model cannot be had, or its layers are of several kinds.

    Source: Sanh et al., "DistilBERT", arXiv:1910.01108, section 3 (layers taken from the teacher);
    Wang et al., "MiniLM", NeurIPS 2020 (students of fewer layers); `Imitation` has the loss.
    """
    from fuserank.export.pretrained import load_pretrained
    from fuserank.export.pretrained.save import save_like

    started = time.perf_counter()
    teacher = load_pretrained(model)
    n_layers: int = teacher.model.config.num_hidden_layers
    if config.layers >= n_layers:
        raise ConfigError(
            f"distil: layers is {config.layers}, expected fewer than the {n_layers} that model "
            f"{teacher.name!r} has"
        )
    taken = tuple(-(-m * n_layers // config.layers) - 1 for m in range(1, config.layers + 1))
    student = _with_layers(teacher.model, taken)
    report = Imitation(teacher, texts, config).train(student, on_progress)
    save_like(teacher, student, out)
    return DistilReport(
        taken=taken,
        n_layers=n_layers,
        n_parameters=n_parameters(student),
        n_parameters_before=n_parameters(teacher.model),
        imitation=report,
        seconds=time.perf_counter() - started,
    )


def _with_layers(network: Any, taken: Sequence[int]) -> Any:
    """Return a copy of a transformers model with these of its layers.

    Raises:
        ExportError: what a layer is depends on where it stands.
    """
    import torch

    if network.config.model_type == "modernbert":
        raise ExportError(
            "distil: found a model of type modernbert, whose layers see far or near by their "
            "number, expected one whose layers are alike; choose another, or prune this one"
        )
    config = deepcopy(network.config)
    config.num_hidden_layers = len(taken)
    pruned = config.pruned_heads
    config.pruned_heads = {new: pruned[old] for new, old in enumerate(taken) if old in pruned}
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = [config.layer_types[layer] for layer in taken]
    with torch.random.fork_rng():  # it is born with weights at random
        student = type(network)(config)
    place = {str(old): str(new) for new, old in enumerate(taken)}
    weights = {}
    for name, tensor in network.state_dict().items():
        found = _LAYER.search(name)
        if found is None:
            weights[name] = tensor
        elif found[2] in place:
            weights[_LAYER.sub(rf"\g<1>.{place[found[2]]}.", name, count=1)] = tensor
    student.load_state_dict(weights)
    return student
