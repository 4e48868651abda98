import numpy as np
import pytest

from fuserank.errors import DataError
from fuserank.training.batches import stored_parts
from fuserank.training.batches.interaction_store import StoreWriter, open_store
from fuserank.training.batches.stored_parts import divide_stored, with_sample
from fuserank.training.data.cleaning import CleaningReport
from fuserank.training.data.interactions import Interactions
from fuserank.training.data.splits import PARTS, SplitConfig, split

N_USERS, N_ITEMS = 40, 25


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch):
    monkeypatch.setattr(stored_parts, "_ROWS", 128)
    monkeypatch.setattr(stored_parts, "_BINS", 8)


def interactions(times: int) -> Interactions:
    """Half of all pairs by user and time, which is one of so many."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((N_USERS - 1, N_ITEMS)) < 0.5)  # the last user has none
    when = rng.integers(0, times, len(user))
    known = Interactions(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        rating=np.ones(len(user), np.float32),
        timestamp=when,
        positive=rng.random(len(user)) < 0.7,
    )
    return known.by_user()


def stored(known, directory, origin=None):
    directory.mkdir()
    timed = known.timestamp is not None
    writer = StoreWriter(directory, n_users=N_USERS, n_items=N_ITEMS, timed=timed)
    writer.append(known)
    writer.finish(origin or {}, CleaningReport())
    return open_store(directory)


def pairs(part):
    return list(zip(part.user.tolist(), part.item.tolist(), strict=True))


@pytest.mark.parametrize("strategy", ["per_user", "random"])
def test_parts_cover_it_all_by_their_shares(tmp_path, strategy):
    known = interactions(50)
    store = stored(known, tmp_path / "store")
    config = SplitConfig(strategy=strategy, validation=0.2, test=0.1)
    parts = divide_stored(store, config, 3, tmp_path / "parts")
    again = divide_stored(store, config, 3, tmp_path / "again")
    for name in PARTS:
        assert pairs(getattr(parts, name)) == pairs(getattr(again, name))
    assert sorted(pair for name in PARTS for pair in pairs(getattr(parts, name))) == sorted(
        pairs(known)
    )
    assert len(parts.validation) == pytest.approx(0.2 * len(known), rel=0.25)
    assert len(parts.test) == pytest.approx(0.1 * len(known), rel=0.3)
    if strategy == "per_user":
        assert set(parts.test.user) == set(known.user)


@pytest.mark.parametrize("times", [1, 7, 2**62])
@pytest.mark.parametrize(
    "config",
    [
        SplitConfig(strategy="time", validation=0.2, test=0.1),
        SplitConfig(strategy="time", validation=0.2, test=0),
        SplitConfig(strategy="users", validation=0.2, test=0.1),
        SplitConfig(strategy="items", validation=0.1, folds=3, fold=1),
    ],
    ids=lambda config: f"{config.strategy} {config.test_share:.2f}",
)
def test_parts_are_those_of_interactions_in_memory(tmp_path, config, times):
    known = interactions(times)
    parts = divide_stored(stored(known, tmp_path / "store"), config, 3, tmp_path / "parts")
    rows = split(known, config, 3)
    for name in PARTS:
        assert pairs(getattr(parts, name)) == pairs(known.select(getattr(rows, name))), name


def test_folds_test_everything_once(tmp_path):
    known = interactions(50)
    store = stored(known, tmp_path / "store")
    tested = []
    for fold in range(3):
        config = SplitConfig(folds=3, fold=fold)
        tested += pairs(divide_stored(store, config, 3, tmp_path / "parts").test)
    assert sorted(tested) == sorted(pairs(known))


def test_what_cannot_be_divided_lot_by_lot_is_refused(tmp_path):
    known = interactions(50)
    store = stored(known, tmp_path / "store")
    with pytest.raises(DataError, match="found strategy 'per_item', expected 'per_user', 'ra"):
        divide_stored(store, SplitConfig(strategy="per_item"), 3, tmp_path / "parts")
    without = Interactions(known.user, known.item, known.rating, None, known.positive)
    store = stored(without, tmp_path / "timeless")
    with pytest.raises(DataError, match="the interactions have no times"):
        divide_stored(store, SplitConfig(strategy="time"), 3, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_parts_that_are_there_are_opened_where_they_are_the_same(tmp_path, monkeypatch):
    store = stored(interactions(50), tmp_path / "store", {"the file": "abc"})
    first = divide_stored(store, SplitConfig(), 3, tmp_path / "parts")
    other = divide_stored(store, SplitConfig(test=0.3), 3, tmp_path / "parts")
    assert len(other.test) > len(first.test)
    monkeypatch.setattr(stored_parts, "StoreWriter", None)
    again = divide_stored(store, SplitConfig(test=0.3), 3, tmp_path / "parts")
    assert pairs(again.test) == pairs(other.test)
    with pytest.raises(TypeError):
        divide_stored(store, SplitConfig(test=0.3), 4, tmp_path / "parts")


def test_a_sample_is_of_users_who_are_in_the_part(tmp_path):
    store = stored(interactions(50), tmp_path / "store")
    parts = divide_stored(store, SplitConfig(), 3, tmp_path / "parts")
    found = with_sample(parts, 0, 5)
    users = set(found.test.user) | set(found.validation.user)
    for part, whole in ((found.test, parts.test), (found.validation, parts.validation)):
        assert type(part) is Interactions
        assert len(set(part.user)) >= 5
        assert pairs(part) == [pair for pair in pairs(whole) if pair[0] in users]
    assert len(users) <= 10
    assert found.train is parts.train
    assert pairs(with_sample(parts, 0, 5).test) == pairs(found.test)
    assert pairs(with_sample(parts, 1, 5).test) != pairs(found.test)
    assert pairs(with_sample(parts, 0).test) == pairs(parts.test)
