import numpy as np
import pytest

from fuserank.engine.text_batches import token_batches


def waste(lengths, batches):
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    return 1 - sum(lengths) / padded


@pytest.mark.parametrize("n_texts", [1, 2, 50, 5000])
@pytest.mark.parametrize("longest", [8, 30, 256, 2000])
def test_every_text_is_in_one_batch_within_the_budget(n_texts, longest):
    lengths = np.random.default_rng(0).integers(3, longest, n_texts).tolist()
    batches = token_batches(lengths, budget=256, spare=4)
    assert sorted(row for batch in batches for row in batch) == list(range(n_texts))
    for batch in batches:
        found = [lengths[row] for row in batch]
        assert len(batch) == 1 or len(batch) * max(found) <= 256
        assert len(batch) * max(found) - sum(found) <= 4
    assert [max(lengths[row] for row in batch) for batch in batches] == sorted(
        (max(lengths[row] for row in batch) for batch in batches), reverse=True
    )


@pytest.mark.parametrize("n_texts", [10, 100, 1000, 4096])
def test_hardly_anything_is_padding(n_texts):
    lengths = np.random.default_rng(1).integers(8, 257, n_texts).tolist()
    assert waste(lengths, token_batches(lengths, budget=256, spare=4)) < 0.05


def test_texts_of_one_length_fill_batches():
    batches = token_batches([16] * 40, budget=256, spare=4)
    assert [len(batch) for batch in batches] == [16, 16, 8]


def test_no_texts_make_no_batches():
    assert token_batches([], budget=256, spare=4) == []
