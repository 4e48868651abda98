"""From a torch model to a fused ONNX graph that pools and normalises.

The TorchScript exporter at opset 17 with eager attention is what ONNX Runtime's optimizer fuses
best: the newer exporter, a later opset or `torch.nn.functional.normalize` each lose fusions without
a word.
"""

import warnings
from collections import Counter
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnx_ir as ir
import torch

from fuserank.engine.encoder_config import DATA_FILE, MODEL_FILE, Pooling
from fuserank.errors import ExportError
from fuserank.export.attention import CONTRIB_OPSET, one_operator_each
from fuserank.export.passes import SplitSkipNormalization
from fuserank.export.pretrained import PretrainedEncoder

__all__ = ["PooledModel", "TracedEncoder", "pooled", "tokenized", "trace_encoder", "write_graph"]

_OPSET = 17
_FUSED_OPERATORS = (
    "Attention",
    "MultiHeadAttention",
    "RotaryEmbedding",
    "EmbedLayerNormalization",
    "SkipLayerNormalization",
    "LayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "SimplifiedLayerNormalization",
    "BiasGelu",
    "FastGelu",
    "Gelu",
)
_MAX_MESSAGE_BYTES = 2**31 - 2**20  # of a protobuf message, less what is not weights
_MAX_BYTES = 2**33  # of fp32 weights; as int8 they still go into one message


@dataclass(frozen=True, kw_only=True)
class TracedEncoder:
    """A fused graph.

    Attributes:
        graph: inputs ``input_ids``, ``attention_mask`` and, where the model has them,
            ``token_type_ids``, int64 (batch, tokens); output ``embedding``, float32 (batch, dim).
        n_nodes_traced: nodes before fusion.
        n_nodes: nodes after fusion.
        fused: how often each fused operator occurs.
        missed: how often each fused operator is missing from what the architecture should give.
    """

    graph: onnx.ModelProto
    n_nodes_traced: int
    n_nodes: int
    fused: dict[str, int]
    missed: dict[str, int]


class PooledModel(torch.nn.Module):
    """A transformers model whose output is one vector for each text."""

    def __init__(self, pretrained: PretrainedEncoder) -> None:
        super().__init__()
        self.model = pretrained.model
        self.pooling = pretrained.pooling
        self.head = pretrained.head
        self.eval()  # a module is born in training mode, whatever its parts are in

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed a batch padded on the right: (batch, tokens) int64, to (batch, dim) float32."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        hidden = self.model(**inputs).last_hidden_state
        embedding: torch.Tensor = self.head(pooled(hidden, attention_mask, self.pooling))
        return embedding


def pooled(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Pool token vectors.

    Args:
        hidden: (batch, tokens, dim) float32.
        attention_mask: (batch, tokens) int64: ones, then zeros.
        pooling: the first token, the last, the mean or the maximum of them all.

    Returns:
        (batch, dim) float32.
    """
    if pooling is Pooling.CLS:
        return hidden[:, 0]
    if pooling is Pooling.LAST:
        n_texts, n_tokens = hidden.shape[:2]
        first = torch.arange(n_texts, device=hidden.device) * n_tokens
        return hidden.flatten(0, 1).index_select(0, first + attention_mask.sum(1) - 1)
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    if pooling is Pooling.MAX:
        return torch.where(weights > 0, hidden, torch.finfo(hidden.dtype).min).amax(1)
    return (hidden * weights).sum(1) / weights.sum(1)


def tokenized(pretrained: PretrainedEncoder, texts: list[str]) -> dict[str, torch.Tensor]:
    """Tokenize texts as transformers does.

    Args:
        pretrained: whose tokenizer cuts and pads.
        texts: with their prompts.

    Returns:
        (texts, tokens) int64 by the name of an input of `PooledModel.forward`, in its order.
    """
    batch = pretrained.tokenizer(
        texts,
        padding=True,
        truncation=True,
        max_length=pretrained.max_tokens,
        return_tensors="pt",
    )
    # A tokenizer may make token types for a network that takes none.
    taken = signature(type(pretrained.model).forward).parameters
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: batch[name] for name in names if name in batch and name in taken}


def trace_encoder(pretrained: PretrainedEncoder) -> TracedEncoder:
    """Trace a model, pool and normalise in the graph, and fuse its operators.

    Raises:
        ExportError: the model is too large.
    """
    size_bytes = sum(p.numel() * p.element_size() for p in pretrained.model.parameters())
    if size_bytes >= _MAX_BYTES:
        raise ExportError(
            f"model {pretrained.name!r}: found {size_bytes:,} bytes of weights, expected fewer "
            f"than {_MAX_BYTES:,}; choose a smaller model"
        )
    traced = _trace(pretrained)
    n_nodes_traced = len(traced.graph.node)
    graph = _fuse(traced, pretrained.model.config)
    counts = Counter(node.op_type for node in graph.graph.node)
    expected = Counter(pretrained.architecture.expected(pretrained.model.config))
    # What the optimizer fused is counted first: it is how one sees that it knew the model.
    split = SplitSkipNormalization()(ir.from_proto(graph)).model
    return TracedEncoder(
        graph=ir.to_proto(split),
        n_nodes_traced=n_nodes_traced,
        n_nodes=len(graph.graph.node),
        fused={name: counts[name] for name in _FUSED_OPERATORS if counts[name]},
        missed=dict(expected - counts),
    )


def write_graph(graph: onnx.ModelProto, folder: Path) -> None:
    """Write a graph, and its weights beside it where one file cannot hold both.

    Args:
        graph: as `trace_encoder` made it; weights that go into a file of their own leave it.
        folder: an empty one.
    """
    size_bytes = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    if size_bytes <= _MAX_MESSAGE_BYTES:
        (folder / MODEL_FILE).write_bytes(graph.SerializeToString(deterministic=True))
    else:
        onnx.save_model(
            graph,
            folder / MODEL_FILE,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=DATA_FILE,
        )


def _trace(pretrained: PretrainedEncoder) -> onnx.ModelProto:
    example = tokenized(pretrained, ["A film.", "A rather longer film about two friends."])
    axes = {name: {0: "batch", 1: "tokens"} for name in example}
    with (
        warnings.catch_warnings(),
        one_operator_each(pretrained.model),
        TemporaryDirectory() as folder,
    ):
        # The old exporter announces its end, and tracing remarks on checks of shapes, which hold.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.onnx.export(
            PooledModel(pretrained),
            tuple(example.values()),
            path := str(Path(folder) / MODEL_FILE),
            input_names=list(example),
            output_names=["embedding"],
            dynamic_axes={**axes, "embedding": {0: "batch"}},
            opset_version=_OPSET,
            custom_opsets=CONTRIB_OPSET,
            dynamo=False,
        )
        return onnx.load(path)


def _fuse(graph: onnx.ModelProto, config: Any) -> onnx.ModelProto:
    """Fuse operators; Source: onnxruntime.transformers, at its level 0 (Python fusions alone)."""
    from onnxruntime.transformers.optimizer import optimize_model

    # What it calls BERT fuses normalisations and activations of every architecture.
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
