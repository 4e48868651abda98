import numpy as np
import pytest

from fuserank.schema import Side
from fuserank.training.batches.negatives import NegativeSampler, Unseen
from fuserank.training.batches.sampling import Sampler


@pytest.fixture
def batches(features, dataset, schema, make_config):
    """Return a function that makes the batches of an epoch."""

    def make(number=0, **options):
        sampler = Sampler(features, dataset.interactions, schema, make_config(**options))
        made = list(sampler.epoch(number))
        assert len(made) == sampler.steps
        return made

    return make


NOTHING_HIDDEN = {"id_dropout": 0, "cold_dropout": 0, "short_history": 0, "visitors": 0}


def columns(batches, features):
    """Return the user and the candidate items of all rows, as numbers."""
    users = np.concatenate([batch.users["user.user_id"] for batch in batches]) - 1
    items = np.concatenate([batch.items["item.item_id"][batch.candidates] for batch in batches]) - 1
    assert users.min() >= 0
    assert items.min() >= 0
    return users, items


def test_an_epoch_holds_every_positive_once_with_its_negatives(batches, features, dataset):
    made = batches(**NOTHING_HIDDEN)
    users, items = columns(made, features)
    seen = dataset.interactions
    pairs = {True: set(), False: set()}
    for user, item, liked in zip(seen.user, seen.item, seen.positive, strict=True):
        pairs[bool(liked)].add((user, item))
    assert len(users) == len(pairs[True])
    assert set(zip(users, items[:, 0], strict=True)) == pairs[True]
    assert set(zip(users, items[:, 1], strict=True)) <= pairs[False]
    for column in items[:, 2:].T:
        assert not set(zip(users, column, strict=True)) & (pairs[True] | pairs[False])


def test_labels_and_weights_say_what_each_candidate_is(batches):
    for batch in batches(dislike_weight=0.5, negative_weight=0.25):
        assert batch.labels.tolist() == [[1] + [0] * 5] * len(batch.labels)
        assert (batch.weights[:, 0] == 1).all()
        assert (batch.weights[:, 2:] == 0.25).all()


def test_dislikes_drawn_in_an_epoch_weigh_as_much_as_there_are(batches, dataset):
    """So a user's share of likes is learned as it is, however many of either there are."""
    seen = dataset.interactions
    weigh, users = np.zeros(len(dataset.users)), []
    for batch in batches(dislike_weight=0.5, id_dropout=0.0, cold_dropout=0.0, visitors=0.0):
        rows = batch.users["user.user_id"] - 1  # the first is the unknown one
        np.add.at(weigh, rows, batch.weights[:, 1])
        users.extend(rows)
    dislikes = np.bincount(seen.user[~seen.positive], minlength=len(weigh))
    liking = np.unique(users)
    np.testing.assert_allclose(weigh[liking], 0.5 * dislikes[liking], rtol=1e-5)


def test_presence_is_how_often_batches_have_an_item(features, dataset, schema, make_config):
    config = make_config(batch_size=4, negatives=2)
    sampler = Sampler(features, dataset.interactions, schema, config)
    n_items, times, n_batches = len(dataset.items), np.zeros(len(dataset.items)), 0
    years = features.items.tensors["item.year"][:, 0]
    place = {year: row for row, year in enumerate(years)}
    log_presence = np.full(n_items, np.nan)
    for number in range(60):
        for batch in sampler.epoch(number):
            of_items = batch.candidates[:, np.r_[0, 2:4]]  # dislikes are few, and not counted
            items = np.array([place[year] for year in batch.items["item.year"][:, 0]])
            times[np.unique(items[of_items])] += 1
            log_presence[items] = batch.log_presence
            n_batches += 1
    np.testing.assert_allclose(np.exp(log_presence), times / n_batches, atol=0.12)


def test_a_user_without_dislikes_or_without_unseen_items_has_no_such_candidate(
    features, dataset, schema, make_config
):
    everything = dataset.interactions.select(np.zeros(30, np.int64))
    everything.user[:] = 3
    everything.item[:] = np.arange(30)
    everything.positive[:] = True
    sampler = Sampler(features, everything, schema, make_config())
    for batch in sampler.epoch(0):
        assert batch.weights.tolist() == [[1, 0, 0, 0, 0, 0]] * len(batch.weights)


def test_the_same_seed_and_epoch_give_the_same_batches(batches):
    def flat(made):
        return [
            array
            for batch in made
            for array in (*batch.users.values(), *batch.items.values(), batch.candidates)
        ]

    first, again, next_epoch, other_seed = (
        flat(batches()),
        flat(batches()),
        flat(batches(1)),
        flat(batches(seed=7)),
    )
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, next_epoch))
    assert not all(map(np.array_equal, first, other_seed))


def test_the_history_never_holds_the_target(batches, features, dataset):
    for options in (NOTHING_HIDDEN, NOTHING_HIDDEN | {"short_history": 1.0}):
        made = batches(**options)
        users, items = columns(made, features)
        histories = np.concatenate([batch.users["user.history"] for batch in made])[:, 0]
        vectors = features.items.tensors["item.words"].astype(np.float64)
        for user, item, mean in zip(users, items[:, 0], histories, strict=True):
            liked = dataset.interactions.select(dataset.interactions.user == user)
            others = vectors[[i for i in liked.item[liked.positive] if i != item]]
            # The words' vectors are independent, so shares of events can be solved for.
            shares, residual, *_ = np.linalg.lstsq(others.T, mean, rcond=None)
            assert residual.sum() < 1e-9
            assert (shares > 0.15).sum() in range(1, 6)


