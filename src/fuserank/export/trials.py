"""One trained ranker, tried with one encoder after another against its fp32 reference."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from fuserank.engine.encoder import TextEncoder, check_space
from fuserank.engine.encoder_config import Precision
from fuserank.errors import ConfigError, ExportError, SpaceMismatchError
from fuserank.export.factorise import Factorised, factorise
from fuserank.export.gate import GateBudget, GateReport, RankedWith, compare
from fuserank.export.interaction import export_interaction
from fuserank.export.sides import sides_by_name
from fuserank.export.validation import ValidationUsers
from fuserank.schema import Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.features import Features, build_features
from fuserank.training.model.collaborative import with_vectors

__all__ = ["RankerData", "Trial", "Trials"]


class RankerData:
    """A trained ranker and its data set, which can be encoded by any encoder of its width.

    Attributes:
        run: the ranker.
        dataset: the data it was trained on.
    """

    def __init__(self, run: TrainedRun, dataset: Dataset, keep: Path | None = None) -> None:
        """Take a run and its data.

        Args:
            run: the trained ranker.
            dataset: the data it was trained on.
            keep: as for `build_features`.

        Raises:
            ExportError: the data is not what the ranker was trained on.
        """
        if dataset.fingerprint != run.dataset_fingerprint:
            raise ExportError(
                f"data set {dataset.name!r}: found fingerprint {dataset.fingerprint[:12]}…, "
                f"expected {run.dataset_fingerprint[:12]}…, which the ranker was trained on; train "
                "again"
            )
        self.run = run
        self.dataset = dataset
        self._keep = keep

    @cached_property
    def full(self) -> onnx.ModelProto:
        """The ranker's graph, from all inputs to one logit a pair.

        Raises:
            ExportError: it cannot be converted.
        """
        specs = self.run.schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)
        return export_interaction(self.run.ranker.full, specs)

    @cached_property
    def parts(self) -> Factorised:
        """The ranker, factorised.

        Raises:
            ExportError: it cannot be.
        """
        return factorise(self.full, sides_by_name(value.name for value in self.full.graph.input))

    @cached_property
    def users(self) -> ValidationUsers:
        """Those by whom encoders are compared.

        Raises:
            DataError: the split leaves a part without a positive interaction.
        """
        return ValidationUsers.of_run(self.run, self.dataset)

    def rank(self, features: Features, texts: TextEncoder, directory: Path) -> RankedWith:
        """Rank the catalogue for the validation users with what an encoder made of the texts.

        Args:
            features: as `encode` made them with the encoder.
            texts: the encoder.
            directory: of the encoder.
        """
        return self.users.rank(self.parts, self.run.schema, features, texts, directory)

    def encode(self, texts: TextEncoder) -> Features:
        """Return the tensors of both tables, texts embedded by an encoder.

        Raises:
            ExportError: the collaborative vectors are not those of the data set's items.
            SchemaError: the encoder is of another width.
        """
        run = self.run
        features = build_features(self.dataset, run.schema, texts, keep=self._keep)
        if run.vectors is None:
            return features
        if len(run.vectors) != len(features.items):
            raise ExportError(
                f"found collaborative vectors of {len(run.vectors)} items, expected those of "
                f"{len(features.items)}; train again"
            )
        return with_vectors(run.schema, features, run.vectors)[1]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of an encoder.

    Attributes:
        encoder: its directory.
        report: it beside the reference.
        features: the tensors that were made with it.
    """

    encoder: Path
    report: GateReport
    features: Features


class Trials:
    """Encoders of one source, each held against the fp32 reference of all."""

    def __init__(self, data: RankerData, reference: Path, trained_with: TextEncoder) -> None:
        """Take the reference; nothing is ranked yet.

        Args:
            data: the ranker and its data.
            reference: directory of the fp32 export.
            trained_with: an encoder of the same source that the ranker was trained with, unless
                it was trained with the reference.

        Raises:
            ConfigError: the reference is not fp32.
            SpaceMismatchError: the ranker was trained with neither encoder, or they are not of one
                source.
        """
        self._data = data
        self._directory = reference
        self._encoder = TextEncoder.load(reference)
        if (found := self._encoder.config.precision) != Precision.FP32:
            raise ConfigError(
                f"{reference}: found an encoder of precision {found}, expected the fp32 export of "
                "the model as a reference"
            )
        if self._encoder.space != data.run.encoder_space:
            check_space(trained_with.space, data.run.encoder_space, trained_with.config.model)

    def of(self, directory: Path, budget: GateBudget) -> Trial:
        """Rank with an encoder, and compare.

        Raises:
            SpaceMismatchError: it was not made of the reference.
        """
        texts = TextEncoder.load(directory)
        if texts.source != self._encoder.source:
            raise SpaceMismatchError(
                f"{directory}: found an encoder made of {texts.source[:19]}…, expected one of "
                f"{self._encoder.source[:19]}…, the reference {self._directory}; export both from "
                "the same model, with the same options but for the precision"
            )
        features = self._data.encode(texts)
        ranked = self._data.rank(features, texts, directory)
        report = compare(self._reference, ranked, budget)
        return Trial(encoder=directory, report=report, features=features)

    @cached_property
    def _reference(self) -> RankedWith:
        return self._data.rank(self._data.encode(self._encoder), self._encoder, self._directory)
