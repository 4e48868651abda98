"""Attributes become what the exporter made of the item table: the same tensors, to the bit."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from fuserank.bundle import layout
from fuserank.engine.encoder_config import TextRole
from fuserank.engine.live.item_inputs import ItemInputs, as_json
from fuserank.engine.live.item_states import ItemStates
from fuserank.errors import RequestError
from fuserank.schema import Field, Kind, Schema, Side

TEXT_DIM = 3
FIELDS = [
    Field(name="film_id", side=Side.ITEM, kind=Kind.ID, column="id"),
    Field(name="decade", side=Side.ITEM, kind=Kind.CATEGORY),
    Field(name="genres", side=Side.ITEM, kind=Kind.CATEGORIES, max_length=2),
    Field(name="age", side=Side.ITEM, kind=Kind.NUMBER, column="year"),
    Field(name="plot", side=Side.ITEM, kind=Kind.TEXT, template="{title} ({year}). {genres}."),
    Field(name="notes", side=Side.ITEM, kind=Kind.TEXT),
    Field(name="bag", side=Side.ITEM, kind=Kind.WORDS, template="{title}. {notes}", min_rows=1),
    Field(name="cover", side=Side.ITEM, kind=Kind.VECTOR),
    Field(name="past", side=Side.USER, kind=Kind.HISTORY, of="plot", max_length=3),
]
COLUMNS = {
    "id": ["1", "2", "3", "4"],
    "decade": ["70s", "80s", None, "80s"],
    "genres": [["War"], None, ["War", "Drama", "Noir"], []],
    "year": [1979, None, 1983.5, 2000],
    "title": ["Alien", "Brazil", None, "Été"],
    "notes": ["dark", None, "  ", "light rain"],
    "cover": [[1.0, 2.0], None, [0.5, 0.25], [3.0, 4.0]],
}
SCHEMA = Schema.fit(FIELDS, {Side.ITEM: COLUMNS}, text_dim=TEXT_DIM)


def encode(texts, role):
    assert role is TextRole.PASSAGE
    assert all(text.strip() for text in texts)
    vectors = [[len(text), sum(map(ord, text)) % 97, 1] for text in texts]
    return SimpleNamespace(vectors=np.array(vectors, dtype=np.float32))


@pytest.fixture(scope="module")
def bundle(build_graph, tmp_path_factory):
    """A bundle whose item graph returns what it is given."""
    specs = SCHEMA.specs(Side.ITEM)
    model = build_graph(
        [("Identity", spec.name, f"out_{spec.name}") for spec in specs],
        {spec.name: (spec.dtype, spec.shape) for spec in specs},
        {},
        *((f"out_{spec.name}", spec.dtype, spec.shape) for spec in specs),
    )
    path = tmp_path_factory.mktemp("bundle") / "item.onnx"
    onnx.save(model, path)
    return SimpleNamespace(schema=SCHEMA, file={layout.GRAPHS["item"]: path}.__getitem__)


@pytest.fixture
def inputs(bundle):
    return ItemInputs(bundle, encode)


def items_of(columns):
    return {
        item_id: {name: values[row] for name, values in columns.items() if name != "id"}
        for row, item_id in enumerate(columns["id"])
    }


def expected_of(columns):
    """Return the tensors that the exporter feeds, from the whole table at once."""
    n_rows = len(columns["id"])
    tensors = SCHEMA.encode(Side.ITEM, columns, n_rows)
    for name, texts in SCHEMA.texts(Side.ITEM, columns, n_rows).items():
        rows = [encode([t], TextRole.PASSAGE).vectors[0] if t else np.zeros(3) for t in texts]
        tensors[f"item.{name}"] = np.stack(rows).astype(np.float32)
    return tensors


def tensors_of(made):
    return {name.removeprefix("out_"): array for name, array in made.states.items()}


def check_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_items_of_the_table_get_the_tensors_that_they_had(inputs):
    made = inputs.states(items_of(COLUMNS))
    check_same(tensors_of(made), expected_of(COLUMNS))
    np.testing.assert_array_equal(made.vectors["plot"], tensors_of(made)["item.plot"])


def test_an_item_does_not_depend_on_those_that_come_with_it(inputs):
    together = tensors_of(inputs.states(items_of(COLUMNS)))
    for row, (item_id, given) in enumerate(items_of(COLUMNS).items()):
        known = {name: value for name, value in given.items() if value is not None}
        alone = tensors_of(inputs.states({item_id: known}))
        check_same(alone, {name: tensor[row : row + 1] for name, tensor in together.items()})


def test_new_items_go_through_the_fitted_preprocessing(inputs):
    new = {"id": ["9"], "decade": ["50s"], "genres": [["Noir", "Opera"]], "year": [1e6]}
    new |= {"title": ["Alien rain"], "notes": [None], "cover": [[9.0, 9.0]]}
    found = tensors_of(inputs.states(items_of(new)))
    check_same(found, expected_of(new))
    assert found["item.film_id"].tolist() == [0]  # the row of ids that training never met
    assert found["item.decade"].tolist() == [0]


def test_an_item_of_which_nothing_is_known_is_all_missing(inputs):
    absent = {name: [None] for name in COLUMNS} | {"id": ["9"]}
    check_same(tensors_of(inputs.states({"9": {}})), expected_of(absent))


def test_the_words_of_a_template_may_be_given_as_they_are(inputs):
    found = tensors_of(inputs.states({"9": {"plot": "a ship in space"}}))
    np.testing.assert_array_equal(
        found["item.plot"], encode(["a ship in space"], TextRole.PASSAGE).vectors
    )
    # What the template reads goes before them, as in a table that has both.
    found = tensors_of(inputs.states({"9": {"plot": "a ship in space", "title": "Alien"}}))
    np.testing.assert_array_equal(found["item.plot"], encode(["Alien."], TextRole.PASSAGE).vectors)


def test_each_text_is_encoded_once(bundle):
    asked = []

    def counted(texts, role):
        asked.extend(texts)
        return encode(texts, role)

    ItemInputs(bundle, counted).states({"a": {"notes": "same"}, "b": {"notes": "same"}})
    assert asked == ["same"]


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"year": "old"}, "age", "item 'b': field 'age': found str, expected a finite number"),
        ({"decade": ["70s"]}, "decade", "item 'b': field 'decade': found list, expected text"),
        ({"genres": "War"}, "genres", "item 'b': field 'genres': found str, expected a list"),
        ({"notes": 3}, "notes", "item 'b': field 'notes': found int, expected text"),
        ({"cover": [1.0]}, "cover", "item 'b': field 'cover': expected 2 finite numbers"),
    ],
)
def test_a_value_of_another_type_names_item_and_field(inputs, given, field, message):
    with pytest.raises(RequestError, match=message) as error:
        inputs.states({"a": {}, "b": given})
    assert error.value.field == field


def test_what_another_bundle_took_counts_as_missing_where_this_one_cannot_read_it(inputs, caplog):
    given = {"year": "old", "title": "Alien", "notes": 3, "cover": [1.0]}
    found = tensors_of(inputs.states({"9": given}, lenient=True))
    expected = tensors_of(inputs.states({"9": {"title": "Alien"}}))
    del found["item.plot"], expected["item.plot"]  # which shows the year as it was written
    check_same(found, expected)
    assert "field 'age'" in caplog.text
    assert "Alien" not in caplog.text


def test_words_without_an_encoder_are_refused_but_where_they_are_taken_already(bundle):
    inputs = ItemInputs(bundle, None)
    with pytest.raises(RequestError, match="no text encoder"):
        inputs.states({"a": {"notes": "words"}})
    made = inputs.states({"a": {"notes": "words"}}, lenient=True)
    assert not tensors_of(made)["item.notes"].any()
    inputs.states({"a": {"decade": "70s"}})


def test_states_survive_as_bytes(inputs):
    made = inputs.states(items_of(COLUMNS))
    back = ItemStates.from_bytes(made.to_bytes())
    check_same(dict(back.states), dict(made.states))
    check_same(dict(back.vectors), dict(made.vectors))


def test_attributes_are_json_without_what_is_missing():
    given = {"b": [1, None], "a": None, "c": np.float32(0.5), "d": (1, "x"), "e": {"f": True}}
    assert as_json("9", given) == '{"b": [1, null], "c": 0.5, "d": [1, "x"], "e": {"f": true}}'
    for wrong in (float("inf"), b"bytes", object(), {"deep": float("nan")}):
        with pytest.raises(RequestError, match="item '9', attribute 'x'"):
            as_json("9", {"x": wrong})
