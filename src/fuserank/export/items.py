"""Item states: computed once for every item, in batches, straight into the bundle's files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import BundleWriter, GraphInfo, layout
from fuserank.engine.session import GraphSession

__all__ = ["write_item_states"]

Array = npt.NDArray[Any]

_BATCH = 4096


def write_item_states(
    writer: BundleWriter,
    graph: GraphInfo,
    items: Callable[[slice], Mapping[str, Array]],
    n_items: int,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Run the item graph over the whole catalogue.

    Args:
        writer: the bundle, which already holds the item graph.
        graph: inputs and outputs of that graph.
        items: from a range of rows to the inputs of the item side; so that a large catalogue
            need not be held in memory.
        n_items: items of the catalogue.
        on_progress: called with the number of items done since the last call.
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
        writer.add_array(layout.item_state(spec.name), np.empty((0, *tail), dtype=spec.dtype))
    for state in states.values():
        state.flush()  # type: ignore[attr-defined]  # a memory map
