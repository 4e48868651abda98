"""A bundle of any size, made without data: a two-layer perceptron over random vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuserank.bench.workloads import Request, Workload
from fuserank.errors import ConfigError
from fuserank.export.assemble import ItemTable, Ranker, assemble
from fuserank.schema import Field, FittedField, Kind, Schema, Side

__all__ = [
    "SyntheticItems",
    "perceptron",
    "synthetic_bundle",
    "synthetic_requests",
    "synthetic_workload",
]

FloatArray = npt.NDArray[np.float32]

USER, ITEM = "user.vector", "item.vector"

_BLOCK = 4096
"""Rows drawn from one random stream; the precomputation of items asks for as many at a time."""

_WEIGHTS, _ITEMS, _REQUESTS = range(3)
"""Random streams of one seed."""


@dataclass(frozen=True, kw_only=True)
class SyntheticItems:
    """Item vectors that are drawn when they are asked for, so that none need be held.

    A row's vector depends on the seed and its number alone, whatever range asks for it.

    Attributes:
        n_items: rows there are.
        width: numbers in a vector.
        seed: of the random streams.
    """

    n_items: int
    width: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError where there would be no items."""
        for name in ("n_items", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")

    def __call__(self, rows: slice) -> dict[str, FloatArray]:
        """Return the item side's inputs of a range of rows: (n, width) float32."""
        first, end, _ = rows.indices(self.n_items)
        blocks = range(first // _BLOCK, -(-end // _BLOCK))
        drawn = np.concatenate([self._block(block) for block in blocks])
        skipped = blocks.start * _BLOCK
        return {ITEM: drawn[first - skipped : end - skipped]}

    def all(self) -> dict[str, FloatArray]:
        """Return the inputs of every item, in memory."""
        return self(slice(0, self.n_items))

    def _block(self, block: int) -> FloatArray:
        rng = np.random.default_rng([self.seed, _ITEMS, block])
        return rng.standard_normal((_BLOCK, self.width), dtype=np.float32)


def perceptron(width: int, hidden: Sequence[int], seed: int) -> onnx.ModelProto:
    """Return a ranker: Concat; MatMul, Add, Relu for each hidden layer; MatMul, Add, one logit.

    Args:
        width: numbers in a user's or an item's vector.
        hidden: units of each hidden layer.
        seed: of the random weights.
    """
    rng = np.random.default_rng([seed, _WEIGHTS])
    constants = [numpy_helper.from_array(np.array([1], dtype=np.int64), "last_axis")]
    nodes = [helper.make_node("Concat", [USER, ITEM], ["hidden_0"], axis=1)]
    n_inputs = 2 * width
    for layer, units in enumerate((*hidden, 1), start=1):
        weights = {
            f"W_{layer}": rng.standard_normal((n_inputs, units)) / np.sqrt(n_inputs),
            f"b_{layer}": rng.standard_normal(units),
        }
        constants += [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
        nodes += [
            helper.make_node("MatMul", [f"hidden_{layer - 1}", f"W_{layer}"], [f"product_{layer}"]),
            helper.make_node("Add", [f"product_{layer}", f"b_{layer}"], [f"sum_{layer}"]),
            helper.make_node("Relu", [f"sum_{layer}"], [f"hidden_{layer}"]),
        ]
        n_inputs = units
    nodes[-1] = helper.make_node("Squeeze", [f"sum_{len(hidden) + 1}", "last_axis"], ["logit"])

    def tensor(name: str, *tail: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *tail])

    graph = helper.make_graph(
        nodes,
        "perceptron",
        [tensor(USER, width), tensor(ITEM, width)],
        [tensor("logit")],
        constants,
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])


def synthetic_bundle(
    out: Path,
    items: SyntheticItems,
    *,
    hidden: int | Sequence[int] = 64,
    on_progress: Callable[[int], None] | None = None,
) -> Path:
    """Export a perceptron with its catalogue the way a trained ranker is exported.

    Args:
        out: the bundle's directory.
        items: the catalogue; its seed also draws the weights.
        hidden: units of each hidden layer.
        on_progress: called with the number of items precomputed since the last call.
    """
    layers = [hidden] if isinstance(hidden, int) else hidden
    schema = Schema(
        tuple(
            FittedField(field=Field(name="vector", side=side, kind=Kind.VECTOR), dim=items.width)
            for side in (Side.USER, Side.ITEM)
        )
    )
    table = ItemTable(
        ids=[f"item-{row}" for row in range(items.n_items)],
        attributes=[{}] * items.n_items,
        inputs=items,
    )
    ranker = Ranker(
        name="perceptron", full=perceptron(items.width, layers, items.seed), schema=schema
    )
    name = f"synthetic-{items.n_items}"
    return assemble(out, name, ranker, table, on_progress=on_progress).path


def synthetic_requests(n_requests: int, items: SyntheticItems) -> list[Request]:
    """Return requests of users who are known by a vector of their own."""
    rng = np.random.default_rng([items.seed, _REQUESTS])
    vectors = rng.standard_normal((n_requests, items.width), dtype=np.float32)
    return [{"vector": vector} for vector in vectors.tolist()]


def synthetic_workload(
    out: Path,
    items: SyntheticItems,
    n_requests: int,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Workload:
    """Export a synthetic bundle and return its workload, item inputs included.

    Args:
        out: the bundle's directory.
        items: the catalogue.
        n_requests: requests wanted.
        on_progress: called with the number of items precomputed since the last call.
    """
    return Workload(
        name=f"synthetic-{items.n_items}",
        bundle=synthetic_bundle(out, items, on_progress=on_progress),
        requests=synthetic_requests(n_requests, items),
        item_inputs=items.all(),
    )
