"""From requests to the inputs of the user graph."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuserank.engine.catalogue import Catalogue
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.live.current_users import CurrentUsers
from fuserank.engine.live.snapshot import Snapshot
from fuserank.engine.results import Embeddings, Timings
from fuserank.engine.stored_users import StoredUsers
from fuserank.errors import RequestError, SchemaError
from fuserank.schema import FittedField, Kind, Schema, Side, pack_history

__all__ = ["PreparedUsers", "UserInputs"]

Array = npt.NDArray[Any]
Request = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class PreparedUsers:
    """Inputs of the user graph for q requests.

    Attributes:
        tensors: by graph input, (q, …).
        served_as: for each request ``"known"``, ``"unknown"`` or ``"cold"``.
        seen: for each request the catalogue rows that its user has met.
        timings: time spent on texts.
    """

    tensors: dict[str, Array]
    served_as: tuple[str, ...]
    seen: tuple[npt.NDArray[np.integer[Any]], ...]
    timings: Timings


class UserInputs:
    """Prepares requests: stored values for known users, request values over them."""

    def __init__(
        self,
        schema: Schema,
        catalogue: Catalogue | Snapshot,
        users: StoredUsers | CurrentUsers,
        encode: Callable[[Sequence[str], TextRole], Embeddings] | None,
    ) -> None:
        """Take what requests are resolved against.

        Args:
            schema: the fitted fields.
            catalogue: the items that histories name.
            users: the stored users.
            encode: the text encoder; None where the bundle has none.
        """
        self._schema = schema
        self._catalogue = catalogue
        self._users = users
        self._encode = encode
        self._fields = {f.field.name: f for f in schema.side(Side.USER, Side.CONTEXT)}
        id_field = schema.id_field(Side.USER)
        self._id_name = id_field.field.name if id_field else None

    def prepare(self, requests: Sequence[Request]) -> PreparedUsers:
        """Return the inputs of the user graph.

        Raises:
            RequestError: a field the bundle does not have, or a value of the wrong type.
            UnknownItemError: a history that names an item the catalogue does not hold.
        """
        for request in requests:
            self._check(request)
        rows = [self._stored_row(request) for request in requests]
        tensors = self._tabular(requests)
        vectors, timings = self._encode_texts(requests)
        tensors |= {
            f.field.tensor: self._text_tensor(f, vectors, len(requests))
            for f in self._of_kind(Kind.TEXT)
            if f.field.joins is None
        }
        self._fill_stored(requests, rows, tensors)
        seen = [self._users.seen(row) for row in rows]
        for field in self._of_kind(Kind.HISTORY):
            chosen = self._chosen(field, requests, rows)
            tensors[field.field.tensor] = self._history_tensor(field, chosen, vectors)
            seen = [np.concatenate(both) for both in zip(seen, chosen, strict=True)]
        served_as = tuple(
            "known" if row is not None else "unknown" if self._id_name in request else "cold"
            for request, row in zip(requests, rows, strict=True)
        )
        return PreparedUsers(
            tensors=tensors, served_as=served_as, seen=tuple(seen), timings=timings
        )

    def _check(self, request: Request) -> None:
        if not isinstance(request, Mapping):
            raise RequestError(
                f"user: found {type(request).__name__}, expected a mapping of fields to values"
            )
        for name, value in request.items():
            if name not in self._fields:
                near = difflib.get_close_matches(str(name), self._fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise RequestError(
                    f"user: this bundle has no field {name!r}, its fields are "
                    f"{', '.join(sorted(self._fields))}{hint}",
                    field=str(name),
                )
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                raise RequestError(
                    f"user field {name!r}: found {value}, expected a value; "
                    "leave the field out where nothing is known",
                    field=name,
                )
            if self._fields[name].field.kind is Kind.TEXT and (
                not isinstance(value, str) or not value.strip()
            ):
                found = "an empty text" if isinstance(value, str) else type(value).__name__
                raise RequestError(
                    f"user field {name!r}: found {found}, expected words", field=name
                )

    def _stored_row(self, request: Request) -> int | None:
        if self._id_name is None or self._id_name not in request:
            return None
        return self._users.row(str(request[self._id_name]))

    def _tabular(self, requests: Sequence[Request]) -> dict[str, Array]:
        tensors: dict[str, Array] = {}
        for name, f in self._fields.items():
            if f.field.kind in (Kind.TEXT, Kind.HISTORY):
                continue
            try:
                tensors[f.field.tensor] = f.encode([request.get(name) for request in requests])
            except SchemaError as error:
                raise RequestError(f"user: {error}", field=name) from error
        return tensors

    def _encode_texts(
        self, requests: Sequence[Request]
    ) -> tuple[dict[tuple[str, int], npt.NDArray[np.float32]], Timings]:
        """Encode every given text at once; vectors by field name and request index."""
        given = [
            (f.field.name, index, str(request[f.field.name]))
            for f in self._of_kind(Kind.TEXT)
            for index, request in enumerate(requests)
            if f.field.name in request
        ]
        if not given:
            return {}, Timings()
        if self._encode is None:
            raise RequestError(
                f"user field {given[0][0]!r}: this bundle has no text encoder", field=given[0][0]
            )
        found = self._encode([text for _, _, text in given], TextRole.QUERY)
        keys = [(name, index) for name, index, _ in given]
        return dict(zip(keys, found.vectors, strict=True)), found.timings

    def _text_tensor(
        self,
        field: FittedField,
        vectors: Mapping[tuple[str, int], npt.NDArray[np.float32]],
        n_requests: int,
    ) -> Array:
        tensor = np.zeros((n_requests, field.dim or 0), dtype=np.float32)
        for index in range(n_requests):
            vector = vectors.get((field.field.name, index))
            if vector is not None:
                tensor[index] = vector
        return tensor

    def _fill_stored(
        self, requests: Sequence[Request], rows: Sequence[int | None], tensors: dict[str, Array]
    ) -> None:
        """Put a known user's stored values where the request gives none."""
        names = {f.field.tensor: name for name, f in self._fields.items()}
        for index, (request, row) in enumerate(zip(requests, rows, strict=True)):
            if row is None:
                continue
            for tensor, stored in self._users.tensors.items():
                if names[tensor] not in request or names[tensor] == self._id_name:
                    tensors[tensor][index] = stored[row]

    def _chosen(
        self, field: FittedField, requests: Sequence[Request], rows: Sequence[int | None]
    ) -> list[npt.NDArray[np.integer[Any]]]:
        """Return for each request the catalogue rows of its history.

        Histories differ in how they look at what a user chose, not in what that is: a request that
        gives one gives them all.
        """
        own = field.field.name
        names = [own, *(f.field.name for f in self._of_kind(Kind.HISTORY))]
        chosen: list[npt.NDArray[np.integer[Any]]] = []
        for request, row in zip(requests, rows, strict=True):
            name = next((name for name in names if name in request), own)
            if name not in request:
                chosen.append(self._users.history(row))
                continue
            items = request[name]
            if not isinstance(items, (list, tuple)):
                raise RequestError(
                    f"user field {name!r}: found {type(items).__name__}, "
                    "expected a list of item ids, the most recent last",
                    field=name,
                )
            chosen.append(self._catalogue.rows(items, name))
        return chosen

    def _history_tensor(
        self,
        field: FittedField,
        chosen: Sequence[npt.NDArray[np.integer[Any]]],
        texts: Mapping[tuple[str, int], npt.NDArray[np.float32]],
    ) -> Array:
        """Return (q, max_length, dim): item vectors, then the texts that join the history."""
        vectors = self._catalogue.vectors[field.field.of or ""]
        joining = [
            f.field.name for f in self._of_kind(Kind.TEXT) if f.field.joins == field.field.name
        ]
        events = []
        for index, rows in enumerate(chosen):
            words = [texts[name, index] for name in joining if (name, index) in texts]
            events.append(
                np.concatenate(
                    [vectors[rows[-field.field.max_length :]], *(w[None] for w in words)]
                )
            )
        return pack_history(events, field)

    def _of_kind(self, kind: Kind) -> list[FittedField]:
        return [f for f in self._fields.values() if f.field.kind is kind]
