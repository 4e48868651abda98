"""What tests of several scorers share."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fuserank.engine.scoring import TopK
from fuserank.engine.session import GraphSession
from fuserank.export.half import half_joint
from fuserank.export.selection import with_selection


@pytest.fixture(scope="session")
def half_graphs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, GraphSession]:
    """Graphs that select over float16 states: of an inner product, and of a perceptron."""
    inputs = {
        "user_state": ["users", "width"],
        "user_constant": ["users"],
        "item_state": ["items", "width"],
        "item_constant": ["items"],
    }
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    joint = helper.make_model(
        helper.make_graph([], "joint", values, []),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    folder = tmp_path_factory.mktemp("half")
    for perceptron in (False, True):
        graph = with_selection(half_joint(joint, perceptron=perceptron))
        onnx.save(graph, folder / f"{perceptron}.onnx")
    return {perceptron: GraphSession(folder / f"{perceptron}.onnx") for perceptron in (False, True)}


@pytest.fixture(scope="session")
def check_same() -> Callable[[TopK, TopK], None]:
    """Return a check that two scorers found the same, to the bit."""

    def check(exact: TopK, found: TopK) -> None:
        np.testing.assert_array_equal(exact.sizes, found.sizes)
        for mine, theirs, my_rows, their_rows, size in zip(
            exact.scores, found.scores, exact.rows, found.rows, exact.sizes, strict=True
        ):
            np.testing.assert_array_equal(my_rows[:size], their_rows[:size])
            np.testing.assert_array_equal(mine[:size].view(np.int32), theirs[:size].view(np.int32))

    return check
