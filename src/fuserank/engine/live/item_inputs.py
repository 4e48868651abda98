"""From what is known of items to the states that scans read: the item side of the schema.

Values go through the preprocessing that was fitted in training, texts through the same templates
and the encoder's passage prompt, all of it through the bundle's item graph.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.bundle import Bundle, layout
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.live.item_states import ItemStates
from fuserank.engine.results import Embeddings
from fuserank.engine.session import GraphSession
from fuserank.errors import RequestError, SchemaError
from fuserank.schema import FittedField, Kind, Schema, Side

__all__ = ["ItemInputs", "as_json", "as_text"]

Array = npt.NDArray[Any]
Attributes = Mapping[str, object]

logger = logging.getLogger(__name__)


class ItemInputs:
    """Makes the states of items from their attributes, as the exporter made those of a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        encode: Callable[[Sequence[str], TextRole], Embeddings] | None,
    ) -> None:
        """Load the item graph.

        Args:
            bundle: its schema and graph are used.
            encode: the text encoder; None where the bundle has none.
        """
        self._fields = tuple((f, Schema((f,))) for f in bundle.schema.side(Side.ITEM))
        self._of = tuple(
            dict.fromkeys(f.field.of for f in bundle.schema.fields if f.field.of is not None)
        )
        self._encode = encode
        # Beside requests: what one thread does of it, the scans of others do not wait for.
        self._graph = GraphSession(bundle.file(layout.GRAPHS["item"]), threads=1)

    def states(self, items: Mapping[str, Attributes], *, lenient: bool = False) -> ItemStates:
        """Return the states of items, in their order.

        Args:
            items: attributes by item id.
            lenient: a value of the wrong type counts as missing; for items that were taken when
                another bundle was served.

        Raises:
            RequestError: a value of the wrong type; names item and field.
        """
        rows = [self._tabular(item_id, given, lenient) for item_id, given in items.items()]
        tensors = {
            f.field.tensor: np.concatenate([row[f.field.tensor] for row in rows])
            for f, _ in self._fields
            if f.field.kind is not Kind.TEXT
        }
        texts = {
            f.field.tensor: [
                self._text(item_id, f, fitted, given, lenient) for item_id, given in items.items()
            ]
            for f, fitted in self._fields
            if f.field.kind is Kind.TEXT
        }
        tensors |= self._embedded(texts, lenient)
        states = self._graph.run(tensors)
        vectors = {name: np.asarray(tensors[f"{Side.ITEM}.{name}"]) for name in self._of}
        return ItemStates(states=states, vectors=vectors)

    def _tabular(self, item_id: str, given: Attributes, lenient: bool) -> dict[str, Array]:
        tensors: dict[str, Array] = {}
        for f, fitted in self._fields:
            if f.field.kind is Kind.TEXT:
                continue
            columns = _columns(item_id, f, given)
            try:
                tensors |= fitted.encode(Side.ITEM, columns, 1)
            except SchemaError as error:
                _refuse(item_id, f, error, lenient)
                tensors |= fitted.encode(Side.ITEM, {}, 1)
        return tensors

    def _text(
        self, item_id: str, f: FittedField, fitted: Schema, given: Attributes, lenient: bool
    ) -> str:
        try:
            found = fitted.texts(Side.ITEM, _columns(item_id, f, given), 1)
        except SchemaError as error:
            _refuse(item_id, f, error, lenient)
            return ""
        return found[f.field.name][0].strip()

    def _embedded(self, texts: Mapping[str, list[str]], lenient: bool) -> dict[str, Array]:
        """Return the tensors of text fields, zeros where an item has no text."""
        distinct = list(dict.fromkeys(text for column in texts.values() for text in column if text))
        if distinct and self._encode is None and not lenient:
            raise RequestError(
                "items: found words, but this bundle has no text encoder", field="items"
            )
        known: dict[str, Array] = {}
        if distinct and self._encode is not None:
            vectors = self._encode(distinct, TextRole.PASSAGE).vectors
            known = dict(zip(distinct, vectors, strict=True))
        tensors = {}
        for tensor, column in texts.items():
            dim = next(f.dim for f, _ in self._fields if f.field.tensor == tensor) or 0
            empty = np.zeros(dim, dtype=np.float32)
            tensors[tensor] = np.stack([known.get(text, empty) for text in column])
        return tensors


def as_json(item_id: object, attributes: object) -> str:
    """Return the attributes of an item as JSON, without those that are None.

    Raises:
        RequestError: an id that is no text, or something that JSON does not have.
    """
    if not isinstance(item_id, str) or not item_id:
        raise RequestError(
            f"items: found the id {item_id!r}, expected a text that is not empty", field="items"
        )
    if not isinstance(attributes, Mapping):
        raise RequestError(
            f"item {item_id!r}: found {type(attributes).__name__}, expected a mapping of "
            "attributes to values",
            field="items",
        )
    known = {}
    for name, value in attributes.items():
        if not isinstance(name, str) or not name:
            raise RequestError(
                f"item {item_id!r}: found an attribute called {name!r}, expected a name",
                field="items",
            )
        if value is None:
            continue
        plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        try:
            known[name] = json.loads(json.dumps(plain, allow_nan=False), parse_constant=_no_number)
            item_id.encode(), name.encode(), json.dumps(plain, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(
                f"item {item_id!r}, attribute {name!r}: {error}; expected texts, finite numbers, "
                "true or false, and lists or mappings of these; leave out what is not known",
                field=name,
            ) from error
    return as_text(known)


def as_text(attributes: Mapping[str, Any]) -> str:
    """Return attributes that JSON has, as `as_json` writes them."""
    return json.dumps(attributes, ensure_ascii=False)


def _columns(item_id: str, f: FittedField, given: Attributes) -> dict[str, list[object]]:
    """Return what a field reads of one item, as columns of one row.

    A template is filled as in a table, where a column is there though a value is missing. An item
    that has none of the template's values may give the field's own words.
    """
    own = f.field.column or f.field.name
    if f.field.kind is Kind.ID:
        return {own: [item_id]}
    names = f.field.source_columns
    if f.field.template is not None and all(given.get(name) is None for name in names):
        names = (own,)
    return {name: [given.get(name)] for name in names}


def _refuse(item_id: str, f: FittedField, error: SchemaError, lenient: bool) -> None:
    if not lenient:
        # The schema speaks of rows of a column: here there is one.
        found = str(error).replace(", row 0", "")
        raise RequestError(f"item {item_id!r}: {found}", field=f.field.name) from error
    logger.warning("live items: a value of field %r has another type than expected", f.field.name)


def _no_number(name: str) -> float:
    raise ValueError(f"found {name}")
