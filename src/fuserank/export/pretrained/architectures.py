"""The architectures that can be exported, and the operators that a good export consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ARCHITECTURES", "SUPPORTED_MODEL_TYPES", "Architecture"]

# The operator that a feed-forward layer's activation fuses to, with the bias before it.
_BIASED_GELUS = {"gelu": "BiasGelu", "gelu_new": "FastGelu", "gelu_pytorch_tanh": "FastGelu"}
_GELUS = {"gelu": "Gelu", "gelu_new": "FastGelu", "gelu_pytorch_tanh": "FastGelu"}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture that can be exported.

    Attributes:
        once: fused operators that a graph has once.
        per_layer: fused operators of each layer.
        activations: fused operators by the activation of a layer, one each.
        is_decoder: whether a token sees only those before it.
        offset_positions: whether the first position embedding belongs to the token after the
            padding index.
    """

    once: Mapping[str, int]
    per_layer: Mapping[str, int]
    activations: Mapping[str, str] = field(default_factory=dict)
    is_decoder: bool = False
    offset_positions: bool = False

    def expected(self, config: Any) -> dict[str, int]:
        """Return how often each fused operator occurs in a good export of a model.

        Args:
            config: transformers' configuration of the model.
        """
        n_layers: int = config.num_hidden_layers
        counts = dict(self.once)
        for name, count in self.per_layer.items():
            counts[name] = counts.get(name, 0) + n_layers * count
        if (fused := self.activations.get(_activation(config))) is not None:
            counts[fused] = n_layers
        return counts


def _activation(config: Any) -> Any:
    names = ("hidden_act", "activation", "hidden_activation")
    return next(getattr(config, name) for name in names if hasattr(config, name))


_BERT = Architecture(
    once={"EmbedLayerNormalization": 1},
    per_layer={"Attention": 1, "SkipLayerNormalization": 2},
    activations=_BIASED_GELUS,
)
_ROBERTA = Architecture(
    # Its positions depend on the padding, which the fused embedding cannot express.
    once={"LayerNormalization": 1},
    per_layer={"Attention": 1, "SkipLayerNormalization": 2},
    activations=_BIASED_GELUS,
    offset_positions=True,
)
_DISTILBERT = Architecture(
    once={"EmbedLayerNormalization": 1},
    per_layer={"MultiHeadAttention": 1, "SkipLayerNormalization": 2},
    activations=_BIASED_GELUS,
)
_MPNET = Architecture(
    once={"SkipLayerNormalization": 1},
    per_layer={"MultiHeadAttention": 1, "SkipLayerNormalization": 2},
    activations=_BIASED_GELUS,
    offset_positions=True,
)
_MODERNBERT = Architecture(
    once={"LayerNormalization": 1},
    per_layer={"MultiHeadAttention": 1, "RotaryEmbedding": 2, "SkipLayerNormalization": 2},
    activations=_GELUS,
)
_LLAMA = Architecture(
    once={"SimplifiedLayerNormalization": 1},
    per_layer={
        "MultiHeadAttention": 1,
        "RotaryEmbedding": 2,
        "SkipSimplifiedLayerNormalization": 2,
    },
    is_decoder=True,
)
_QWEN3 = Architecture(
    once={"SimplifiedLayerNormalization": 1},
    # Queries and keys are normalised as well, head by head.
    per_layer={**_LLAMA.per_layer, "SimplifiedLayerNormalization": 2},
    is_decoder=True,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": _BERT,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "electra": _BERT,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "modernbert": _MODERNBERT,
    "mpnet": _MPNET,
    "qwen2": _LLAMA,
    "qwen3": _QWEN3,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
SUPPORTED_MODEL_TYPES = tuple(ARCHITECTURES)
