"""From tensors to the users that the engine reads: one a row, of each field what is known."""

import math
from collections.abc import Mapping

from fuserank.engine.results import BundleInfo
from fuserank.schema import Kind
from fuserank.schema.numeric import LARGEST
from fuserank.server.inference.tensors import Tensor, Values

__all__ = ["user_rows"]

User = dict[str, object]


def user_rows(info: BundleInfo, tensors: Mapping[str, Tensor], batch: int) -> list[User]:
    """Return the users of a request.

    Args:
        info: the bundle, which says what its fields are.
        tensors: inputs by name; each of `batch` rows.
        batch: how many users.
    """
    users: list[User] = [{} for _ in range(batch)]
    for field in info.user_fields:
        tensor = tensors.get(field.name)
        if tensor is None:
            continue
        for index, user in enumerate(users):
            value = _value(Kind(field.kind), tensor.row(index))
            if value is not None:
                user[field.name] = value
    return users


def _value(kind: Kind, row: Values) -> object:
    """Return the value of a field, or None where the row says that it is not known."""
    match kind:
        case Kind.CATEGORIES | Kind.HISTORY:
            given = [entry for entry in row if entry]
            return given if given or not row else None
        case Kind.NUMBER:
            return row[0] if abs(row[0]) <= LARGEST else None  # which NaN is not either
        case Kind.VECTOR | Kind.TENSOR:
            return row if row and all(map(math.isfinite, row)) else None
    return row[0] or None
