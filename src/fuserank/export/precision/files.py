"""Writing a graph that was made smaller."""

from pathlib import Path

import onnx

__all__ = ["save"]


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write a graph and its weights to one file, the same for the same graph."""
    path.write_bytes(graph.SerializeToString(deterministic=True))
