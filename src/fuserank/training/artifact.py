"""A trained run on disk: model, schema, configuration, report."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bundle.atomic import write_directory
from fuserank.errors import ConfigError, DataError, FuserankError
from fuserank.schema import Schema, Side
from fuserank.training.evaluation.evaluate import Report
from fuserank.training.model.collaborative import COLLABORATIVE_FIELD
from fuserank.training.model.ranker import Ranker
from fuserank.training.train_config import TrainConfig

__all__ = ["TrainedRun", "read_report"]

_MODEL, _SCHEMA, _CONFIG, _REPORT = "model.keras", "schema.json", "config.json", "report.json"
_VECTORS = "collaborative.npy"


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A ranker and everything that is needed to export it.

    Attributes:
        ranker: the model.
        schema: the fitted fields.
        config: how it was trained.
        report: what it came to.
        vectors: (n_items, width) float32 collaborative vectors of the data set's items; None where
            the ranker does not read any.
        dataset_fingerprint: of the data it was trained on.
        encoder_space: of the text embeddings it was trained with.
    """

    ranker: Ranker
    schema: Schema
    config: TrainConfig
    report: Report
    vectors: npt.NDArray[np.float32] | None
    dataset_fingerprint: str
    encoder_space: str

    def save(self, directory: Path) -> None:
        """Write the run; an older one there is replaced in one step."""
        origin = _Origin(
            config=self.config,
            dataset_fingerprint=self.dataset_fingerprint,
            encoder_space=self.encoder_space,
            versions={name: version(name) for name in ("fuserank", "keras", "tensorflow")},
        )
        with write_directory(directory) as partial:
            self.ranker.full.save(partial / _MODEL)
            (partial / _SCHEMA).write_text(self.schema.to_json(), encoding="utf-8")
            (partial / _CONFIG).write_bytes(
                msgspec.json.format(msgspec.json.encode(origin), indent=1)
            )
            (partial / _REPORT).write_bytes(self.report.to_json())
            if self.vectors is not None:
                np.save(partial / _VECTORS, self.vectors, allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> TrainedRun:
        """Read what `save` wrote; no code of the run is executed.

        Raises:
            DataError: a part is missing or damaged; names the file.
        """
        import keras

        for name in (_MODEL, _SCHEMA, _CONFIG, _REPORT):
            _check_there(directory / name)
        origin = _read_origin(directory / _CONFIG)
        try:
            schema = Schema.from_json((directory / _SCHEMA).read_text(encoding="utf-8"))
            model = keras.saving.load_model(directory / _MODEL, safe_mode=True)
        except FuserankError as error:
            raise DataError(f"{directory / _SCHEMA}: {error}") from error
        except (ValueError, OSError, TypeError, KeyError, BadZipFile) as error:
            raise DataError(
                f"{directory / _MODEL}: expected a Keras model, found: {error}"
            ) from error
        _check_inputs(model, schema, directory)
        return cls(
            ranker=Ranker(model),
            schema=schema,
            config=origin.config,
            report=read_report(directory),
            vectors=_read_vectors(directory / _VECTORS, schema),
            dataset_fingerprint=origin.dataset_fingerprint,
            encoder_space=origin.encoder_space,
        )


def read_report(directory: Path) -> Report:
    """Read what a run came to, without its model.

    Raises:
        DataError: the report is missing or damaged.
    """
    path = directory / _REPORT
    _check_there(path)
    return Report.from_json(path.read_bytes(), str(path))


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """What a run was made of."""

    config: TrainConfig
    dataset_fingerprint: str
    encoder_space: str
    versions: dict[str, str]


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a directory that 'fuserank train' wrote")


def _read_origin(path: Path) -> _Origin:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Origin)
    except (msgspec.MsgspecError, ConfigError) as error:
        raise DataError(f"{path}: expected a training configuration, found: {error}") from error


def _read_vectors(path: Path, schema: Schema) -> npt.NDArray[np.float32] | None:
    field = schema.find(Side.ITEM, COLLABORATIVE_FIELD)
    if field is None:
        return None
    try:
        vectors: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected the collaborative vectors that the ranker reads, found: {error}"
        ) from error
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != field.dim:
        raise DataError(
            f"{path}: found {vectors.dtype} of shape {vectors.shape}, expected float32 rows of "
            f"{field.dim} numbers; train again"
        )
    return vectors


def _check_inputs(model: Any, schema: Schema, directory: Path) -> None:
    expected = {spec.name for spec in schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)}
    found = {tensor.name for tensor in model.inputs}
    if found != expected:
        raise DataError(
            f"{directory / _MODEL}: found inputs {sorted(found)}, expected {sorted(expected)} as "
            f"{_SCHEMA} has them; both files must come from the same run, so train again"
        )
