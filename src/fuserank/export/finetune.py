"""Fine-tuning of a text encoder on who liked what, before it is exported.

The encoder is a PyTorch model and the ranker a Keras one: no gradient flows from the ranker's loss
into the encoder. They are trained one after the other instead. The encoder learns to embed what a
user likes near what the same user liked besides, which is what the ranker's towers then read: the
mean of a history's texts on one side, an item's text on the other. A frozen encoder with a ranker
on top needs none of this; a fine-tuned one is exported and used in its place, and the ranker is
trained anew, because its embeddings are of another space.

Only the training part of the split is learned from, and the split has to be the ranker's own, lest
the encoder see what the ranker is judged by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fuserank.errors import ConfigError
from fuserank.export.descent import descend
from fuserank.export.liked_pairs import Batch, LikedPairs
from fuserank.training.data.splits import SplitConfig

if TYPE_CHECKING:
    from fuserank.export.pretrained import PretrainedEncoder
    from fuserank.training.data.dataset import Dataset

__all__ = ["FinetuneConfig", "FinetuneReport", "finetune"]


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a text encoder is fine-tuned.

    Attributes:
        steps: batches.
        batch_size: pairs of a user and a liked item in a batch; each item is a negative of the
            other users who did not like it.
        events: other liked items that a user's side is the mean of, at most.
        learning_rate: at its highest.
        warm_up: share of the steps in which the learning rate rises; then it falls to 0.
        weight_decay: of AdamW.
        temperature: what cosines are divided by.
        max_norm: to which gradients are cut.
        seed: of the split and of everything drawn.
        split: the ranker's own.
    """

    steps: int = 1000
    batch_size: int = 32
    events: int = 3
    learning_rate: float = 2e-5
    warm_up: float = 0.1
    weight_decay: float = 0.01
    temperature: float = 0.05
    max_norm: float = 1.0
    seed: int = 42
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is out of range."""
        for name, least in (("steps", 1), ("batch_size", 2), ("events", 1), ("seed", 0)):
            self._check(name, f"a whole number from {least}", getattr(self, name) >= least)
        for name in ("learning_rate", "temperature", "max_norm"):
            self._check(name, "a number above 0", getattr(self, name) > 0)
        self._check("weight_decay", "0 or more", self.weight_decay >= 0)
        self._check("warm_up", "a share from 0 to 1", 0 <= self.warm_up <= 1)

    def _check(self, name: str, expected: str, holds: bool) -> None:
        if not holds:
            raise ConfigError(f"finetune: {name} is {getattr(self, name)!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class FinetuneReport:
    """What fine-tuning came to.

    Attributes:
        losses: of every step.
        n_pairs: pairs of a user and a liked item that there were to draw from.
        seconds: time spent.
    """

    losses: tuple[float, ...]
    n_pairs: int
    seconds: float


def finetune(
    model: str | Path,
    dataset: Dataset,
    config: FinetuneConfig,
    out: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> FinetuneReport:
    """Write a fine-tuned copy of a model, a folder that `export_encoder` takes.

    A pair's logits are z_ij = cos(u_i, v_j)/τ − log q_j over the items j of its batch: u_i is the
    mean embedding of other items that the user liked, and of the user's own texts, v_j that of an
    item, and q_j the item's share of all likes, without which the popular would be pushed away for
    being in many batches. The loss is the mean of −log softmax(z_i)_i, items j ≠ i that user i
    liked left out.

    Args:
        model: a folder with a model of the BERT family, or its name on the Hugging Face hub.
        dataset: the data.
        config: how.
        out: the folder to write, which appears when it is complete.
        on_progress: called with (steps done, steps).

    Raises:
        DataError: the items have no texts, or no user likes two items that have.
        ExportError: the model cannot be had or is of another family.

    Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply",
    arXiv:1705.00652, section 4.4 (negatives of the batch); Yi et al., "Sampling-Bias-Corrected
    Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, equation 3 (log q).
    """
    from fuserank.export.pretrained import load_pretrained
    from fuserank.export.pretrained.save import save_like

    started = time.perf_counter()
    pretrained = load_pretrained(model)
    pairs = LikedPairs(
        dataset,
        config.split,
        seed=config.seed,
        query_prompt=pretrained.query_prompt,
        passage_prompt=pretrained.passage_prompt,
    )
    losses = _learn(pretrained, pairs, config, on_progress)
    save_like(pretrained, pretrained.model, out)
    return FinetuneReport(
        losses=tuple(losses), n_pairs=pairs.n, seconds=time.perf_counter() - started
    )


def _learn(
    pretrained: PretrainedEncoder,
    pairs: LikedPairs,
    config: FinetuneConfig,
    on_progress: Callable[[int, int], None] | None,
) -> list[float]:
    """Train the model in place and return the loss of every step."""
    import torch

    network = pretrained.model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).train()

    def draw_loss() -> Any:
        batch = pairs.draw(config.batch_size, config.events)
        return _loss(_embed(pretrained, batch.texts, device), batch, config.temperature)

    losses = descend(network, draw_loss, config, on_progress)
    network.to("cpu").eval()
    return losses


def _embed(pretrained: PretrainedEncoder, texts: Sequence[str], device: str) -> Any:
    """Return (n, dim) embeddings as the exported encoder makes them, before normalisation."""
    from fuserank.export.trace import pooled

    tokens = pretrained.tokenizer(
        list(texts),
        padding=True,
        truncation=True,
        max_length=pretrained.max_tokens,
        return_tensors="pt",
    ).to(device)
    hidden = pretrained.model(**tokens).last_hidden_state
    return pretrained.head.to(device)(pooled(hidden, tokens["attention_mask"], pretrained.pooling))


def _loss(vectors: Any, batch: Batch, temperature: float) -> Any:
    """Return the loss, a scalar, of (n, dim) embeddings of a batch's texts."""
    import torch
    from torch.nn import functional

    def on_device(array: npt.NDArray[Any]) -> Any:
        return torch.from_numpy(array).to(vectors.device)

    vectors = functional.normalize(vectors, dim=1)
    rows = on_device(batch.user_texts)
    present = (rows >= 0).to(vectors.dtype)[:, :, None]
    users = functional.normalize((vectors[rows.clamp(min=0)] * present).sum(dim=1), dim=1)
    cosines = users @ vectors[on_device(batch.item_texts)].T
    logits = cosines / temperature - on_device(batch.log_chances)
    own = torch.arange(len(logits), device=vectors.device)
    counted = on_device(batch.is_negative)
    counted[own, own] = True
    return functional.cross_entropy(logits.masked_fill(~counted, -torch.inf), own)
