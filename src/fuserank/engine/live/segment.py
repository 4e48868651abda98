"""A stretch of the catalogue: items with their states, and what scans them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fuserank.bundle import Strings
from fuserank.engine.live.item_states import ItemStates
from fuserank.engine.scoring import Scorer

__all__ = ["Delta", "MakeScorer", "Segment", "read_attributes"]

Array = npt.NDArray[Any]

MakeScorer = Callable[[Mapping[str, Array]], Scorer]
"""Returns what scans item states, by name (n, …)."""

_LEAST_ROOM = 256

_decoder = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Items in a fixed order, none of which ever changes.

    Attributes:
        n_items: how many there are; `ids` may hold more.
        ids: of each item its id.
        attributes_of: returns the attributes of an item.
        states: by name, (n_items, …): what the joint part reads of an item.
        vectors: by item field, (n_items, dim) float32: how a history represents an item.
        scorer: of these states.
    """

    n_items: int
    ids: Sequence[str]
    attributes_of: Callable[[int], dict[str, Any]]
    states: Mapping[str, Array]
    vectors: Mapping[str, Array]
    scorer: Scorer


def read_attributes(attributes: Sequence[str] | Strings) -> Callable[[int], dict[str, Any]]:
    """Return what reads the attributes of an item, out of JSON of each."""
    return lambda row: _decoder.decode(attributes[row])


class Delta:
    """The segment that grows: one thread appends, and any number read what was there before.

    Arrays have room behind the items they hold. An append writes there and nowhere else, and where
    the room is used up it moves on to larger arrays, so that a segment that was handed out stays as
    it is.
    """

    def __init__(self, make_scorer: MakeScorer) -> None:
        """Begin with no items."""
        self._make_scorer = make_scorer
        self._n_items = 0
        self._ids: list[str] = []
        self._attributes: list[str] = []
        self._states: dict[str, Array] = {}
        self._vectors: dict[str, Array] = {}

    def __len__(self) -> int:
        return self._n_items

    def append(self, ids: Sequence[str], attributes: Sequence[str], made: ItemStates) -> None:
        """Put items behind those that are there."""
        last = self._n_items + len(ids)
        for room, arrays in ((self._states, made.states), (self._vectors, made.vectors)):
            for name, added in arrays.items():
                room[name] = self._with_room(room.get(name), added, last)
                room[name][self._n_items : last] = added
        self._ids += ids
        self._attributes += attributes
        self._n_items = last

    def cut(self, n_items: int) -> None:
        """Take back all but so many items, before anybody was handed the others."""
        del self._ids[n_items:], self._attributes[n_items:]
        self._n_items = n_items

    def segment(self) -> Segment:
        """Return the items that there are now, one or more."""
        states = {name: array[: self._n_items] for name, array in self._states.items()}
        return Segment(
            n_items=self._n_items,
            ids=self._ids,
            attributes_of=read_attributes(self._attributes),
            states=states,
            vectors={name: array[: self._n_items] for name, array in self._vectors.items()},
            scorer=self._make_scorer(states),
        )

    def _with_room(self, array: Array | None, added: Array, n_items: int) -> Array:
        """Return an array with room for so many items that holds those of the one given."""
        if array is not None and len(array) >= n_items:
            return array
        larger = np.zeros((max(_LEAST_ROOM, 2 * n_items), *added.shape[1:]), dtype=added.dtype)
        if array is not None:
            larger[: self._n_items] = array[: self._n_items]
        return larger
