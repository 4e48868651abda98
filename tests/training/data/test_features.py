from dataclasses import replace

import numpy as np
import pytest

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
