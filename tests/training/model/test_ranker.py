import keras
import numpy as np
import pytest

from fuserank.errors import DataError, SchemaError
from fuserank.schema import Schema, Side, pack_history
from fuserank.training.data.histories import LatestEvents
from fuserank.training.model.catalogue_scores import CatalogueScores, user_inputs
from fuserank.training.model.interaction import INTERACTIONS
from fuserank.training.model.ranker import Ranker, build_ranker, fusion_weights
from fuserank.training.model.whitening import text_whitening

OPTIONS = {
    "perceptron": {"model": "perceptron"},
    "fields": {"model": "autoint", "source_dropout": 0.5},
    "attention": {"model": "bilinear", "history": "attention", "adapter": "mlp"},
    "gru": {"history": "gru", "fusion": "attention", "source_dropout": 0.5},
    "sasrec": {"history": "sasrec", "adapter": "experts", "whiten": 5},
    "din": {"model": "din", "source_dropout": 0.5, "whiten": 5},
}


@pytest.fixture(scope="module")
def build(features, schema, make_config):
    """Return a function that builds a ranker with random weights."""

    def make(**options):
        config = make_config(**options)
        ranker = build_ranker(schema, config, text_whitening(features, schema, config.whiten))
        rng = np.random.default_rng(0)
        for variable in ranker.full.trainable_variables:
            variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
        return ranker

    return make


@pytest.fixture(scope="module", params=OPTIONS)
def ranker(request, build):
    return build(**OPTIONS[request.param])


@pytest.fixture(scope="module")
def known_users(dataset, features, schema):
    """Return inputs that every ranker takes: histories event by event."""
    likes = dataset.interactions.histories(len(features.users))
    field = schema.find(Side.USER, "history").field
    events = LatestEvents(likes, features.history_vectors(field), field.max_length)
    return {**features.users.tensors, field.tensor: events}


def some_inputs(known_users, features, users, items):
    """Return inputs of the full model, row i being of the i-th user and item."""
    inputs = {name: tensor[users] for name, tensor in known_users.items()}
    return inputs | {name: t[items] for name, t in features.items.tensors.items()}


def test_the_full_model_takes_every_graph_input_as_its_spec_says(ranker, schema):
    specs = {spec.name: spec for spec in schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)}
    inputs = ranker.full.input
    assert inputs.keys() == specs.keys()
    for name, tensor in inputs.items():
        assert tensor.shape == (None, *specs[name].shape[1:])
        assert tensor.dtype == specs[name].dtype
    assert ranker.full.output.shape == (None,)


def test_the_towers_score_as_the_full_model_does(ranker, features, schema, dataset):
    """The catalogue's path against packed histories."""
    likes = dataset.interactions.histories(len(features.users))
    scores = CatalogueScores(
        ranker, user_inputs(ranker, features, likes, schema), features.items.tensors
    )
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


def test_a_ranker_comes_back_from_disk(ranker, known_users, features, tmp_path):
    ranker.full.save(tmp_path / "model.keras")
    loaded = Ranker(keras.saving.load_model(tmp_path / "model.keras", safe_mode=True))
    rows = np.arange(5)
    inputs = some_inputs(known_users, features, rows, rows)
    np.testing.assert_array_equal(ranker.full(inputs), loaded.full(inputs))
    for tower in ("user_tower", "item_tower"):
        before, after = (
            getattr(each, tower)({name: inputs[name] for name in getattr(each, tower).input})
            for each in (ranker, loaded)
        )
        np.testing.assert_array_equal(before, after)


def test_scores_in_small_parts_are_the_same(ranker, known_users, features, monkeypatch):
    scores = CatalogueScores(ranker, known_users, features.items.tensors)
    users = np.array([7, 3, 7])
    expected = scores.matrix(users)
    monkeypatch.setattr("fuserank.training.model.towers.NUMBERS_AT_ONCE", 400)
    scores = CatalogueScores(ranker, known_users, features.items.tensors)
    np.testing.assert_allclose(scores.matrix(users), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", INTERACTIONS)
def test_a_configuration_knows_which_models_read_the_history(make_config, model):
    config = make_config(model=model)
    assert config.reads_events == INTERACTIONS[model](config).reads_history
    assert make_config(model=model, history="gru").reads_events


def test_a_mean_history_may_be_given_as_its_mean(build, known_users, features):
    ranker = build(model="perceptron")
    inputs = {name: tensor[:] for name, tensor in known_users.items()}
    expected = ranker.user_tower(inputs)
    inputs["user.history"] = inputs["user.history"].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ranker.user_tower(inputs), expected, rtol=1e-5, atol=1e-6)


