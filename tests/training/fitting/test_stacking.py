"""The head of a ranker: what it computes, and what it is fitted to."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.errors import ConfigError, DataError, SchemaError  # noqa: E402
from fuserank.schema import Field, Kind, Side  # noqa: E402
from fuserank.training.artifact import TrainedRun  # noqa: E402
from fuserank.training.data.splits import divide  # noqa: E402
from fuserank.training.evaluation import metrics  # noqa: E402
from fuserank.training.fitting.stacking import fit_sigmoid  # noqa: E402
from fuserank.training.model.collaborative import COLLABORATIVE_FIELD, with_vectors  # noqa: E402
from fuserank.training.model.interaction import INTERACTIONS  # noqa: E402
from fuserank.training.model.interaction.head import CollaborativeShare, Head  # noqa: E402
from fuserank.training.train import prepare, train, train_prepared  # noqa: E402

RNG = np.random.default_rng(0)


def test_a_share_is_the_sum_of_events_or_the_items_own():
    events = RNG.normal(size=(3, 4, 10)).astype(np.float32)
    events[0, :2] = 0  # no events
    events[1] = 0
    found = CollaborativeShare()(events).numpy()
    np.testing.assert_allclose(found, events[:, :, :5].sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found[1], 0)
    items = RNG.normal(size=(3, 10)).astype(np.float32)
    np.testing.assert_array_equal(CollaborativeShare()(items), items[:, 5:])


@pytest.mark.parametrize("model", ["bilinear", "fm"])
def test_a_head_adds_what_it_blends_and_scales(model, make_config):
    inner = INTERACTIONS[model](make_config())
    shape = (3, 6) if inner.reads_fields else (6,)
    sides = [RNG.normal(size=(5, *shape)).astype(np.float32) for _ in range(2)]
    shares = [RNG.normal(size=(5, 4)).astype(np.float32) for _ in range(2)]
    head = Head(inner, [shape, shape])
    joined = [
        np.concatenate([side.reshape(5, -1), share], axis=1)
        for side, share in zip(sides, shares, strict=True)
    ]
    before = head(joined).numpy()
    np.testing.assert_allclose(before, inner(sides), rtol=1e-5)
    head.slope.assign(2.0)
    head.weight.assign(0.5)
    head.intercept.assign(-1.0)
    together = before + 0.5 * (shares[0] * shares[1]).sum(axis=1)
    np.testing.assert_allclose(head(joined), 2.0 * together - 1.0, rtol=1e-4, atol=1e-5)
    assert not [v.name for v in head.trainable_variables if v.name in ("slope", "weight")]


def test_a_head_adds_a_second_model_of_its_own_towers(make_config):
    models = [INTERACTIONS[name](make_config()) for name in ("bilinear", "cosine")]
    sides = [RNG.normal(size=(5, 6)).astype(np.float32) for _ in range(2)]
    others = [RNG.normal(size=(5, 3)).astype(np.float32) for _ in range(2)]
    head = Head(models[0], [(6,), (6,)], models[1], 3)
    joined = [np.concatenate(both, axis=1) for both in zip(sides, others, strict=True)]
    head(joined)
    head.beside_weight.assign(0.5)
    expected = models[0](sides) + 0.5 * models[1](others)
    np.testing.assert_allclose(head(joined), expected, rtol=1e-5)
    assert not head.blends
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    again(joined)
    again.set_weights(head.get_weights())
    np.testing.assert_array_equal(again(joined), head(joined))


@pytest.mark.parametrize("collaborative", ["none", "ease"])
def test_a_second_model_is_trained_and_weighed(collaborative, prepared, make_config):
    config = make_config(beside="cosine", collaborative=collaborative, factors=4, epochs=2)
    run = train_prepared(prepared, config)
    head = run.ranker.interaction
    assert head.beside_weight.numpy() >= 0
    assert head.blends == (collaborative == "ease")
    assert "beside" in {layer.name for layer in run.ranker.user_tower.layers}


def test_a_sigmoid_is_found_again():
    z = RNG.normal(size=100_000)
    labels = RNG.random(len(z)) < metrics.sigmoid(1.7 * z - 0.6)
    slope, intercept = fit_sigmoid(z, labels)
    assert abs(slope - 1.7) < 0.05
    assert abs(intercept + 0.6) < 0.05


def test_labels_that_are_told_apart_leave_numbers_finite():
    z = np.array([-2.0, -1.0, 1.0, 2.0])
    slope, intercept = fit_sigmoid(z, z > 0)
    assert 0 < slope < 100
    assert abs(intercept) < 1


@pytest.fixture(scope="module")
def prepared(dataset, encoder):
    return prepare(dataset, encoder)


def test_probabilities_are_nearer_to_shares_once_calibrated(prepared, make_config):
    logits = {}
    for calibrate in (False, True):
        run = train_prepared(prepared, make_config(calibrate=calibrate, epochs=3))
        logits[calibrate] = run.report
    loose, tight = (logits[c].classification for c in (False, True))
    assert tight.roc_auc == pytest.approx(loose.roc_auc)
    assert logits[True].ranking.ndcg == pytest.approx(logits[False].ranking.ndcg)
    assert tight.log_loss < loose.log_loss + 0.05


@pytest.mark.parametrize("name", ["ease", "ials", "lightgcn"])
def test_what_is_blended_never_ranks_validation_worse(name, prepared, make_config):
    config = make_config(collaborative=name, factors=4, model="fm", epochs=1)
    run = train_prepared(prepared, config)
    parts = divide(prepared.dataset, config.split, config.seed)
    assert run.vectors.shape == (len(prepared.dataset.items), 8)
    assert run.schema.find(Side.ITEM, COLLABORATIVE_FIELD).dim == 8
    assert run.ranker.interaction.weight.numpy() >= 0
    assert run.report.ranking.n_users == len(np.unique(parts.test.user[parts.test.positive]))


def test_collaborative_vectors_can_be_a_source(prepared, make_config):
    config = make_config(collaborative="ease", factors=4, collaborative_as="source", epochs=1)
    run = train_prepared(prepared, config)
    assert run.ranker.interaction.shapes == []
    names = {layer.name for layer in run.ranker.item_tower.layers}
    assert f"source_{COLLABORATIVE_FIELD}" in names


def test_a_run_with_vectors_comes_back_from_disk(dataset, encoder, make_config, tmp_path):
    run = train(dataset, encoder, make_config(collaborative="ease", factors=4, epochs=1))
    run.save(tmp_path / "run")
    found = TrainedRun.load(tmp_path / "run")
    np.testing.assert_array_equal(found.vectors, run.vectors)
    assert found.ranker.interaction.weight.numpy() == run.ranker.interaction.weight.numpy()
    (tmp_path / "run" / "collaborative.npy").unlink()
    with pytest.raises(DataError, match="expected the collaborative vectors"):
        TrainedRun.load(tmp_path / "run")


def test_a_field_of_that_name_is_refused(schema, features):
    field = Field(name=COLLABORATIVE_FIELD, side=Side.ITEM, kind=Kind.NUMBER)
    taken = replace(schema.fields[-1], field=field)
    with pytest.raises(SchemaError, match="expected another name"):
        with_vectors(
            replace(schema, fields=(*schema.fields, taken)),
            features,
            np.zeros((len(features.items), 4), np.float32),
        )


def test_what_reads_events_is_not_blended(make_config):
    with pytest.raises(ConfigError, match="something to add to the logit of model 'din'"):
        make_config(model="din", collaborative="ease")
    with pytest.raises(ConfigError, match="something to add to the logit of model 'din'"):
        make_config(model="din", beside="cosine")


def test_fields_can_be_left_out(dataset):
    kept = {field.tensor for field in dataset.without(["item.words", "user.age"]).fields}
    gone = {field.tensor for field in dataset.fields} - kept
    assert gone == {"item.words", "user.age", "user.history", "user.profile"}
    with pytest.raises(ConfigError, match=r"leave_out names 'item\.wrods'.*did you mean"):
        dataset.without(["item.wrods"])
    with pytest.raises(ConfigError, match="id field"):
        dataset.without(["item.item_id"])
