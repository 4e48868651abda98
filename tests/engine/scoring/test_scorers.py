"""One contract for all scorers: whatever runs the joint part, the same items come back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fuserank.engine.providers import Device
from fuserank.engine.scoring import (
    DenseLayer,
    Eligibility,
    FusedScorer,
    GenericScorer,
    HalfResidentScorer,
    QuantizedScorer,
    ResidentScorer,
    quantize,
)
from fuserank.engine.session import GraphSession
from fuserank.export.selection import with_selection

WEIGHTS = np.array([1, -2, 3, 1, -1, 2, 1, -3] * 10, dtype=np.float32)
NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """A scorer, and what it computes of (q, 1, width) users and (1, n, width) items."""

    name: str
    make: Callable[..., Any]
    mix: Callable[[Any, Any], Any]

    def reference(self, items, users):
        """Return (q, n) float64 scores by brute force."""
        user, item = users["user_state"].astype(float), items["item_state"].astype(float)
        with np.errstate(invalid="ignore"):  # inf - inf is meant to be NaN
            mixed = np.stack([self.mix(row[None], item).sum(axis=-1) for row in user])
            return mixed + users["user_constant"][:, None] + items["item_constant"]


def additive(name):
    def make(items, threads=1):
        width = items["item_state"].shape[1]
        return FusedScorer(items, weights=WEIGHTS[:width], activation=name, threads=threads)

    return make


def deep_parts(width, products):
    """Return layers of whole numbers and the weights of the logit; half may be an inner product."""
    n_hidden = width - products * (width // 2)
    rng = np.random.default_rng(0)
    shapes = [(9, n_hidden), (5, 9)]
    layers = [
        DenseLayer(
            weights=rng.integers(-1, 2, shape).astype(np.float32),
            bias=rng.integers(-2, 3, shape[0]).astype(np.float32),
            activation="relu",
        )
        for shape in shapes
    ]
    return n_hidden, layers, WEIGHTS[:5]


def deep(*, products):
    def make(items, threads=1):
        _, layers, weights = deep_parts(items["item_state"].shape[1], products)
        return FusedScorer(
            items, weights=weights, activation="relu", layers=layers, threads=threads
        )

    return make


def deep_mix(*, products):
    def mix(user, item):
        n_hidden, layers, weights = deep_parts(item.shape[1], products)
        hidden = np.maximum(user[:, :n_hidden] + item[:, :n_hidden], 0)
        for layer in layers:
            hidden = np.maximum(hidden @ layer.weights.astype(float).T + layer.bias, 0)
        product = user[:, n_hidden:] * item[:, n_hidden:]
        return np.concatenate([hidden * weights, product], axis=1)

    return mix


def quantized(items, threads=1):
    return QuantizedScorer(items, quantize(*items.values()), threads=threads)


def quantized_relu(items, threads=1):
    weights = WEIGHTS[: items["item_state"].shape[1]]
    codes = quantize(*items.values(), weights)
    return QuantizedScorer(items, codes, weights=weights, activation="relu", threads=threads)


def relu_mix(user, item):
    return WEIGHTS[: item.shape[1]] * np.maximum(user + item, 0)


def distance_graph():
    """Make the joint graph of a score by distance, which no fused scorer computes."""
    axes = {name: np.array([axis], dtype=np.int64) for name, axis in (("a0", 0), ("a1", 1))}
    axes["a2"] = np.array([2], dtype=np.int64)
    nodes = [
        helper.make_node("Unsqueeze", ["user_state", "a1"], ["user"]),
        helper.make_node("Unsqueeze", ["item_state", "a0"], ["item"]),
        helper.make_node("Sub", ["user", "item"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("ReduceSum", ["distance", "a2"], ["total"], keepdims=0),
        helper.make_node("Unsqueeze", ["user_constant", "a1"], ["constant"]),
        helper.make_node("Sub", ["constant", "total"], ["partial"]),
        helper.make_node("Add", ["partial", "item_constant"], ["scores"]),
    ]
    inputs = {
        "user_state": ["users", "width"],
        "user_constant": ["users"],
        "item_state": ["items", "width"],
        "item_constant": ["items"],
    }
    graph = helper.make_graph(
        nodes,
        "joint",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["users", "items"])],
        [numpy_helper.from_array(value, name) for name, value in axes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def product_graph():
    """Make the joint graph of an inner product."""
    graph = distance_graph()
    del graph.graph.node[:]
    graph.graph.node.extend(
        [
            helper.make_node("Transpose", ["item_state"], ["columns"], perm=[1, 0]),
            helper.make_node("MatMul", ["user_state", "columns"], ["product"]),
            helper.make_node("Unsqueeze", ["user_constant", "a1"], ["constant"]),
            helper.make_node("Add", ["product", "constant"], ["partial"]),
            helper.make_node("Add", ["partial", "item_constant"], ["scores"]),
        ]
    )
    return graph


@pytest.fixture(scope="module")
def resident(tmp_path_factory, half_graphs):
    """Return what makes resident scorers, on the CPU."""

    def make(joint):
        folder = tmp_path_factory.mktemp("resident")
        onnx.save(joint, folder / "joint.onnx")
        onnx.save(with_selection(joint), folder / "select.onnx")
        select, plain = (GraphSession(folder / f"{name}.onnx") for name in ("select", "joint"))
        return lambda items, threads=1: ResidentScorer(select, plain, items, Device.CPU)

    def half(items, threads=1):
        return HalfResidentScorer(half_graphs[False], items, Device.CPU, threads=threads)

    def half_relu(items, threads=1):
        weights = WEIGHTS[: items["item_state"].shape[1]]
        return HalfResidentScorer(
            half_graphs[True], items, Device.CPU, weights=weights, threads=threads
        )

    return {
        "product": make(product_graph()),
        "distance": make(distance_graph()),
        "half": half,
        "half-relu": half_relu,
    }


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    path = tmp_path_factory.mktemp("joint") / "joint.onnx"
    onnx.save(distance_graph(), path)
    return {threads: GraphSession(path, threads=threads) for threads in (1, 2)}


@pytest.fixture(
    scope="module",
    params=[
        "dot",
        "dot-quantized",
        "additive-relu",
        "additive-relu-quantized",
        "additive-identity",
        "deep",
        "deep-and-dot",
        "generic-distance",
        "resident-product",
        "resident-distance",
        "resident-half",
        "resident-half-relu",
    ],
)
def case(request, joint, resident):
    name = request.param
    if name == "dot":
        return Case(name, FusedScorer, lambda user, item: user * item)
    if name == "dot-quantized":
        return Case(name, quantized, lambda user, item: user * item)
    if name == "additive-relu":
        return Case(name, additive("relu"), relu_mix)
    if name == "additive-relu-quantized":
        return Case(name, quantized_relu, relu_mix)
    if name == "additive-identity":
        return Case(
            name, additive("identity"), lambda user, item: WEIGHTS[: item.shape[1]] * (user + item)
        )
    if name.startswith("deep"):
        products = name == "deep-and-dot"
        return Case(name, deep(products=products), deep_mix(products=products))
    if name == "resident-product":
        return Case(name, resident["product"], lambda user, item: user * item)
    if name == "resident-half":
        return Case(name, resident["half"], lambda user, item: user * item)
    if name == "resident-half-relu":
        return Case(name, resident["half-relu"], relu_mix)
    if name == "resident-distance":
        return Case(name, resident["distance"], lambda user, item: -np.abs(user - item))
    return Case(
        name,
        lambda items, threads=1: GenericScorer(joint[threads], items),
        lambda user, item: -np.abs(user - item),
    )


def make_data(n_items, n_users=3, *, width=8, seed=0, whole=True):
    """Make item and user states; whole numbers are summed exactly and give many ties."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        values = rng.integers(-2, 3, shape) if whole else rng.standard_normal(shape)
        return values.astype(np.float32)

    items = {"item_state": draw(n_items, width), "item_constant": draw(n_items)}
    return items, {"user_state": draw(n_users, width), "user_constant": draw(n_users)}


