"""Checkpoints: where a training run stands after an epoch, in one file."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bundle.atomic import open_file
from fuserank.errors import DataError

if TYPE_CHECKING:
    from fuserank.schema import Schema
    from fuserank.training.data.features import Features
    from fuserank.training.data.interactions import Interactions
    from fuserank.training.train_config import TrainConfig

__all__ = ["Checkpoint", "fingerprint"]

Arrays = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything that the next epoch depends on; what an epoch draws depends on its number alone.

    Attributes:
        fingerprint: of the run, see `fingerprint`.
        history: (n_epochs, 3) float64: loss, recall and NDCG of every epoch.
        seconds: time spent until then.
        state: variables of the model and of its optimizer, the running average among them.
        best_weights: of the ranker after its best epoch.
    """

    fingerprint: str
    history: npt.NDArray[np.float64]
    seconds: float
    state: Arrays
    best_weights: Arrays

    def write(self, path: Path) -> None:
        """Write the file; an older one is replaced in one step, on disk before it is."""
        named = {
            "fingerprint": np.array(self.fingerprint),
            "history": self.history,
            "seconds": np.array(self.seconds),
            **_named("state", self.state),
            **_named("best", self.best_weights),
        }
        with open_file(path) as file:
            np.savez(file, allow_pickle=False, **named)

    @classmethod
    def read(cls, path: Path, fingerprint: str) -> Checkpoint | None:
        """Return what `write` wrote, or None where there is no such file.

        Args:
            path: the file.
            fingerprint: of the run that is to go on.

        Raises:
            DataError: the file is damaged, or a checkpoint of another run.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file.items())
            found = str(arrays["fingerprint"])
            if found != fingerprint:
                raise DataError(
                    f"{path}: found a checkpoint of another run ({found[:12]}), expected one of "
                    f"the same configuration, schema and data ({fingerprint[:12]}); train with "
                    "those, name another file, or delete this one to start again"
                )
            return cls(
                fingerprint=found,
                history=arrays["history"],
                seconds=float(arrays["seconds"]),
                state=_listed("state", arrays),
                best_weights=_listed("best", arrays),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(
                f"{path}: expected a checkpoint, found: {error}; delete it to start again"
            ) from error


def fingerprint(
    features: Features,
    schema: Schema,
    config: TrainConfig,
    train: Interactions,
    validation: Interactions,
) -> str:
    """Return sha256, in hexadecimal, over all that the weights depend on.

    Args:
        features: tensors of all users and items.
        schema: the fitted fields.
        config: model and options.
        train: interactions to learn from.
        validation: interactions that choose the best epoch.
    """
    whole = hashlib.sha256(msgspec.json.encode(config))
    whole.update(schema.to_json().encode())
    for side in (features.users, features.items):
        for name, tensor in sorted(side.tensors.items()):
            _add(whole, name, tensor)
    for part in (train, validation):
        for column in dataclasses.fields(part):
            if isinstance(array := getattr(part, column.name), np.ndarray):
                _add(whole, column.name, array)
    return whole.hexdigest()


def _add(whole: Any, name: str, array: npt.NDArray[Any]) -> None:
    whole.update(f"{name} {array.dtype.str} {array.shape}".encode())
    if array.size:
        whole.update(np.ascontiguousarray(array))


def _named(what: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    return {f"{what}_{number}": array for number, array in enumerate(arrays)}


def _listed(what: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays that `_named` named, in their order."""
    count = sum(name.startswith(f"{what}_") for name in arrays)
    return [arrays[f"{what}_{number}"] for number in range(count)]
