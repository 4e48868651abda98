"""Holding the parts against the whole."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from fuserank.engine.providers import Device, provider_options
from fuserank.errors import ParityError
from fuserank.export.factorise import Factorised

__all__ = ["TOLERANCE", "pair_scores", "part_scores", "verify_factorised"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

TOLERANCE = 1e-5
"""Largest difference, as a share of the larger of 1 and the largest score: sums are reordered,
and a logit near zero has no relative error to speak of."""


def verify_factorised(
    full: onnx.ModelProto,
    parts: Factorised,
    users: Mapping[str, Array],
    items: Mapping[str, Array],
) -> float:
    """Score every pair of some users and items both ways.

    Args:
        full: the reference.
        parts: what was made of it.
        users: inputs of the user side, (q, …).
        items: inputs of the item side, (n, …).

    Returns:
        The largest relative difference.

    Raises:
        ParityError: it exceeds `TOLERANCE`.
    """
    reference = pair_scores(full, users, items)
    scores = part_scores(parts, users, items)
    if scores.shape != reference.shape:
        raise ParityError(f"joint graph: found scores {scores.shape}, expected {reference.shape}")
    largest = max(1.0, np.abs(reference).max(initial=0.0))
    difference = float(np.abs(scores - reference).max(initial=0.0) / largest)
    if not difference <= TOLERANCE:
        raise ParityError(
            f"factorised scores differ from the full graph by {difference:.2e}, "
            f"expected at most {TOLERANCE:.0e}; the graph has an operation that a rewrite misread"
        )
    return difference


def part_scores(
    parts: Factorised, users: Mapping[str, Array], items: Mapping[str, Array]
) -> FloatArray:
    """Return (q, n) scores of the three parts."""
    states = {**_run(parts.user, users), **_run(parts.item, items)}
    (scores,) = _run(parts.joint, states).values()
    return scores


def pair_scores(
    full: onnx.ModelProto, users: Mapping[str, Array], items: Mapping[str, Array]
) -> FloatArray:
    """Return (q, n) scores of the full graph, one user at a time."""
    session = ort.InferenceSession(full.SerializeToString(), providers=provider_options(Device.CPU))
    n_users, n_items = len(next(iter(users.values()))), len(next(iter(items.values())))
    scores = np.empty((n_users, n_items), dtype=np.float32)
    names = [value.name for value in session.get_inputs()]
    for user in range(n_users):
        repeated = {
            name: np.broadcast_to(array[user], (n_items, *array.shape[1:]))
            for name, array in users.items()
        }
        feeds = {**items, **repeated}
        scores[user] = session.run(None, {name: feeds[name] for name in names})[0].reshape(-1)
    return scores


def _run(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> dict[str, Array]:
    session = ort.InferenceSession(
        model.SerializeToString(), providers=provider_options(Device.CPU)
    )
    feeds = {value.name: inputs[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