def everything(n_items):
    return Eligibility(n_items).words([(NO_ROWS, None)])


def expected(scores, eligible, k):
    """Return the rows of the k best scores by a stable sort."""
    order = np.argsort(-scores, kind="stable")
    return [int(row) for row in order if eligible[row] and not np.isnan(scores[row])][:k]


def check(found, scores, eligible, k):
    """Compare with brute force, exactly."""
    for user, mine in enumerate(scores):
        rows = expected(mine, eligible[user], k)
        size = found.sizes[user]
        assert found.rows[user, :size].tolist() == rows
        np.testing.assert_array_equal(found.scores[user, :size], mine[rows])


def test_real_numbers_score_as_brute_force(case):
    items, users = make_data(1000, 5, width=67, whole=False)
    reference = case.reference(items, users)
    scorer = case.make(items)
    found = scorer.top_k(users, everything(1000), 50)
    assert (found.scores.dtype, found.rows.dtype) == (np.float32, np.int64)
    best = -np.sort(-reference, axis=1)[:, :50]
    np.testing.assert_allclose(found.scores, best, rtol=1e-5, atol=1e-4)
    of_rows = np.take_along_axis(reference, found.rows, axis=1)
    np.testing.assert_allclose(found.scores, of_rows, rtol=1e-5, atol=1e-4)
    rows = np.arange(1000)[::-1]
    np.testing.assert_allclose(scorer.score(users, rows), reference[:, ::-1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "activate"),
    [
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1.0 / (1.0 + np.exp(-x))),
        ("silu", lambda x: x / (1.0 + np.exp(-x))),
        ("gelu", lambda x: 0.5 * x * (1.0 + np.vectorize(erf)(x / np.sqrt(2.0)))),
    ],
)
def test_smooth_activations_score_as_brute_force(name, activate):
    case = Case(
        name, additive(name), lambda user, item: WEIGHTS[: item.shape[1]] * activate(user + item)
    )
    items, users = make_data(500, 3, width=67, whole=False)
    items["item_state"][7] = np.nan
    reference = case.reference(items, users)
    found = case.make(items).top_k(users, everything(500), 500)
    assert found.sizes.tolist() == [499] * 3
    of_rows = np.take_along_axis(reference, found.rows[:, :499], axis=1)
    np.testing.assert_allclose(found.scores[:, :499], of_rows, rtol=1e-5, atol=2e-4)


