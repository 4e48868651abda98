import numpy as np
import pytest
from tests.engine.test_encoder import CONFIG, write_encoder

from fuserank.engine.bound_texts import BoundTexts, bucket
from fuserank.engine.encoder import TextEncoder
from fuserank.engine.session import GraphSession

PAD = 0


@pytest.fixture
def session(tmp_path):
    return GraphSession(write_encoder(tmp_path / "encoder", CONFIG) / "model.onnx")


def inputs_of(session, lengths, width):
    rng = np.random.default_rng(len(lengths))
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask, rng.integers(1, 6, mask.shape), PAD)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: given[name] for name in session.input_names}


@pytest.mark.parametrize("lengths", [[5], [3, 7, 2], [9] * 17, [1, 40]])
def test_a_bucket_gives_what_the_graph_gives(session, lengths):
    bound = BoundTexts(session)
    inputs = inputs_of(session, lengths, max(lengths))
    for _ in range(2):  # bound, then as it is
        found = bound.run(inputs, PAD)
        np.testing.assert_allclose(found, session.run(inputs)["embedding"], atol=1e-6)


def test_texts_of_one_bucket_share_what_is_bound(session, monkeypatch):
    bound, shapes = BoundTexts(session), []
    bind = GraphSession.bind

    def counted(self, resident, changing, outputs):
        shapes.append(changing["input_ids"].shape)
        return bind(self, resident, changing, outputs)

    monkeypatch.setattr(GraphSession, "bind", counted)
    for lengths in ([5], [8], [3, 7, 2], [4, 4, 4, 4], [9]):
        bound.run(inputs_of(session, lengths, max(lengths)), PAD)
    assert shapes == [(1, 8), (4, 8), (1, 16)]


def test_what_fits_no_bucket_runs_as_it_is(session):
    assert bucket(1, 513) is bucket(513, 8) is None
    inputs = inputs_of(session, [600], 600)
    found = BoundTexts(session).run(inputs, PAD)
    np.testing.assert_array_equal(found, session.run(inputs)["embedding"])


@pytest.mark.gpu
def test_on_cuda_as_on_the_cpu(tmp_path):
    from fuserank.engine.providers import Device

    path = write_encoder(tmp_path / "encoder", CONFIG)
    texts = ["love", "war and peace", "a love story of war"] * 5
    expected = TextEncoder.load(path).encode(texts).vectors
    found = TextEncoder.load(path, Device.CUDA).encode(texts).vectors
    np.testing.assert_allclose(found, expected, atol=1e-3)
