"""Requests become inputs of the user graph: texts, histories, stored values."""

from types import SimpleNamespace

import numpy as np
import pytest

from fuserank.engine.encoder_config import TextRole
from fuserank.engine.results import Timings
from fuserank.engine.user_inputs import UserInputs
from fuserank.errors import RequestError
from fuserank.schema import Field, Kind, Schema, Side

VECTORS = np.arange(10, dtype=np.float32).reshape(5, 2)
NO_ROWS = np.empty(0, dtype=np.int32)
FIELDS = [
    Field(name="user_id", side=Side.USER, kind=Kind.ID, column="id"),
    Field(name="age", side=Side.USER, kind=Kind.NUMBER, column="years"),
    Field(name="age_group", side=Side.USER, kind=Kind.CATEGORY, column="years"),
    Field(name="about", side=Side.USER, kind=Kind.TEXT),
    Field(name="past", side=Side.USER, kind=Kind.HISTORY, of="plot", max_length=3),
    Field(name="wish", side=Side.USER, kind=Kind.TEXT, joins="past"),
    Field(name="plot", side=Side.ITEM, kind=Kind.TEXT),
]
SCHEMA = Schema.fit(
    FIELDS, {Side.USER: {"id": ["7", "8"], "years": [20, 40]}, Side.ITEM: {}}, text_dim=2
)
CATALOGUE = SimpleNamespace(
    vectors={"plot": VECTORS}, rows=lambda ids, field: np.array([int(i) for i in ids], dtype=int)
)
USERS = SimpleNamespace(
    row=lambda user_id: 0 if user_id == "7" else None,
    seen=lambda row: NO_ROWS if row is None else np.array([4], dtype=np.int32),
    history=lambda row: NO_ROWS if row is None else np.array([1, 2], dtype=np.int32),
    tensors={
        "user.user_id": np.array([1]),
        "user.age": np.array([[9.0, 0.0]], np.float32),
        "user.age_group": np.array([2]),
        "user.about": np.array([[0.5, 0.5]], np.float32),
    },
)


@pytest.fixture
def asked():
    """The texts that were encoded, call by call."""
    return []


@pytest.fixture
def inputs(asked):
    def encode(texts, role):
        assert role is TextRole.QUERY
        asked.append(list(texts))
        vectors = np.array([[len(text), -1] for text in texts], dtype=np.float32)
        return SimpleNamespace(vectors=vectors, timings=Timings(encode_ms=1.5))

    return UserInputs(SCHEMA, CATALOGUE, USERS, encode)


def test_every_input_of_the_graph_is_there_whatever_is_asked(inputs):
    names = {spec.name for spec in SCHEMA.specs(Side.USER, Side.CONTEXT)}
    for request in ({}, {"user_id": "7"}, {"age": 3}):
        tensors = inputs.prepare([request]).tensors
        assert set(tensors) == names
        for spec in SCHEMA.specs(Side.USER):
            assert str(tensors[spec.name].dtype) == spec.dtype
            assert tensors[spec.name].shape == (1, *spec.shape[1:])


def test_requests_name_fields_and_not_columns(inputs):
    assert inputs.prepare([{"age": 20}]).tensors["user.age"][0].tolist() == [-1, 0]
    with pytest.raises(RequestError, match="no field 'years'"):
        inputs.prepare([{"years": 20}])


def test_fields_that_were_fitted_on_one_column_are_told_apart(inputs):
    tensors = inputs.prepare([{"age": 20}, {"age_group": 40}]).tensors
    assert tensors["user.age"][:, 1].tolist() == [0, 1]
    assert tensors["user.age_group"].tolist() == [0, 2]


def test_a_stored_user_has_its_stored_values(inputs):
    found = inputs.prepare([{"user_id": 7}])
    assert found.served_as == ("known",)
    assert found.tensors["user.user_id"].tolist() == [1]
    assert found.tensors["user.age"].tolist() == [[9, 0]]
    assert found.tensors["user.about"].tolist() == [[0.5, 0.5]]
    assert found.tensors["user.past"][0].tolist() == [[0, 0], *VECTORS[[1, 2]].tolist()]
    assert sorted(found.seen[0].tolist()) == [1, 2, 4]


def test_what_a_request_says_wins_field_by_field(inputs):
    found = inputs.prepare([{"user_id": "7", "about": "jazz", "past": ["3"]}])
    assert found.tensors["user.about"].tolist() == [[4, -1]]
    assert found.tensors["user.age"].tolist() == [[9, 0]]
    assert found.tensors["user.past"][0].tolist() == [[0, 0], [0, 0], VECTORS[3].tolist()]
    assert sorted(found.seen[0].tolist()) == [3, 4]


def test_a_text_joins_the_history_as_its_latest_event(inputs):
    alone, behind, full = inputs.prepare(
        [
            {"wish": "war"},
            {"wish": "heist", "past": ["1"]},
            {"wish": "noir", "past": ["0", "1", "2", "3"]},
        ]
    ).tensors["user.past"]
    assert alone.tolist() == [[0, 0], [0, 0], [3, -1]]
    assert behind.tolist() == [[0, 0], VECTORS[1].tolist(), [5, -1]]
    assert full.tolist() == [*VECTORS[[2, 3]].tolist(), [4, -1]]


def test_all_texts_of_all_requests_are_encoded_at_once(inputs, asked):
    found = inputs.prepare([{"about": "a"}, {}, {"about": "bb", "wish": "ccc"}])
    assert asked == [["a", "bb", "ccc"]]
    assert found.tensors["user.about"].tolist() == [[1, -1], [0, 0], [2, -1]]
    assert found.timings.encode_ms == 1.5


def test_nothing_is_encoded_where_no_text_is_given(inputs, asked):
    assert inputs.prepare([{}, {"user_id": "7"}]).timings == Timings()
    assert asked == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "an empty text"), (" \n", "an empty text"), (3, "int"), (["a"], "list")],
)
@pytest.mark.parametrize("name", ["about", "wish"])
def test_a_text_must_have_words(inputs, name, text, found):
    with pytest.raises(
        RequestError, match=f"user field '{name}': found {found}, expected words"
    ) as error:
        inputs.prepare([{}, {name: text}])
    assert error.value.field == name


def test_a_text_without_an_encoder_is_refused():
    inputs = UserInputs(SCHEMA, CATALOGUE, USERS, None)
    with pytest.raises(
        RequestError, match="user field 'wish': this bundle has no text encoder"
    ) as error:
        inputs.prepare([{"wish": "war"}])
    assert error.value.field == "wish"
    assert inputs.prepare([{"age": 3}]).served_as == ("cold",)


def test_how_each_request_is_served(inputs):
    requests = [{"user_id": "7"}, {"user_id": "8"}, {"user_id": "9", "age": 3}, {"age": 3}]
    assert inputs.prepare(requests).served_as == ("known", "unknown", "unknown", "cold")
