"""The split of a product of concatenated sides: same values, products of one side each."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.export.passes import SplitConcatMatMul
from fuserank.export.sides import Colours, sides_by_name

ROWS = 5
HIDDEN = 3
OUT = ("y", "float32", ["batch", HIDDEN])


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def split(proto):
    """Return the rewritten model and whether anything was rewritten."""
    model = onnx.shape_inference.infer_shapes(proto)
    model = ir.from_proto(model)
    sides = sides_by_name(value.name for value in model.graph.inputs)
    modified = SplitConcatMatMul(sides)(model).modified
    rewritten = ir.to_proto(model)
    onnx.checker.check_model(rewritten)
    return rewritten, modified


def run(proto):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        value.name: random(*(axis if isinstance(axis, int) else ROWS for axis in value.shape))
        for value in session.get_inputs()
    }
    return session.run(None, feeds)


def assert_same(before, after):
    for a, b in zip(run(before), run(after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def colours_of_products(proto):
    """Return the colours of what the matrix products of a model read."""
    graph = ir.from_proto(proto).graph
    colours = Colours(graph, sides_by_name(value.name for value in graph.inputs))
    return [sorted(colours.of(n.inputs[0])) for n in graph if n.op_type == "MatMul"]


@pytest.fixture(scope="module")
def product(build_graph):
    """Return a function that builds MatMul(Concat(parts), W) from (side, width) parts."""

    def build(parts, axis=1):
        inputs = {
            f"{side}.x{index}": ("float32", ["batch", width])
            for index, (side, width) in enumerate(parts)
        }
        weight = random(sum(width for _, width in parts), HIDDEN, seed=1)
        nodes = [
            ("Concat", " ".join(inputs), "joined", {"axis": axis}),
            ("MatMul", "joined W", "y"),
        ]
        return build_graph(nodes, inputs, {"W": weight}, OUT)

    return build


@settings(max_examples=40)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["user", "item", "context"]), st.integers(1, 5)),
        min_size=2,
        max_size=6,
    ).filter(lambda parts: {"item"} < {side for side, _ in parts}),
    axis=st.sampled_from([1, -1]),
)
def test_any_order_and_width_gives_the_same_values(product, parts, axis):
    before = product(parts, axis)
    after, modified = split(before)
    assert modified
    assert_same(before, after)
    assert sorted(colours_of_products(after)) == [["item"], ["user"]]


def test_the_name_of_the_output_is_kept(product):
    after, _ = split(product([("user", 2), ("item", 3)]))
    assert [value.name for value in after.graph.output] == ["y"]


def test_parts_of_more_dimensions_are_split(build_graph):
    before = build_graph(
        [("Concat", "item.a user.b item.c", "joined", {"axis": 2}), ("MatMul", "joined W", "y")],
        {
            "item.a": ("float32", ["batch", 4, 2]),
            "user.b": ("float32", ["batch", 4, 3]),
            "item.c": ("float32", ["batch", 4, 1]),
        },
        {"W": random(6, HIDDEN)},
        ("y", "float32", ["batch", 4, HIDDEN]),
    )
    after, modified = split(before)
    assert modified
    assert_same(before, after)


def test_a_mixed_part_keeps_a_product_of_its_own(build_graph):
    before = build_graph(
        [
            ("Mul", "user.a item.b", "ab"),
            ("Concat", "user.a ab item.b", "joined", {"axis": 1}),
            ("MatMul", "joined W", "y"),
        ],
        {"user.a": ("float32", ["batch", 2]), "item.b": ("float32", ["batch", 2])},
        {"W": random(6, HIDDEN)},
        OUT,
    )
    after, modified = split(before)
    assert modified
    assert_same(before, after)
    assert sorted(colours_of_products(after)) == [["item"], ["item", "user"], ["user"]]


def test_several_mixed_parts_share_a_product(build_graph):
    before = build_graph(
        [
            ("Mul", "user.a item.b", "ab"),
            ("Sub", "user.a item.b", "difference"),
            ("Concat", "ab user.a difference", "joined", {"axis": 1}),
            ("MatMul", "joined W", "y"),
        ],
        {"user.a": ("float32", ["batch", 2]), "item.b": ("float32", ["batch", 2])},
        {"W": random(6, HIDDEN)},
        OUT,
    )
    after, modified = split(before)
    assert modified
    assert_same(before, after)
    assert sorted(colours_of_products(after)) == [["item", "user"], ["user"]]


def test_a_concatenation_that_is_read_elsewhere_stays(build_graph):
    before = build_graph(
        [
            ("Concat", "user.a item.b", "joined", {"axis": 1}),
            ("MatMul", "joined W", "y"),
            ("Relu", "joined", "z"),
        ],
        {"user.a": ("float32", ["batch", 2]), "item.b": ("float32", ["batch", 2])},
        {"W": random(4, HIDDEN)},
        OUT,
        ("z", "float32", ["batch", 4]),
    )
    after, modified = split(before)
    assert modified
    assert_same(before, after)


def test_two_products_of_one_concatenation_are_both_split(build_graph):
    before = build_graph(
        [
            ("Concat", "user.a item.b", "joined", {"axis": 1}),
            ("MatMul", "joined W", "p"),
            ("MatMul", "joined V", "q"),
            ("Add", "p q", "y"),
        ],
        {"user.a": ("float32", ["batch", 2]), "item.b": ("float32", ["batch", 2])},
        {"W": random(4, HIDDEN), "V": random(4, HIDDEN, seed=3)},
        OUT,
    )
    after, _ = split(before)
    assert_same(before, after)
    assert len(colours_of_products(after)) == 4


UNTOUCHED = {
    "one side": (
        [("Concat", "user.a user.a", "joined", {"axis": 1}), ("MatMul", "joined W", "p")],
        "p",
    ),
    "only mixed parts": (
        [
            ("Mul", "user.a item.b", "m"),
            ("Add", "user.a item.b", "n"),
            ("Concat", "m n", "joined", {"axis": 1}),
            ("MatMul", "joined W", "p"),
        ],
        "p",
    ),
    "a matrix that is computed": (
        [
            ("ReduceMean", "item.b", "scale", {"keepdims": 0}),
            ("Mul", "W scale", "V"),
            ("Concat", "user.a item.b", "joined", {"axis": 1}),
            ("MatMul", "joined V", "p"),
        ],
        "p",
    ),
    "another axis": (
        [
            ("Concat", "user.a item.b", "rows", {"axis": 0}),
            ("MatMul", "rows U", "p"),
        ],
        "p",
    ),
    "no concatenation": ([("Add", "user.a item.b", "sum"), ("MatMul", "sum U", "p")], "p"),
    "a vector": (
        [("Concat", "user.a item.b", "joined", {"axis": 1}), ("MatMul", "joined v", "p")],
        "p",
    ),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_the_rule_does_not_fit_is_left_alone(build_graph, name):
    nodes, last = UNTOUCHED[name]
    before = build_graph(
        [*nodes, ("ReduceSum", f"{last}", "total", {"keepdims": 0}), ("Add", "total item.b", "y")],
        {"user.a": ("float32", ["batch", 2]), "item.b": ("float32", ["batch", 2])},
        {"W": random(4, HIDDEN), "U": random(2, HIDDEN), "v": random(4)},
        ("y", "float32", ["batch", 2]),
    )
    after, modified = split(before)
    assert not modified
    assert [node.op_type for node in after.graph.node] == [n.op_type for n in before.graph.node]
    assert_same(before, after)


def test_an_unknown_width_is_left_alone(build_graph):
    before = build_graph(
        [("Concat", "user.a item.b", "joined", {"axis": 1}), ("MatMul", "joined W", "y")],
        {"user.a": ("float32", ["batch", "some"]), "item.b": ("float32", ["batch", 2])},
        {"W": random(4, HIDDEN)},
        OUT,
    )
    assert not split(before)[1]
