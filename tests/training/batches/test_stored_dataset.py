import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.errors import DataError
from fuserank.export.pipeline import _users
from fuserank.training.batches import store_writing, stored_dataset
from fuserank.training.batches.interaction_store import StoredInteractions
from fuserank.training.batches.stored_dataset import load_stored
from fuserank.training.data.dataset import load_dataset

CLEANING = """
[cleaning]
rating_range = [1, 5]
drop_negative_times = true
drop_contradictions = true
max_interactions_per_user = 11
min_user_interactions = 6
"""


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch):
    monkeypatch.setattr(store_writing, "_ROWS", 64)


def assert_same(stored, loaded):
    expected = loaded.interactions.by_user()
    assert isinstance(stored.interactions, StoredInteractions)
    for name in ("user", "item", "rating", "timestamp", "positive"):
        np.testing.assert_array_equal(getattr(stored.interactions, name), getattr(expected, name))
    for name in ("name", "fields", "users", "items", "title", "fingerprint", "cleaning"):
        assert getattr(stored, name) == getattr(loaded, name), name


def soil(path):
    """Add impossible ratings, negative times, contradictions, repetitions, and a busy user."""
    table = pq.read_table(path).to_pydict()
    for item in range(30):
        for name, value in {"user": "u3", "item": f"i{item}", "rating": 5.0, "time": item}.items():
            table[name].append(value)
    rows = [("u0", "i0", 9.0, 4), ("u0", "i1", 5.0, -4), ("u1", "i2", 5.0, 1), ("u1", "i2", 1.0, 9)]
    rows += [("u2", "i3", 5.0, 1), ("u2", "i3", 4.0, 2)]
    for row in rows:
        for name, value in zip(("user", "item", "rating", "time"), row, strict=True):
            table[name].append(value)
    pq.write_table(pa.table(table), path)


def test_the_data_set_is_that_in_memory(toml, tmp_path):
    assert_same(load_stored(toml, tmp_path / "store"), load_dataset(toml))


def test_cleaning_is_that_in_memory(toml, tmp_path):
    soil(tmp_path / "interactions.parquet")
    toml.write_text(toml.read_text() + CLEANING)
    loaded = load_dataset(toml)
    assert all(step.affected for step in loaded.cleaning.steps[:-1])
    assert_same(load_stored(toml, tmp_path / "store"), loaded)
    assert_same(load_stored(toml, tmp_path / "store"), loaded)  # from the store's own record


def test_cleaning_that_takes_all_at_once_is_refused(toml, tmp_path):
    toml.write_text(toml.read_text() + "[cleaning]\nmin_item_interactions = 3\n")
    with pytest.raises(DataError, match=r"\[cleaning\]: found min_item_interactions = 3, which"):
        load_stored(toml, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_bundle_is_made_of_a_store_as_of_memory(toml, tmp_path, features):
    loaded, stored = (
        _users(data, features) for data in (load_dataset(toml), load_stored(toml, tmp_path / "s"))
    )
    for name in ("seen", "history"):
        one, two = getattr(loaded, name), getattr(stored, name)
        assert one.values.dtype == two.values.dtype == np.int32
        assert one.offsets.dtype == two.offsets.dtype == np.int64
        np.testing.assert_array_equal(one.values, two.values)
        np.testing.assert_array_equal(one.offsets, two.offsets)


def test_users_without_a_table_are_those_of_the_file(toml, tmp_path):
    text = toml.read_text()
    toml.write_text(text[: text.index("[users]")] + text[text.index("[items]") :])
    assert_same(load_stored(toml, tmp_path / "store"), load_dataset(toml))


def test_a_store_of_the_same_file_is_used_again(toml, tmp_path, monkeypatch):
    load_stored(toml, tmp_path / "store")
    monkeypatch.setattr(stored_dataset, "store_interactions", None)
    load_stored(toml, tmp_path / "store")
    toml.write_text(toml.read_text().replace('fields.city = {kind = "category"}\n', ""))
    load_stored(toml, tmp_path / "store")  # fields are not what a store is made of


def another_file(folder):
    path = folder / "interactions.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)


def another_threshold(folder):
    toml = folder / "dataset.toml"
    toml.write_text(toml.read_text().replace("positive_at = 4", "positive_at = 5"))


def other_cleaning(folder):
    toml = folder / "dataset.toml"
    toml.write_text(toml.read_text() + "[cleaning]\ndrop_contradictions = true\n")


def other_items(folder):
    path = folder / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(1), table.slice(0, 1)]), path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (another_file, "the file"),
        (another_threshold, r"\[interactions\] .*\"positive_at\":4.*expected .*\"positive_at\":5"),
        (other_cleaning, r"\[cleaning\]"),
        (other_items, "the items"),
    ],
)
def test_a_store_of_something_else_is_refused(toml, tmp_path, change, named):
    load_stored(toml, tmp_path / "store")
    change(tmp_path)
    with pytest.raises(DataError, match=rf"store: found a store that was made with {named}"):
        load_stored(toml, tmp_path / "store")


def test_what_is_no_store_is_never_replaced(toml, tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    load_stored(toml, place)  # an empty directory does
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for path in (tmp_path / "other", toml):
        with pytest.raises(DataError, match="found something that is no store of interactions"):
            load_stored(toml, path)
    assert (tmp_path / "other" / "letter.txt").read_text() == "dear"


def test_files_that_cannot_be_stored_are_named(toml, tmp_path):
    (tmp_path / "interactions.parquet").unlink()
    with pytest.raises(DataError, match=r"interactions\.parquet: found no such file; create it"):
        load_stored(toml, tmp_path / "store")
    (tmp_path / "interactions.csv").write_text("user,item,rating,time\nu1,i1,5,1\n")
    toml.write_text(toml.read_text().replace("interactions.parquet", "interactions.csv"))
    with pytest.raises(DataError, match=r"interactions\.csv: expected a Parquet file, found"):
        load_stored(toml, tmp_path / "store")
