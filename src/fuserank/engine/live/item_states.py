"""What the item graph makes of items, as arrays and as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["ItemStates"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ItemStates:
    """What scans and histories read of n items.

    Attributes:
        states: by name, (n, …): the outputs of the item graph.
        vectors: by item field, (n, dim) float32: how a history represents an item.
    """

    states: Mapping[str, Array]
    vectors: Mapping[str, Array]

    def to_bytes(self) -> list[bytes]:
        """Return what is known of each item, each for itself."""
        n_items = len(next(iter(self.states.values())))
        return [
            msgspec.msgpack.encode((_packed(self.states, row), _packed(self.vectors, row)))
            for row in range(n_items)
        ]

    @classmethod
    def from_bytes(cls, rows: list[bytes]) -> "ItemStates":
        """Join what `to_bytes` returned of one item or more."""
        read = [msgspec.msgpack.decode(row, type=tuple[_Arrays, _Arrays]) for row in rows]
        return cls(
            states=_joined([states for states, _ in read]),
            vectors=_joined([vectors for _, vectors in read]),
        )


_Arrays = dict[str, tuple[str, tuple[int, ...], bytes]]


def _packed(arrays: Mapping[str, Array], row: int) -> _Arrays:
    return {
        name: (array.dtype.str, array.shape[1:], array[row].tobytes())
        for name, array in arrays.items()
    }


def _joined(rows: list[_Arrays]) -> dict[str, Array]:
    joined = {}
    for name, (dtype, shape, _) in rows[0].items():
        content = b"".join(row[name][2] for row in rows)
        joined[name] = np.frombuffer(content, dtype=dtype).reshape(len(rows), *shape)
    return joined
