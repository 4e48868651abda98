import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuserank.errors import DataError
from fuserank.training.batches import store_writing
from fuserank.training.batches.event_index import EventIndex
from fuserank.training.batches.interaction_store import open_store
from fuserank.training.batches.sampling import Sampler
from fuserank.training.batches.store_writing import store_interactions
from fuserank.training.batches.stored_dataset import load_stored
from fuserank.training.batches.stored_parts import divide_stored
from fuserank.training.data.dataset import load_dataset
from fuserank.training.data.dataset_config import InteractionsConfig
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.splits import SplitConfig
from fuserank.training.fitting.fit import fit

N_USERS, N_ITEMS, ROWS = 40, 25, 900
USERS = [f"u{row}" for row in range(N_USERS)]
ITEMS = [f"i{row}" for row in range(N_ITEMS)]


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch):
    monkeypatch.setattr(store_writing, "_ROWS", 128)


@pytest.fixture
def options(tmp_path):
    """A file of interactions in which pairs repeat and one user has many."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, N_USERS - 1, ROWS)  # the last has none
    user[rng.random(ROWS) < 0.25] = 7
    table = pa.table(
        {
            "who": [USERS[row] for row in user],
            "what": [ITEMS[row] for row in rng.integers(0, N_ITEMS, ROWS)],
            "stars": rng.integers(1, 6, ROWS),
            "at": rng.integers(0, 50, ROWS),
        }
    )
    path = tmp_path / "interactions.parquet"
    pq.write_table(table, path)
    return InteractionsConfig(
        path=path, user="who", item="what", rating="stars", timestamp="at", positive_at=4
    )


@pytest.fixture
def loaded(options, tmp_path):
    """What `load_dataset` makes of the same file, sorted as a store is."""
    for name, ids in (("users", USERS), ("items", ITEMS)):
        pq.write_table(pa.table({"id": ids}), tmp_path / f"{name}.parquet")
    (tmp_path / "dataset.toml").write_text(
        'name = "t"\n[interactions]\npath = "interactions.parquet"\nuser = "who"\nitem = "what"\n'
        'rating = "stars"\ntimestamp = "at"\npositive_at = 4\n'
        '[users]\npath = "users.parquet"\nid = "id"\n[users.fields.id]\nkind = "id"\n'
        '[items]\npath = "items.parquet"\nid = "id"\n[items.fields.id]\nkind = "id"\n'
    )
    found = load_dataset(tmp_path / "dataset.toml").interactions
    return found.select(np.lexsort((found.timestamp, found.user)))


def assert_same(stored: Interactions, expected: Interactions) -> None:
    for name in ("user", "item", "rating", "timestamp", "positive"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(expected, name))


def assert_indexed(stored):
    expected = EventIndex.build(
        stored.select(np.arange(len(stored))), n_users=stored.n_users, n_items=stored.n_items
    )
    for name in ("likes", "dislikes"):
        for array in ("start", "items"):
            np.testing.assert_array_equal(
                getattr(getattr(stored.index, name), array), getattr(getattr(expected, name), array)
            )
    for name in ("_pairs", "_gaps", "_first", "counts"):
        np.testing.assert_array_equal(
            getattr(stored.index.unseen, name), getattr(expected.unseen, name)
        )
    np.testing.assert_array_equal(stored.index.like_counts, expected.like_counts)


def test_a_store_holds_what_the_file_does_in_order(options, loaded, tmp_path):
    stored = store_interactions(options, USERS, ITEMS, tmp_path / "store")
    assert_same(stored, loaded)
    assert_indexed(stored)
    assert isinstance(stored.item, np.memmap)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == "") == ["store"]
    assert not (tmp_path / "store" / "spill").exists()
    assert_same(open_store(tmp_path / "store"), loaded)


def test_a_store_is_sent_to_another_process_as_a_path(options, loaded, tmp_path):
    stored = store_interactions(options, USERS, ITEMS, tmp_path / "store")
    sent = pickle.dumps(stored)
    assert len(sent) < 300
    assert_same(pickle.loads(sent), loaded)


def test_what_is_asked_of_interactions_is_the_same_of_a_store(options, loaded, tmp_path):
    stored = store_interactions(options, USERS, ITEMS, tmp_path / "store")
    some = np.array([38, 7, 39, 0])
    assert_same(stored.of_users(some), loaded.of_users(some))
    assert len(stored.of_users(some[2:3])) == 0
    assert_same(stored.by_user(), loaded.by_user())
    for name, n in (("user_counts", N_USERS), ("item_counts", N_ITEMS), ("like_counts", N_ITEMS)):
        np.testing.assert_array_equal(getattr(stored, name)(n), getattr(loaded, name)(n))
    for array in ("start", "items"):
        np.testing.assert_array_equal(
            getattr(stored.histories(N_USERS), array), getattr(loaded.histories(N_USERS), array)
        )


def test_without_ratings_and_times_all_are_liked_in_the_order_of_the_file(options, tmp_path):
    plain = replace(options, rating=None, timestamp=None, positive_at=None)
    stored = store_interactions(plain, USERS, ITEMS, tmp_path / "store")
    assert stored.timestamp is None
    assert stored.positive.all()
    assert (stored.rating == 1).all()
    assert len(stored.index.dislikes.items) == 0
    assert_indexed(stored)


@pytest.fixture
def tiny_parts(toml, tmp_path):
    """The tiny data set's parts in stores."""
    stored = load_stored(toml, tmp_path / "store").interactions
    return divide_stored(stored, SplitConfig(), 42, tmp_path / "parts")