def test_events_and_the_item_share_a_projection(build, known_users, features):
    ranker = build(model="din")
    kernel = ranker.full.get_layer("event_space").get_weights()[0]
    inputs = some_inputs(known_users, features, np.arange(3), np.arange(3))
    user = ranker.user_tower({name: inputs[name] for name in ranker.user_tower.input})
    item = ranker.item_tower({name: inputs[name] for name in ranker.item_tower.input})
    assert user.shape == (3, 1 + 4, 8)
    assert item.shape == (3, 2, 8)
    np.testing.assert_allclose(user[:, 1:], inputs["user.history"] @ kernel, atol=1e-5)
    np.testing.assert_allclose(item[:, 1], inputs["item.words"] @ kernel, atol=1e-5)


def test_hidden_sources_are_missing_ones_in_training_alone(build, known_users, features, schema):
    """With every value hidden, users with one id each differ in nothing but the id."""
    ranker = build(source_dropout=1.0, fusion="attention")
    inputs = {name: tensor[:4] for name, tensor in known_users.items()}
    hidden = ranker.user_tower(inputs, training=True)
    nobody = {name: tensor[[0] * 4] for name, tensor in schema.encode(Side.USER, {}, 1).items()}
    nobody |= {name: np.zeros_like(inputs[name]) for name in inputs.keys() - nobody.keys()}
    nobody["user.user_id"] = inputs["user.user_id"]
    np.testing.assert_allclose(hidden, ranker.user_tower(nobody), rtol=1e-6)
    assert not np.allclose(hidden, ranker.user_tower(inputs), atol=1e-3)


def test_dropout_leaves_what_is_exported_as_it_is(build, schema, known_users, features):
    pytest.importorskip("tf2onnx")
    from fuserank.export.interaction import export_interaction

    specs = schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)
    without, with_dropout = build(), build(source_dropout=0.5)
    graphs = [export_interaction(r.full, specs).graph for r in (without, with_dropout)]
    plain, dropped = (sorted(node.op_type for node in graph.node) for graph in graphs)
    assert plain == dropped
    assert not {"Dropout", "RandomUniform", "RandomUniformLike"} & set(dropped)
    with_dropout.full.set_weights(without.full.get_weights())
    inputs = some_inputs(known_users, features, np.arange(5), np.arange(5))
    np.testing.assert_array_equal(with_dropout.full(inputs), without.full(inputs))


def test_whitening_stays_as_it_was_fitted(build, features, schema):
    ranker = build(model="din", whiten=5)
    fitted = text_whitening(features, schema, 5)
    towers = [ranker.full, *(ranker.full.get_layer(f"{side}_tower") for side in ("user", "item"))]
    layers = {
        layer.name: layer
        for tower in towers
        for layer in tower.layers
        if layer.name.startswith("whiten_")
    }
    # The texts of both sides, the events, and the item as an event; a profile joins the events.
    assert layers.keys() == {"whiten_about", "whiten_history", "whiten_words", "whiten_own"}
    for layer in layers.values():
        mean, matrix = layer.get_weights()
        np.testing.assert_array_equal(mean, fitted.mean)
        np.testing.assert_array_equal(matrix, fitted.matrix)
    assert not any("whiten" in v.path for v in ranker.full.trainable_variables)


@pytest.mark.parametrize("model", ["perceptron", "fm"])
@pytest.mark.parametrize("fusion", ["weighted", "attention", "channel"])
def test_fusion_weights_are_the_means_of_what_the_fusion_uses(
    build, known_users, features, fusion, model
):
    ranker = build(fusion=fusion, model=model, adapter="mlp")
    found = fusion_weights(ranker, known_users, features.items.tensors)
    assert found.keys() == {"user", "item"}
    assert found["user"].keys() == {"user_id", "age", "city", "about", "history"}
    assert found["item"].keys() == {"item_id", "genres", "year", "words", "poster"}
    for weights in found.values():
        assert all(0 < weight < 1 for weight in weights.values())
        if fusion != "channel":
            assert sum(weights.values()) == pytest.approx(1.0, rel=1e-5)
    # A source that is never there has no weight, and is the one that lost it.
    users = {name: tensor[:] for name, tensor in known_users.items()}
    users["user.city"] = np.zeros_like(users["user.city"])
    assert fusion_weights(ranker, users, features.items.tensors)["user"]["city"] == 0.0


def test_concatenation_has_no_weights(build, known_users, features):
    assert fusion_weights(build(), known_users, features.items.tensors) == {}


def test_a_model_of_histories_needs_one(schema, make_config):
    without = Schema(tuple(f for f in schema.fields if f.field.name not in ("history", "profile")))
    with pytest.raises(SchemaError, match="'din': found no history among the user fields"):
        build_ranker(without, make_config(model="din"))


def test_a_side_without_fields_is_refused(schema, make_config):
    users_only = Schema(schema.side(Side.USER))
    with pytest.raises(SchemaError, match="item_tower: found no field of this side"):
        build_ranker(users_only, make_config())


def test_a_foreign_model_is_refused():
    inputs = keras.Input((3,))
    foreign = keras.Model(inputs, keras.layers.Dense(1)(inputs), name="foreign")
    with pytest.raises(DataError, match="'foreign': found no part 'interaction'"):
        Ranker(foreign)
