"""A dataset.toml is read as written, and every mistake in it is named with a remedy."""

from pathlib import Path

import pytest

from fuserank.errors import DataError, SchemaError
from fuserank.schema.fields import Field, Kind, Side
from fuserank.training.data.dataset_config import (
    CleaningConfig,
    InteractionsConfig,
    TableConfig,
    read_config,
)

CONFIG = """\
name = "films"
[interactions]
path = "interactions.csv"
user = "user_id"
item = "item_id"
rating = "rating"
positive_at = 4
[users]
path = "data/users.csv"
delimiter = "\\t"
id = "user_id"
[users.fields.age]
kind = "number"
[users.fields.history]
kind = "history"
of = "description"
max_length = 20
[items]
path = "items.parquet"
id = "item_id"
title = "title"
[items.fields.description]
kind = "text"
template = "{title} ({year})."
[context.fields.hour]
kind = "number"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "dataset.toml"
    path.write_text(CONFIG)
    return path


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_paths_are_relative_to_the_file_and_fields_have_sides(path):
    found = read_config(path)
    folder = path.parent
    assert found.name == "films"
    assert found.interactions == InteractionsConfig(
        path=folder / "interactions.csv",
        user="user_id",
        item="item_id",
        rating="rating",
        positive_at=4,
    )
    assert found.users == TableConfig(
        path=folder / "data" / "users.csv", id="user_id", delimiter="\t"
    )
    assert found.items == TableConfig(path=folder / "items.parquet", id="item_id", title="title")
    history = Field(
        name="history", side=Side.USER, kind=Kind.HISTORY, of="description", max_length=20
    )
    assert found.fields == (
        Field(name="user_id", side=Side.USER, kind=Kind.ID),
        Field(name="age", side=Side.USER, kind=Kind.NUMBER),
        history,
        Field(name="item_id", side=Side.ITEM, kind=Kind.ID),
        Field(name="description", side=Side.ITEM, kind=Kind.TEXT, template="{title} ({year})."),
        Field(name="hour", side=Side.CONTEXT, kind=Kind.NUMBER),
    )


def test_nothing_is_cleaned_unless_asked_for(path):
    assert read_config(path).cleaning == CleaningConfig()


def test_cleaning(path):
    edit(path, "positive_at = 4", 'positive_at = 4\ntimestamp = "time"')
    edit(
        path,
        "[users]",
        """[cleaning]
rating_range = [0.5, 5]
drop_negative_times = true
drop_contradictions = true
max_interactions_per_user = 5000
min_user_interactions = 5
min_item_interactions = 3
[users]""",
    )
    assert read_config(path).cleaning == CleaningConfig(
        rating_range=(0.5, 5),
        drop_negative_times=True,
        drop_contradictions=True,
        max_interactions_per_user=5000,
        min_user_interactions=5,
        min_item_interactions=3,
    )


def test_options_of_numbers_and_words(path):
    edit(path, 'kind = "number"', 'kind = "number"\noutliers = "iqr"\nmissing = -1.5')
    edit(
        path,
        "[context",
        """[items.fields.terms]
