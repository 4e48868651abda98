"""Which scorer a bundle needs on a device, and its parts read from the bundle."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, CodesInfo, ScorerKind, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.providers import Device
from fuserank.engine.scoring import (
    Codes,
    DenseLayer,
    FusedScorer,
    GenericScorer,
    HalfResidentScorer,
    QuantizedScorer,
    ResidentScorer,
    Scorer,
    in_memory,
)
from fuserank.engine.session import GraphSession

__all__ = ["HostScorers", "open_resident_scorer", "open_scorer"]

Array = npt.NDArray[Any]


def open_scorer(
    bundle: Bundle, catalogue: Catalogue, device: Device, threads: int, *, shared: bool = False
) -> Scorer:
    """Return what scans a bundle's catalogue on a device.

    Args:
        bundle: says how its joint part is run.
        catalogue: of the same bundle.
        device: `CPU` or `CUDA`, as `resolve_device` returned it.
        threads: threads of a scan.
        shared: scan the codes where they are mapped, of which processes share one copy, rather than
            a copy of this process's own.

    Raises:
        ProviderError: a graph does not run on the device.
    """
    if device is Device.CUDA:
        return open_resident_scorer(bundle, catalogue, device, threads)
    codes = bundle.manifest.codes
    return HostScorers(bundle).make(
        catalogue.states, None if codes is None else _read_codes(bundle, codes, shared), threads
    )


class HostScorers:
    """Makes scorers of a bundle's kind that run on the CPU, for any item states."""

    def __init__(self, bundle: Bundle) -> None:
        """Read what all of them share."""
        self._info = bundle.manifest.scorer
        self._path = bundle.file(layout.GRAPHS["joint"])
        self._joints: dict[int, GraphSession] = {}
        self.weights = _read_weights(bundle)
        self._layers = _read_layers(bundle)

    def make(self, states: Mapping[str, Array], codes: Codes | None, threads: int) -> Scorer:
        """Return what scans item states.

        Args:
            states: by name, (n, …).
            codes: of these states; None where float32 is scanned.
            threads: threads of a scan.
        """
        if self._info.kind is ScorerKind.GENERIC:
            if threads not in self._joints:
                self._joints[threads] = GraphSession(self._path, threads=threads)
            return GenericScorer(self._joints[threads], states)
        weights, activation = self.weights, self._info.activation
        if codes is None:
            return FusedScorer(
                states,
                weights=weights,
                activation=activation,
                layers=self._layers,
                threads=threads,
            )
        return QuantizedScorer(
            states, codes, weights=weights, activation=activation, threads=threads
        )


def open_resident_scorer(
    bundle: Bundle, catalogue: Catalogue, device: Device, threads: int
) -> Scorer:
    """Return what scans states that stay on a device; arguments as in `open_scorer`."""
    select = GraphSession(bundle.file(layout.GRAPHS["select"]), device, captured=True)
    dtypes = {spec.name: spec.dtype for spec in bundle.manifest.graphs["select"].inputs}
    if dtypes.get("item_state") == "float16":
        weights = _read_weights(bundle)
        return HalfResidentScorer(
            select, catalogue.states, device, weights=weights, threads=threads
        )
    joint = GraphSession(bundle.file(layout.GRAPHS["joint"]), device)
    return ResidentScorer(select, joint, catalogue.states, device)


def _read_weights(bundle: Bundle) -> npt.NDArray[np.float32] | None:
    if bundle.manifest.scorer.kind is not ScorerKind.ADDITIVE:
        return None
    return np.asarray(bundle.array(layout.WEIGHTS))


def _read_layers(bundle: Bundle) -> list[DenseLayer]:
    return [
        DenseLayer(
            weights=bundle.array(layout.layer(index, "weights")),
            bias=bundle.array(layout.layer(index, "bias")),
            activation=activation,
        )
        for index, activation in enumerate(bundle.manifest.scorer.layers)
    ]


def _read_codes(bundle: Bundle, info: CodesInfo, shared: bool) -> Codes:
    blocks = bundle.array(layout.item_codes("blocks"))
    return Codes(
        blocks=blocks if shared else in_memory(blocks),
        scales=bundle.array(layout.item_codes("scales")),
        errors=bundle.array(layout.item_codes("errors")),
        irregular=bundle.array(layout.item_codes("irregular")),
        unit=info.unit,
        code_norm=info.code_norm,
        error_norm=info.error_norm,
    )
