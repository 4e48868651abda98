"""Training of a smaller text encoder to embed as a larger one does, on texts alone.

No labels are needed: the larger model says what becomes of a text.

Source: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual using Knowledge
Distillation", EMNLP 2020 (regression of embeddings); Jiao et al., "TinyBERT", Findings of EMNLP
2020 (regression of hidden states).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
"""Of what the teacher makes of texts that is kept; more is made anew for each batch."""
_SORTED = 16
"""Batches that are drawn at once and sorted by length, so that little of them is padding."""


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
        hidden_weight: of the error of what comes out of the last layer, token by token, beside
            that of embeddings.
        excerpts: whether sentences and runs of words of the texts are learned from as well, and
            pairs of these.
        whole: share of a batch that is drawn from the texts themselves, where there are excerpts;
            the rest is drawn from all.
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
    whole: float = 0.8
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
        for name in ("warm_up", "whole"):
            self._check(name, "a share from 0 to 1", 0 <= getattr(self, name) <= 1)
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
        self._n_whole = len(learned)
        self._batches = self._draw()
        self._known: dict[int, tuple[Any, Any]] = {}
        self._n_bytes = 0

    def train(
        self,
        student: Any,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> ImitationReport:
        """Train a student in place.

        The loss is the mean over texts of |s − t|²/|t|², which of vectors of unit length is
        2 − 2·cos(s, t), plus `hidden_weight` times the same of the last hidden states: the mean
        over the tokens of all texts that are not padding. The table of tokens stays as it is: it is
        the teacher's, most of a small student's weights, and a third of the time of a step.

        Args:
            student: transformers model of the teacher's width, on the CPU; afterwards again.
            on_progress: called with (steps done, steps).
        """
        device, teacher = torch_device(), self._teacher
        # Without dropout: what is to be reproduced depends on nothing drawn.
        for module in (student, teacher.model, teacher.head):
            module.to(device).eval()
        expected = self._embeddings(teacher.model)
        before = _cosines(self._embeddings(student), expected)
        table = student.get_input_embeddings().weight.requires_grad_(False)
        losses = descend(student, lambda: self._loss(student), self._config, on_progress)
        table.requires_grad_(True)
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

    def _draw(self) -> Iterator[list[int]]:
        """Yield batches of rows of `texts`, each of texts of about one length, without end."""
        config, n = self._config, len(self.texts)
        lengths = np.array([len(text) for text in self.texts])
        while True:
            drawn = _SORTED * config.batch_size
            whole = self._rng.random(drawn) < config.whole
            rows = self._rng.integers(np.where(whole, self._n_whole, n))
            rows = rows[np.argsort(lengths[rows], kind="stable")].reshape(_SORTED, -1)
            yield from self._rng.permutation(rows).tolist()

    def _loss(self, student: Any) -> Any:
        """Return the loss, a scalar, of the next batch."""
        rows = next(self._batches)
        targets, states = self._targets(rows)
        embedding, hidden, mask = self._run(student, [self.texts[row] for row in rows])
        loss = _error(embedding, targets).mean()
        if weight := self._config.hidden_weight:
            loss = loss + weight * _error(hidden[mask.bool()], states).mean()
        return loss

    def _targets(self, rows: Sequence[int]) -> tuple[Any, Any]:
        """Return (rows, dim) embeddings of the teacher and (tokens, width) last hidden states.

        The teacher reads a text once, as long as what it makes of all can be kept.
        """
        import torch

        made = {row: self._known[row] for row in rows if row in self._known}
        new = [row for row in dict.fromkeys(rows) if row not in made]
        if new:
            with torch.no_grad():
                embedding, hidden, mask = self._run(
                    self._teacher.model, [self.texts[row] for row in new]
                )
            for index, row in enumerate(new):
                made[row] = embedding[index].clone(), hidden[index][mask[index].bool()]
                self._keep(row, made[row])
        embeddings, states = zip(*(made[row] for row in rows), strict=True)
        return torch.stack(embeddings), torch.cat(states)

    def _keep(self, row: int, made: tuple[Any, Any]) -> None:
        n_bytes = sum(tensor.nbytes for tensor in made)
        if self._n_bytes + n_bytes <= _MAX_BYTES:
            self._known[row] = made
            self._n_bytes += n_bytes

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
        """Return (texts, dim) embeddings, (texts, tokens, width) last hidden states, the mask."""
        from fuserank.export.trace import pooled, tokenized

        inputs = {
            name: tensor.to(network.device)
            for name, tensor in tokenized(self._teacher, texts).items()
        }
        mask = inputs["attention_mask"]
        hidden = network(**inputs).last_hidden_state
        return self._teacher.head(pooled(hidden, mask, self._teacher.pooling)), hidden, mask


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