def in_memory(part):
    return part.select(np.arange(len(part)))


@pytest.mark.parametrize("negatives_from", ["uniform", "popularity"])
def test_batches_are_those_of_interactions_in_memory(
    tiny_parts, features, schema, make_config, negatives_from
):
    config = make_config(negatives_from=negatives_from)
    stored = Sampler(features, tiny_parts.train, schema, config)
    loaded = Sampler(features, in_memory(tiny_parts.train), schema, config)
    for one, two in zip(stored.epoch(1), loaded.epoch(1), strict=True):
        np.testing.assert_array_equal(one.candidates, two.candidates)
        np.testing.assert_array_equal(one.weights, two.weights)
        for side in ("users", "items"):
            for name, tensor in getattr(one, side).items():
                np.testing.assert_array_equal(tensor, getattr(two, side)[name])


def test_training_comes_to_the_same(tiny_parts, features, schema, make_config):
    config = make_config(epochs=2)
    fitted = [
        fit(features, schema, config, train=train, validation=tiny_parts.validation)
        for train in (tiny_parts.train, in_memory(tiny_parts.train))
    ]
    assert fitted[0].epochs == fitted[1].epochs


@pytest.mark.parametrize(
    ("column", "values", "match"),
    [
        (
            "who",
            ["u1"] * 200 + ["nobody"],
            r"row 201, column 'who': found 'nobody', expected an id",
        ),
        ("who", ["u1"] * 200 + [""], r"row 201, column 'who': found no value, expected an id"),
        ("stars", [5.0] * 200 + [float("nan")], r"row 201, column 'stars': found no value"),
        ("at", [1] * 200 + [-1], r"row 201, column 'at': found -1, expected a time"),
        ("stars", [1.0] * 201, r"found no positive interaction; lower positive_at, which is 4"),
        ("else", [1] * 201, r"found no column"),
    ],
)
def test_faulty_files_are_named(options, tmp_path, column, values, match):
    columns = {"who": ["u1"] * 201, "what": ["i1"] * 201, "stars": [5.0] * 201, "at": [1] * 201}
    columns[column] = values
    if column == "else":
        del columns["what"]
    pq.write_table(pa.table(columns), options.path)
    with pytest.raises(DataError, match=match):
        store_interactions(options, USERS, ITEMS, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_is_no_parquet_file_is_refused(options, tmp_path):
    options.path.write_text("who,what")
    with pytest.raises(DataError, match="expected a Parquet file, found"):
        store_interactions(options, USERS, ITEMS, tmp_path / "store")


def test_a_damaged_store_is_refused(options, tmp_path):
    store = tmp_path / "store"
    store_interactions(options, USERS, ITEMS, store)
    (store / "pairs").write_bytes(b"\0" * 8)
    with pytest.raises(DataError, match=r"pairs of 8 bytes where .* store them again"):
        open_store(store)
    (store / "store.json").unlink()
    with pytest.raises(DataError, match="expected a store of interactions"):
        open_store(store)
