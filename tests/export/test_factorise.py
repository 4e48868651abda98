"""Hand-made rankers in three parts, each held against the whole."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fuserank.bundle import ScorerKind
from fuserank.errors import FactorisationError, ParityError
from fuserank.export.factorise import factorise, read_ranker
from fuserank.export.sides import sides_by_name
from fuserank.export.verify import TOLERANCE, pair_scores, verify_factorised
from fuserank.schema import Side

WIDTH = 6
U = {"user.u": ("float32", ["batch", WIDTH])}
I = {"item.i": ("float32", ["batch", WIDTH])}  # noqa: E741
CONTEXT = {"context.c": ("float32", ["batch", 2])}
AXIS_1 = {"axis": np.array([1])}


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def split(model):
    return factorise(model, sides_by_name(value.name for value in model.graph.input))


def sample(model, side_of_items, n_rows, seed):
    """Draw inputs of one side; whole numbers are rows of tables with 5 rows."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for value in model.graph.input:
        if value.name.startswith("item.") is not side_of_items:
            continue
        tensor = value.type.tensor_type
        shape = [n_rows, *(axis.dim_value for axis in tensor.shape.dim[1:])]
        if tensor.elem_type == onnx.TensorProto.INT64:
            drawn[value.name] = rng.integers(0, 5, shape)
        else:
            drawn[value.name] = rng.standard_normal(shape).astype(np.float32)
    return drawn


def verify(model, parts):
    for n_users, n_items in ((4, 7), (1, 1), (3, 1), (1, 5)):
        users, items = sample(model, False, n_users, 1), sample(model, True, n_items, 2)
        assert verify_factorised(model, parts, users, items) <= TOLERANCE


def squeezed(*nodes):
    """End a graph whose last value is ``z`` (batch, 1) with a logit a pair."""
    return [*nodes, ("Squeeze", "z axis", "logit")]


