"""Faulty inputs from file to tensor: each is refused in words that help, or repaired and reported.

What single columns, files and declarations may hold is tested with their readers; here stands what
a user would do wrong, and what then appears.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.errors import ConfigError, DataError, FuserankError, SchemaError
from fuserank.schema import Schema, Side
from fuserank.training.data.cleaning import CleaningReport, repaired_values
from fuserank.training.data.dataset import Dataset, load_dataset
from fuserank.training.data.features import fit_schema
from fuserank.training.data.splits import SplitConfig, split

CONFIG = """\
name = "films"

[interactions]
path = "interactions.csv"
user = "user_id"
item = "item_id"
rating = "rating"
timestamp = "time"
positive_at = 4

[cleaning]
rating_range = [1, 5]

[users]
path = "users.csv"
id = "user_id"
[users.fields]
age = { kind = "number", outliers = "iqr" }
job = { kind = "category" }

[items]
path = "items.csv"
id = "item_id"
title = "title"
[items.fields]
year = { kind = "number", outliers = "iqr" }
genres = { kind = "categories" }
terms = { kind = "words", template = "{title} {genres}", min_rows = 1 }
text = { kind = "text", column = "title" }
"""
FILES = {
    "dataset.toml": CONFIG,
    "interactions.csv": "user_id,item_id,rating,time\n"
    "u1,10,5,100\nu1,20,3,200\nu2,10,4,150\nu2,30,2,160\n",
    "users.csv": "user_id,age,job\nu1,24,cook\nu2,31,nurse\n",
    "items.csv": "item_id,title,year,genres\n10,Alien,1979,Horror|Space\n20,Heat,1995,Crime\n"
    "30,Brazil,1985,\n",
}
VECTOR = '[items.fields]\ncover = { kind = "vector" }\n'

Fault = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def write(name: str, content: str | bytes) -> Fault:
    """The fault that a whole file is."""

    def apply(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return apply


def edit(name: str, *pairs: tuple[str, str]) -> Fault:
    """The fault that some replaced words are."""

    def apply(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")

    return apply


def items(**columns: list) -> Fault:
    """The fault that columns of items.parquet are."""

    def apply(folder: Path) -> None:
        ordinary = {
            "item_id": [10, 20, 30],
            "title": ["Alien", "Heat", "Brazil"],
            "year": [1979, 1995, 1985],
            "genres": [["Horror"], ["Crime"], None],
        }
        pq.write_table(pa.table(ordinary | columns), folder / "items.parquet")
        edit("dataset.toml", ("items.csv", "items.parquet"))(folder)

    return apply


def both(*faults: Fault) -> Fault:
    def apply(folder: Path) -> None:
        for fault in faults:
            fault(folder)

    return apply


def truncated(folder: Path) -> None:
    items()(folder)
    path = folder / "items.parquet"
    path.write_bytes(path.read_bytes()[:-30])


def load(folder: Path) -> tuple[Dataset, Schema]:
    dataset = load_dataset(folder / "dataset.toml")
    schema = fit_schema(dataset, text_dim=4)
    schema.encode(Side.USER, dataset.users.columns, len(dataset.users))
    schema.encode(Side.ITEM, dataset.items.columns, len(dataset.items))
    return dataset, schema


def repairs(dataset: Dataset, schema: Schema) -> CleaningReport:
    tables = {Side.USER: dataset.users.columns, Side.ITEM: dataset.items.columns}
    return repaired_values(schema, tables)


REFUSED: dict[str, tuple[Fault, type[FuserankError], str]] = {
    "words in a number column": (
        edit("users.csv", ("31", "thirty")),
        DataError,
        r"users.csv, line 3, column 'age': found 'thirty', expected a number; correct the row",
    ),
    "a number column of lists": (
        items(year=[[1], [2], [3]]),
        DataError,
        r"items.parquet, column 'year': found type list<.*>, expected numbers; convert the column",
    ),
    "an infinite number": (
        edit("users.csv", ("31", "-inf")),
        DataError,
        r"users.csv, line 3, column 'age': found '-inf', expected a finite number",
    ),
    "a number too large for a graph": (
        edit("users.csv", ("31", "1e300")),
        SchemaError,
        r"field 'age', row 1: found 1e\+300, expected a finite number of at most 3.4e\+38",
    ),
    "a rating that is none": (
        edit("interactions.csv", ("20,3", "20,NaN")),
        DataError,
        r"interactions.csv, line 3, column 'rating': found 'NaN', expected a rating",
    ),
    "a missing rating": (
        edit("interactions.csv", ("20,3", "20,")),
        DataError,
        r"interactions.csv, line 3, column 'rating': found no value, expected a rating",
    ),
    "a rating too large for a graph": (
        edit("interactions.csv", ("20,3", "20,1e99")),
        DataError,
        r"line 3, column 'rating': found '1e99', expected a rating that is finite as float32",
    ),
    "a negative time": (
        edit("interactions.csv", (",200", ",-200")),
        DataError,
        r"interactions.csv, line 3, column 'time': found '-200', expected a time .* 0 or more; ",
    ),
    "a time in words": (
        edit("interactions.csv", (",200", ",yesterday")),
        DataError,
        r"interactions.csv, line 3, column 'time': found 'yesterday', expected a number",
    ),
    "an unknown column": (
        edit("dataset.toml", ("age = {", "wage = {")),
        DataError,
        r"users.csv: found no column 'wage' \(field 'wage'\); .* did you mean 'age'\?",
    ),
    "a template that names an unknown column": (
        edit("dataset.toml", ("{title} {genres}", "{title} {plot}")),
        DataError,
        r"items.csv: found no column 'plot' \(field 'terms'\); its columns are item_id, title",
    ),
    "a template without its brace": (
        edit("dataset.toml", ("{title} {genres}", "{title} {genres")),
        SchemaError,
        r"\[items.fields.terms\]: template .*: a brace without its partner",
    ),
    "an unknown key": (
        edit("dataset.toml", ("positive_at", "positive_from")),
        DataError,
        r"\[interactions\]: found unknown key 'positive_from', expected path, .*'positive_at'\?",
    ),
    "an unknown kind": (
        edit("dataset.toml", ('"category"', '"one-hot"')),
        SchemaError,
        r"\[users.fields.job\]: field job: kind: found 'one-hot', expected one of id, category",
    ),
    "an option of another kind": (
        edit("dataset.toml", ('"category"', '"category", stem = "porter"')),
        SchemaError,
        r"\[users.fields.job\]: field 'job': 'stem' is for fields of kind words, found category",
    ),
    "no interactions": (
        write("interactions.csv", "user_id,item_id,rating,time\n"),
        DataError,
        r"interactions.csv: found no rows, expected at least one",
    ),
    "an empty file": (
        write("interactions.csv", ""),
        DataError,
        r"interactions.csv: found an empty file, expected a header line and rows",
    ),
    "dislikes alone": (
        edit("interactions.csv", ("10,5", "10,1"), ("10,4", "10,2")),
        DataError,
        r"found no positive interaction, the highest rating is 3; lower positive_at, which is 4",
    ),
    "cleaning that leaves nothing": (
        edit("dataset.toml", ("[1, 5]", "[1, 5]\nmin_user_interactions = 3")),
        DataError,
        r"dataset.toml, \[cleaning\]: found no interaction that is left of 4, .*"
        r"loosen what drops most:\n(.*\n)*users or items of too few interactions +4 of 4",
    ),
    "a repeated id": (
        edit("items.csv", ("20,", "10,")),
        DataError,
        r"items.csv, line 3, column 'item_id': found '10', which line 2 has, expected each id once",
    ),
    "an item that is not in the table": (
        edit("interactions.csv", ("u1,20", "u1,99")),
        DataError,
        r"interactions.csv, line 3, column 'item_id': found '99', which .*items.csv does not hold",
    ),
    "another encoding": (
        write("users.csv", "user_id,age,job\nu1,24,garçon\nu2,31,\n".encode("latin-1")),
        DataError,
        r"users.csv, line 2: found bytes that are not UTF-8; save the file as UTF-8",
    ),
    "another delimiter": (
        edit("users.csv", (",", ";")),
        DataError,
        r"users.csv: found no column 'user_id' \(field 'user_id'\); its columns are user_id;age;job"
        r"; if these are several, correct the delimiter, which is ','",
    ),
    "a line of too few values": (
        edit("users.csv", ("u1,24,cook", "u1,24")),
        DataError,
        r"users.csv, line 2: found 2 values, expected 3 as in the header; correct the line",
    ),
    "a truncated Parquet file": (
        truncated,
        DataError,
        r"items.parquet: expected a Parquet file, found one that cannot be read .*; write it anew",
    ),
    "a CSV file called Parquet": (
        both(
            write("users.parquet", FILES["users.csv"]),
            edit("dataset.toml", ("users.csv", "users.parquet")),
        ),
        DataError,
        r"users.parquet: expected a Parquet file, .*; write it anew, or name it .csv if it is text",
    ),
    "vectors of several widths": (
        both(
            items(cover=[[1.0, 2.0], [1.0], None]),
            edit("dataset.toml", ("[items.fields]\n", VECTOR)),
        ),
        DataError,
        r"items.parquet, row 2, column 'cover': found \[1.0\], expected 2 numbers, as in other",
    ),
    "a vector with a hole": (
        both(
            items(cover=[[1.0], [float("nan")], None]),
            edit("dataset.toml", ("[items.fields]\n", VECTOR)),
        ),
        DataError,
        r"items.parquet, row 2, column 'cover': found a missing or infinite number",
    ),
    "no vector at all": (
        both(
            items(cover=pa.nulls(3, pa.list_(pa.float32()))),
            edit("dataset.toml", ("[items.fields]\n", VECTOR)),
        ),
        SchemaError,
        r"field 'cover': every vector is missing, so that its width is unknown; give one vector or",
    ),
    "vectors of no width": (
        both(items(cover=[[], [], None]), edit("dataset.toml", ("[items.fields]\n", VECTOR))),
        DataError,
        r"items.parquet, row 1, column 'cover': found \[\], expected one number or more",
    ),
    "a vector in a CSV file": (
        both(
            edit("items.csv", ("year", "cover"), ("1979", "0.1")),
            edit(
                "dataset.toml",
                ("year = {", "cover = {"),
                ('"number", outliers = "iqr"', '"vector"'),
            ),
        ),
        DataError,
        r"items.csv, column 'cover': found type string, expected lists of numbers \(a Parquet",
    ),
    "words of which none is frequent enough": (
        edit("dataset.toml", ("min_rows = 1", "min_rows = 3")),
        SchemaError,
        r"field 'terms': found no word in 3 or more of its 3 rows, .*lower min_rows, or remove",
    ),
}
"""Name of the fault → the fault, the error and what it says."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(folder, name):
    fault, error, message = REFUSED[name]
    fault(folder)
    with pytest.raises(error, match=message):
        load(folder)


