"""A float16 graph, for devices."""

from collections.abc import Collection
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from fuserank.errors import ConfigError

__all__ = ["write_fp16"]


def write_fp16(source: Path, path: Path, keep: Collection[str] = ()) -> None:
    """Write a graph that computes in float16 and returns float32.

    A CPU widens what it has no float16 kernel for, and takes longer than in fp32.

    Args:
        source: the ONNX file of a graph, fp32, fused.
        path: the ONNX file to write; it may be the same.
        keep: nothing.

    Raises:
        ConfigError: something is to stay fp32.

    Source: onnxruntime.transformers, float16.
    """
    if keep:
        raise ConfigError(
            f"precision fp16: found {len(keep)} weights to keep in fp32, expected none: a graph "
            "is float16 as a whole; use precision fp32"
        )
    graph = onnx.load(source)
    half = convert_float_to_float16(graph, keep_io_types=True, disable_shape_infer=True)
    onnx.save_model(half, path)