@pytest.fixture(scope="module")
def rankers(build_graph):
    """Rankers by name."""
    hidden = {"W": random(2 * WIDTH, 8), "b": random(8, seed=1), "w": random(8, 1, seed=2)}
    perceptron = [
        ("MatMul", "joined W", "h"),
        ("Add", "h b", "hb"),
        ("Relu", "hb", "act"),
        ("MatMul", "act w", "s"),
        ("Add", "s bias", "z"),
    ]
    bias = {"bias": np.array([0.7], np.float32)}
    return {
        "inner product": build_graph(
            [("Mul", "user.u item.i", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
            U | I,
            AXIS_1,
        ),
        "weighted product with biases": build_graph(
            squeezed(
                ("Gather", "table user.id", "e"),
                ("Mul", "e user.u", "eu"),
                ("Mul", "eu item.i", "p"),
                ("MatMul", "p theta", "s"),
                ("MatMul", "item.i v", "ib"),
                ("MatMul", "user.u v", "ub"),
                ("Add", "s ib", "s1"),
                ("Add", "ub s1", "s2"),
                ("Add", "s2 bias", "z"),
            ),
            {"user.id": ("int64", ["batch"])} | U | I,
            {"table": random(5, WIDTH), "theta": random(WIDTH, 1), "v": random(WIDTH, 1, seed=4)}
            | AXIS_1
            | bias,
        ),
        "bilinear": build_graph(
            [
                ("MatMul", "user.u M", "um"),
                ("Mul", "theta um", "t"),
                ("Mul", "item.i t", "p"),
                ("ReduceSum", "p axis", "logit", {"keepdims": 0}),
            ],
            U | I,
            {"M": random(WIDTH, WIDTH), "theta": random(WIDTH)} | AXIS_1,
        ),
        "two products": build_graph(
            squeezed(
                ("Mul", "user.u item.i", "p"),
                ("ReduceSum", "p axis", "s1", {"keepdims": 1}),
                ("Mul", "user.v item.j", "q"),
                ("MatMul", "q w", "s2"),
                ("Add", "s1 s2", "z"),
            ),
            U | I | {"user.v": ("float32", ["batch", 3]), "item.j": ("float32", ["batch", 3])},
            {"w": random(3, 1)} | AXIS_1,
        ),
        "perceptron": build_graph(
            squeezed(("Concat", "user.u item.i", "joined", {"axis": 1}), *perceptron),
            U | I,
            hidden | bias | AXIS_1,
        ),
        "perceptron of interleaved inputs": build_graph(
            squeezed(
                ("Concat", "item.i user.u context.c item.j user.v", "joined", {"axis": -1}),
                *perceptron,
            ),
            {"item.j": ("float32", ["batch", 3]), "user.v": ("float32", ["batch", 1])}
            | CONTEXT
            | U
            | I,
            hidden | {"W": random(2 * WIDTH + 6, 8)} | bias | AXIS_1,
        ),
        "deep": build_graph(
            squeezed(
                ("Concat", "user.u item.i", "joined", {"axis": 1}),
                ("MatMul", "joined W", "h"),
                ("Relu", "h", "a1"),
                ("MatMul", "a1 V", "h2"),
                ("Relu", "h2", "a2"),
                ("MatMul", "a2 w", "z"),
            ),
            U | I,
            hidden | {"V": random(8, 8, seed=9)} | AXIS_1,
        ),
        "deep with normalisation": build_graph(
            squeezed(
                ("Concat", "user.u item.i", "joined", {"axis": 1}),
                ("MatMul", "joined W", "h"),
                ("Relu", "h", "a1"),
                ("BatchNormalization", "a1 gamma beta mean variance", "n1"),
                ("Gemm", "n1 G b", "h2", {"transB": 1}),
                ("Tanh", "h2", "a2"),
                ("Unsqueeze", "a2 axis", "row"),
                ("Sub", "one row", "inverse"),
                ("Div", "inverse three", "third"),
                ("Neg", "third", "negative"),
                ("Squeeze", "negative axis", "back"),
                ("MatMul", "back M", "h3"),
                ("Sub", "h3 beta5", "h4"),
                ("Sigmoid", "h4", "gate"),
                ("Mul", "h4 gate", "a3"),
                ("MatMul", "a3 w5", "s"),
                ("MatMul", "user.u v", "wide"),
                ("Add", "s wide", "z"),
            ),
            U | I,
            {
                "W": hidden["W"],
                "gamma": random(8, seed=3),
                "beta": random(8, seed=4),
                "mean": random(8, seed=5),
                "variance": np.abs(random(8, seed=6)) + 0.5,
                "G": random(7, 8, seed=7),
                "b": random(7, seed=8),
                "one": np.array(1.0, np.float32),
                "three": np.full((1, 1, 7), 3.0, np.float32),
                "M": random(7, 5, seed=9),
                "beta5": random(5, seed=10),
                "w5": random(5, 1, seed=11),
                "v": random(WIDTH, 1, seed=12),
            }
            | AXIS_1,
        ),
        "a user added behind the first layer": build_graph(
            squeezed(
                ("Concat", "user.u item.i", "joined", {"axis": 1}),
                ("MatMul", "joined W", "h"),
                ("Relu", "h", "a1"),
                ("MatMul", "a1 V", "h2"),
                ("MatMul", "user.u U", "uh"),
                ("Add", "h2 uh", "h3"),
                ("Relu", "h3", "a2"),
                ("MatMul", "a2 w", "z"),
            ),
            U | I,
            {"W": hidden["W"], "V": random(8, 8, seed=9), "U": random(WIDTH, 8), "w": hidden["w"]}
            | AXIS_1,
        ),
        "two perceptrons": build_graph(
            squeezed(
                ("Concat", "user.u item.i", "joined", {"axis": 1}),
                ("MatMul", "joined W", "h"),
                ("Relu", "h", "a1"),
                ("Tanh", "h", "a2"),
                ("Concat", "a1 a2", "both", {"axis": 1}),
                ("MatMul", "both w16", "z"),
            ),
            U | I,
            {"W": hidden["W"], "w16": random(16, 1, seed=2)} | AXIS_1,
        ),
        "nonlinear product": build_graph(
            [
                ("Mul", "user.u item.i", "p"),
                ("Tanh", "p", "t"),
                ("ReduceSum", "t axis", "logit", {"keepdims": 0}),
            ],
            U | I,
            AXIS_1,
        ),
        "distance": build_graph(
            [
                ("Sub", "user.u item.i", "d"),
                ("Abs", "d", "a"),
                ("ReduceSum", "a axis", "s", {"keepdims": 0}),
                ("Neg", "s", "logit"),
            ],
            U | I,
            AXIS_1,
        ),
        "products in a perceptron": build_graph(
            squeezed(
                ("Mul", "user.u item.i", "p"),
                ("Concat", "user.u p item.i", "joined", {"axis": 1}),
                *perceptron,
            ),
            U | I,
            hidden | {"W": random(3 * WIDTH, 8)} | bias | AXIS_1,
        ),
        "neural factorization": build_graph(
            squeezed(
                ("Mul", "user.u item.i", "p"),
                ("Concat", "user.u item.i", "joined", {"axis": 1}),
                ("MatMul", "joined W", "h"),
                ("Relu", "h", "act"),
                ("Concat", "p act", "both", {"axis": 1}),
                ("MatMul", "both w2", "z"),
            ),
            U | I,
            {"W": hidden["W"], "w2": random(WIDTH + 8, 1)} | AXIS_1,
        ),
        "a user expanded to the shape of an item": build_graph(
            [
                ("Shape", "item.i", "shape"),
                ("Expand", "user.u shape", "wide"),
                ("Sub", "wide item.i", "d"),
                ("Abs", "d", "a"),
                ("ReduceSum", "a axis", "logit", {"keepdims": 0}),
            ],
            U | I,
            AXIS_1,
        ),
        "a pair in the shape of a user": build_graph(
            [
                ("Sub", "user.u item.i", "d"),
                ("Shape", "user.u", "shape", {"end": 1}),
                ("Concat", "shape tail", "target", {"axis": 0}),
                ("Reshape", "d target", "r"),
                ("ConstantOfShape", "target", "zeros"),
                ("Max", "r zeros", "m"),
                ("ReduceSum", "m axes", "logit", {"keepdims": 0}),
            ],
            U | I,
            {"tail": np.array([2, WIDTH // 2]), "axes": np.array([1, 2])},
        ),
        "linear": build_graph(
            squeezed(
                ("Concat", "user.u item.i", "joined", {"axis": 1}), ("MatMul", "joined W", "z")
            ),
            U | I,
            {"W": random(2 * WIDTH, 1)} | AXIS_1,
        ),
    }


@pytest.mark.parametrize(
    ("name", "kind", "work"),
    [
        ("inner product", ScorerKind.DOT, (0, WIDTH)),
        ("weighted product with biases", ScorerKind.DOT, (3 * WIDTH, WIDTH)),
        ("bilinear", ScorerKind.DOT, (WIDTH * WIDTH, WIDTH)),
        ("two products", ScorerKind.DOT, (3, WIDTH + 3)),
        ("perceptron", ScorerKind.ADDITIVE, (2 * WIDTH * 8 + 8, 8)),
        ("perceptron of interleaved inputs", ScorerKind.ADDITIVE, ((2 * WIDTH + 6) * 8 + 8, 8)),
        ("deep", ScorerKind.ADDITIVE, (2 * WIDTH * 8 + 64 + 8, 64 + 8)),
        (
            "deep with normalisation",
            ScorerKind.ADDITIVE,
            (2 * WIDTH * 8 + 56 + 35 + 5 + WIDTH, 56 + 35 + 5),
        ),
        (
            "a user added behind the first layer",
            ScorerKind.GENERIC,
            (2 * WIDTH * 8 + 64 + WIDTH * 8 + 8, 64 + 8),
        ),
        ("two perceptrons", ScorerKind.GENERIC, (2 * WIDTH * 8 + 16, 16)),
        ("nonlinear product", ScorerKind.GENERIC, (0, 0)),
        ("distance", ScorerKind.GENERIC, (0, 0)),
        ("products in a perceptron", ScorerKind.GENERIC, (3 * WIDTH * 8 + 8, WIDTH * 8 + 8)),
        ("neural factorization", ScorerKind.ADDITIVE, (2 * WIDTH * 8 + WIDTH + 8, WIDTH + 8)),
        ("a user expanded to the shape of an item", ScorerKind.GENERIC, (0, 0)),
        ("a pair in the shape of a user", ScorerKind.GENERIC, (0, 0)),
        ("linear", ScorerKind.GENERIC, (2 * WIDTH, 0)),
    ],
)
def test_the_parts_score_as_the_whole(rankers, name, kind, work):
    model = rankers[name]
    parts = split(model)
    verify(model, parts)
    assert parts.scorer.kind is kind
    assert (parts.scorer.full_multiply_adds, parts.scorer.joint_multiply_adds) == work
    assert (parts.scorer.note == "") == (kind is not ScorerKind.GENERIC)
    assert parts.scorer.precomputed


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("nonlinear product", "'p': a product of both sides, not a sum"),
        ("distance", "the sides mix in Abs ('a')"),
        ("a user added behind the first layer", "'a1': Relu of both sides, which is not linear"),
        ("two perceptrons", "'logit': a sum of several perceptrons"),
        ("products in a perceptron", "'p': a product of both sides, not a sum"),
        ("linear", "no value mixes the sides"),
    ],
)
def test_what_stays_generic_says_where_the_sides_mix(rankers, name, note, caplog):
    assert note in split(rankers[name]).scorer.note
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert note in caplog.text


def test_the_rewrites_that_fired_are_named(rankers):
    fired = {name: split(model).scorer.rewrites for name, model in rankers.items()}
    assert fired["inner product"] == ("lower-dot",)
    assert fired["perceptron"] == ("split-concat-matmul", "lower-additive")
    assert fired["deep"] == ("split-concat-matmul", "lower-additive")
    assert fired["two perceptrons"] == ("split-concat-matmul",)
    assert fired["distance"] == ()


def test_each_part_reads_its_own_side_alone(rankers):
    for model in rankers.values():
        parts = split(model)
        assert {v.name.partition(".")[0] for v in parts.user.graph.input} <= {"user", "context"}
        assert {v.name.partition(".")[0] for v in parts.item.graph.input} == {"item"}
        states = [v.name for part in (parts.user, parts.item) for v in part.graph.output]
        assert sorted(v.name for v in parts.joint.graph.input) == sorted(states)
        assert [v.name for v in parts.joint.graph.output] == ["scores"]


def test_fused_scorers_read_what_the_parts_write(rankers):
    parts = split(rankers["perceptron"])
    assert [v.name for v in parts.user.graph.output] == ["user_state", "user_constant"]
    assert [v.name for v in parts.item.graph.output] == ["item_state", "item_constant"]
    assert parts.scorer.activation == "relu"
    assert parts.weights.shape == (8,)
    assert parts.weights.dtype == np.float32
    assert split(rankers["bilinear"]).weights is None


def test_layers_behind_the_first_are_named_and_kept(rankers):
    parts = split(rankers["deep with normalisation"])
    assert parts.scorer.summary == "additive (relu, tanh, silu)"
    assert [layer.weights.shape for layer in parts.layers] == [(7, 8), (5, 7)]
    assert [layer.bias.shape for layer in parts.layers] == [(7,), (5,)]
    assert parts.weights.shape == (5,)
    assert {layer.weights.dtype for layer in parts.layers} == {np.dtype(np.float32)}


def test_an_inner_product_beside_a_perceptron_stands_behind_it_in_the_states(rankers):
    parts = split(rankers["neural factorization"])
    assert (parts.scorer.summary, parts.scorer.products) == ("additive (relu) + dot", WIDTH)
    assert (parts.layers, parts.weights.shape) == ((), (8,))
    (state, _) = parts.item.graph.output
    assert state.type.tensor_type.shape.dim[1].dim_value == 8 + WIDTH


def test_the_ranker_is_not_modified(rankers):
    for model in rankers.values():
        before = model.SerializeToString(deterministic=True)
        split(model)
        assert model.SerializeToString(deterministic=True) == before


def test_tables_of_the_other_side_are_left_out(build_graph):
    model = build_graph(
        [
            ("Gather", "users user.id", "u"),
            ("Gather", "items item.id", "i"),
            ("Mul", "u i", "p"),
            ("ReduceSum", "p axis", "logit", {"keepdims": 0}),
        ],
        {"user.id": ("int64", ["batch"]), "item.id": ("int64", ["batch"])},
        {"users": random(5, 40), "items": random(5, 40, seed=1)} | AXIS_1,
    )
    parts = split(model)
    verify(model, parts)
    assert "items" not in {tensor.name for tensor in parts.user.graph.initializer}
    assert "users" not in {tensor.name for tensor in parts.item.graph.initializer}
    assert all(np.prod(tensor.dims) < 40 for tensor in parts.joint.graph.initializer)


def test_an_input_that_nothing_reads_is_dropped(build_graph):
    model = build_graph(
        [("Mul", "user.u item.i", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        U | I | CONTEXT | {"item.unused": ("float32", ["batch", 2])},
        AXIS_1,
    )
    parts = split(model)
    assert [v.name for v in parts.item.graph.input] == ["item.i"]
    verify(model, parts)


def test_sides_may_be_declared_for_any_name(build_graph):
    model = build_graph(
        [("Mul", "a b", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        {"a": ("float32", ["batch", 3]), "b": ("float32", ["batch", 3])},
        AXIS_1,
    )
    parts = factorise(model, {"a": Side.ITEM, "b": Side.USER})
    assert verify_factorised(model, parts, {"b": random(2, 3)}, {"a": random(4, 3)}) <= TOLERANCE


def product(build_graph, inputs, *outputs):
    first, second = inputs
    nodes = [
        ("Mul", f"{first} {second}", "p"),
        ("ReduceSum", "p axis", "s", {"keepdims": 0}),
        ("Cast", "s", "n", {"to": onnx.TensorProto.INT64}),
    ]
    return build_graph(nodes, inputs, AXIS_1, *(outputs or [("s", "float32", ["batch"])]))


def test_an_input_whose_name_declares_no_side_is_refused(build_graph):
    inputs = {"user.u": U["user.u"], "age": ("float32", ["batch", WIDTH])}
    with pytest.raises(FactorisationError, match=r"input 'age': expected a name that begins with"):
        split(product(build_graph, inputs))
    with pytest.raises(FactorisationError, match="input 'age': no side was declared"):
        factorise(product(build_graph, inputs), {"user.u": Side.USER})


@pytest.mark.parametrize(("given", "missing"), [("user", "item"), ("item", "user")])
def test_a_ranker_of_one_side_is_refused(build_graph, given, missing):
    inputs = {f"{given}.{name}": ("float32", ["batch", 3]) for name in "ab"}
    with pytest.raises(FactorisationError, match=f"found no {missing} input"):
        split(product(build_graph, inputs))


def test_outputs_other_than_one_logit_a_pair_are_refused(build_graph):
    logit, count = ("s", "float32", ["batch"]), ("n", "int64", ["batch"])
    with pytest.raises(FactorisationError, match=r"expected one output.*found \['s', 'n'\]"):
        split(product(build_graph, U | I, logit, count))
    with pytest.raises(FactorisationError, match="output 'n': expected float32, found INT64"):
        split(product(build_graph, U | I, count))
    with pytest.raises(FactorisationError, match=r"output 'p': expected one logit a pair, found"):
        split(product(build_graph, U | I, ("p", "float32", ["batch", WIDTH])))


def altered(model, name):
    """Return a copy of a graph in which one constant is off by a little."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (tensor,) = [t for t in changed.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.01), name))
    return changed


def test_parts_that_score_otherwise_are_refused(rankers):
    model = rankers["perceptron"]
    parts = split(model)
    broken = replace(parts, joint=altered(parts.joint, "weights"))
    with pytest.raises(
        ParityError, match=r"differ from the full graph by .*expected at most 1e-05"
    ):
        verify(model, broken)


def test_a_nan_is_no_parity(rankers):
    model = rankers["perceptron"]
    users, items = sample(model, False, 2, 0), sample(model, True, 2, 0)
    items["item.i"][0, 0] = np.nan
    with pytest.raises(ParityError):
        verify_factorised(model, split(model), users, items)


def test_nothing_to_compare_differs_by_nothing(rankers):
    model = rankers["bilinear"]
    users, items = sample(model, False, 2, 0), sample(model, True, 0, 0)
    assert verify_factorised(model, split(model), users, items) == 0.0


def test_pair_scores_are_those_of_the_formula(rankers):
    model = rankers["inner product"]
    users, items = sample(model, False, 3, 0), sample(model, True, 4, 1)
    np.testing.assert_allclose(
        pair_scores(model, users, items), users["user.u"] @ items["item.i"].T, rtol=1e-5, atol=1e-6
    )


def test_control_flow_is_refused(build_graph):
    model = build_graph(
        [("Mul", "user.u item.i", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        U | I,
        AXIS_1,
    )
    branch = onnx.helper.make_graph([], "branch", [], [])
    model.graph.node.append(
        onnx.helper.make_node("If", ["flag"], ["out"], then_branch=branch, else_branch=branch)
    )
    with pytest.raises(FactorisationError, match="If, whose work depends on the data"):
        split(model)


@pytest.mark.parametrize("opset", [12, 27])
def test_other_opsets_are_refused(rankers, opset):
    model = onnx.ModelProto.FromString(rankers["inner product"].SerializeToString())
    model.opset_import[0].version = opset
    with pytest.raises(FactorisationError, match=f"opset: found {opset}, expected 13 to 26"):
        split(model)


@pytest.mark.parametrize("shape", [[4, WIDTH], []])
def test_inputs_without_a_free_batch_axis_are_refused(build_graph, shape):
    model = build_graph(
        [("Mul", "user.u item.i", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        U | {"item.i": ("float32", shape)},
        AXIS_1,
    )
    with pytest.raises(FactorisationError, match=r"'item\.i': expected a free batch axis"):
        split(model)


def test_a_file_that_is_no_ranker_is_named(tmp_path):
    path = tmp_path / "ranker.onnx"
    with pytest.raises(FactorisationError, match="no such file"):
        read_ranker(path)
    path.write_bytes(b"not a model")
    with pytest.raises(FactorisationError, match="expected an ONNX model"):
        read_ranker(path)
