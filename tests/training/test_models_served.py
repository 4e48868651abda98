"""Every model, fusion and reading of a history, from training to the engine's answer."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.bundle import ScorerKind  # noqa: E402
from fuserank.engine.engine import load  # noqa: E402
from fuserank.export.assemble import Ranker, assemble  # noqa: E402
from fuserank.export.factorise import factorise  # noqa: E402
from fuserank.export.interaction import export_interaction  # noqa: E402
from fuserank.export.pipeline import _items, _users  # noqa: E402
from fuserank.export.sides import sides_by_name  # noqa: E402
from fuserank.export.verify import verify_factorised  # noqa: E402
from fuserank.schema import Side, pack_history  # noqa: E402
from fuserank.training.model.fusion import FUSIONS  # noqa: E402
from fuserank.training.model.interaction import INTERACTIONS  # noqa: E402
from fuserank.training.model.ranker import build_ranker  # noqa: E402
from fuserank.training.train import train  # noqa: E402

# Keras hands TensorFlow's variables to numpy the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

DIM = 8
DEEP = DIM * DIM // 2 + DIM // 2
"""Of two layers, the second half as wide."""
N_ITEM_FIELDS = 5
LOWERED = {
    "bilinear": (ScorerKind.DOT, DIM),
    "bilinear-matrix": (ScorerKind.DOT, DIM),
    "gmf": (ScorerKind.DOT, DIM),
    "cosine": (ScorerKind.DOT, DIM),
    "two-tower": (ScorerKind.DOT, DIM),
    "finalmlp": (ScorerKind.DOT, DIM // 2),
    "fm": (ScorerKind.DOT, DIM),
    "fwfm": (ScorerKind.DOT, None),
    "perceptron": (ScorerKind.ADDITIVE, DIM),
    "deep-perceptron": (ScorerKind.ADDITIVE, DEEP),
    "wide-and-deep": (ScorerKind.ADDITIVE, DEEP),
    "neumf": (ScorerKind.ADDITIVE, DEEP + DIM),
    "deepfm": (ScorerKind.ADDITIVE, None),
}
"""What is left joint of a model; of all others, a graph."""


def specs_of(schema):
    return schema.specs(Side.USER, Side.CONTEXT, Side.ITEM)


def check_scorer(name, scorer):
    kind, width = LOWERED.get(name, (ScorerKind.GENERIC, None))
    assert scorer.kind is kind, scorer.note
    if width is not None:
        assert scorer.joint_multiply_adds == width


@pytest.mark.parametrize("index", range(len(INTERACTIONS)), ids=list(INTERACTIONS))
def test_a_trained_model_is_served_as_keras_scores(
    index, dataset, encoder, features, make_config, tmp_path
):
    name, fusion = list(INTERACTIONS)[index], list(FUSIONS)[index % len(FUSIONS)]
    check_served(
        make_config(model=name, fusion=fusion, epochs=1), dataset, encoder, features, tmp_path
    )


@pytest.mark.parametrize(
    ("name", "history", "adapter"),
    [
        ("perceptron", "attention", "mlp"),
        ("bilinear", "gru", "experts"),
        ("fm", "sasrec", "mlp"),
        ("din", "sasrec", "linear"),
    ],
)
def test_every_reading_of_a_history_is_served_as_keras_scores(
    name, history, adapter, dataset, encoder, features, make_config, tmp_path
):
    config = make_config(
        model=name,
        fusion="weighted",
        history=history,
        adapter=adapter,
        source_dropout=0.2,
        epochs=1,
    )
    check_served(config, dataset, encoder, features, tmp_path)


def test_a_second_model_beside_is_part_of_the_same_inner_product(dataset, encoder, make_config):
    run = train(dataset, encoder, make_config(model="gmf", beside="cosine", epochs=1))
    specs = specs_of(run.schema)
    parts = factorise(
        export_interaction(run.ranker.full, specs), sides_by_name(spec.name for spec in specs)
    )
    assert parts.scorer.kind is ScorerKind.DOT
    assert parts.scorer.joint_multiply_adds == 2 * DIM


def check_served(config, dataset, encoder, features, tmp_path):
    name = config.model
    run = train(dataset, encoder, config)
    full = export_interaction(run.ranker.full, specs_of(run.schema))
    users = _users(dataset, features)
    made = assemble(
        tmp_path / "b", "b", Ranker(name=name, full=full, schema=run.schema),
        _items(dataset, run, features), users=users,
    )  # fmt: skip
    check_scorer(name, made.parts.scorer)
    field = run.schema.find(Side.USER, "history")
    vectors = features.history_vectors(field.field)
    with load(made.path, device="cpu") as engine:
        for row in (0, 1, 2):  # the second has no age, the third no text
            ids = list(dataset.items.ids)
            inputs = {n: np.repeat(t[[row]], len(ids), 0) for n, t in users.inputs.items()}
            history = pack_history([vectors[users.history[row]]], field)
            inputs["user.history"] = np.repeat(history, len(ids), 0)
            expected = run.ranker.full(inputs | dict(features.items.tensors))
            found = engine.score({"user_id": f"u{row}"}, ids).scores
            largest = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)


@pytest.mark.e2e
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("name", INTERACTIONS)
def test_every_fusion_of_every_model_factorises(name, fusion, schema, features, make_config):
    ranker = build_ranker(schema, make_config(model=name, fusion=fusion))
    rng = np.random.default_rng(0)
    weights = ranker.full.get_weights()
    ranker.full.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in weights])
    full = export_interaction(ranker.full, specs_of(schema))
    parts = factorise(full, sides_by_name(value.name for value in full.graph.input))
    check_scorer(name, parts.scorer)
    field = schema.find(Side.USER, "history")
    vectors = features.history_vectors(field.field)
    users = {n: t[:5] for n, t in features.users.tensors.items()}
    users["user.history"] = pack_history([vectors[:q] for q in range(5)], field)
    assert verify_factorised(full, parts, users, dict(features.items.tensors)) <= 1e-5
