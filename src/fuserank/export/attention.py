"""Attention and rotary embeddings that are traced as one operator each.

ONNX Runtime's optimizer finds the attention of BERT and RoBERTa in a traced graph. That of others
it does not find (a bias by relative position, a local window, grouped heads), and rotary embeddings
it writes as tables for every position there could be. So the layers of these architectures are
traced through the functions of this file, which say the operator outright.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from fuserank.export.pretrained.architectures import ARCHITECTURES

__all__ = ["CONTRIB_OPSET", "one_operator_each"]

CONTRIB_OPSET = {"com.microsoft": 1}


@contextmanager
def one_operator_each(network: Any) -> Iterator[None]:
    """Have a network's attention and rotary embeddings traced as one operator each, for a while.

    Nothing happens to architectures whose attention the optimizer finds by itself. Masks of
    decoders are made of plain comparisons meanwhile: transformers' own cannot be traced.

    Args:
        network: transformers model; its weights and its class stay as they are.
    """
    replaced: dict[torch.nn.Module, Callable[..., Any]] = {
        module: partial(_FORWARDS[type(module).__name__], module)
        for module in network.modules()
        if type(module).__name__ in _FORWARDS
    }
    if ARCHITECTURES[network.config.model_type].is_decoder:
        replaced[network] = partial(_decoder_forward, network, network.forward)
    for module, forward in replaced.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in replaced:
            del module.forward  # that of the class shows again


class _MultiHeadAttention(torch.autograd.Function):
    """Attention of (batch, tokens, heads·size) queries, keys and values, under a bias."""

    @staticmethod
    def forward(  # noqa: PLR0917 (torch hands on positions alone)
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor,
        n_heads: int,
        scale: float,
    ) -> torch.Tensor:
        q, k, v = (x.unflatten(2, (n_heads, -1)).transpose(1, 2) for x in (query, key, value))
        weights = torch.softmax(q @ k.transpose(2, 3) * scale + bias, dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(  # noqa: PLR0917
        g: Any, query: Any, key: Any, value: Any, bias: Any, n_heads: int, scale: float
    ) -> Any:
        absent = g.op("prim::Constant")  # a bias of the projections, a mask of whole keys
        absent.setType(torch._C.OptionalType.ofTensor())
        return g.op(
            "com.microsoft::MultiHeadAttention",
            *(query, key, value, absent, absent, bias),
            num_heads_i=n_heads,
            scale_f=scale,
        ).setType(query.type())


class _RotaryEmbedding(torch.autograd.Function):
    """Rotation of (batch, tokens, heads·size) by angles whose cosines are (tokens, size/2)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        halves = x.unflatten(2, (-1, 2, cosines.shape[1]))
        first, second = halves.unbind(3)
        cos, sin = cosines[:, None], sines[:, None]
        rotated = (first * cos - second * sin, second * cos + first * sin)
        return torch.stack(rotated, dim=3).flatten(2)

    @staticmethod
    def symbolic(g: Any, x: Any, cosines: Any, sines: Any) -> Any:
        first = g.op("Constant", value_t=torch.zeros(1, dtype=torch.int64))
        return g.op("com.microsoft::RotaryEmbedding", x, first, cosines, sines).setType(x.type())


