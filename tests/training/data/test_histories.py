import numpy as np
import pytest

from fuserank.schema import Side, pack_history
from fuserank.training.batches.history_sampler import MeanSampler, SequenceSampler
from fuserank.training.data.histories import Histories, LatestEvents

LENGTH = 4


@pytest.fixture(scope="module")
def histories():
    """User 0 has no event, user 1 a single one, the others more than a history holds."""
    rng = np.random.default_rng(0)
    user = np.array([1] + [2] * 9 + [3] * 5)
    order = rng.permutation(len(user))
    item, time = np.arange(len(user)) + 10, np.arange(len(user))
    return Histories.build(user[order], item[order], time[order], n_users=4)


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(size=(30, 3)).astype(np.float32)


def events_of(histories, user):
    return histories.items[histories.start[user] : histories.start[user + 1]].tolist()


def test_events_stand_by_user_and_time(histories):
    assert [events_of(histories, user) for user in range(4)] == [
        [],
        [10],
        list(range(11, 20)),
        list(range(20, 25)),
    ]
    assert histories.user.tolist() == [1] + [2] * 9 + [3] * 5
    assert histories.latest(2, LENGTH).tolist() == [16, 17, 18, 19]


def test_without_times_events_keep_their_order():
    histories = Histories.build(np.array([0, 1, 0]), np.array([7, 8, 5]), None, n_users=2)
    assert events_of(histories, 0) == [7, 5]


def test_only_positives_make_histories(dataset):
    histories = dataset.interactions.histories(len(dataset.users))
    assert histories.counts.tolist() == [8] * len(dataset.users)


def test_the_latest_events_are_the_packed_history(histories, schema):
    field = schema.find(Side.USER, "history")
    vectors = np.random.default_rng(2).normal(size=(30, field.dim)).astype(np.float32)
    packed = pack_history((vectors[events_of(histories, user)] for user in range(4)), field)
    found = LatestEvents(histories, vectors, field.field.max_length)
    assert found.shape == packed.shape
    np.testing.assert_array_equal(found[:], packed)
    np.testing.assert_array_equal(found[np.array([2, 0, 2])], packed[[2, 0, 2]])


def test_without_any_event_the_latest_are_zeros(vectors):
    none = np.empty(0, dtype=np.int64)
    found = LatestEvents(Histories.build(none, none, None, n_users=2), vectors, LENGTH)[:]
    np.testing.assert_array_equal(found, np.zeros((2, LENGTH, 3)))


def test_draw_returns_events_of_the_user(histories):
    users = np.repeat(np.arange(4), 200)
    items, found = histories.draw(users, np.random.default_rng(0))
    assert found.tolist() == (users > 0).tolist()
    for user in (1, 2, 3):
        assert set(items[users == user].tolist()) == set(events_of(histories, user))


def test_latest_leaves_the_target_out(histories, vectors):
    means = MeanSampler(histories, vectors, LENGTH).latest(np.arange(len(histories.items)))
    for target, user in enumerate(histories.user):
        others = [item for item in events_of(histories, user) if item != histories.items[target]]
        expected = vectors[others[-LENGTH:]].mean(axis=0) if others else np.zeros(3)
        np.testing.assert_allclose(means[target], expected[None], atol=1e-6)
    assert not means[0].any()  # exactly zero: the model reads it as no history


@pytest.mark.parametrize("before", [False, True])
def test_a_sequence_holds_the_latest_others_or_what_came_before(histories, schema, before):
    field = schema.find(Side.USER, "history")
    vectors = np.random.default_rng(2).normal(size=(30, field.dim)).astype(np.float32)
    targets = np.random.default_rng(0).permutation(len(histories.items))
    found = SequenceSampler(histories, vectors, LENGTH, before=before).latest(targets)
    for target, packed in zip(targets, found, strict=True):
        events = events_of(histories, histories.user[target])
        place = events.index(histories.items[target])
        kept = events[:place] + ([] if before else events[place + 1 :])
        np.testing.assert_array_equal(packed, pack_history([vectors[kept]], field)[0])


@pytest.mark.parametrize("before", [None, False, True], ids=["means", "others", "before"])
def test_an_excerpt_is_a_run_of_neighbours_without_the_target(histories, before):
    n_items = 30
    vectors = np.eye(n_items, dtype=np.float32)
    if before is None:
        sampler = MeanSampler(histories, vectors, LENGTH)
    else:
        sampler = SequenceSampler(histories, vectors, LENGTH, before=before)
    targets = np.repeat(np.arange(len(histories.items)), 60)
    lengths = set()
    for target, events in zip(
        targets, sampler.excerpt(targets, 3, np.random.default_rng(0)), strict=True
    ):
        others = events_of(histories, histories.user[target])
        place = others.index(histories.items[target])
        others = others[:place] + ([] if before else others[place + 1 :])
        kept = np.flatnonzero(events.sum(axis=0)).tolist()
        assert not kept or "".join(map(chr, kept)) in "".join(map(chr, others))
        assert kept or not others
        if before is None:
            assert events.sum() == pytest.approx(float(bool(kept)))
        else:  # in order, the most recent last
            assert np.nonzero(events)[1].tolist() == kept
            assert not kept or np.nonzero(events)[0].tolist() == list(range(LENGTH))[-len(kept) :]
        lengths.add(len(kept))
    assert lengths == {0, 1, 2, 3}


def test_alike_is_the_nearest_item_but_the_target(histories, vectors):
    targets = np.arange(len(histories.items))
    likeness = vectors[histories.items] @ vectors.T
    likeness[targets, histories.items] = -np.inf
    expected = vectors[likeness.argmax(axis=1)]
    mean = MeanSampler(histories, vectors, LENGTH).alike(targets, np.random.default_rng(0))
    np.testing.assert_array_equal(mean[:, 0], expected)
    sequence = SequenceSampler(histories, vectors, LENGTH, before=True)
    found = sequence.alike(targets, np.random.default_rng(0))
    np.testing.assert_array_equal(found[:, -1], expected)
    assert not found[:, :-1].any()