REPAIRED: dict[str, tuple[Fault, str, int]] = {
    "a rating out of range": (
        edit("interactions.csv", ("20,3", "20,33")),
        "impossible ratings",
        1,
    ),
    "a negative time, where that is allowed": (
        both(
            edit("interactions.csv", (",200", ",-200")),
            edit("dataset.toml", ("[1, 5]", "[1, 5]\ndrop_negative_times = true")),
        ),
        "negative times",
        1,
    ),
    "a pair that is liked and disliked": (
        both(
            edit("interactions.csv", ("u1,20,3,200", "u1,10,1,200")),
            edit("dataset.toml", ("[1, 5]", "[1, 5]\ndrop_contradictions = true")),
        ),
        "contradictions",
        2,
    ),
    "a repeated pair": (
        edit("interactions.csv", ("u1,20,3,200", "u1,10,4,200")),
        "repeated pairs",
        1,
    ),
    "a user of too many interactions": (
        both(
            edit("interactions.csv", ("u2,30", "u1,30")),
            edit("dataset.toml", ("[1, 5]", "[1, 5]\nmax_interactions_per_user = 2")),
        ),
        "users of too many interactions",
        3,
    ),
    "a number column without values": (
        edit("users.csv", (",24", ","), (",31", ",NaN")),
        "user.age: missing",
        2,
    ),
    "a category without values": (
        edit("users.csv", ("cook", ""), ("nurse", "")),
        "user.job: missing",
        2,
    ),
    "an outlier": (
        write(
            "items.csv",
            FILES["items.csv"].replace("1985", "19850")
            + "".join(f"{n},Film,19{n},Drama\n" for n in range(70, 99)),
        ),
        "item.year: outliers",
        1,
    ),
    "items without words": (
        edit("items.csv", ("Heat", ""), ("Crime", "")),
        "item.terms: missing",
        1,
    ),
}
"""Name of the fault → the fault, the step that repairs it and how often it occurs."""


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_repaired_and_reported(folder, name):
    fault, step, affected = REPAIRED[name]
    fault(folder)
    dataset, schema = load(folder)
    report = CleaningReport(dataset.cleaning.steps + repairs(dataset, schema).steps)
    assert report.affected(step) == affected