def _rotated(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate (batch, tokens, heads·size) by what transformers makes: (1, tokens, size) each."""
    half = cosines.shape[-1] // 2  # the other half repeats it
    return _RotaryEmbedding.apply(x, cosines[0, :, :half], sines[0, :, :half])


def _distilbert(
    layer: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **_: Any
) -> tuple[torch.Tensor]:
    """Stand for DistilBERT's attention; `mask` is (batch, tokens), 0 at padding."""
    bias = _bias(mask[:, None, None, :] > 0).expand(-1, -1, mask.shape[1], -1)
    projected = (layer.q_lin(query), layer.k_lin(key), layer.v_lin(value))
    scale = (layer.dim // layer.n_heads) ** -0.5
    return (layer.out_lin(_MultiHeadAttention.apply(*projected, bias, layer.n_heads, scale)),)


def _mpnet(
    layer: Any,
    x: torch.Tensor,
    attention_mask: torch.Tensor,
    head_mask: None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor]:
    """Stand for MPNet's attention; the bias by relative position joins the mask."""
    projected = (layer.q(x), layer.k(x), layer.v(x))
    bias = attention_mask + position_bias
    scale = layer.attention_head_size**-0.5
    heads = layer.num_attention_heads
    return (layer.o(_MultiHeadAttention.apply(*projected, bias, heads, scale)),)


def _modernbert(
    layer: Any,
    x: torch.Tensor,
    attention_mask: torch.Tensor,
    sliding_window_mask: torch.Tensor,
    position_ids: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor]:
    """Stand for ModernBERT's attention, local or global."""
    query, key, value = layer.Wqkv(x).split(layer.all_head_size, dim=-1)
    angles = layer.rotary_emb(x, position_ids=position_ids)
    bias = attention_mask if layer.local_attention == (-1, -1) else sliding_window_mask
    attended = _MultiHeadAttention.apply(
        _rotated(query, *angles),
        _rotated(key, *angles),
        value,
        bias,
        layer.num_heads,
        layer.head_dim**-0.5,
    )
    return (layer.Wo(attended),)


def _llama(
    layer: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Stand for the attention of Llama, Mistral and Qwen, whose heads share keys and values."""
    query, key = layer.q_proj(hidden_states), layer.k_proj(hidden_states)
    if hasattr(layer, "q_norm"):
        query, key = (
            norm(_by_head(x, layer.head_dim)).flatten(2)
            for norm, x in ((layer.q_norm, query), (layer.k_norm, key))
        )
    attended = _MultiHeadAttention.apply(
        _rotated(query, *position_embeddings),
        _shared(_rotated(key, *position_embeddings), layer),
        _shared(layer.v_proj(hidden_states), layer),
        attention_mask,
        layer.config.num_attention_heads,
        layer.scaling,
    )
    return layer.o_proj(attended), None


def _shared(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Repeat each head of (batch, tokens, heads·size) for the queries that share it."""
    n_sharing = layer.num_key_value_groups
    if n_sharing == 1:
        return x
    own_head = torch.arange(layer.config.num_attention_heads) // n_sharing
    return _by_head(x, layer.head_dim).index_select(2, own_head).flatten(2)


def _by_head(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return (batch, tokens, heads, size) of (batch, tokens, heads·size)."""
    return x.view(x.shape[0], x.shape[1], -1, size)


_FORWARDS: Mapping[str, Callable[..., Any]] = {
    "MultiHeadSelfAttention": _distilbert,
    "MPNetSelfAttention": _mpnet,
    "ModernBertAttention": _modernbert,
    "LlamaAttention": _llama,
    "MistralAttention": _llama,
    "Qwen2Attention": _llama,
    "Qwen3Attention": _llama,
}


def _decoder_forward(
    network: Any,
    forward: Callable[..., Any],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
) -> Any:
    """Run a decoder with masks that can be traced."""
    config = network.config
    positions = torch.arange(attention_mask.shape[1])
    distance = positions[:, None] - positions[None, :]
    seen = (distance >= 0) & (attention_mask[:, None, None, :] > 0)

    def mask(kind: str) -> torch.Tensor:
        local = kind == "sliding_attention"
        return _bias(seen & (distance < config.sliding_window) if local else seen)

    kinds = getattr(config, "layer_types", None)
    masks: Any
    if kinds is None:
        windowed = getattr(config, "sliding_window", None) is not None
        masks = mask("sliding_attention" if windowed else "full_attention")
    else:
        masks = {kind: mask(kind) for kind in sorted(set(kinds))}
    return forward(input_ids=input_ids, attention_mask=masks, use_cache=False)


def _bias(seen: torch.Tensor) -> torch.Tensor:
    """Return 0 where a key is seen and the least number elsewhere; -inf could leave a row empty."""
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)
