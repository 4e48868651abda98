"""Reading the JSON files of a model."""

import json
from pathlib import Path
from typing import Any

from fuserank.errors import ExportError

__all__ = ["find_weights", "read_json"]


def read_json(path: Path, default: dict[str, Any] | None = None) -> Any:
    """Return what a JSON file holds.

    Args:
        path: the file.
        default: for a file that need not be there.

    Raises:
        ExportError: the file is missing or holds something else.
    """
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(f"{path}: missing; expected a folder with a pretrained model") from None
    except ValueError as error:
        raise ExportError(f"{path}: expected JSON, found: {error}") from error


def find_weights(folder: Path, *, allow_pickle: bool) -> bool:
    """Return whether a folder's weights are in safetensors form, or else pickled.

    Args:
        folder: holds a network.
        allow_pickle: whether they may be pickled.

    Raises:
        ExportError: there are none, or none that may be read.
    """
    if any(folder.glob("*.safetensors")):
        return True
    if not any(folder.glob("*.bin")):
        raise ExportError(
            f"{folder}: found no weights, expected model.safetensors; fetch or save the model again"
        )
    if not allow_pickle:
        raise ExportError(
            f"{folder}: found no weights in safetensors form; pickled weights (*.bin) can run "
            "code and are refused: save the model again with safe_serialization=True, or pass "
            "--allow-pickle, which reads tensors alone (torch's weights_only)"
        )
    return False
