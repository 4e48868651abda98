"""A data set of a few users with plain tastes, and a text encoder that needs no model."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.engine.encoder_config import TextRole
from fuserank.engine.results import Embeddings
from fuserank.schema import Field, Kind, Schema, Side
from fuserank.training.data.dataset import Dataset
from fuserank.training.data.features import Features, build_features, fit_schema
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.tables import Table
from fuserank.training.train_config import TrainConfig

N_USERS, N_ITEMS, LIKES = 24, 30, 8
GENRES = ("War", "Comedy", "Horror")


class WordEncoder:
    """Embeds a text as the normalised sum of a fixed random vector for each word."""

    dim = 12
    space = "sha256:words"

    def encode(
        self,
        texts: Sequence[str],
        role: TextRole = TextRole.PASSAGE,
        *,
        on_progress: Callable[[int], None] | None = None,
        keep: Path | None = None,
    ) -> Embeddings:
        assert all(texts), "a blank text must not reach the encoder"
        vectors = np.stack([sum(map(self._word, text.lower().split())) for text in texts])
        if on_progress is not None:
            on_progress(len(texts))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors=unit.astype(np.float32), space=self.space)

    def _word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.strip(".,").encode()).digest()[:4])
        return np.random.default_rng(seed).normal(size=self.dim)


def _fields() -> tuple[Field, ...]:
    user, item = Side.USER, Side.ITEM
    return (
        Field(name="user_id", side=user, kind=Kind.ID),
        Field(name="age", side=user, kind=Kind.NUMBER),
        Field(name="city", side=user, kind=Kind.CATEGORY),
        Field(name="about", side=user, kind=Kind.TEXT),
        Field(name="history", side=user, kind=Kind.HISTORY, of="words", max_length=4),
        Field(name="profile", side=user, kind=Kind.TEXT, joins="history"),
        Field(name="item_id", side=item, kind=Kind.ID),
        Field(name="genres", side=item, kind=Kind.CATEGORIES, max_length=2),
        Field(name="year", side=item, kind=Kind.NUMBER),
        Field(name="words", side=item, kind=Kind.TEXT, template="{title}. {genres}."),
        Field(name="poster", side=item, kind=Kind.VECTOR),
    )


def _tables(rng: np.random.Generator) -> tuple[Table, Table]:
    user_ids = [f"u{row}" for row in range(N_USERS)]
    item_ids = [f"i{row}" for row in range(N_ITEMS)]
    users = {
        "user_id": user_ids,
        "age": [None if row == 1 else 20 + row for row in range(N_USERS)],
        "city": [("Rome", "Oslo")[row % 2] for row in range(N_USERS)],
        "about": ["" if row == 2 else f"likes {GENRES[row % 3]}" for row in range(N_USERS)],
    }
    items = {
        "item_id": item_ids,
        "title": [f"title{row}" for row in range(N_ITEMS)],
        "genres": [[GENRES[row % 3]] for row in range(N_ITEMS)],
        "year": [1980 + row for row in range(N_ITEMS)],
        "poster": [list(map(float, rng.normal(size=3))) for _ in range(N_ITEMS)],
    }
    return Table(tuple(user_ids), users), Table(tuple(item_ids), items)


def _interactions(rng: np.random.Generator) -> Interactions:
    """Every user likes eight of the ten items of one genre and dislikes three others."""
    user, item, rating = [], [], []
    for row in range(N_USERS):
        own = np.flatnonzero(np.arange(N_ITEMS) % 3 == row % 3)
        others = np.setdiff1d(np.arange(N_ITEMS), own)
        user += [row] * (LIKES + 3)
        item += [*rng.permutation(own)[:LIKES], *rng.permutation(others)[:3]]
        rating += [5.0] * LIKES + [1.0] * 3
    ratings = np.array(rating, np.float32)
    return Interactions(
        user=np.array(user, np.int32),
        item=np.array(item, np.int32),
        rating=ratings,
        timestamp=rng.permutation(len(user)).astype(np.int64),
        positive=ratings >= 4,
    )


@pytest.fixture(scope="session")
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    users, items = _tables(rng)
    return Dataset(
        name="tiny",
        fields=_fields(),
        users=users,
        items=items,
        interactions=_interactions(rng),
        title="title",
        fingerprint="f" * 64,
    )


@pytest.fixture(scope="session")
def schema(dataset: Dataset, encoder: WordEncoder) -> Schema:
    return fit_schema(dataset, encoder.dim)


@pytest.fixture(scope="session")
def features(dataset: Dataset, schema: Schema, encoder: WordEncoder) -> Features:
    return build_features(dataset, schema, encoder)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., TrainConfig]:
    """Return a function that makes a configuration fit for the tiny data set."""
    small = TrainConfig(dim=8, hidden=8, epochs=3, batch_size=32, negatives=4)
    return lambda **options: replace(small, **options)


DATASET_TOML = """
name = "tiny"

[interactions]
path = "interactions.parquet"
user = "user"
item = "item"
rating = "rating"
timestamp = "time"
positive_at = 4

[users]
path = "users.parquet"
id = "user_id"
fields.age = {kind = "number"}
fields.city = {kind = "category"}
fields.about = {kind = "text"}
fields.history = {kind = "history", of = "words", max_length = 4}
fields.profile = {kind = "text", joins = "history"}

[items]
path = "items.parquet"
id = "item_id"
title = "title"
fields.genres = {kind = "categories", max_length = 2}
fields.year = {kind = "number"}
fields.words = {kind = "text", template = "{title}. {genres}."}
fields.poster = {kind = "vector"}
"""


@pytest.fixture
def toml(dataset: Dataset, tmp_path: Path) -> Path:
    """The tiny data set as files, in the order of a store; the path of its dataset.toml."""
    known = dataset.interactions.by_user()
    columns = {
        "user": [dataset.users.ids[row] for row in known.user],
        "item": [dataset.items.ids[row] for row in known.item],
        "rating": known.rating,
        "time": known.timestamp,
    }
    pq.write_table(pa.table(columns), tmp_path / "interactions.parquet")
    pq.write_table(pa.table(dataset.users.columns), tmp_path / "users.parquet")
    pq.write_table(pa.table(dataset.items.columns), tmp_path / "items.parquet")
    path = tmp_path / "dataset.toml"
    path.write_text(DATASET_TOML)
    return path