def test_equal_scores_stand_in_catalogue_order(case):
    items, users = make_data(500, 2)
    items = {name: np.repeat(value[:3], 200, axis=0) for name, value in items.items()}
    found = case.make(items).top_k(users, everything(600), 250)
    check(found, case.reference(items, users), np.ones((2, 600), bool), 250)


def test_nan_never_wins(case):
    items, users = make_data(300)
    items["item_state"][[0, 70, 299], 3] = np.nan
    items["item_constant"][128:192] = np.nan
    reference = case.reference(items, users)
    assert np.isnan(reference).sum() == 3 * 67
    scorer = case.make(items)
    found = scorer.top_k(users, everything(300), 300)
    assert found.sizes.tolist() == [233] * 3
    check(found, reference, np.ones((3, 300), bool), 300)
    np.testing.assert_array_equal(scorer.score(users, np.arange(300)), reference)


def test_a_user_whose_state_is_nan_gets_nothing(case):
    items, users = make_data(100)
    users["user_state"][1, 0] = np.nan
    found = case.make(items).top_k(users, everything(100), 10)
    assert found.sizes.tolist() == [10, 0, 10]


def test_infinities_stand_at_the_ends(case):
    items, users = make_data(300)
    items["item_constant"][[5, 200]] = np.inf
    items["item_constant"][[0, 64, 299]] = -np.inf
    found = case.make(items).top_k(users, everything(300), 300)
    assert found.rows[:, :2].tolist() == [[5, 200]] * 3
    assert found.rows[:, -3:].tolist() == [[0, 64, 299]] * 3
    assert found.sizes.tolist() == [300] * 3
    check(found, case.reference(items, users), np.ones((3, 300), bool), 300)


def test_a_catalogue_of_minus_infinities_still_comes_back(case):
    items, users = make_data(130)
    items["item_constant"][:] = -np.inf
    found = case.make(items).top_k(users, everything(130), 5)
    assert found.rows.tolist() == [[0, 1, 2, 3, 4]] * 3


def test_nothing_eligible_gives_nothing(case):
    items, users = make_data(200)
    words = Eligibility(200).words([(np.arange(200), None)])
    assert case.make(items).top_k(users, words, 10).sizes.tolist() == [0, 0, 0]


def test_each_user_has_eligible_items_of_its_own(case):
    items, users = make_data(5000)
    wanted = [(np.arange(0, 5000, 2), None), (NO_ROWS, np.array([7, 4999])), (NO_ROWS, None)]
    eligible = np.ones((3, 5000), bool)
    eligible[0, ::2] = False
    eligible[1] = False
    eligible[1, [7, 4999]] = True
    found = case.make(items).top_k(users, Eligibility(5000).words(wanted), 100)
    assert found.sizes.tolist() == [100, 2, 100]
    check(found, case.reference(items, users), eligible, 100)


@pytest.mark.parametrize("n_items", [1, 63, 64, 65])
def test_k_beyond_the_catalogue_returns_all_of_it(case, n_items):
    items, users = make_data(n_items)
    found = case.make(items).top_k(users, everything(n_items), 1000)
    assert found.sizes.tolist() == [n_items] * 3
    check(found, case.reference(items, users), np.ones((3, n_items), bool), n_items)


def test_an_empty_catalogue_gives_nothing(case):
    items, users = make_data(0)
    scorer = case.make(items)
    assert scorer.n_items == 0
    assert scorer.top_k(users, everything(0), 10).sizes.tolist() == [0, 0, 0]
    assert scorer.score(users, NO_ROWS).shape == (3, 0)


def test_no_rows_score_nothing(case):
    items, users = make_data(10)
    assert case.make(items).score(users, NO_ROWS).shape == (3, 0)


def test_scores_stand_in_the_order_of_the_rows(case):
    items, users = make_data(5000)
    rows = np.array([4999, 0, 0, 64, 63, 4999])
    found = case.make(items).score(users, rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, case.reference(items, users)[:, rows])


