"""Bags of words, from the tables through training and export to a request."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from fuserank.engine.engine import load  # noqa: E402
from fuserank.errors import RequestError  # noqa: E402
from fuserank.export.assemble import Ranker, assemble  # noqa: E402
from fuserank.export.interaction import export_interaction  # noqa: E402
from fuserank.export.pipeline import _items, _users  # noqa: E402
from fuserank.schema import Field, Kind, Side  # noqa: E402
from fuserank.training.data.features import build_features  # noqa: E402
from fuserank.training.train import train  # noqa: E402

# Keras hands TensorFlow's variables to numpy the old way.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

USER_WORDS = Field(
    name="interests", side=Side.USER, kind=Kind.WORDS, column="about", stem="porter", min_rows=1
)
ITEM_WORDS = Field(
    name="terms", side=Side.ITEM, kind=Kind.WORDS, template="{title} {genres}", max_words=20
)


@pytest.fixture(scope="module")
def served(dataset, encoder, make_config, tmp_path_factory):
    """A run whose fields are ids and words, and its bundle."""
    ids = tuple(field for field in dataset.fields if field.kind is Kind.ID)
    wordy = replace(dataset, fields=(*ids, USER_WORDS, ITEM_WORDS))
    run = train(wordy, encoder, make_config(model="perceptron", epochs=1))
    features = build_features(wordy, run.schema, encoder)
    full = export_interaction(run.ranker.full, run.schema.specs(Side.USER, Side.CONTEXT, Side.ITEM))
    made = assemble(
        tmp_path_factory.mktemp("words") / "b",
        "b",
        Ranker(name="perceptron", full=full, schema=run.schema),
        _items(wordy, run, features),
        users=_users(wordy, features),
    )
    with load(made.path, device="cpu") as engine:
        yield run, features, engine


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"user_id": "u1"}, "likes Comedy"),
        ({"user_id": "u1", "interests": "They LIKE war"}, "likes war"),
        ({"interests": "horror"}, "Horror!"),
        ({"interests": ""}, None),
        ({}, None),
    ],
)
def test_a_request_is_encoded_as_the_tables_were(served, request_, words):
    run, features, engine = served
    ids = list(features.items.ids)
    row = {"user_id": [request_.get("user_id")], "about": [words]}
    user = {n: np.repeat(t, len(ids), 0) for n, t in run.schema.encode(Side.USER, row, 1).items()}
    expected = run.ranker.full(user | dict(features.items.tensors))
    np.testing.assert_allclose(engine.score(request_, ids).scores, expected, atol=1e-5)


def test_words_that_are_no_text_are_named(served):
    _, features, engine = served
    with pytest.raises(RequestError, match="field 'interests', row 0: found int, expected text"):
        engine.score({"interests": 3}, list(features.items.ids))
