import shutil

import numpy as np
import pytest

from fuserank.errors import ExportError
from fuserank.export.drawing import as_dot, draw
from fuserank.export.factorise import factorise
from fuserank.schema import Side


@pytest.fixture
def parts(build_graph):
    model = build_graph(
        [("Mul", "user.u item.i", "p"), ("ReduceSum", "p axis", "logit", {"keepdims": 0})],
        {"user.u": ("float32", ["batch", 3]), "item.i": ("float32", ["batch", 3])},
        {"axis": np.array([1])},
    )
    return factorise(model, {"user.u": Side.USER, "item.i": Side.ITEM})


def test_parts_are_drawn_apart_and_joined_by_their_states(parts):
    text = as_dot(parts)
    for part in ("user", "item", "joint"):
        assert f"subgraph cluster_{part}" in text
    assert '"item/item_state" -> "joint/item_state"' in text
    assert '[label="MatMul"' in text


def test_text_needs_no_program(parts, tmp_path):
    draw(parts, tmp_path / "ranker.dot")
    assert (tmp_path / "ranker.dot").read_text() == as_dot(parts)


def test_without_graphviz_the_error_says_so(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ExportError, match="Graphviz"):
        draw(parts, tmp_path / "ranker.svg")


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_accepts_the_text(parts, tmp_path):
    draw(parts, tmp_path / "ranker.svg")
    assert b"<svg" in (tmp_path / "ranker.svg").read_bytes()
