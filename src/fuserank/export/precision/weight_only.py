"""Graphs whose weights have 8 or 4 bits, in blocks that have a scale each."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import onnx
import onnx_ir as ir

from fuserank.export.passes import QuantizeBlocks, QuantizeTables, SplitAttention, SplitEmbedding
from fuserank.export.precision.files import save

__all__ = ["write_w4", "write_w8"]

_BLOCK: dict[Literal[4, 8], int] = {8: 128, 4: 32}


def write_w8(source: Path, path: Path, keep: Collection[str] = ()) -> None:
    """Write a graph with 8-bit weights in blocks of 128.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.
        keep: names of weights that stay fp32.
    """
    _write(source, path, 8, keep)


def write_w4(source: Path, path: Path, keep: Collection[str] = ()) -> None:
    """Write a graph with 4-bit weights in blocks of 32; the arguments are those of `write_w8`."""
    _write(source, path, 4, keep)


def _write(source: Path, path: Path, bits: Literal[4, 8], keep: Collection[str]) -> None:
    model = ir.from_proto(onnx.load(source))
    SplitAttention(keep)(model)
    QuantizeBlocks(bits, _BLOCK[bits], keep)(model)
    SplitEmbedding()(model)
    QuantizeTables()(model)
    save(ir.to_proto(model), path)
