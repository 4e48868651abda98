from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.results import BundleInfo, FieldInfo
from fuserank.errors import UnknownVersionError
from fuserank.schema import Kind
from fuserank.server.inference.models import find_model, models_of, number_of
from fuserank.server.inference.tensors import Tensor
from fuserank.server.inference.users import user_rows

INFO = BundleInfo(
    name="films",
    version="3",
    format_version=1,
    space="a1b2",
    model="neumf",
    scorer="dot",
    n_items=20,
    n_users=7,
    title="title",
    threshold=0.25,
    encoder=None,
    precision=None,
    device="cpu",
    user_fields=(),
)


def inputs_of(model):
    return {spec.name: (spec.datatype, spec.dims) for spec in model.inputs}


def test_a_field_of_every_kind_is_an_input():
    fields = tuple(FieldInfo(name=kind.value, kind=kind.value) for kind in Kind)
    recommend, score = models_of(replace(INFO, user_fields=fields))
    assert inputs_of(recommend) == {
        "id": ("BYTES", (1,)),
        "category": ("BYTES", (1,)),
        "categories": ("BYTES", (-1,)),
        "number": ("FP64", (1,)),
        "text": ("BYTES", (1,)),
        "words": ("BYTES", (1,)),
        "vector": ("FP32", (-1,)),
        "tensor": ("FP64", (-1,)),
        "history": ("BYTES", (-1,)),
        "k": ("INT32", (1,)),
    }
    assert inputs_of(score).keys() - inputs_of(recommend).keys() == {"item_ids"}
    assert [spec.name for spec in score.inputs if not spec.optional] == ["item_ids"]


def test_an_encoder_is_a_model_where_there_is_one():
    assert [m.name for m in models_of(INFO)] == ["films", "films.score"]
    with_encoder = replace(INFO, encoder="bert")
    assert [m.name for m in models_of(with_encoder)] == ["films", "films.score", "films.encoder"]
    with pytest.raises(UnknownVersionError, match=r"expected one of films, films\.score$"):
        find_model(INFO, "films.encoder")


def test_a_field_does_not_take_the_name_of_another_input():
    fields = tuple(FieldInfo(name=name, kind="text") for name in ("k", "item_ids"))
    recommend, score = models_of(replace(INFO, user_fields=fields))
    assert inputs_of(recommend) == {"item_ids": ("BYTES", (1,)), "k": ("INT32", (1,))}
    assert inputs_of(score) == {"k": ("BYTES", (1,)), "item_ids": ("BYTES", (-1,))}


@given(st.text(min_size=1))
def test_versions_are_whole_numbers_of_64_bits(version):
    number = number_of(version)
    assert number == str(int(number))
    assert 0 <= int(number) < 2**63
    assert number_of(number) == number


@pytest.mark.parametrize(
    ("kind", "row", "value"),
    [
        ("id", ["42"], "42"),
        ("text", [""], None),
        ("number", [0.0], 0.0),
        ("number", [float("nan")], None),
        ("number", [float("-inf")], None),
        ("number", [1e39], None),
        ("history", ["a", "", "b", ""], ["a", "b"]),
        ("history", ["", ""], None),
        ("history", [], []),
        ("categories", ["war"], ["war"]),
        ("vector", [0.5, -0.5], [0.5, -0.5]),
        ("vector", [0.5, float("nan")], None),
        ("vector", [], None),
        ("tensor", [3.0], [3.0]),
    ],
)
def test_what_a_row_says_of_a_field(kind, row, value):
    info = replace(INFO, user_fields=(FieldInfo(name="field", kind=kind),))
    tensor = Tensor(name="field", shape=(1, len(row)), values=row)
    (user,) = user_rows(info, {"field": tensor}, 1)
    assert user == ({} if value is None else {"field": value})