kind = "words"
template = "{title}"
weighting = "binary"
max_words = 99
min_rows = 3
stop_words = "english"
stem = "porter"
[context""",
    )
    fields = {field.name: field for field in read_config(path).fields}
    assert fields["age"] == Field(
        name="age", side=Side.USER, kind=Kind.NUMBER, outliers="iqr", missing=-1.5
    )
    assert fields["terms"] == Field(
        name="terms",
        side=Side.ITEM,
        kind=Kind.WORDS,
        template="{title}",
        weighting="binary",
        max_words=99,
        min_rows=3,
        stop_words="english",
        stem="porter",
    )


def test_users_may_have_no_file(path):
    edit(path, 'path = "data/users.csv"\ndelimiter = "\\t"\nid = "user_id"\n', "")
    edit(path, 'user = "user_id"', 'user = "who"')
    found = read_config(path)
    assert found.users is None
    assert found.fields[0] == Field(name="who", side=Side.USER, kind=Kind.ID)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "rating =",
            "ratings =",
            r"dataset.toml, \[interactions\]: found unknown key 'ratings', expected path, .*"
            r"; did you mean 'rating'\?",
        ),
        ("[users]", "[user]\n[users]", r"dataset.toml: found unknown key 'user'.*'users'\?"),
        (
            'kind = "number"',
            'kind = "number"\nmaxlength = 3',
            r"\[users.fields.age\]: found unknown key 'maxlength', .*did you mean 'max_length'\?",
        ),
        ("positive_at = 4", 'positive_at = "4"', r"positive_at is '4', expected a number"),
        ("positive_at = 4", "positive_at = true", r"positive_at is True, expected a number"),
        ("max_length = 20", "max_length = 2.5", r"max_length is 2.5, expected a whole number"),
        ("positive_at = 4\n", "", r"\[interactions\]: found one of rating and positive_at"),
        ('id = "item_id"\n', "", r"\[items\]: found one of path and id, expected both"),
        (
            'path = "items.parquet"\nid = "item_id"\n',
            "",
            r"\[items\]: found no file, expected path",
        ),
        ('user = "user_id"\n', "", r"\[interactions\]: found no key 'user'; add it"),
        ('name = "films"', 'name = "films', r"dataset.toml: expected a TOML file, .*line 1"),
        ('name = "films"', "", r"dataset.toml: found no key 'name'; add it"),
        ("interactions.csv", "a.json", r"path is 'a.json', expected .parquet or .csv"),
        ('"\\t"', '"::"', r"\[users\]: delimiter is '::', expected one character"),
        ('"\\t"', '"·"', r"\[users\]: delimiter is '·', expected one character of ASCII"),
        ('"\\t"', '"\\n"', r"\[users\]: delimiter is '\\n', expected one character of ASCII that"),
        ("positive_at = 4", "positive_at = nan", r"positive_at is nan, expected a finite number"),
        ("positive_at = 4", f"positive_at = 1{'0' * 400}", r"is 10+, expected a finite number"),
        (
            '"items.parquet"',
            '"items.parquet"\ndelimiter = ";"',
            r"\[items\]: found a delimiter for 'items.parquet', which is for CSV files",
        ),
        (
            '[users.fields.age]\nkind = "number"',
            '[users.fields]\nage = "number"',
            r"\[users.fields.age\]: found 'number', expected a table such as",
        ),
        (
            'kind = "number"',
            'kind = "id"\ncolumn = "age"',
            r"user field 'age' is of kind id and reads column 'age', expected 'user_id'",
        ),
        (
            'kind = "number"',
            'kind = "number"\nmissing = true',
            r"missing is True, expected text or a number",
        ),
        *(
            ("[users]", f"[cleaning]\n{line}\n[users]", rf"\[cleaning\]: {message}")
            for line, message in (
                ("max_rating = 5", "found unknown key 'max_rating', expected rating_range, drop_n"),
                ("rating_range = 5", "rating_range is 5, expected a list"),
                ("rating_range = [5]", r"rating_range is \[5\], expected the lowest and the high"),
                ("rating_range = [5, 1]", r"rating_range is \[5, 1\], expected the lowest and th"),
                ("rating_range = [1, '5']", r"rating_range is \[1, '5'\], expected the lowest and"),
                ("rating_range = [1, inf]", r"rating_range is \[1, inf\], expected the lowest and"),
                ("rating_range = [0, true]", r"rating_range is \[0, True\], expected the lowest a"),
                ("min_item_interactions = 0", "min_item_interactions is 0, expected 1 or more"),
                ("min_user_interactions = 2.5", "min_user_interactions is 2.5, expected a whole"),
                ("drop_contradictions = 1", "drop_contradictions is 1, expected true or false"),
                ("drop_negative_times = true", r"found drop_negative_times, but \[interactions\] "),
            )
        ),
    ],
)
def test_mistakes(path, old, new, message):
    edit(path, old, new)
    with pytest.raises(DataError, match=message):
        read_config(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "number"', 'kind = "numbr"', r"\[users.fields.age\]: field age: kind: found 'n"),
        ('of = "description"', 'of = "plot"', r"dataset.toml: field 'history': of='plot' names no"),
        ("[users.fields.age]", "[users.fields.user_id]", r"declared twice: user.user_id"),
    ],
)
def test_fields_that_contradict_each_other_name_the_file(path, old, new, message):
    edit(path, old, new)
    with pytest.raises(SchemaError, match=message):
        read_config(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"dataset.toml: found no such file"):
        read_config(tmp_path / "dataset.toml")


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(DataError, match=r"expected a TOML file, found: .*directory"):
        read_config(tmp_path)


def test_bytes_that_are_not_utf8(path):
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(DataError, match="not UTF-8; save it as UTF-8"):
        read_config(path)
