"""An int8 graph whose scales were chosen by what its texts make of it."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from fuserank.errors import ConfigError
from fuserank.export.passes import (
    QuantizeStatic,
    QuantizeTables,
    SkipMask,
    SplitAttention,
    SplitEmbedding,
    SplitGelu,
)
from fuserank.export.passes.products import is_product
from fuserank.export.precision.activations import Batch, record
from fuserank.export.precision.files import save
from fuserank.export.precision.smoothing import choose_smoothing

__all__ = ["write_int8"]


def write_int8(
    source: Path, path: Path, keep: Collection[str] = (), batches: Sequence[Batch] = ()
) -> None:
    """Write a graph whose activations have constant scales, smoothed.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.
        keep: names of weights that stay fp32.
        batches: tokens of texts such as it will read.

    Raises:
        ConfigError: there are no batches.
    """
    if not batches:
        raise ConfigError(
            "precision int8: found no texts, expected some to choose scales by; int8-dynamic needs "
            "none"
        )
    model = ir.from_proto(onnx.load(source))
    SplitAttention(keep)(model)
    SplitGelu()(model)
    products: dict[str, list[np.ndarray]] = {}
    for node in model.graph:
        if is_product(node, keep):
            x, weights = node.inputs
            products.setdefault(str(x.name), []).append(weights.const_value.numpy())
    recorded = record(model, products, batches) if products else {}
    smoothings = {name: choose_smoothing(recorded[name], products[name]) for name in products}
    QuantizeStatic(smoothings, keep)(model)
    SplitEmbedding()(model)
    QuantizeTables()(model)
    SkipMask()(model)
    save(ir.to_proto(model), path)
