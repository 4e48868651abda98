import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import RequestError
from fuserank.server.inference.tensors import (
    Datatype,
    TensorSpec,
    from_raw,
    join_strings,
    read_tensor,
    split_strings,
    to_raw,
)
from fuserank.server.pb import grpc_service_pb2 as pb

Input = pb.ModelInferRequest.InferInputTensor
IDS = TensorSpec(name="ids", datatype=Datatype.BYTES, dims=(-1,))
AGE = TensorSpec(name="age", datatype=Datatype.FP64, dims=(1,))

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


@given(texts)
def test_strings_survive_the_raw_form(strings):
    assert from_raw(join_strings(strings), Datatype.BYTES, len(strings), "ids") == strings


def test_a_string_follows_its_length_in_four_little_endian_bytes():
    assert join_strings(["é", "", "ab"]) == b"\x02\0\0\0\xc3\xa9\0\0\0\0\x02\0\0\0ab"


@given(texts, st.integers(0, 5), st.binary(max_size=9))
def test_raw_strings_hold_exactly_as_many_as_the_shape_says(strings, count, tail):
    raw = join_strings(strings) + tail
    try:
        found = split_strings(raw, count, "ids")
    except RequestError:
        found = None
    if found is None:
        assert count != len(strings) or tail
    else:
        assert b"".join(len(s).to_bytes(4, "little") + s for s in found) == raw
        assert len(found) == count


@given(st.binary(max_size=64), st.integers(0, 20))
def test_random_bytes_are_read_or_refused(raw, count):
    for datatype in Datatype:
        with contextlib.suppress(RequestError):
            assert len(from_raw(raw, datatype, count, "x")) == count


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1)),
    st.lists(st.floats(width=32)),
    st.lists(st.floats()),
)
def test_numbers_survive_the_raw_form(ints, singles, doubles):
    for values, datatype in ((ints, "INT32"), (singles, "FP32"), (doubles, "FP64")):
        raw = to_raw(np.array(values, dtype=np.float64), Datatype(datatype))
        found = from_raw(raw, Datatype(datatype), len(values), "x")
        np.testing.assert_array_equal(found, values)
        assert all(type(value) is (int if datatype == "INT32" else float) for value in found)


def test_elements_come_raw_or_in_their_typed_list():
    message = Input(name="ids", datatype="BYTES", shape=[2, 2])
    raw = read_tensor(message, join_strings(["a", "b", "c", ""]), IDS)
    message.contents.bytes_contents.extend([b"a", b"b", b"c", b""])
    typed = read_tensor(message, None, IDS)
    assert raw == typed
    assert (typed.row(0), typed.row(1)) == (["a", "b"], ["c", ""])


def test_rows_may_be_empty():
    empty = read_tensor(Input(name="ids", datatype="BYTES", shape=[3, 0]), b"", IDS)
    assert [empty.row(index) for index in range(3)] == [[], [], []]


def filled(message, **contents):
    message.contents.CopyFrom(pb.InferTensorContents(**contents))
    return message


@pytest.mark.parametrize(
    ("message", "raw", "problem"),
    [
        (Input(datatype="FP32", shape=[1, 1]), b"\0" * 4, "datatype 'FP32', expected FP64"),
        (Input(datatype="FP64", shape=[1]), b"\0" * 8, r"shape \[1\], expected \[-1, 1\]"),
        (Input(datatype="FP64", shape=[1, 2]), b"\0" * 16, r"shape \[1, 2\]"),
        (Input(datatype="FP64", shape=[-1, 1]), b"", r"shape \[-1, 1\]"),
        (Input(datatype="FP64", shape=[2, 1]), b"\0" * 8, "8 raw bytes, expected 16"),
        (Input(datatype="FP64", shape=[2**40, 1]), b"", "0 raw bytes"),
        (
            filled(Input(datatype="FP64", shape=[2, 1]), fp64_contents=[1.0]),
            None,
            "1 elements in fp64_contents, expected 2",
        ),
        (
            filled(Input(datatype="FP64", shape=[1, 1]), fp32_contents=[1.0]),
            None,
            "elements in fp32_contents, expected fp64_contents",
        ),
        (
            filled(Input(datatype="FP64", shape=[1, 1]), fp64_contents=[1.0]),
            b"\0" * 8,
            "in contents and in raw_input_contents",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(message, raw, problem):
    with pytest.raises(RequestError, match=problem) as caught:
        read_tensor(message, raw, AGE)
    assert str(caught.value).startswith("input 'age': ")
    assert caught.value.field == "age"


def test_shared_memory_is_refused():
    message = Input(name="age", datatype="FP64", shape=[1, 1])
    message.parameters["shared_memory_region"].string_param = "region"
    with pytest.raises(RequestError, match="'age': shared memory is not supported"):
        read_tensor(message, None, AGE)


def test_a_string_that_is_no_text_is_refused_without_being_quoted():
    message = Input(name="ids", datatype="BYTES", shape=[1, 1])
    message.contents.bytes_contents.append(b"\xffsecret")
    with pytest.raises(RequestError, match="'ids': found a string that is not UTF-8") as caught:
        read_tensor(message, None, IDS)
    assert "secret" not in str(caught.value)
