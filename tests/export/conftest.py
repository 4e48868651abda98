"""Tiny random text models, made offline."""

import os
import shutil

# transformers would import TensorFlow, whose Keras 3 it does not support.
os.environ.setdefault("USE_TF", "0")

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from fuserank.export.verify import pair_scores, part_scores

TinyModel = Callable[..., Path]

# Threads of so small a model only wait for one another.
torch.set_num_threads(1)

_SHAPE = {
    "vocab_size": 600,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    # Larger than usual: the embeddings of different texts shall differ.
    "initializer_range": 0.2,
}


@pytest.fixture(scope="session")
def film_texts() -> list[str]:
    """A hundred descriptions of films that do not exist, from 9 to about 60 words."""
    heroes = ("a retired thief", "two sisters", "an honest clerk", "a blind pianist", "the captain")
    places = ("in Vienna", "on a cargo ship", "in a mining town", "at the edge of the desert")
    turns = (
        "finds a letter that was never sent",
        "is mistaken for a spy",
        "must choose between love and duty",
        "wakes up forty years later",
        "sells everything for a theatre, and nobody comes to the first night except a stranger "
        "with a strange offer that changes the town, the theatre and a marriage for good",
    )
    genres = (
        "Crime Thriller",
        "Drama Romance",
        "Comedy",
        "Science-Fiction",
        "Children's Animation",
    )
    return [
        f"Film {number} ({1930 + number % 90}). {genres[number % 5]}. {hero.capitalize()} {place} "
        f"{turn}."
        for number, (hero, place, turn) in enumerate(product(heroes, places, turns))
    ]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, film_texts: list[str]) -> TinyModel:
    """Return a function that saves a random model and its tokenizer, once for each kind."""
    root = tmp_path_factory.mktemp("models")

    def make(kind: str) -> Path:
        folder = root / kind
        if not folder.exists():
            torch.manual_seed(0)
            _model(kind).eval().save_pretrained(folder)
            _tokenizer(kind, film_texts).save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def bert(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A copy of the tiny BERT that a test may damage."""
    return Path(shutil.copytree(tiny_model("bert"), tmp_path / "bert"))


def _model(kind: str) -> Any:
    if kind == "distilbert":
        return transformers.DistilBertModel(
            transformers.DistilBertConfig(
                vocab_size=600,
                dim=32,
                n_layers=2,
                n_heads=4,
                hidden_dim=64,
                max_position_embeddings=66,
                initializer_range=0.2,
            )
        )
    if kind == "roberta":
        return transformers.RobertaModel(transformers.RobertaConfig(**_SHAPE, type_vocab_size=1))
    if kind == "mpnet":
        return transformers.MPNetModel(transformers.MPNetConfig(**_SHAPE))
    if kind == "electra":
        return transformers.ElectraModel(transformers.ElectraConfig(**_SHAPE, embedding_size=16))
    return transformers.BertModel(transformers.BertConfig(**_SHAPE))


def _tokenizer(kind: str, texts: list[str]) -> Any:
    if kind in {"roberta", "mpnet"}:
        return transformers.RobertaTokenizerFast(
            tokenizer_object=_byte_pairs(texts), model_max_length=64
        )
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    return transformers.BertTokenizerFast(
        tokenizer_object=_word_pieces(texts),
        model_max_length=66,
        model_input_names=inputs[:2] if kind == "distilbert" else inputs,
    )


def _word_pieces(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        [*texts, *map(str.upper, texts)],
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def _byte_pairs(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


@pytest.fixture(scope="session")
def check_top_100() -> Callable[..., None]:
    """Return a check that the parts rank the best hundred items as the whole does.

    Two items may change places where the whole itself tells them apart by rounding alone.
    """

    def check(model: Any, parts: Any, users: Any, items: Any) -> None:
        whole, made = pair_scores(model, users, items), part_scores(parts, users, items)
        assert whole.shape[1] > 200
        nothing = 1e-5 * max(1.0, np.abs(whole).max())
        for mine, theirs in zip(whole, made, strict=True):
            best, found = (np.argsort(-row, kind="stable")[:100] for row in (mine, theirs))
            np.testing.assert_allclose(mine[found], mine[best], rtol=0, atol=nothing)
            assert np.mean(best == found) > 0.9

    return check
