"""Where a transformers model keeps what can be pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PrunableLayer", "prunable_layers", "set_width"]


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Names of modules.

    Attributes:
        layers: in the network.
        into: in a layer, the linear maps whose outputs are the neurons.
        out_of: in a layer, the linear map that takes them.
        attended: in a layer, the linear map that takes the heads side by side; None where
            transformers has no means to remove a head.
    """

    layers: str
    into: tuple[str, ...]
    out_of: str
    attended: str | None = None


_BERT = _Names(
    layers="encoder.layer",
    into=("intermediate.dense",),
    out_of="output.dense",
    attended="attention.output.dense",
)
_DECODER = _Names(layers="layers", into=("mlp.gate_proj", "mlp.up_proj"), out_of="mlp.down_proj")
_NAMES: Mapping[str, _Names] = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _BERT),
    "distilbert": _Names(
        layers="transformer.layer",
        into=("ffn.lin1",),
        out_of="ffn.lin2",
        attended="attention.out_lin",
    ),
    # Its heads share a table of relative positions, which is not cut with them.
    "mpnet": _Names(layers="encoder.layer", into=_BERT.into, out_of=_BERT.out_of),
    "modernbert": _Names(layers="layers", into=("mlp.Wi",), out_of="mlp.Wo"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _DECODER),
}


@dataclass(frozen=True, kw_only=True)
class PrunableLayer:
    """A layer of a transformer.

    Attributes:
        into: linear maps whose outputs are the feed-forward layer's neurons; where one map makes
            gates and neurons they stand in blocks.
        out_of: the linear map that takes the neurons.
        attended: the linear map that takes the heads side by side; None where none can go.
        n_heads: of its attention.
    """

    into: tuple[Any, ...]
    out_of: Any
    attended: Any
    n_heads: int

    @property
    def width(self) -> int:
        """How many neurons there are."""
        return int(self.out_of.in_features)

    def keep(self, neurons: Any) -> None:
        """Remove all neurons but these.

        Args:
            neurons: (n,) int64 numbers, on the CPU as the layer is.
        """
        import torch

        width = self.width
        for linear in self.into:
            blocks = range(0, linear.out_features, width)
            rows = torch.cat([neurons + start for start in blocks])
            _cut(linear, "weight", rows, dim=0)
            if linear.bias is not None:
                _cut(linear, "bias", rows, dim=0)
            linear.out_features = len(rows)
        _cut(self.out_of, "weight", neurons, dim=1)
        self.out_of.in_features = len(neurons)


def prunable_layers(network: Any) -> list[PrunableLayer]:
    """Return the layers of a transformers model of a supported architecture, in order."""
    names, config = _NAMES[network.config.model_type], network.config
    head_size = config.hidden_size // config.num_attention_heads
    layers = []
    for layer in network.get_submodule(names.layers):
        attended = layer.get_submodule(names.attended) if names.attended else None
        layers.append(
            PrunableLayer(
                into=tuple(layer.get_submodule(name) for name in names.into),
                out_of=layer.get_submodule(names.out_of),
                attended=attended,
                # Heads that were removed before are still counted in the configuration.
                n_heads=attended.in_features // head_size
                if attended is not None
                else config.num_attention_heads,
            )
        )
    return layers


def set_width(config: Any, width: int) -> None:
    """Say in a configuration how many neurons a feed-forward layer has."""
    setattr(
        config, "hidden_dim" if config.model_type == "distilbert" else "intermediate_size", width
    )


def _cut(linear: Any, name: str, kept: Any, dim: int) -> None:
    import torch

    tensor = getattr(linear, name).detach().index_select(dim, kept)
    setattr(linear, name, torch.nn.Parameter(tensor.contiguous()))
