"""Parquet and CSV columns are converted alike, and bad cells are named with their place."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.errors import DataError
from fuserank.training.data.table_file import TableFile, read_table_file


def parquet(folder: Path, **columns) -> TableFile:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return read_table_file(path, dict.fromkeys(columns, "test"))


def csv(folder: Path, content: str | bytes, *wanted: str, delimiter: str = ",") -> TableFile:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table_file(path, dict.fromkeys(wanted, "test"), delimiter=delimiter)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, 3], [1, None, 3]),
        ([1.0, float("nan"), None], [1, None, None]),
        ([1.5, 2.0], [1.5, 2.0]),
        ([" 1", "2 ", ""], [1, 2, None]),
        (["1", "2.5", None], [1.0, 2.5, None]),
        ([True, False], [1, 0]),
        ([None, None], [None, None]),
        (pa.array(["7", "8"]).dictionary_encode(), [7, 8]),
        (pa.array([7, 8]).dictionary_encode(), [7, 8]),
        (pa.array(["7", "8"], pa.large_string()), [7, 8]),
        (pa.array([2**53 + 1]), [2**53 + 1]),
        (pa.array([7, 8], pa.uint64()), [7, 8]),
        (pa.array([7, 8], pa.decimal128(5, 2)), [7, 8]),
    ],
)
def test_numbers(tmp_path, values, expected):
    found = parquet(tmp_path, a=values).numbers("a").to_pylist()
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["x", "", None], ["x", None, None]),
        ([1, None], ["1", None]),
        ([1.0, None], ["1", None]),
        ([True, None], ["true", None]),
        (pa.array(["x", None]).dictionary_encode(), ["x", None]),
        (pa.array([b"x", None]), ["x", None]),
    ],
)
def test_texts(tmp_path, values, expected):
    assert parquet(tmp_path, a=values).texts("a").to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["x|y", " x | ", None, ""], [["x", "y"], ["x"], None, None]),
        ([["x", None, " y"], [], None], [["x", "y"], [], None]),
        ([[1, 2], None], [["1", "2"], None]),
        ([1, None], [["1"], None]),
    ],
)
def test_lists(tmp_path, values, expected):
    assert parquet(tmp_path, a=values).lists("a") == expected


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2)])
def test_vectors(tmp_path, kind):
    values = pa.array([[0.5, 1.0], None], kind)
    assert parquet(tmp_path, a=values).vectors("a") == [[0.5, 1.0], None]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), 2)])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_a_vector_with_a_hole(tmp_path, kind, bad):
    file = parquet(tmp_path, a=pa.array([[1.0, 2.0], None, [1.0, bad]], kind))
    with pytest.raises(DataError, match=r"row 3, column 'a': found a missing or infinite number"):
        file.vectors("a")


def test_words_are_what_templates_read(tmp_path):
    file = parquet(tmp_path, a=["x", None], b=[1.0, None], c=[["x"], None])
    assert [file.words(name) for name in "abc"] == [["x", None], [1, None], [["x"], None]]


def test_dates_become_microseconds(tmp_path):
    file = parquet(tmp_path, a=pa.array([1, 2], pa.timestamp("s", tz="UTC")))
    assert file.timestamps("a").to_pylist() == [1_000_000, 2_000_000]


def test_negative_times_are_read_where_they_are_asked_for(tmp_path):
    file = parquet(tmp_path, a=[-5, 3])
    assert file.timestamps("a", allow_negative=True).to_pylist() == [-5, 3]


def test_csv_keeps_quoted_breaks_and_words_that_look_missing(tmp_path):
    content = '\ufeffa;b\r\n"x\ny";NA\r\n\r\n"say ""so""";\r\n'
    file = csv(tmp_path, content, "a", "b", delimiter=";")
    assert file.texts("a").to_pylist() == ["x\ny", 'say "so"']
    assert file.texts("b").to_pylist() == ["NA", None]
    # Record 2 starts behind a quoted break and a blank line.
    assert file.place(1) == "line 5"


