"""Colouring: the sides that each value of a graph depends on."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import onnx_ir as ir

from fuserank.errors import ConfigError, FactorisationError
from fuserank.schema import Side

__all__ = ["Colours", "read_sides", "sides_by_name"]

Colour = frozenset[Side]

CONSTANT: Colour = frozenset()
_USER: Colour = frozenset({Side.USER})
_ITEM: Colour = frozenset({Side.ITEM})
MIXED: Colour = _USER | _ITEM


def sides_by_name(names: Iterable[str]) -> dict[str, Side]:
    """Read the side of every input from its name: ``user.…``, ``item.…`` or ``context.…``.

    Raises:
        FactorisationError: an input whose name declares no side.
    """
    sides = {}
    for name in names:
        prefix = name.partition(".")[0]
        if prefix not in list(Side):
            raise FactorisationError(
                f"input {name!r}: expected a name that begins with 'user.', 'item.' or "
                "'context.', or a declaration of its side"
            )
        sides[name] = Side(prefix)
    return sides


def read_sides(path: Path) -> dict[str, Side]:
    """Read the sides of inputs from a TOML file that lists input names by side.

    For example::

        user = ["user_fields", "recent"]
        item = ["item_fields"]
        context = ["hour"]

    Raises:
        ConfigError: not such a file, or an input named twice.
    """
    try:
        lists = msgspec.toml.decode(path.read_bytes(), type=dict[Side, list[str]])
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected TOML with lists of inputs") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{path}: expected lists of input names under user, item and context, found: {error}"
        ) from error
    sides: dict[str, Side] = {}
    for side, names in lists.items():
        for name in names:
            if name in sides:
                raise ConfigError(f"{path}: input {name!r} is named twice")
            sides[name] = side
    return sides


class Colours:
    """Which of user and item each value depends on; context counts as user.

    Constants have no colour, and a value that depends on both sides is mixed. A graph may be
    rewritten in between: colours are worked out afresh for values that were added.
    """

    def __init__(self, graph: ir.Graph, sides: Mapping[str, Side]) -> None:
        """Take the declared sides of the graph's inputs.

        Raises:
            FactorisationError: an input without a side, or a side no input belongs to.
        """
        self._known: dict[ir.Value, Colour] = {}
        for value in graph.inputs:
            if value.name not in sides:
                raise FactorisationError(
                    f"input {value.name!r}: no side was declared; expected user, item or context"
                )
            item = sides[str(value.name)] is Side.ITEM
            self._known[value] = _ITEM if item else _USER
        for side in (_USER, _ITEM):
            if side not in self._known.values():
                raise FactorisationError(
                    f"graph {graph.name!r}: found no {next(iter(side))} input; "
                    "a ranker that can be factorised has inputs of both sides"
                )

    def of(self, value: ir.Value) -> Colour:
        """Return the colour of a value."""
        pending = [value]
        while pending:
            current = pending[-1]
            if current in self._known:
                pending.pop()
                continue
            node = current.producer()
            sources = [] if node is None else [v for v in node.inputs if v is not None]
            unknown = [source for source in sources if source not in self._known]
            if unknown:
                pending.extend(unknown)
                continue
            self._known[current] = CONSTANT.union(*(self._known[source] for source in sources))
            pending.pop()
        return self._known[value]

    def is_user(self, value: ir.Value) -> bool:
        """Whether a value depends on the user alone."""
        return self.of(value) == _USER

    def is_item(self, value: ir.Value) -> bool:
        """Whether a value depends on the item alone."""
        return self.of(value) == _ITEM

    def is_mixed(self, value: ir.Value) -> bool:
        """Whether a value depends on both."""
        return self.of(value) == MIXED

    def is_constant(self, value: ir.Value) -> bool:
        """Whether a value depends on neither."""
        return self.of(value) == CONSTANT
