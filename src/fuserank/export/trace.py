"""From a torch model to a fused ONNX graph that pools and normalises.

The TorchScript exporter at opset 17 with eager attention is what ONNX Runtime's optimizer fuses
best: the newer exporter, a later opset or `torch.nn.functional.normalize` each lose fusions without
a word.
"""

import io
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx
import torch

from fuserank.engine.encoder_config import Pooling
from fuserank.errors import ExportError
from fuserank.export.pretrained import PretrainedEncoder

__all__ = ["PooledModel", "TracedEncoder", "pooled", "trace_encoder"]

_OPSET = 17
_FUSED_OPERATORS = (
    "Attention",
    "MultiHeadAttention",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "LayerNormalization",
    "BiasGelu",
    "Gelu",
)
_MAX_BYTES = 2**31  # of a protobuf message


@dataclass(frozen=True, kw_only=True)
class TracedEncoder:
    """A fused graph.

    Attributes:
        graph: inputs ``input_ids``, ``attention_mask`` and, where the model has them,
            ``token_type_ids``, int64 (batch, tokens); output ``embedding``, float32 (batch, dim).
        n_nodes_traced: nodes before fusion.
        n_nodes: nodes after fusion.
        fused: how often each fused operator occurs.
    """

    graph: onnx.ModelProto
    n_nodes_traced: int
    n_nodes: int
    fused: dict[str, int]


class PooledModel(torch.nn.Module):
    """A transformers model whose output is one vector for each text."""

    def __init__(self, pretrained: PretrainedEncoder) -> None:
        super().__init__()
        self.model = pretrained.model
        self.pooling = pretrained.pooling
        self.normalized = pretrained.normalized
        self.eval()  # a module is born in training mode, whatever its parts are in

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed a batch: (batch, tokens) int64 each, to (batch, dim) float32."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden = self.model(**inputs).last_hidden_state
        embedding = pooled(hidden, attention_mask, self.pooling)
        if self.normalized:
            embedding = embedding * torch.rsqrt(
                (embedding * embedding).sum(1, keepdim=True) + 1e-24
            )
        return embedding


def pooled(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Return (batch, dim) of (batch, tokens, dim): the first token, or the mean of them all."""
    if pooling is Pooling.CLS:
        return hidden[:, 0]
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def trace_encoder(pretrained: PretrainedEncoder) -> TracedEncoder:
    """Trace a model, pool and normalise in the graph, and fuse its operators.

    Raises:
        ExportError: the model is too large for one ONNX file.
    """
    size_bytes = sum(p.numel() * p.element_size() for p in pretrained.model.parameters())
    if size_bytes >= _MAX_BYTES:
        raise ExportError(
            f"model {pretrained.name!r}: {size_bytes:,} bytes of weights, expected fewer than "
            f"{_MAX_BYTES:,}, which one ONNX file holds; choose a smaller model"
        )
    traced = _trace(pretrained)
    n_nodes_traced = len(traced.graph.node)
    graph = _fuse(traced, pretrained.model.config)
    counts = Counter(node.op_type for node in graph.graph.node)
    return TracedEncoder(
        graph=graph,
        n_nodes_traced=n_nodes_traced,
        n_nodes=len(graph.graph.node),
        fused={name: counts[name] for name in _FUSED_OPERATORS if counts[name]},
    )


def _trace(pretrained: PretrainedEncoder) -> onnx.ModelProto:
    module = PooledModel(pretrained)
    example = pretrained.tokenizer(
        ["A film.", "A rather longer film about two friends."], padding=True, return_tensors="pt"
    )
    # The order of `forward`; a model without token types has a tokenizer that yields none.
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in example]
    axes = {name: {0: "batch", 1: "tokens"} for name in names}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The old exporter announces its end, and tracing remarks on checks of shapes, which hold.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.onnx.export(
            module,
            tuple(example[name] for name in names),
            buffer,
            input_names=names,
            output_names=["embedding"],
            dynamic_axes={**axes, "embedding": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def _fuse(graph: onnx.ModelProto, config: Any) -> onnx.ModelProto:
    """Fuse operators; Source: onnxruntime.transformers, at its level 0 (Python fusions alone)."""
    from onnxruntime.transformers.optimizer import optimize_model

    optimizer = optimize_model(
        graph,
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    )
    fused: onnx.ModelProto = optimizer.model
    if not any(opset.domain == "com.microsoft" for opset in fused.opset_import):
        fused.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return fused