def test_several_threads_find_what_one_finds(case):
    items, users = make_data(200_000, 2, width=4)
    one, two = case.make(items), case.make(items, threads=2)
    words = Eligibility(200_000).words([(np.arange(0, 199_990, 3), None), (NO_ROWS, None)])
    for k in (1, 1000):
        a, b = one.top_k(users, words, k), two.top_k(users, words, k)
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.sizes, b.sizes)
    # Too few eligible items in one share, none in the other.
    words = Eligibility(200_000).words([(NO_ROWS, np.array([3, 5])), (NO_ROWS, NO_ROWS)])
    found = two.top_k(users, words, 10)
    assert found.sizes.tolist() == [2, 0]
    assert sorted(found.rows[0, :2].tolist()) == [3, 5]
    two.close()
    one.close()


def test_concurrent_callers_do_not_disturb_each_other(case):
    items, _ = make_data(40_000, width=4)
    scorer = case.make(items, threads=2)
    words = everything(40_000)
    callers = [make_data(1, 2, width=4, seed=seed)[1] for seed in range(8)]
    alone = [scorer.top_k(users, words, 20) for users in callers]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda users: scorer.top_k(users, words, 20), callers * 2))
    for a, b in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.scores, b.scores)
    scorer.close()


def test_read_only_states_do(case):
    items, users = make_data(100)
    for state in items.values():
        state.flags.writeable = False
    found = case.make(items).top_k(users, everything(100), 10)
    check(found, case.reference(items, users), np.ones((3, 100), bool), 10)


def test_a_million_items(case):
    items, users = make_data(1_000_000, 2, width=4)
    items["item_constant"][[999_999, 5, 700_000]] = 100.0
    scorer = case.make(items, threads=2)
    words = Eligibility(1_000_000).words([(NO_ROWS, None), (np.array([5]), None)])
    found = scorer.top_k(users, words, 1000)
    reference = case.reference(items, users)
    eligible = np.ones((2, 1_000_000), bool)
    eligible[1, 5] = False
    check(found, reference, eligible, 1000)
    scorer.close()


def test_states_that_are_not_contiguous(case):
    items, users = make_data(3000, 3, width=8)
    spread = {
        "item_state": np.asfortranarray(np.repeat(items["item_state"], 2, axis=0))[::2],
        "item_constant": np.repeat(items["item_constant"], 3)[::3],
    }
    assert not spread["item_state"].flags.c_contiguous
    wide = {name: np.repeat(value, 2, axis=0)[::2] for name, value in users.items()}
    found = case.make(spread).top_k(wide, everything(3000), 50)
    check(found, case.reference(items, users), np.ones((3, 3000), bool), 50)


@given(
    n_items=st.integers(0, 300),
    n_users=st.integers(1, 4),
    width=st.integers(1, 40),
    k=st.integers(1, 310),
    share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_scores_as_brute_force(case, n_items, n_users, width, k, share, seed):
    items, users = make_data(n_items, n_users, width=width, seed=seed)
    rng = np.random.default_rng(seed)
    eligible = rng.random((n_users, n_items)) < share
    words = Eligibility(n_items).words([(NO_ROWS, np.flatnonzero(row)) for row in eligible])
    scorer = case.make(items)
    reference = case.reference(items, users)
    check(scorer.top_k(users, words, k), reference, eligible, k)
    rows = rng.integers(0, n_items, 7) if n_items else NO_ROWS
    np.testing.assert_array_equal(scorer.score(users, rows), reference[:, rows])


@pytest.mark.parametrize("width", [1, 7, 64, 80])
@pytest.mark.parametrize(
    "make",
    [
        FusedScorer,
        additive("relu"),
        additive("gelu"),
        deep(products=False),
        deep(products=True),
        quantized,
        quantized_relu,
    ],
    ids=[
        "dot",
        "additive-relu",
        "additive-gelu",
        "deep",
        "deep-and-dot",
        "dot-quantized",
        "additive-relu-quantized",
    ],
)
def test_a_fused_score_is_the_same_to_the_bit_whichever_call_made_it(make, width):
    items, users = make_data(1001, 4, width=width, whole=False)
    for state in items.values():
        state.flags.writeable = False  # as a memory-mapped bundle gives them
    scorer = make(items)
    found = scorer.top_k(users, everything(1001), 1001)
    scores = scorer.score(users, np.random.default_rng(0).permutation(1001))
    order = np.argsort(np.random.default_rng(0).permutation(1001))
    in_order = np.take_along_axis(scores[:, order], found.rows, axis=1)
    np.testing.assert_array_equal(found.scores, in_order)
    single = scorer.score({name: value[2:3] for name, value in users.items()}, found.rows[2, :1])
    assert single[0, 0] == found.scores[2, 0]
