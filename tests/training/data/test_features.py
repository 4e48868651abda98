from dataclasses import replace

import numpy as np
import pytest

from fuserank.engine.encoder_config import TextRole
from fuserank.errors import SchemaError
from fuserank.schema import Field, Kind, Side
from fuserank.training.data.features import build_features, fit_schema


def test_every_graph_input_but_histories_has_a_tensor_of_its_spec(features, schema):
    for side, found in ((Side.USER, features.users), (Side.ITEM, features.items)):
        specs = {s.name: s for s in schema.specs(side) if not s.name.endswith(".history")}
        assert found.tensors.keys() == specs.keys()
        for name, tensor in found.tensors.items():
            assert tensor.dtype == specs[name].dtype
            assert tensor.shape == (len(found), *specs[name].shape[1:])


def test_texts_go_through_the_encoder_and_an_empty_one_is_a_row_of_zeros(features, encoder):
    about = features.users.tensors["user.about"]
    assert not about[2].any()
    expected = encoder.encode(["likes Comedy"]).vectors[0]
    np.testing.assert_array_equal(about[1], expected)
    np.testing.assert_array_equal(about[4], expected)


def test_texts_of_users_are_queries_and_those_of_items_passages(dataset, schema, encoder):
    roles = {}

    class Noting:
        dim = encoder.dim

        def encode(self, texts, role, *, on_progress=None, keep=None):
            roles.update(dict.fromkeys(texts, role))
            return encoder.encode(texts)

    build_features(dataset, schema, Noting())
    assert roles["likes War"] is TextRole.QUERY
    assert {role for text, role in roles.items() if text.startswith("title")} == {TextRole.PASSAGE}


def test_a_history_event_looks_like_the_item_field_it_names(features, schema):
    history = schema.find(Side.USER, "history").field
    np.testing.assert_array_equal(
        features.history_vectors(history), features.items.tensors["item.words"]
    )


def test_progress_counts_texts(dataset, schema, encoder):
    done = []
    build_features(dataset, schema, encoder, on_progress=done.append)
    assert sum(done) == 3 + 30  # three distinct texts about users, one text an item


def test_context_fields_are_refused_because_nothing_can_be_learned_of_them(dataset, encoder):
    hour = Field(name="hour", side=Side.CONTEXT, kind=Kind.NUMBER)
    with pytest.raises(SchemaError, match=r"'tiny': found context fields \['hour'\]"):
        fit_schema(replace(dataset, fields=(*dataset.fields, hour)), encoder.dim)


def test_an_encoder_of_another_width_is_refused(dataset, encoder):
    with pytest.raises(
        SchemaError, match=r"'about': found text embeddings of width 12, expected 5"
    ):
        build_features(dataset, fit_schema(dataset, 5), encoder)


def test_embeddings_are_kept_where_they_are_asked_for(dataset, schema, encoder, tmp_path):
    asked = []

    class Keeping:
        dim = encoder.dim

        def encode(self, texts, role, *, on_progress=None, keep=None):
            asked.append(keep)
            return encoder.encode(texts)

    build_features(dataset, schema, Keeping(), keep=tmp_path)
    build_features(dataset, schema, Keeping())
    assert asked == [tmp_path, tmp_path, None, None]
