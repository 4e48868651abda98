"""How much an encoder's embeddings would change without a head, or a neuron."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fuserank.export.prunable import prunable_layers

if TYPE_CHECKING:
    from fuserank.export.pretrained import PretrainedEncoder

__all__ = ["Importance", "measure"]

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The importance of what can be pruned, a float32 tensor for each layer.

    Attributes:
        heads: (heads,) each; none of an architecture whose heads cannot be pruned.
        neurons: (width,) each.
    """

    heads: tuple[Any, ...]
    neurons: tuple[Any, ...]


def measure(
    pretrained: PretrainedEncoder, texts: Sequence[str], *, n: int, seed: int
) -> Importance:
    """Measure the importance of heads and feed-forward neurons on texts.

    Let a gate ξ = 1 multiply a head, or a neuron. Closing it changes a text's embedding e by
    −∂e/∂ξ, to first order, and the importance is the mean over texts of |∂e/∂ξ|². For r of random
    signs E[(∂⟨r, e⟩/∂ξ)²] is just that, and one backward pass a text gives ∂⟨r, e⟩/∂ξ of all gates:
    the sum over tokens of activation times gradient. A loss against the model's own embeddings has
    no gradient to go by, being least where the model stands.

    Args:
        pretrained: the model, which stays as it is.
        texts: with prompts.
        n: texts that are read, at most, drawn at random.
        seed: of what is drawn.

    Source: Michel et al., "Are Sixteen Heads Really Better than One?", NeurIPS 2019, equation 2
    (gates of heads); Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR
    2019 (squares of first-order terms); Hutchinson, Communications in Statistics 1990 (signs).
    """
    import torch

    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(texts))[:n].tolist()
    layers = prunable_layers(pretrained.model)
    takers = [layer.attended for layer in layers if layer.attended is not None]
    takers += [layer.out_of for layer in layers]
    totals: list[Any] = [0.0] * len(takers)
    n_heads = {id(layer.attended): layer.n_heads for layer in layers if layer.attended is not None}
    with _inputs_of(takers) as seen:
        for start in range(0, len(rows), _BATCH):
            embeddings = _embed(pretrained, [texts[row] for row in rows[start : start + _BATCH]])
            signs = torch.from_numpy(_signs(rng, tuple(embeddings.shape)))
            inputs = [seen[id(taker)] for taker in takers]
            gradients = torch.autograd.grad((embeddings * signs).sum(), inputs)
            for place, (x, slope) in enumerate(zip(inputs, gradients, strict=True)):
                gates = (x.detach() * slope).sum(1)  # over tokens: (texts, width)
                if (heads := n_heads.get(id(takers[place]))) is not None:
                    gates = gates.unflatten(1, (heads, -1)).sum(2)
                totals[place] = totals[place] + (gates * gates).sum(0)
    means = [total / len(rows) for total in totals]
    return Importance(heads=tuple(means[: -len(layers)]), neurons=tuple(means[-len(layers) :]))


@contextmanager
def _inputs_of(modules: Sequence[Any]) -> Iterator[dict[int, Any]]:
    """Yield what modules were last given, (texts, tokens, width) by `id`, while the block runs."""
    seen: dict[int, Any] = {}

    def note(module: Any, given: tuple[Any, ...]) -> None:
        seen[id(module)] = given[0]

    handles = [module.register_forward_pre_hook(note) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _embed(pretrained: PretrainedEncoder, texts: list[str]) -> Any:
    """Return (texts, dim) float32 embeddings that gradients flow through."""
    from fuserank.export.trace import PooledModel, tokenized

    return PooledModel(pretrained)(**tokenized(pretrained, texts))


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return rng.choice([-1.0, 1.0], shape).astype(np.float32)
