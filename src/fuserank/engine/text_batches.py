"""Batches of texts of like length, so that hardly anything of what a graph runs is padding."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["token_batches"]

RowArray = npt.NDArray[np.intp]


def token_batches(lengths: Sequence[int], budget: int, spare: int) -> list[RowArray]:
    """Divide texts into batches, the longest texts first.

    >>> [batch.tolist() for batch in token_batches([3, 9, 4, 9, 3], budget=20, spare=2)]
    [[1, 3], [2, 0, 4]]

    Args:
        lengths: tokens of each text.
        budget: tokens that a batch holds, padding included; a longer text is a batch of its own.
        spare: tokens of padding that a batch may hold: what one more run of the graph costs, so
            that more of them are dearer than a batch of its own for the texts that need them.

    Returns:
        Positions in `lengths`; the same ones for the same lengths.
    """
    if len(lengths) == 1:
        return [np.zeros(1, np.intp)]
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches = []
    start = padding = 0
    for stop, position in enumerate(order):
        width = lengths[order[start]]
        padding += width - lengths[position]
        if stop > start and ((stop - start + 1) * width > budget or padding > spare):
            batches.append(order[start:stop])
            start, padding = stop, 0
    return [*batches, order[start:]] if len(order) else []
