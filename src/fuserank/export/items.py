"""Item states: computed once for every item, in batches, straight into the bundle's files.

Beside them, where that pays, the codes by which a scan needs to read a quarter of the bytes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import BundleWriter, CodesInfo, GraphInfo, ScorerInfo, ScorerKind, layout
from fuserank.engine.scoring import quantize
from fuserank.engine.session import GraphSession

__all__ = ["write_item_codes", "write_item_states"]

Array = npt.NDArray[Any]

_BATCH = 4096

_MIN_CODED_BYTES = 8 << 20
"""Smaller states are read from the processor's cache, where a scan of codes saves nothing."""


def write_item_states(
    writer: BundleWriter,
    graph: GraphInfo,
    items: Callable[[slice], Mapping[str, Array]],
    n_items: int,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Array]:
    """Run the item graph over the whole catalogue.

    Args:
        writer: the bundle, which already holds the item graph.
        graph: inputs and outputs of that graph.
        items: from a range of rows to the inputs of the item side; so that a large catalogue
            need not be held in memory.
        n_items: items of the catalogue.
        on_progress: called with the number of items done since the last call.

    Returns:
        The states by name, memory-mapped.
    """
    session = GraphSession(Path(writer.path) / layout.GRAPHS["item"])
    states: dict[str, Array] = {}
    for start in range(0, n_items, _BATCH):
        rows = slice(start, min(start + _BATCH, n_items))
        for name, batch in session.run(items(rows)).items():
            if name not in states:
                shape = (n_items, *batch.shape[1:])
                states[name] = writer.map_array(layout.item_state(name), shape, str(batch.dtype))
            states[name][rows] = batch
        if on_progress is not None:
            on_progress(rows.stop - rows.start)
    for spec in graph.outputs if n_items == 0 else ():
        tail = [axis if isinstance(axis, int) else 0 for axis in spec.shape[1:]]
        states[spec.name] = np.empty((0, *tail), dtype=spec.dtype)
        writer.add_array(layout.item_state(spec.name), states[spec.name])
    for state in states.values():
        if isinstance(state, np.memmap):
            state.flush()
    return states


def write_item_codes(
    writer: BundleWriter, scorer: ScorerInfo, states: Mapping[str, Array], weights: Array | None
) -> CodesInfo | None:
    """Quantize the item states, where the scorer can use that and the catalogue is large enough.

    Args:
        writer: the bundle.
        scorer: its scorer.
        states: what `write_item_states` returned.
        weights: of an additive scorer.
    """
    if scorer.kind is ScorerKind.GENERIC or scorer.activation not in (None, "relu"):
        return None
    if scorer.layers or scorer.products:
        return None
    if states["item_state"].nbytes < _MIN_CODED_BYTES:
        return None
    codes = quantize(states["item_state"], states["item_constant"], weights)
    for name in ("blocks", "scales", "errors", "irregular"):
        writer.add_array(layout.item_codes(name), getattr(codes, name))
    return CodesInfo(unit=codes.unit, code_norm=codes.code_norm, error_norm=codes.error_norm)
