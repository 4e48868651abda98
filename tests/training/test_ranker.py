import keras
import numpy as np
import pytest

from fuserank.errors import DataError, SchemaError
from fuserank.schema import Schema, Side, pack_history
from fuserank.training.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.histories import Histories
from fuserank.training.ranker import Ranker, build_ranker
from fuserank.training.train_config import Model


@pytest.fixture(scope="module", params=["perceptron", "bilinear"])
def ranker(request, schema, make_config):
    model: Model = request.param
    return build_ranker(schema, make_config(model=model))


def test_the_full_model_takes_every_graph_input_as_its_spec_says(ranker, schema):
    specs = {spec.name: spec for spec in schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)}
    inputs = ranker.full.input
    assert inputs.keys() == specs.keys()
    for name, tensor in inputs.items():
        assert tensor.shape == (None, *specs[name].shape[1:])
        assert tensor.dtype == specs[name].dtype
    assert ranker.full.output.shape == (None,)


def test_the_towers_score_as_the_full_model_does(ranker, features, schema, dataset):
    """The catalogue's path, histories given as their means, against packed histories."""
    likes = Histories.of_positives(dataset.interactions, n_users=len(features.users))
    scores = CatalogueScores(ranker, user_inputs(features, likes, schema), features.items.tensors)
    users = np.array([0, 5, 5, 23])
    matrix = scores.matrix(users)
    field = schema.find(Side.USER, "history")
    vectors = features.history_vectors(field.field)
    history = pack_history((vectors[likes.latest(user, 4)] for user in users), field)
    for item in (0, 29):
        inputs = {name: t[users] for name, t in features.users.tensors.items()}
        inputs |= {name: t[[item] * 4] for name, t in features.items.tensors.items()}
        logits = ranker.full(inputs | {"user.history": history})
        np.testing.assert_allclose(matrix[:, item], logits, rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_weights(schema, make_config):
    def weights(seed):
        return build_ranker(schema, make_config(seed=seed)).full.get_weights()

    assert all(map(np.array_equal, weights(1), weights(1)))
    assert not all(map(np.array_equal, weights(1), weights(2)))


def test_a_side_without_fields_is_refused(schema, make_config):
    users_only = Schema(schema.side(Side.USER))
    with pytest.raises(SchemaError, match="item_tower: found no field of this side"):
        build_ranker(users_only, make_config())


def test_a_foreign_model_is_refused():
    inputs = keras.Input((3,))
    foreign = keras.Model(inputs, keras.layers.Dense(1)(inputs), name="foreign")
    with pytest.raises(DataError, match="'foreign': found no part 'interaction'"):
        Ranker(foreign)
