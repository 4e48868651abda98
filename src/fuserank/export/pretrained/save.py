"""Writing a model as it was read, with another network in the place of its own."""

import shutil
from pathlib import Path
from typing import Any

from fuserank.bundle.atomic import write_directory
from fuserank.export.pretrained.load import PretrainedEncoder

__all__ = ["save_like"]

_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")


def save_like(pretrained: PretrainedEncoder, network: Any, out: Path) -> None:
    """Write a copy of a model's folder that holds another network.

    Everything else is kept: tokenizer, pooling, dense layers, prompts.

    Args:
        pretrained: the model that was read.
        network: a transformers model, on the CPU; it may be of another shape.
        out: the folder to write, which appears when it is complete.

    Raises:
        OSError: it cannot be written.
    """

    def left_out(folder: str, names: list[str]) -> set[str]:
        replaced = _WEIGHTS if Path(folder) == pretrained.weights_folder else ()
        return shutil.ignore_patterns(*replaced, ".*")(folder, names)

    with write_directory(out) as partial:
        shutil.copytree(pretrained.folder, partial, dirs_exist_ok=True, ignore=left_out)
        weights = partial / pretrained.weights_folder.relative_to(pretrained.folder)
        network.save_pretrained(weights, safe_serialization=True)
