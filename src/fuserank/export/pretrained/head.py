"""What follows the pooling: dense layers, a cut to fewer numbers, normalisation."""

from typing import Any, Literal

import torch

from fuserank.errors import ConfigError, ExportError
from fuserank.export.pretrained.files import find_weights
from fuserank.export.pretrained.layout import DenseLayer

__all__ = ["Normalize", "load_head"]

_ACTIVATIONS = ("ELU", "GELU", "Identity", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Tanh")


class Normalize(torch.nn.Module):
    """Gives each row unit length; the fused graph keeps its form only when written like this."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, dim) of the same."""
        return x * torch.rsqrt((x * x).sum(1, keepdim=True) + 1e-24)


class _Cut(torch.nn.Module):
    """Keeps the first numbers of each row."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, dim) of (batch, more)."""
        return x[:, : self.dim]


def load_head(
    layers: tuple[DenseLayer | Literal["Normalize"], ...],
    width: int,
    dim: int | None,
    *,
    allow_pickle: bool = False,
) -> tuple[torch.nn.Sequential, int]:
    """Load what follows the pooling.

    Embeddings that have unit length before they are cut have it afterwards.

    Args:
        layers: the modules in order.
        width: of what the pooling makes.
        dim: width to which embeddings are cut; None leaves them as they are.
        allow_pickle: whether weights may be pickled.

    Returns:
        the modules, and the width of what they make.

    Raises:
        ExportError: a layer takes another width than it is given, or does not load.
        ConfigError: a cut to more numbers than there are.
    """
    modules: list[torch.nn.Module] = []
    for layer in layers:
        if layer == "Normalize":
            modules.append(Normalize())
            continue
        if layer.n_inputs != width:
            raise ExportError(
                f"{layer.folder}: found in_features {layer.n_inputs}, expected {width}, the width "
                "of what stands before it; save the model again"
            )
        modules += [_load_linear(layer, allow_pickle=allow_pickle), _activation(layer)]
        width = layer.n_outputs
    if dim is not None and dim > width:
        raise ConfigError(f"dim: found {dim}, expected at most {width}: embeddings have no more")
    if dim is not None and dim < width:
        modules.append(_Cut(dim))
        modules += [Normalize()] if layers[-1:] == ("Normalize",) else []
        width = dim
    return torch.nn.Sequential(*modules).eval(), width


def _activation(layer: DenseLayer) -> torch.nn.Module:
    package, _, name = layer.activation.rpartition(".")
    if not package.startswith("torch.nn") or name not in _ACTIVATIONS:
        raise ExportError(
            f"{layer.folder}: found activation_function {layer.activation!r}, expected one of "
            f"torch.nn's {', '.join(_ACTIVATIONS)}"
        )
    module: torch.nn.Module = getattr(torch.nn, name)()
    return module


def _load_linear(layer: DenseLayer, *, allow_pickle: bool) -> torch.nn.Linear:
    from safetensors.torch import load_file

    linear = torch.nn.Linear(layer.n_inputs, layer.n_outputs, bias=layer.bias)
    safe = find_weights(layer.folder, allow_pickle=allow_pickle)
    try:
        weights: dict[str, Any]
        if safe:
            weights = load_file(layer.folder / "model.safetensors")
        else:
            path = layer.folder / "pytorch_model.bin"
            weights = torch.load(path, map_location="cpu", weights_only=True)
        linear.load_state_dict(
            {name.removeprefix("linear."): tensor.float() for name, tensor in weights.items()}
        )
    except Exception as error:  # what torch raises for a damaged pickle has no common class
        found = " ".join(str(error).split())
        raise ExportError(
            f"{layer.folder}: the Dense module does not load: {found[:300]}; expected a weight of "
            f"({layer.n_outputs}, {layer.n_inputs}) as its config.json says"
        ) from error
    return linear.requires_grad_(False)
