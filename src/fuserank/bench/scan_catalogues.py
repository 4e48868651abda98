"""The pieces of work that the scan is measured at: catalogues, queries, and who else can do it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from fuserank.bench.scan_systems import (
    Search,
    faiss_flat,
    full_graph,
    joint_graph,
    numpy_product,
    onnx_product,
)
from fuserank.bench.synthetic import ITEM, USER, SyntheticItems, perceptron
from fuserank.engine.scoring import Codes, FusedScorer, QuantizedScorer, quantize
from fuserank.export.factorise import Factorised, factorise
from fuserank.export.sides import sides_by_name

__all__ = [
    "DEEP",
    "OURS",
    "OURS_FLOAT",
    "WIDTH",
    "WORKS",
    "ScanCatalogue",
    "inner_products",
    "perceptrons",
]

FloatArray = npt.NDArray[np.float32]
States = dict[str, FloatArray]

OURS, OURS_FLOAT = "fuserank", "fuserank, float32 states"
WORKS = DOT, PERCEPTRON = "inner product", "two-layer perceptron"
DEEP = "three-layer perceptron"
"""A piece of work without codes, which is measured beside its peers alone."""
WIDTH = 64

_TILE = 4096


@dataclass(frozen=True, kw_only=True)
class ScanCatalogue:
    """The item states of one piece of work, and the queries for them.

    Attributes:
        work: its name.
        items: ``item_state`` (n, `WIDTH`) and ``item_constant`` (n,) float32.
        draw: from a number of users to their states.
        codes: of the item states, where a scan of codes does this work.
        ranker: the full graph of a perceptron.
        parts: the same factorised.
    """

    work: str
    items: States
    draw: Callable[[int], States]
    codes: Codes | None
    ranker: onnx.ModelProto | None = None
    parts: Factorised | None = None

    def scorers(self, threads: int) -> dict[str, Any]:
        """Return the scorers of this package by name."""
        given: dict[str, Any] = {"threads": threads}
        layers = self.parts.layers if self.parts is not None else ()
        if self.parts is not None:
            given |= {"weights": self.parts.weights, "activation": "relu"}
        found: dict[str, Any] = {}
        if self.codes is not None:
            found[OURS] = QuantizedScorer(self.items, self.codes, **given)
        return found | {OURS_FLOAT: FusedScorer(self.items, layers=layers, **given)}

    def peers(self, queries: int, threads: int) -> list[Search]:
        """Return what else finds the k best."""
        items = self.items["item_state"]
        if self.ranker is None or self.parts is None:
            return [faiss_flat(items, threads), onnx_product(items, threads), numpy_product(items)]
        joint = self.parts.joint
        found = [joint_graph(joint, self.items, threads, _TILE)]
        if queries == 1:  # in one run, the intermediate values of 32 users would be 8 GB
            vectors = SyntheticItems(n_items=len(items), width=WIDTH).all()[ITEM]
            found += [
                joint_graph(joint, self.items, threads, None),
                full_graph(self.ranker, vectors, threads, _TILE),
                full_graph(self.ranker, vectors, threads, None),
            ]
        return found


def inner_products(n_items: int) -> ScanCatalogue:
    """Random vectors without constants, which the peers do not have."""
    rng = np.random.default_rng(0)
    items = {
        "item_state": rng.standard_normal((n_items, WIDTH), dtype=np.float32),
        "item_constant": np.zeros(n_items, dtype=np.float32),
    }

    def draw(queries: int) -> States:
        vectors = np.random.default_rng(2).standard_normal((queries, WIDTH), dtype=np.float32)
        return {"user_state": vectors, "user_constant": np.zeros(queries, dtype=np.float32)}

    codes = quantize(items["item_state"], items["item_constant"])
    return ScanCatalogue(work=DOT, items=items, draw=draw, codes=codes)


def perceptrons(n_items: int, depth: int) -> ScanCatalogue:
    """A factorised perceptron of so many hidden layers, and its states of random vectors."""
    ranker = perceptron(WIDTH, [WIDTH] * depth, 0)
    made = factorise(ranker, sides_by_name([USER, ITEM]))
    vectors = SyntheticItems(n_items=n_items, width=WIDTH).all()
    sides = [
        ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        for part in (made.user, made.item)
    ]

    def run(session: Any, inputs: States) -> States:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def draw(queries: int) -> States:
        drawn = np.random.default_rng(3).standard_normal((queries, WIDTH), dtype=np.float32)
        return run(sides[0], {USER: drawn}) | {"vector": drawn}

    states = run(sides[1], vectors)
    items = {name: states[name] for name in ("item_state", "item_constant")}
    codes = None
    if not made.layers:
        codes = quantize(items["item_state"], items["item_constant"], made.weights)
    work = DEEP if made.layers else PERCEPTRON
    return ScanCatalogue(work=work, items=items, draw=draw, codes=codes, ranker=ranker, parts=made)
