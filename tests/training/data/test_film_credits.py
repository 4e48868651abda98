"""Films are described by who made them, where title and year are found in another source."""

import hashlib
import sqlite3
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.errors import FetchError
from fuserank.schema import Schema, Side
from fuserank.training.data import film_credits
from fuserank.training.data.dataset import load_dataset
from fuserank.training.data.film_credits import fetch_film_credits
from fuserank.training.data.movielens import MOVIELENS_CONFIG

FILMS = [
    ("The Usual Suspects", 1994, "Bryan Singer", "Christopher McQuarrie", "Kevin Spacey", None),
    ("Shanghai Triad", 1995, "Zhang Yimou", "", "Gong Li, Wang Xiaoxiao", "Won 1 Oscar."),
    ("Psycho", 1998, "Gus Van Sant", None, None, None),
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with a small MovieLens in it; pip has a wheel with the films alone."""
    folder = tmp_path / "cache" / "movielens-100k"
    folder.mkdir(parents=True)
    interactions = {"user_id": ["1"], "item_id": ["1"], "rating": [5.0], "timestamp": [1]}
    users = {"user_id": ["1"], "age": [30], "gender": ["F"], "gender_word": ["female"]}
    items = {
        "item_id": ["1", "2", "3", "4"],
        "title": ["The Usual Suspects", "Shanghai Triad (Yao a yao)", "Psycho", None],
        "year": [1995, 1995, 1960, None],
        "genres": [["Crime"], None, ["Horror"], None],
    }
    for name, columns in (("interactions", interactions), ("items", items)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    pq.write_table(pa.table(users | {"occupation": ["writer"]}), folder / "users.parquet")
    (folder / "dataset.toml").write_text(MOVIELENS_CONFIG)

    database = tmp_path / "films.db"
    connection = sqlite3.connect(database)
    names = '"ID", "Title", "Year", "Director", "Writer", "Cast", "Awards"'
    connection.execute(f"CREATE TABLE omdb ({names})")
    rows = [(number, *film) for number, film in enumerate(FILMS)]
    connection.executemany("INSERT INTO omdb VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    info = "bokeh_sampledata-2026.1.dist-info"
    metadata = "Metadata-Version: 2.1\nName: bokeh-sampledata\nVersion: 2026.1"
    with zipfile.ZipFile(shelf / "bokeh_sampledata-2026.1-py3-none-any.whl", "w") as archive:
        archive.write(database, "bokeh_sampledata/_data/movies.db")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    digest = hashlib.sha256(database.read_bytes()).hexdigest()
    monkeypatch.setattr(film_credits, "_SHA256", digest)
    return tmp_path / "cache"


def test_films_are_found_by_title_and_year(cache, monkeypatch):
    path = fetch_film_credits(cache)
    data = load_dataset(path)
    assert data.name == "movielens-100k-credits"
    tables = {Side.USER: data.users.columns, Side.ITEM: data.items.columns}
    schema = Schema.fit(data.fields, tables, text_dim=1)
    texts = schema.texts(Side.ITEM, data.items.columns, 4)["description"]
    assert texts == [
        "The Usual Suspects (1995). Crime. Directed by Bryan Singer. "
        "Written by Christopher McQuarrie. With Kevin Spacey.",
        "Shanghai Triad (Yao a yao) (1995). Directed by Zhang Yimou. "
        "With Gong Li, Wang Xiaoxiao. Won 1 Oscar.",
        "Psycho (1960). Horror.",  # another Psycho
        "",
    ]
    monkeypatch.setenv("PIP_FIND_LINKS", "nowhere")
    assert fetch_film_credits(cache) == path  # from the cache


def test_another_database_is_refused_and_nothing_is_left(cache, monkeypatch):
    monkeypatch.setattr(film_credits, "_SHA256", "0" * 64)
    with pytest.raises(FetchError, match=r"movies\.db: found sha256 .*, expected 0000"):
        fetch_film_credits(cache)
    assert [path.name for path in cache.iterdir()] == ["movielens-100k"]