def test_columns_that_are_not_wanted_are_not_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b,c\n1,2,3\n")
    file = read_table_file(path, {"a": "test"}, optional=["c", "d"])
    assert [name in file for name in "abcd"] == [True, False, True, False]


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        ("numbers", "a,b\n1,x\nabc,x\n", r"line 3, column 'a': found 'abc', expected a number; co"),
        ("numbers", "a,b\n1,x\ninf,x\n", r"line 3, column 'a': found 'inf', expected a finite num"),
        ("ratings", "a,b\n1,x\n,x\n", r"line 3, column 'a': found no value, expected a rating"),
        ("ratings", "a,b\n1,x\nnan,x\n", r"line 3, column 'a': found 'nan', expected a rating"),
        ("timestamps", "a,b\n1,x\n-1,x\n", r"column 'a': found '-1', expected a time as a whole"),
        ("timestamps", "a,b\n1,x\n1.5,x\n", r"line 3, column 'a': found '1.5', expected a time"),
        ("timestamps", "a,b\n1,x\n1e300,x\n", r"column 'a': found '1e300', expected a time"),
        ("timestamps", "a,b\n1,x\n,x\n", r"line 3, column 'a': found no value, expected a time"),
        ("ids", "a,b\n1,x\n\n,x\n", r"line 4, column 'a': found no value, expected an id"),
        ("vectors", "a,b\n1,x\n", r"column 'a': found type string, expected lists of numbers"),
    ],
)
def test_bad_cells_of_csv(tmp_path, read, content, message):
    file = csv(tmp_path, content, "a")
    with pytest.raises(DataError, match=message):
        getattr(file, read)("a")


@pytest.mark.parametrize(
    ("read", "values", "message"),
    [
        ("ids", ["x", None], "row 2, column 'a': found no value, expected an id"),
        ("ids", ["x", ""], "row 2, column 'a': found no value, expected an id"),
        ("ids", [1.0, float("nan")], "row 2, column 'a': found no value, expected an id"),
        ("ids", [["x"]], "column 'a': found type list<.*, expected text or whole numbers"),
        ("texts", [b"\xff"], "column 'a': found type binary, expected text"),
        ("numbers", [1, float("inf")], "row 2, column 'a': found inf, expected a finite number"),
        ("numbers", [[1], [2]], "column 'a': found type list<.*, expected numbers; convert"),
        ("vectors", [[1.0, 2.0], [1.0]], r"row 2, column 'a': found \[1.0\], expected 2 numbers"),
        ("vectors", [["x"]], "column 'a': found type list<.*string>, expected lists of numbers"),
        ("vectors", [[1.0], []], r"row 2, column 'a': found \[\], expected one number or more"),
        ("lists", [[["x"]]], "column 'a': found type list<.*, expected lists of text or whole"),
        ("ratings", [5.0, 1e39], "row 2, column 'a': found 1e\\+39, expected a rating that is fin"),
        ("ratings", ["5", "good"], "row 2, column 'a': found 'good', expected a number"),
    ],
)
def test_bad_cells_of_parquet(tmp_path, read, values, message):
    file = parquet(tmp_path, a=values)
    with pytest.raises(DataError, match=rf"table\.parquet, {message}"):
        getattr(file, read)("a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found an empty file, expected a header line and rows"),
        ("a,b\n", "found no rows, expected at least one"),
        ("a,b\n1,2\n3\n", "line 3: found 1 values, expected 2 as in the header; correct the line"),
        ("a,b\n1,2\n3,4,5\n", "line 3: found 3 values, expected 2"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3: found 1 values, expected 2 as in the header"),
        (
            "a;b\n1;2\n",
            r"found no column 'a' \(test\); its columns are a;b; if these are several, correct "
            "the delimiter, which is ','",
        ),
        ("titel,b\n1,2\n", r"found no column 'a' \(test\); its columns are titel, b$"),
        ("a,a\n1,2\n", "found column 'a' twice, expected it once; rename one"),
        ("a,b\n1,2\nPère,2\n".encode("latin-1"), "line 3: found bytes that are not UTF-8; save"),
        (b"\xff\xfea\0,\0b\0", "line 1: found bytes that are not UTF-8"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    with pytest.raises(DataError, match=rf"table\.csv.*{message}"):
        csv(tmp_path, content, "a")


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"absent.csv: found no such file; create it or correct"):
        read_table_file(tmp_path / "absent.csv", {})


@pytest.mark.parametrize("content", [b"", b"user_id,age\nu1,2\n", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_not_parquet(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a.parquet: expected a Parquet file, found one that"):
        read_table_file(tmp_path / "a.parquet", {"a": "test"})


def test_a_damaged_parquet_file(tmp_path):
    parquet(tmp_path, a=[f"u{i}" for i in range(999)])
    content = (tmp_path / "table.parquet").read_bytes()
    (tmp_path / "table.parquet").write_bytes(content[:4] + b"\xff" * 200 + content[204:])
    with pytest.raises(DataError, match=r"table.parquet: expected a Parquet file"):
        read_table_file(tmp_path / "table.parquet", {"a": "test"})


def test_a_missing_parquet_column(tmp_path):
    parquet(tmp_path, rating=[1])
    with pytest.raises(DataError, match=r"no column 'ratings' \(rating\).*did you mean 'rating'\?"):
        read_table_file(tmp_path / "table.parquet", {"ratings": "rating"})
