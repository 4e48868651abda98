"""The fitted schema: fields, tensors, texts, JSON and histories."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import SchemaError
from fuserank.schema import Field, FittedField, Kind, Schema, Side, pack_history
from fuserank.schema.numeric import NumberScaling

ITEMS = {
    "item_id": ["a", "b", "c"],
    "title": ["Alien", "Brazil", None],
    "year": [1979, 1985, None],
    "genres": [["Horror"], ["Comedy", "Horror"], None],
    "cover": [[1.0, 0.0], None, [0.0, 2.0]],
}
USERS = {"user_id": [1, 2], "age": [20, 40], "job": ["cook", None]}


def number(name="age", side=Side.USER, **options):
    return Field(name=name, side=side, kind=Kind.NUMBER, **options)


def fields():
    return [
        Field(name="user_id", side=Side.USER, kind=Kind.ID),
        number(),
        Field(name="job", side=Side.USER, kind=Kind.CATEGORY),
        Field(name="history", side=Side.USER, kind=Kind.HISTORY, of="cover", max_length=3),
        Field(name="words", side=Side.USER, kind=Kind.TEXT, joins="past"),
        Field(name="past", side=Side.USER, kind=Kind.HISTORY, of="text", max_length=2),
        number("hour", Side.CONTEXT),
        Field(name="item_id", side=Side.ITEM, kind=Kind.ID),
        Field(name="text", side=Side.ITEM, kind=Kind.TEXT, template="{title} ({year})"),
        Field(name="genres", side=Side.ITEM, kind=Kind.CATEGORIES, max_length=2),
        Field(name="cover", side=Side.ITEM, kind=Kind.VECTOR),
        Field(
            name="terms", side=Side.ITEM, kind=Kind.WORDS, template="{title} {genres}", min_rows=1
        ),
    ]


@pytest.fixture(scope="module")
def schema():
    return Schema.fit(fields(), {Side.USER: USERS, Side.ITEM: ITEMS}, text_dim=4)


def text_schema(template, name="text", column=None):
    field = Field(name=name, side=Side.ITEM, kind=Kind.TEXT, template=template, column=column)
    return Schema((FittedField(field=field, dim=4),))


def test_every_kind_becomes_its_tensor(schema):
    users = schema.encode(Side.USER, USERS, 2)
    items = schema.encode(Side.ITEM, ITEMS, 3)
    assert users["user.user_id"].tolist() == [1, 2]
    assert users["user.job"].tolist() == [1, 0]
    assert users["user.age"][:, 1].tolist() == [0, 0]
    assert items["item.genres"].tolist() == [[1, 0], [2, 1], [0, 0]]
    assert items["item.cover"].tolist() == [[1, 0], [0, 0], [0, 2]]
    assert set(users) == {"user.user_id", "user.age", "user.job"}
    # alien, brazil, comedy, horror: horror occurs in two of three rows, the others in one.
    rare, frequent = np.log([4 / 2, 4 / 3]) + 1
    alien = np.array([rare, 0, 0, frequent]) / np.hypot(rare, frequent)
    assert items["item.terms"][0] == pytest.approx(alien)
    assert not items["item.terms"][2].any()
    assert set(items) == {"item.item_id", "item.genres", "item.cover", "item.terms"}


def test_tensors_have_the_dtype_and_shape_of_their_spec(schema):
    for side, table, n_rows in ((Side.USER, USERS, 2), (Side.ITEM, ITEMS, 3)):
        specs = {spec.name: spec for spec in schema.specs(side)}
        for name, tensor in schema.encode(side, table, n_rows).items():
            assert str(tensor.dtype) == specs[name].dtype
            assert tensor.shape == (n_rows, *specs[name].shape[1:])


def test_specs_follow_the_declaration_and_leave_out_joining_texts(schema):
    assert [spec.name for spec in schema.specs(Side.USER, Side.CONTEXT)] == [
        "user.user_id",
        "user.age",
        "user.job",
        "user.history",
        "user.past",
        "context.hour",
    ]
    shapes = {spec.name: spec.shape for spec in schema.specs(*Side)}
    assert shapes["user.history"] == ("batch", 3, 2)
    assert shapes["user.past"] == ("batch", 2, 4)
    assert shapes["item.text"] == ("batch", 4)
    assert shapes["item.terms"] == ("batch", 4)


def test_an_absent_column_is_all_missing(schema):
    users = schema.encode(Side.USER, {}, 2)
    assert users["user.user_id"].tolist() == [0, 0]
    assert users["user.age"][:, 1].tolist() == [1, 1]
    assert schema.encode(Side.CONTEXT, {}, 1)["context.hour"].tolist() == [[0, 1]]


def test_a_field_reads_the_column_it_names():
    schema = Schema.fit([number(column="years")], {Side.USER: {"years": [1, 3]}}, text_dim=4)
    assert schema.encode(Side.USER, {"years": [None], "age": [1]}, 1)["user.age"][0, 1] == 1


def test_texts_are_rendered_by_their_template(schema):
    assert schema.texts(Side.ITEM, ITEMS, 3) == {"text": ["Alien (1979)", "Brazil (1985)", ""]}


@pytest.mark.parametrize("name", ["title", "text"])
def test_the_template_wins_over_a_column_called_like_the_field(name):
    schema = text_schema("{title} ({year})", name)
    columns = {"title": ["Alien"], "text": ["something else"], "year": [1979]}
    assert schema.texts(Side.ITEM, columns, 1) == {name: ["Alien (1979)"]}


def test_the_own_words_of_a_field_do_where_no_template_column_is_given():
    schema = text_schema("{title} ({year})")
    assert schema.texts(Side.ITEM, {"text": [" a film "]}, 1) == {"text": ["a film"]}
    assert schema.texts(Side.ITEM, {}, 2) == {"text": ["", ""]}


def test_a_text_without_template_reads_its_column():
    schema = text_schema(None, column="plot")
    columns = {"plot": ["In space.", None], "text": ["x", "y"]}
    assert schema.texts(Side.ITEM, columns, 2) == {"text": ["In space.", ""]}


def test_a_text_that_is_none_is_named():
    with pytest.raises(SchemaError, match="field 'text', row 1: found int, expected text"):
        text_schema(None).texts(Side.ITEM, {"text": ["a", 3]}, 2)


def test_words_are_those_of_the_field_where_no_template_column_is_given(schema):
    field = schema.find(Side.ITEM, "terms")
    asked = schema.encode(Side.ITEM, {"terms": ["An alien horror", None]}, 2)["item.terms"]
    np.testing.assert_array_equal(asked, field.encode(["horror alien", None]))
    assert (asked != 0).tolist() == [[True, False, False, True], [False] * 4]
    with pytest.raises(SchemaError, match="field 'terms', row 1: found int, expected text"):
        field.encode(["alien", 3])


def test_words_without_template_read_their_column():
    field = Field(name="terms", side="user", kind="words", column="bio", min_rows=1, stem="porter")
    schema = Schema.fit([field], {Side.USER: {"bio": ["cooks", None]}}, text_dim=4)
    assert schema.encode(Side.USER, {"bio": ["cooking"]}, 1)["user.terms"].tolist() == [[1]]


def test_numbers_are_fitted_as_their_field_says():
    field = number(outliers="iqr", missing=-1)
    schema = Schema.fit([field], {Side.USER: {"age": [1, 2, 3, 99]}}, text_dim=4)
    assert schema.fields[0].scaling == NumberScaling.fit(
        [1, 2, 3, 99], "age", outliers="iqr", missing=-1
    )


def test_a_field_keeps_the_options_of_its_kind_alone(schema):
    found = {f.field.name: f.field.options() for f in schema.fields}
    assert found["job"] == {"name": "job", "side": "user", "kind": "category", "max_length": 50}
    assert found["age"].keys() - found["job"].keys() == {"outliers", "missing"}
    assert found["terms"].keys() - found["job"].keys() == {
        "template",
        "weighting",
        "max_words",
        "min_rows",
    }


def test_a_schema_of_an_earlier_release_is_read(schema):
    data = json.loads(schema.to_json())
    data["fields"] = [entry for entry in data["fields"] if entry["field"]["kind"] != "words"]
    for entry in data["fields"]:
        del entry["words"]
        for name in ("outliers", "missing"):
            entry["field"].pop(name, None)
    found = Schema.from_json(json.dumps(data))
    assert found.fields == tuple(f for f in schema.fields if f.field.kind is not Kind.WORDS)


def test_fields_are_found_by_side(schema):
    assert schema.id_field(Side.ITEM).field.name == "item_id"
    assert schema.id_field(Side.CONTEXT) is None
    assert schema.find(Side.USER, "age").field.kind is Kind.NUMBER
    assert schema.find(Side.ITEM, "age") is None


def test_json_round_trip(schema):
    again = Schema.from_json(schema.to_json())
    assert again == schema
    assert again.to_json() == schema.to_json()
    assert again.fingerprint == schema.fingerprint


@given(
    values=st.lists(st.text(min_size=1), max_size=5),
    numbers=st.lists(st.floats(-1e9, 1e9), max_size=5),
    max_length=st.integers(1, 99),
)
def test_json_round_trip_of_any_content(values, numbers, max_length):
    declared = [
        Field(name="tags", side="item", kind="categories", max_length=max_length),
        number(column="x y"),
    ]
    tables = {Side.ITEM: {"tags": [values]}, Side.USER: {"x y": numbers}}
    schema = Schema.fit(declared, tables, text_dim=4)
    again = Schema.from_json(schema.to_json())
    assert again == schema
    for side, name, column in ((Side.ITEM, "tags", [values]), (Side.USER, "x y", numbers)):
        before = schema.encode(side, {name: column}, len(column))
        after = again.encode(side, {name: column}, len(column))
        for tensor in before:
            np.testing.assert_array_equal(before[tensor], after[tensor])


@pytest.mark.parametrize(
    "change",
    [
        lambda items, f: (items | {"item_id": ["a", "b", "d"]}, f),
        lambda items, f: (items | {"cover": [[1.0], None, None]}, f),
        lambda items, f: (items, [replace(x, template="{title}") if x.template else x for x in f]),
        lambda items, f: (items, [x for x in f if x.name != "hour"]),
    ],
)
def test_the_fingerprint_changes_with_the_content(schema, change):
    items, declared = change(ITEMS, fields())
    other = Schema.fit(declared, {Side.USER: USERS, Side.ITEM: items}, text_dim=4)
    assert other.fingerprint != schema.fingerprint
    assert schema.fingerprint.startswith("sha256:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "expected a fitted schema in JSON"),
        ("[]", "expected a fitted schema in JSON"),
        ("{}", "expected a fitted schema in JSON, found: 'format'"),
        ('{"format": 99, "fields": []}', "found format 99, expected 1; export again"),
        ('{"format": 1, "fields": [{}]}', "expected a fitted schema in JSON"),
        ('{"format": 1, "fields": [3]}', "expected a fitted schema in JSON"),
        (
            '{"format": 1, "fields": [{"field": {"name": "a", "side": "item", "kind": "words"}, '
            '"vocabulary": null, "scaling": null, "dim": null, "words": {"words": ["aa"]}}]}',
            "expected a fitted schema in JSON, found: 'idf'",
        ),
    ],
)
def test_foreign_json_is_refused(text, message):
    with pytest.raises(SchemaError, match=message):
        Schema.from_json(text)


def test_a_history_keeps_its_latest_events_with_zero_rows_in_front(schema):
    history = schema.find(Side.USER, "history")
    events = [np.arange(8.0).reshape(4, 2), np.array([[5.0, 6.0]]), np.empty((0, 2))]
    packed = pack_history(events, history)
    assert packed.dtype == np.float32
    assert packed.tolist() == [
        [[2, 3], [4, 5], [6, 7]],
        [[0, 0], [0, 0], [5, 6]],
        [[0, 0], [0, 0], [0, 0]],
    ]
    assert pack_history([], history).shape == (0, 3, 2)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([1.0], r"list of shape \(1,\)"),
        ([1.0, math.nan], r"list of shape \(2,\)"),
        ([[1.0, 2.0]], r"list of shape \(1, 2\)"),
        ("ab", "str of shape"),
        ([1.0, 1e300], r"list of shape \(2,\)"),
        (3.0, r"float of shape \(\)"),
        ([1.0, "x"], "list of shape"),
    ],
)
def test_a_vector_of_another_form_is_named(schema, value, found):
    with pytest.raises(
        SchemaError, match=f"field 'cover', row 1: expected 2 finite numbers, found {found}"
    ):
        schema.encode(Side.ITEM, {"cover": [[0, 1], value]}, 2)


def test_vectors_that_are_all_missing_have_no_width():
    field = Field(name="cover", side=Side.ITEM, kind=Kind.VECTOR)
    with pytest.raises(SchemaError, match="field 'cover': every vector is missing"):
        Schema.fit([field], {Side.ITEM: {"cover": [None]}}, text_dim=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "expected a name of letters, digits and underscores"),
        ({"name": "a.b"}, "field 'a.b': expected a name of letters"),
        ({"side": "buyer"}, "field f: side: found 'buyer', expected one of user, item, context"),
        ({"kind": "blob"}, "field f: kind: found 'blob', expected one of id, category"),
        ({"template": "{a}"}, "'template' is for fields of kind text or words, found number"),
        ({"kind": "text", "outliers": "iqr"}, "'outliers' is for fields of kind number, found tex"),
        ({"kind": "text", "missing": 0}, "'missing' is for fields of kind number, found text"),
        ({"weighting": "count"}, "'weighting' is for fields of kind words, found number"),
        ({"max_words": 9}, "'max_words' is for fields of kind words, found number"),
        ({"stem": "porter"}, "'stem' is for fields of kind words, found number"),
        ({"kind": "text", "stop_words": "english"}, "'stop_words' is for fields of kind words"),
        (
            {"outliers": "trim"},
            "outliers is 'trim', expected one of winsorise, robust_z, iqr, keep",
        ),
        ({"missing": "mode"}, "missing is 'mode', expected one of median, mean, learned or a fin"),
        ({"missing": math.nan}, "missing is nan, expected one of median, mean, learned or a finit"),
        ({"missing": 10**400}, "missing is 10+, expected one of median"),
        ({"missing": True}, "missing is True, expected one of median"),
        ({"kind": "words", "weighting": "bm25"}, "weighting is 'bm25', expected one of tfidf, cou"),
        (
            {"kind": "words", "stop_words": "greek"},
            "stop_words is 'greek', expected one of english",
        ),
        ({"kind": "words", "stem": "lancaster"}, "stem is 'lancaster', expected one of porter"),
        ({"kind": "words", "max_words": 0}, "max_words is 0, expected 1 or more"),
        ({"kind": "words", "min_rows": -1}, "min_rows is -1, expected 1 or more"),
        ({"of": "cover"}, "'of' is for fields of kind history, found number"),
        ({"joins": "past"}, "'joins' is for fields of kind text, found number"),
        ({"kind": "history"}, "names in 'of' the item field"),
        ({"kind": "history", "of": "x", "side": "item"}, "a history belongs to the user side"),
        ({"kind": "text", "joins": "past", "side": "item"}, "only a user's text can join"),
        ({"max_length": 0}, "max_length is 0, expected 1 or more"),
        ({"kind": "text", "template": "{a"}, "brace without its partner"),
        ({"kind": "text", "template": "a film"}, "template 'a film' names no column, expected a p"),
    ],
)
def test_options_that_contradict_the_kind_are_refused(options, message):
    with pytest.raises(SchemaError, match=message):
        Field(**{"name": "f", "side": "user", "kind": "number"} | options)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([number()], "fields declared twice: user.age"),
        (
            [Field(name="other", side=Side.USER, kind=Kind.ID)],
            r"user side: expected at most one id field, found \['user_id', 'other'\]",
        ),
        (
            [Field(name="h", side=Side.USER, kind=Kind.HISTORY, of="genres")],
            "field 'h': of='genres' names no item field of kind text or vector",
        ),
        (
            [Field(name="h", side=Side.USER, kind=Kind.HISTORY, of="nothing")],
            "field 'h': of='nothing' names no item field",
        ),
        (
            [Field(name="t", side=Side.USER, kind=Kind.TEXT, joins="age")],
            r"field 't': joins='age' names no history; histories are \['history', 'past'\]",
        ),
        ([number("age", Side.CONTEXT)], "user and context fields share the names age"),
    ],
)
def test_fields_that_do_not_hold_together_are_refused(extra, message):
    with pytest.raises(SchemaError, match=message):
        Schema.fit([*fields(), *extra], {Side.USER: USERS, Side.ITEM: ITEMS}, text_dim=4)
