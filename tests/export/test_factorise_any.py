"""Any small graph of any mixture of the sides: its parts score as it does."""

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fuserank.export.factorise import factorise
from fuserank.export.sides import sides_by_name
from fuserank.export.verify import pair_scores, verify_factorised

WIDTH = 4
FLOAT = TensorProto.FLOAT


class Drawn:
    """A graph under construction: its values are (batch, width), by width."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []
        self.values = [(name, WIDTH) for name in ("user.a", "user.b", "item.c", "item.d")]

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op, inputs, width, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, width))

    def numbers(self, *shape):
        return self.weight((self.rng.standard_normal(shape) / 2).astype(np.float32))

    def step(self, op, first, second):
        a, width = self.values[first % len(self.values)]
        same = [value for value in self.values if value[1] == width]
        b = same[second % len(same)][0]
        if op in ("Add", "Sub", "Mul"):
            self.add(op, [a, b], width)
        elif op == "Scale":
            self.add("Mul", [self.numbers(width), a], width)
        elif op == "Shift":
            self.add("Add", [a, self.numbers(1, width)], width)
        elif op == "MatMul":
            wide = 1 + second % 5
            self.add("MatMul", [a, self.numbers(width, wide)], wide)
        elif op == "Concat":
            c, other = self.values[second % len(self.values)]
            self.add("Concat", [a, c], width + other, axis=1)
        elif op == "Mean":
            axis = self.weight(np.array([1]))
            self.add("ReduceSum", [a, axis], 1, keepdims=1)
        elif op == "Spread":
            column = next((v for v in self.values if v[1] == 1), None)
            if column is not None:
                self.add("Mul", [a, column[0]], width)
        elif op == "Fold" and width % 2 == 0:
            shape = self.weight(np.array([-1, 2, width // 2]))
            folded = f"folded{len(self.nodes)}"
            self.nodes.append(helper.make_node("Reshape", [a, shape], [folded]))
            axis = self.weight(np.array([1]))
            self.add("ReduceSum", [folded, axis], width // 2, keepdims=0)
        elif op in ("Relu", "Tanh", "Neg"):
            self.add(op, [a], width)

    def model(self):
        value = self.values[-1][0]
        axis = self.weight(np.array([1]))
        nodes = [*self.nodes, helper.make_node("ReduceSum", [value, axis], ["sum"], keepdims=0)]
        nodes += [  # so that the logit depends on both sides
            helper.make_node("ReduceSum", [side, axis], [f"{side}.s"], keepdims=0)
            for side in ("user.a", "item.c")
        ]
        nodes.append(helper.make_node("Add", ["sum", "user.a.s"], ["t"]))
        nodes.append(helper.make_node("Add", ["t", "item.c.s"], ["logit"]))
        inputs = [
            helper.make_tensor_value_info(name, FLOAT, ["batch", width])
            for name, width in self.values[:4]
        ]
        logit = helper.make_tensor_value_info("logit", FLOAT, ["batch"])
        graph = helper.make_graph(nodes, "ranker", inputs, [logit], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


OPERATORS = ("Add", "Sub", "Mul", "Scale", "Shift", "MatMul", "Concat", "Mean", "Spread", "Fold")


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from((*OPERATORS, "Relu", "Tanh", "Neg")),
            st.integers(0, 40),
            st.integers(0, 40),
        ),
        min_size=1,
        max_size=10,
    ),
    seed=st.integers(0, 1000),
)
def test_the_parts_of_any_graph_score_as_the_whole(steps, seed):
    drawn = Drawn(seed)
    for op, first, second in steps:
        # The latest values are taken most, so that graphs grow deep and not only wide.
        drawn.step(op, len(drawn.values) - 1 - first % 6, second)
    model = drawn.model()
    users = {
        n: drawn.rng.standard_normal((3, WIDTH)).astype(np.float32) for n in ("user.a", "user.b")
    }
    items = {
        n: drawn.rng.standard_normal((5, WIDTH)).astype(np.float32) for n in ("item.c", "item.d")
    }
    if np.abs(pair_scores(model, users, items)).max() > 1e4:
        return  # cancellation of large terms says nothing of the rewriting
    parts = factorise(model, sides_by_name(value.name for value in model.graph.input))
    verify_factorised(model, parts, users, items)