@pytest.mark.parametrize(
    ("options", "before"),
    [({"history": "attention"}, False), ({"model": "din"}, False), ({"history": "sasrec"}, True)],
)
@pytest.mark.parametrize("short", [0.0, 1.0])
def test_a_history_read_in_order_holds_only_what_came_before(
    batches, features, dataset, options, before, short
):
    made = batches(**(NOTHING_HIDDEN | {"short_history": short} | options))
    users, items = columns(made, features)
    histories = np.concatenate([batch.users["user.history"] for batch in made])
    vectors = features.items.tensors["item.words"]
    likes = dataset.interactions.histories(len(features.users))
    for user, item, history in zip(users, items[:, 0], histories, strict=True):
        assert history.shape == (4, vectors.shape[1])
        said = history[history.any(axis=1)]
        found = np.linalg.norm(vectors - said[:, None], axis=2).argmin(axis=1).tolist()
        events = likes.latest(user, 8).tolist()
        place = events.index(item)
        others = events[:place] + ([] if before else events[place + 1 :])
        if short == 0:
            assert found == others[-4:]
        else:
            assert bool(found) == bool(others)
            assert "".join(map(chr, found)) in "".join(map(chr, others))


def test_hidden_ids_become_the_unknown_row_on_both_sides(batches):
    made = batches(**(NOTHING_HIDDEN | {"id_dropout": 1.0}))
    for batch in made:
        assert not batch.users["user.user_id"].any()
        assert not batch.items["item.item_id"].any()
        assert batch.users["user.city"].all()
        assert batch.items["item.genres"].any()


def test_a_cold_user_keeps_the_history_alone(batches, schema):
    nobody = schema.encode(Side.USER, {}, 1)
    for batch in batches(**(NOTHING_HIDDEN | {"cold_dropout": 1.0})):
        for name, missing in nobody.items():
            assert (batch.users[name] == missing[0]).all(), name
        assert not batch.users["user.about"].any()
        assert batch.users["user.history"].any(axis=(1, 2)).all()


def test_a_visitors_history_is_one_other_item_like_the_target(batches, features, schema):
    vectors = features.items.tensors["item.words"]
    for batch in batches(**(NOTHING_HIDDEN | {"visitors": 1.0})):
        assert not batch.users["user.user_id"].any()
        targets = batch.items["item.item_id"][batch.candidates[:, 0]] - 1
        said = batch.users["user.history"][:, 0]
        distances = np.linalg.norm(vectors - said[:, None], axis=2)
        assert (distances.min(axis=1) == 0).all()
        assert (distances.argmin(axis=1) != targets).all()
        assert (distances.argmin(axis=1) % 3 == targets % 3).mean() > 0.6  # of one genre in three


def test_hiding_leaves_the_features_as_they_are(batches, features):
    before = {name: tensor.copy() for name, tensor in features.users.tensors.items()}
    batches(visitors=1.0, id_dropout=1.0)
    for name, tensor in features.users.tensors.items():
        np.testing.assert_array_equal(tensor, before[name])


def test_unseen_draws_are_uniform_over_what_is_left():
    rng = np.random.default_rng(0)
    n_users, n_items = 5, 12
    seen = rng.random((n_users, n_items)) < 0.5
    seen[0], seen[1] = False, True
    user, item = np.nonzero(seen)
    unseen = Unseen(np.tile(user, 2), np.tile(item, 2), n_users=n_users, n_items=n_items)
    assert unseen.counts.tolist() == (~seen).sum(axis=1).tolist()
    draws = unseen.draw(np.arange(n_users), 20_000, rng)
    for row in range(n_users):
        share = np.bincount(draws[row], minlength=n_items) / draws.shape[1]
        if row == 1:
            assert ((draws[row] >= 0) & (draws[row] < n_items)).all()
        else:
            np.testing.assert_allclose(share, ~seen[row] / (~seen[row]).sum(), atol=0.02)


@pytest.mark.parametrize("kind", ["uniform", "hard", "popularity", "batch"])
def test_usable_negatives_are_unseen_and_as_likely_as_said(kind):
    rng = np.random.default_rng(0)
    n_users, n_items = 40, 12
    seen = rng.random((n_users, n_items)) < np.linspace(0.1, 0.8, n_items)
    seen[0] = True
    user, item = np.nonzero(seen)
    liked = rng.random(len(user)) < 0.7
    unseen = Unseen(user, item, n_users=n_users, n_items=n_items)
    negatives = NegativeSampler(kind, unseen, np.bincount(item[liked], minlength=n_items))
    batch = rng.permutation(np.flatnonzero(liked))
    found = negatives.draw(user[batch], item[batch], 500, rng)
    assert not seen[user[batch][:, None], found.items][found.usable].any()
    assert not found.usable[user[batch] == 0].any()
    np.testing.assert_allclose(np.exp(negatives.log_chance).sum(), 1, rtol=1e-5)
    if kind in ("popularity", "batch"):
        share = np.bincount(found.items.ravel(), minlength=n_items) / found.items.size
        np.testing.assert_allclose(np.exp(negatives.log_chance), share, atol=0.01)
    else:
        assert found.usable[user[batch] != 0].all()
        assert np.ptp(negatives.log_chance) == 0
