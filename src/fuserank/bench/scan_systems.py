"""What answers an exact top-k over a whole catalogue: the scorers, and their peers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from fuserank.bench.synthetic import ITEM, USER
from fuserank.engine.scoring import Scorer, TopK

__all__ = [
    "Search",
    "faiss_flat",
    "full_graph",
    "joint_graph",
    "numpy_product",
    "onnx_product",
    "ours",
]

FloatArray = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]
States = Mapping[str, FloatArray]


@dataclass(frozen=True)
class Search:
    """One way of finding the k best items.

    Attributes:
        name: for reports.
        scores: from users and k to (q, k) float32 scores, best first. Users are outputs of the
            user graph and, for a whole ranker, their ``vector``.
    """

    name: str
    scores: Callable[[States, int], FloatArray]


def ours(name: str, scorer: Scorer, words: Words) -> Search:
    """A scorer of this package, over the eligible items."""

    def scores(users: States, k: int) -> FloatArray:
        found: TopK = scorer.top_k(users, words, k)
        return found.scores

    return Search(name, scores)


def faiss_flat(items: FloatArray, threads: int) -> Search:
    """FAISS IndexFlatIP: the exact index of the best-known library."""
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    return Search("FAISS IndexFlatIP", lambda users, k: index.search(users["user_state"], k)[0])


def numpy_product(items: FloatArray) -> Search:
    """A matrix product, a partition, and a sort of what remains."""

    def scores(users: States, k: int) -> FloatArray:
        return _best(users["user_state"] @ items.T, k)[0]

    return Search("numpy", scores)


def onnx_product(items: FloatArray, threads: int) -> Search:
    """MatMul and TopK in ONNX Runtime, the items being a constant of the graph."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["user", "items"], ["scores"]),
            helper.make_node("TopK", ["scores", "k"], ["best", "rows"]),
        ],
        "product",
        [_tensor("user", "users", items.shape[1]), _count()],
        [
            _tensor("best", "users", "k"),
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["users", "k"]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(items.T), "items")],
    )
    opset = helper.make_opsetid("", 17)
    session = _session(helper.make_model(graph, ir_version=10, opset_imports=[opset]), threads)
    return Search(
        "ONNX Runtime MatMul+TopK",
        lambda users, k: session.run(None, {"user": users["user_state"], "k": np.array([k])})[0],
    )


def joint_graph(joint: onnx.ModelProto, items: States, threads: int, tile: int | None) -> Search:
    """The factorised ranker's joint graph in ONNX Runtime, in one run or in tiles."""
    session = _session(joint, threads)
    sides = {value.name for value in session.get_inputs()} - items.keys()
    n_items = len(items["item_state"])
    step = tile or n_items

    def scores(users: States, k: int) -> FloatArray:
        mine = {name: users[name] for name in sides}
        parts = []
        for at in range(0, n_items, step):
            tile = {name: value[at : at + step] for name, value in items.items()}
            parts.append(session.run(None, {**mine, **tile})[0])
        return _best(np.concatenate(parts, axis=1), k)[0]

    return Search("factorised ONNX graph" + (", tiled" if tile else ""), scores)


def full_graph(full: onnx.ModelProto, items: FloatArray, threads: int, tile: int | None) -> Search:
    """The whole ranker over all pairs in ONNX Runtime, for users who are one vector each."""
    session = _session(full, threads)
    step = tile or len(items)

    def scores(users: States, k: int) -> FloatArray:
        rows = []
        for vector in users["vector"]:
            repeated = np.repeat(vector[None], step, axis=0)
            parts = []
            for at in range(0, len(items), step):
                mine = items[at : at + step]
                parts.append(session.run(None, {USER: repeated[: len(mine)], ITEM: mine})[0])
            rows.append(np.concatenate(parts))
        return _best(np.stack(rows), k)[0]

    return Search("full graph" + (", tiled" if tile else ""), scores)


def _best(scores: FloatArray, k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the k best scores of each row and where they stand, as a search has to."""
    rows = np.argpartition(scores, -k, axis=1)[:, -k:]
    best: FloatArray = np.take_along_axis(scores, rows, axis=1)
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _session(model: onnx.ModelProto, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _count() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("k", TensorProto.INT64, [1])
