"""Training of a smaller text encoder to embed as a larger one does, on texts alone.

No labels are needed: the larger model says what becomes of a text.

Source: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual using Knowledge
Distillation", EMNLP 2020 (regression of embeddings); Jiao et al., "TinyBERT", Findings of EMNLP
2020 (regression of the hidden states of evenly chosen layers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fuserank.errors import ConfigError
from fuserank.export.descent import descend
from fuserank.export.excerpts import divide, with_excerpts

if TYPE_CHECKING:
    from fuserank.export.pretrained import PretrainedEncoder

__all__ = ["Imitation", "ImitationConfig", "ImitationReport", "n_parameters", "torch_device"]

_MAX_BYTES = 2**30
"""Of embeddings of the teacher that are kept; more are made anew for each batch."""


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How a student is trained to embed as its teacher does.

    Attributes:
        steps: batches; 0 leaves the student as it is.
        batch_size: texts in a batch.
        learning_rate: at its highest.
        warm_up: share of the steps in which the learning rate rises; then it falls to 0.
        weight_decay: of AdamW.
        max_norm: to which gradients are cut.
        hidden_weight: of the error of hidden states beside that of embeddings; with 0 the teacher
            reads each text once only.
        excerpts: whether sentences and runs of words of the texts are learned from as well, and
            pairs of these.
        held_out: share of the texts that the student is judged on.
        seed: of everything drawn.
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-4
    warm_up: float = 0.1
    weight_decay: float = 0.01
    max_norm: float = 1.0
    hidden_weight: float = 1.0
    excerpts: bool = True
    held_out: float = 0.05
    seed: int = 42

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is out of range."""
        for name, least in (("steps", 0), ("batch_size", 1), ("seed", 0)):
            self._check(name, f"a whole number from {least}", getattr(self, name) >= least)
        for name in ("learning_rate", "max_norm"):
            self._check(name, "a number above 0", getattr(self, name) > 0)
        for name in ("weight_decay", "hidden_weight"):
            self._check(name, "0 or more", getattr(self, name) >= 0)
        self._check("warm_up", "a share from 0 to 1", 0 <= self.warm_up <= 1)
        self._check("held_out", "a share between 0 and 1", 0 < self.held_out < 1)

    def _check(self, name: str, expected: str, holds: bool) -> None:
        if not holds:
            command = type(self).__name__.removesuffix("Config").lower()
            raise ConfigError(f"{command}: {name} is {getattr(self, name)!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class ImitationReport:
    """What a student came to. Cosines are of its embeddings of the held-out texts to the teacher's.

    Attributes:
        n_texts: texts and excerpts that there were to draw from.
        n_held_out: texts held out.
        mean_before: mean cosine before training.
        min_before: least cosine before training.
        mean_after: mean cosine after training.
        min_after: least cosine after training.
        losses: of every step.
    """

    n_texts: int
    n_held_out: int
    mean_before: float
    min_before: float
    mean_after: float
    min_after: float
    losses: tuple[float, ...]


class Imitation:
    """A teacher and the texts on which students learn from it."""

    def __init__(
        self, teacher: PretrainedEncoder, texts: Sequence[str], config: ImitationConfig
    ) -> None:
        """Divide the texts, and make excerpts of those that are learned from.

        Args:
            teacher: its network stays as it is.
            texts: without prompts; each gets one of the model's two, by chance.
            config: how.

        Raises:
            DataError: there are fewer than two texts that differ.
        """
        self._config, self._teacher = config, teacher
        self._rng = np.random.default_rng(config.seed)
        learned, held = divide(texts, config.held_out, self._rng)
        self.texts = self._prompted(
            with_excerpts(learned, self._rng) if config.excerpts else learned
        )
        self.held_out = self._prompted(held)
        self._known: dict[int, Any] = {}
        self._keeps = len(self.texts) * teacher.dim * 4 <= _MAX_BYTES

    def train(
        self,
        student: Any,
        layers: Sequence[int],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> ImitationReport:
        """Train a student in place.

        The loss is the mean over texts of |s − t|²/|t|², which of vectors of unit length is
        2 − 2·cos(s, t), plus `hidden_weight` times the same of hidden states: the mean over layers,
        and over the tokens of all texts that are not padding.

        Args:
            student: transformers model of the teacher's width, on the CPU; afterwards again.
            layers: of the teacher, counted from 0, which the student's are to reproduce in turn.
            on_progress: called with (steps done, steps).
        """
        device, teacher = torch_device(), self._teacher
        # Without dropout: what is to be reproduced depends on nothing drawn.
        for module in (student, teacher.model, teacher.head):
            module.to(device).eval()
        expected = self._embeddings(teacher.model)
        before = _cosines(self._embeddings(student), expected)
        losses = descend(student, lambda: self._loss(student, layers), self._config, on_progress)
        after = _cosines(self._embeddings(student), expected)
        for module in (student, teacher.model, teacher.head):
            module.to("cpu")
        return ImitationReport(
            n_texts=len(self.texts),
            n_held_out=len(self.held_out),
            mean_before=float(before.mean()),
            min_before=float(before.min()),
            mean_after=float(after.mean()),
            min_after=float(after.min()),
            losses=tuple(losses),
        )

    def _prompted(self, texts: Sequence[str]) -> list[str]:
        prompts = (self._teacher.passage_prompt, self._teacher.query_prompt)
        drawn = self._rng.integers(2, size=len(texts)).tolist()
        return [prompts[which] + text for which, text in zip(drawn, texts, strict=True)]

    def _loss(self, student: Any, layers: Sequence[int]) -> Any:
        """Return the loss, a scalar, of a batch that is drawn."""
        rows = self._rng.integers(len(self.texts), size=self._config.batch_size).tolist()
        texts = [self.texts[row] for row in rows]
        weight = self._config.hidden_weight
        if not weight:
            return _error(self._run(student, texts)[0], self._targets(rows)).mean()
        import torch

        with torch.no_grad():
            target, expected, _ = self._run(self._teacher.model, texts)
        embedding, hidden, mask = self._run(student, texts)
        errors = [
            (_error(mine, expected[layer + 1]) * mask).sum() / mask.sum()
            for mine, layer in zip(hidden[1:], layers, strict=True)
        ]
        return _error(embedding, target).mean() + weight * sum(errors) / len(errors)

    def _targets(self, rows: Sequence[int]) -> Any:
        """Return (rows, dim) embeddings of the teacher, made once where all can be kept."""
        import torch

        new = [row for row in dict.fromkeys(rows) if row not in self._known]
        known = self._known if self._keeps else {}
        if new:
            with torch.no_grad():
                made = self._run(self._teacher.model, [self.texts[row] for row in new])[0]
            known.update(zip(new, made, strict=True))
        return torch.stack([known[row] for row in rows])

    def _embeddings(self, network: Any) -> Any:
        """Return (texts, dim) float32 embeddings of the held-out texts."""
        import torch

        size = self._config.batch_size
        with torch.no_grad():
            return torch.cat(
                [
                    self._run(network, self.held_out[start : start + size])[0]
                    for start in range(0, len(self.held_out), size)
                ]
            )

    def _run(self, network: Any, texts: list[str]) -> tuple[Any, Any, Any]:
        """Return embeddings (texts, dim), hidden states (texts, tokens, width) and the mask."""
        from fuserank.export.trace import pooled, tokenized

        inputs = {
            name: tensor.to(network.device)
            for name, tensor in tokenized(self._teacher, texts).items()
        }
        mask = inputs["attention_mask"]
        made = network(**inputs, output_hidden_states=True)
        embedding = pooled(made.last_hidden_state, mask, self._teacher.pooling)
        return self._teacher.head(embedding), made.hidden_states, mask


def torch_device() -> str:
    """Return where networks are trained: the first CUDA device, or else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def n_parameters(network: Any) -> int:
    """Return how many weights a torch module has."""
    return sum(parameter.numel() for parameter in network.parameters())


def _error(mine: Any, expected: Any) -> Any:
    """Return (...) squared errors of (..., width) vectors, in units of what is expected."""
    squares = (expected * expected).sum(-1).clamp_min(1e-12)
    return ((mine - expected) ** 2).sum(-1) / squares


def _cosines(mine: Any, expected: Any) -> Any:
    """Return (n,) cosines of (n, dim) vectors."""
    from torch.nn import functional

    return functional.cosine_similarity(mine, expected, dim=1)
