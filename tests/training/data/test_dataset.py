"""Data sets are read as their files say, and every bad input is named with its place."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.errors import DataError
from fuserank.schema.fields import Kind, Side
from fuserank.training.data.dataset import load_dataset

CONFIG = """\
name = "films"
[interactions]
path = "interactions.csv"
user = "user_id"
item = "item_id"
rating = "rating"
timestamp = "timestamp"
positive_at = 4
[users]
path = "users.csv"
id = "user_id"
[users.fields.age]
kind = "number"
[users.fields.history]
kind = "history"
of = "description"
[users.fields.profile]
kind = "text"
joins = "history"
[items]
path = "items.csv"
id = "item_id"
title = "title"
[items.fields.genres]
kind = "categories"
[items.fields.description]
kind = "text"
template = "{title} ({year}). {genres}."
"""
INTERACTIONS = """\
user_id,item_id,rating,timestamp
u1,10,5,100
u1,20,3,200
u2,10,4.5,150
"""
USERS = "user_id,age\nu1,24\nu2,\n"
ITEMS = 'item_id,title,year,genres\n10,"Alien, again",1979,Horror| Sci-Fi\n20,Heat,,\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "dataset.toml": CONFIG,
        "interactions.csv": INTERACTIONS,
        "users.csv": USERS,
        "items.csv": ITEMS,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def load(folder: Path):
    return load_dataset(folder / "dataset.toml")


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")


def to_parquet(folder: Path, name: str, columns: dict) -> None:
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    edit(folder, "dataset.toml", f"{name}.csv", f"{name}.parquet")


def test_csv_is_read_by_the_meaning_of_its_columns(folder):
    found = load(folder)
    assert found.name == "films"
    assert found.title == "title"
    assert found.users.ids == ("u1", "u2")
    assert found.users.columns == {"user_id": ["u1", "u2"], "age": [24, None]}
    assert found.items.ids == ("10", "20")
    assert found.items.columns == {
        "item_id": ["10", "20"],
        "title": ["Alien, again", "Heat"],
        "year": ["1979", None],
        "genres": [["Horror", "Sci-Fi"], None],
    }
    rows = found.interactions
    assert rows.user.tolist() == [0, 0, 1]
    assert rows.item.tolist() == [0, 1, 0]
    assert rows.rating.tolist() == [5, 3, 4.5]
    assert rows.timestamp is not None
    assert rows.timestamp.tolist() == [100, 200, 150]
    assert rows.positive.tolist() == [True, False, True]
    assert found.dropped_duplicates == 0
    dtypes = [a.dtype for a in (rows.user, rows.item, rows.rating, rows.timestamp, rows.positive)]
    assert dtypes == [np.int32, np.int32, np.float32, np.int64, np.bool_]


def test_an_id_field_is_declared_for_each_side(folder):
    fields = load(folder).fields
    ids = [(f.side, f.name) for f in fields if f.kind is Kind.ID]
    assert ids == [(Side.USER, "user_id"), (Side.ITEM, "item_id")]


def test_a_declared_id_field_keeps_its_name_and_reads_the_id_column(folder):
    edit(folder, "dataset.toml", "[items]", '[users.fields.who]\nkind = "id"\n[items]')
    ids = [f for f in load(folder).fields if f.side is Side.USER and f.kind is Kind.ID]
    assert [(f.name, f.source_columns) for f in ids] == [("who", ("user_id",))]


def test_an_id_column_that_is_no_field_name_is_read_all_the_same(folder):
    edit(folder, "users.csv", "user_id", "user id")
    edit(folder, "dataset.toml", 'id = "user_id"', 'id = "user id"')
    found = load(folder)
    assert found.fields[0].name == "user_id"
    assert found.users.columns[found.fields[0].source_columns[0]] == ["u1", "u2"]


def test_parquet_and_csv_give_the_same_data(folder):
    expected = load(folder)
    to_parquet(
        folder,
        "interactions",
        {
            "user_id": pa.array(["u1", "u1", "u2"]).dictionary_encode(),
            "item_id": [10, 20, 10],
            "rating": pa.array([5, 3, 4.5], pa.float32()),
            "timestamp": [100, 200, 150],
        },
    )
    to_parquet(folder, "users", {"user_id": ["u1", "u2"], "age": [24.0, float("nan")]})
    to_parquet(
        folder,
        "items",
        {
            "item_id": pa.array([10, 20], pa.int32()),
            "title": ["Alien, again", "Heat"],
            "year": [1979.0, None],
            "genres": [["Horror", "Sci-Fi"], None],
            "unread": [{"a": 1}, {"a": 2}],
        },
    )
    found = load(folder)
    assert found.users == expected.users
    assert found.items.ids == expected.items.ids
    assert found.items.columns == expected.items.columns | {"year": [1979, None]}
    for name in ("user", "item", "rating", "timestamp", "positive"):
        np.testing.assert_array_equal(
            getattr(found.interactions, name), getattr(expected.interactions, name)
        )


def test_without_a_rating_every_row_is_a_positive(folder):
    edit(folder, "dataset.toml", 'rating = "rating"\n', "")
    edit(folder, "dataset.toml", "positive_at = 4\n", "")
    rows = load(folder).interactions
    assert rows.positive.all()
    assert rows.rating.tolist() == [1, 1, 1]


def test_without_users_they_are_those_of_the_interactions(folder):
    edit(folder, "dataset.toml", 'path = "users.csv"\nid = "user_id"\n', "")
    edit(folder, "dataset.toml", '[users.fields.age]\nkind = "number"\n', "")
    found = load(folder)
    assert found.users.ids == ("u1", "u2")
    assert found.users.columns == {"user_id": ["u1", "u2"]}
    assert [f.name for f in found.fields[:3]] == ["user_id", "history", "profile"]


def test_without_users_a_field_that_needs_a_column_is_refused(folder):
    edit(folder, "dataset.toml", 'path = "users.csv"\nid = "user_id"\n', "")
    with pytest.raises(DataError, match=r"field 'age' reads column 'age', but there is no file"):
        load(folder)


def test_another_delimiter_blank_lines_and_a_byte_order_mark(folder):
    text = "\ufeff" + USERS.replace(",", ";").replace("u2", "\nu2")
    (folder / "users.csv").write_text(text, encoding="utf-8")
    edit(folder, "dataset.toml", '"users.csv"', '"users.csv"\ndelimiter = ";"')
    assert load(folder).users.columns["age"] == [24, None]


def test_words_that_look_like_missing_ones_are_kept(folder):
    edit(folder, "items.csv", "Heat", "NA")
    assert load(folder).items.columns["title"] == ["Alien, again", "NA"]


def test_a_profile_column_is_read_where_there_is_one(folder):
    (folder / "users.csv").write_text("user_id,age,profile\nu1,24,slow films\nu2,3,\n")
    assert load(folder).users.columns["profile"] == ["slow films", None]


def test_a_text_field_reads_numbers_as_text(folder):
    to_parquet(folder, "users", {"user_id": ["u1", "u2"], "age": [1, 2], "note": [7.0, None]})
    edit(folder, "dataset.toml", "[items]", '[users.fields.note]\nkind = "text"\n[items]')
    assert load(folder).users.columns["note"] == ["7", None]


def test_context_fields_are_declared(folder):
    edit(folder, "dataset.toml", "[items]", '[context.fields.hour]\nkind = "number"\n[items]')
    assert [f.tensor for f in load(folder).fields][-1] == "context.hour"


def test_whole_times_in_nanoseconds_keep_every_digit(folder):
    edit(folder, "interactions.csv", ",200", ",1700000000000000001")
    timestamp = load(folder).interactions.timestamp
    assert timestamp is not None
    assert timestamp[1] == 1700000000000000001


def test_the_latest_of_repeated_pairs_is_kept(folder, caplog):
    with (folder / "interactions.csv").open("a") as file:
        file.write("u1,10,1,90\nu2,10,2,150\n")
    with caplog.at_level(logging.INFO):
        found = load(folder)
    assert found.dropped_duplicates == 2
    # u1's later row came first; u2's rows are of the same time, so the last one counts.
    assert found.interactions.rating.tolist() == [5, 3, 2]
    assert "films: dropped 2 of 5 interactions: repeated pairs" in caplog.text


def test_without_times_the_last_of_repeated_pairs_is_kept(folder):
    edit(folder, "dataset.toml", 'timestamp = "timestamp"\n', "")
    with (folder / "interactions.csv").open("a") as file:
        file.write("u1,10,4,90\n")
    rows = load(folder).interactions
    assert rows.timestamp is None
    assert rows.rating.tolist() == [3, 4.5, 4]


def test_select_takes_masks_and_rows(folder):
    rows = load(folder).interactions
    assert rows.select(rows.positive).rating.tolist() == [5, 4.5]
    picked = rows.select(np.array([2, 0]))
    assert picked.rating.tolist() == [4.5, 5]
    assert picked.timestamp is not None
    assert picked.timestamp.tolist() == [150, 100]
    assert len(rows.select(np.zeros(3, np.bool_))) == 0


@pytest.mark.parametrize("name", ["dataset.toml", "interactions.csv", "users.csv", "items.csv"])
def test_the_fingerprint_is_that_of_every_byte(folder, name):
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before
    with (folder / name).open("a") as file:
        file.write("\n")
    assert load(folder).fingerprint != before


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "interactions.csv",
            "u1,20",
            "\nu9,20",
            r"line 4, column 'user_id': found 'u9', which .*users.csv does not hold; 1 inter",
        ),
        (
            "interactions.csv",
            "20,3",
            "30,3",
            r"line 3, column 'item_id': found '30', which .*items.csv does not hold; 1 .*: add",
        ),
        (
            "users.csv",
            "u2,",
            "u1,",
            r"users.csv, line 3, column 'user_id': found 'u1', which line 2 has, expected each id",
        ),
        (
            "items.csv",
            ",title",
            ",titel",
            r"found no column 'title' \(field 'description'\); .*did you mean 'titel'\?",
        ),
        ("interactions.csv", "ing,", "ings,", r"no column 'rating' \(rating\).*'ratings'\?"),
        ("interactions.csv", "20,3,", "20,,", r"line 3, column 'rating': found no value"),
        ("interactions.csv", ",200", ",-1", r"line 3, column 'timestamp': found '-1'"),
        ("interactions.csv", "u1,20", ",20", r"line 3, column 'user_id': found no value"),
        ("users.csv", "24", "old", r"users.csv, line 2, column 'age': found 'old'"),
        (
            "dataset.toml",
            "positive_at = 4",
            "positive_at = 6",
            r"'rating': found no positive interaction, the highest rating is 5; lower positive_at",
        ),
        ("dataset.toml", "items.csv", "absent.csv", r"absent.csv: found no such file"),
    ],
)
def test_bad_data(folder, name, old, new, message):
    edit(folder, name, old, new)
    with pytest.raises(DataError, match=message):
        load(folder)
