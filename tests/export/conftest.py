"""Tiny random text models, made offline."""

import os
import shutil
import warnings

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
from fuserank.schema import Field, Kind, Side
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.tables import Table

with warnings.catch_warnings():
    # ModernBERT's module compiles a function, by a part of torch that warns of its own end.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
    import transformers.models.modernbert.modeling_modernbert

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
def film_dataset(film_texts: list[str]) -> Dataset:
    """Thirty users, each of whom likes films of one genre."""
    n_users = 30
    rng = np.random.default_rng(0)
    n_items = len(film_texts)
    user = np.repeat(np.arange(n_users), 8)
    item = np.concatenate(
        [rng.choice(np.arange(row % 5, n_items, 5), 8, replace=False) for row in range(n_users)]
    )
    user_ids = tuple(f"u{row}" for row in range(n_users))
    item_ids = tuple(f"i{row}" for row in range(n_items))
    about = [None if row % 2 else "Watches a lot" for row in range(n_users)]
    return Dataset(
        name="films",
        fields=(
            Field(name="user_id", side=Side.USER, kind=Kind.ID),
            Field(name="about", side=Side.USER, kind=Kind.TEXT),
            Field(name="history", side=Side.USER, kind=Kind.HISTORY, of="plot", max_length=4),
            Field(name="item_id", side=Side.ITEM, kind=Kind.ID),
            Field(name="plot", side=Side.ITEM, kind=Kind.TEXT),
        ),
        users=Table(user_ids, {"user_id": list(user_ids), "about": about}),
        items=Table(item_ids, {"item_id": list(item_ids), "plot": list(film_texts)}),
        interactions=Interactions(
            user=user.astype(np.int32),
            item=item.astype(np.int32),
            rating=np.ones(len(user), np.float32),
            timestamp=None,
            positive=np.ones(len(user), np.bool_),
        ),
        title=None,
        fingerprint="f" * 64,
    )


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
    """Make a random model; windows are shorter than texts, and positions than the longest."""
    t = transformers
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    decoder = _SHAPE | special | {"num_key_value_heads": 2}
    modern = special | {"cls_token_id": 0, "sep_token_id": 2, "local_attention": 16}
    configs = {
        "bert": lambda: t.BertConfig(**_SHAPE),
        "camembert": lambda: t.CamembertConfig(**_SHAPE, type_vocab_size=1),
        "distilbert": lambda: t.DistilBertConfig(
            vocab_size=600,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=66,
            initializer_range=0.2,
        ),
        "electra": lambda: t.ElectraConfig(**_SHAPE, embedding_size=16),
        "llama": lambda: t.LlamaConfig(**decoder),
        "mistral": lambda: t.MistralConfig(**decoder, sliding_window=16),
        "modernbert": lambda: t.ModernBertConfig(**_SHAPE | modern | {"num_hidden_layers": 4}),
        "mpnet": lambda: t.MPNetConfig(**_SHAPE),
        "qwen2": lambda: t.Qwen2Config(**decoder),
        # Heads wider than their share of the width, and a window in the second layer.
        "qwen3": lambda: t.Qwen3Config(
            **decoder, head_dim=16, use_sliding_window=True, sliding_window=16, max_window_layers=1
        ),
        "roberta": lambda: t.RobertaConfig(**_SHAPE, type_vocab_size=1),
        "xlm-roberta": lambda: t.XLMRobertaConfig(**_SHAPE, type_vocab_size=1),
    }
    return t.AutoModel.from_config(configs[kind]())


def _tokenizer(kind: str, texts: list[str]) -> Any:
    if kind in {"roberta", "mpnet"}:
        return transformers.RobertaTokenizerFast(
            tokenizer_object=_byte_pairs(texts), model_max_length=64
        )
    if kind in {"camembert", "xlm-roberta"}:
        return transformers.XLMRobertaTokenizerFast(
            tokenizer_object=_unigrams(texts), model_max_length=64
        )
    names = ["input_ids", "attention_mask", "token_type_ids"]
    if kind in {"bert", "distilbert", "electra"}:
        return transformers.BertTokenizerFast(
            tokenizer_object=_word_pieces(texts),
            model_max_length=66,
            model_input_names=names[:2] if kind == "distilbert" else names,
        )
    tokenizer = _byte_pairs(texts)
    if kind != "modernbert":  # a decoder's tokenizer ends a text, and pads on the left
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 2)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=66,
        model_input_names=names[:2],
        padding_side="right" if kind == "modernbert" else "left",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
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


def _unigrams(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
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