def test_without_a_fault_nothing_is_repaired(folder):
    dataset, schema = load(folder)
    assert {step.affected for step in dataset.cleaning.steps} == {0}
    # One film has no genre, which is no fault: the row of the table that says so is learned.
    assert str(repairs(dataset, schema)) == "item.genres: missing  1 of 3"


def test_likes_alone_are_a_data_set(folder):
    edit("interactions.csv", ("20,3", "20,5"), ("30,2", "30,4"))(folder)
    assert load(folder)[0].interactions.positive.all()


def test_a_user_without_positives_stays(folder):
    edit("interactions.csv", ("10,4", "10,3"))(folder)
    dataset, _ = load(folder)
    assert dataset.users.ids == ("u1", "u2")
    assert not dataset.interactions.positive[dataset.interactions.user == 1].any()


def test_a_text_column_of_numbers_is_read_as_written(folder):
    items(title=[1984.0, 12.5, None])(folder)
    dataset, schema = load(folder)
    assert dataset.items.columns["title"] == ["1984", "12.5", None]
    assert schema.texts(Side.ITEM, dataset.items.columns, 3)["text"] == ["1984", "12.5", ""]


def test_a_vector_of_another_width_in_a_request_is_named(folder):
    both(items(cover=[[1.0, 2.0]] * 3), edit("dataset.toml", ("[items.fields]\n", VECTOR)))(folder)
    _, schema = load(folder)
    with pytest.raises(SchemaError, match=r"field 'cover', row 0: expected 2 finite numbers, foun"):
        schema.encode(Side.ITEM, {"cover": [[1.0]]}, 1)


def test_shares_that_leave_nothing_to_train_on():
    with pytest.raises(ConfigError, match=r"validation \+ test is 1, expected at most 0.99"):
        SplitConfig(validation=0.5, test=0.5)


def test_a_split_by_time_without_times(folder):
    edit("dataset.toml", ('timestamp = "time"\n', ""))(folder)
    dataset, _ = load(folder)
    with pytest.raises(DataError, match=r"no times, which strategy 'time' needs; name the timesta"):
        split(dataset.interactions, SplitConfig(strategy="time"), seed=0)


def test_a_time_before_1970_is_a_negative_one(folder):
    moments = np.array(["1969-12-31", "1970-01-02"], "datetime64[s]")
    table = {"user_id": ["u1", "u2"], "item_id": [10, 20], "rating": [5, 5], "time": moments}
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    edit("dataset.toml", ("interactions.csv", "interactions.parquet"))(folder)
    with pytest.raises(DataError, match=r"row 1, column 'time': found .*1969.*, expected a time"):
        load(folder)
