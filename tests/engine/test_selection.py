"""Caps and diversity, held against going down the whole ranking one item after the other."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuserank.engine.attribute_index import AttributeIndex
from fuserank.engine.caps import Cap
from fuserank.engine.diversity import Diversity, directions
from fuserank.engine.predicates import entries
from fuserank.engine.scoring import TopK
from fuserank.engine.selection import Selection, Selector
from fuserank.errors import RequestError

ONE_KIND = [Cap(attribute="kind", most=1)]


@dataclass
class Items:
    """A catalogue in memory, and the ranking of q users over it.

    Attributes:
        scores: (q, n), NaN of what is never ranked.
        sizes: what was asked of the ranking, call by call.
    """

    attributes: list
    states: dict
    scores: np.ndarray
    eligible: np.ndarray
    sizes: list = field(default_factory=list)

    def __len__(self):
        return len(self.attributes)

    def attributes_of(self, row):
        return self.attributes[row]

    @property
    def words(self):
        padded = np.zeros((len(self.scores), -(-len(self) // 64) * 64), dtype=bool)
        padded[:, : len(self)] = self.eligible
        return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)

    def ranking(self, user):
        """Return the eligible rows, best first."""
        order = np.argsort(-self.scores[user], kind="stable")
        return [row for row in order.tolist() if self.eligible[user, row]]

    def scan(self, users, words, k):
        self.sizes.append(k)
        found = TopK.empty(len(users), min(k, len(self)))
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(bool)
        for at, user in enumerate(users):
            order = np.argsort(-self.scores[user], kind="stable")
            rows = [row for row in order.tolist() if bits[at, row]][:k]
            found.rows[at, : len(rows)] = rows
            found.scores[at, : len(rows)] = self.scores[user, rows]
            found.sizes[at] = len(rows)
        return found

    def best(self, k, caps=(), diversity=None):
        index = AttributeIndex(len(self), self.attributes_of)
        selector = Selector(self, index)
        found = selector.best(self.scan, self.words, Selection(k=k, caps=caps, diversity=diversity))
        return [rows[:size].tolist() for rows, size in zip(found.rows, found.sizes, strict=True)]


def make(attributes, n_users=2, seed=0, dim=4, share=0.9):
    rng = np.random.default_rng(seed)
    n_items = len(attributes)
    return Items(
        attributes=attributes,
        states={"item_state": rng.standard_normal((n_items, dim)).astype(np.float32)},
        scores=np.round(rng.standard_normal((n_users, n_items)) * 4).astype(np.float32) / 4,
        eligible=rng.random((n_users, n_items)) < share,
    )


def admits(chosen, row, attributes, caps):
    for cap in caps:
        counts = Counter(
            value
            for other in chosen
            for value in set(entries(attributes[other].get(cap.attribute)))
        )
        if any(counts[value] >= cap.most for value in entries(attributes[row].get(cap.attribute))):
            return False
    return True


def greedy(items, user, k, caps):
    chosen = []
    for row in items.ranking(user):
        if len(chosen) < k and admits(chosen, row, items.attributes, caps):
            chosen.append(row)
    return chosen


kinds = st.sampled_from(["a", "b", "c", 1, 1.0, True, "1", None])
catalogues = st.lists(
    st.fixed_dictionaries(
        {}, optional={"kind": st.one_of(kinds, st.lists(kinds, max_size=3)), "year": kinds}
    ),
    max_size=200,
).map(lambda items: [*items, {"kind": "z", "year": None}])
caps_of = st.lists(
    st.builds(Cap, attribute=st.sampled_from(["kind", "year"]), most=st.integers(1, 4)), max_size=2
)


@given(catalogues, caps_of, st.integers(1, 30), st.integers(0, 9))
@settings(deadline=None)
def test_caps_are_what_going_down_the_ranking_gives(attributes, caps, k, seed):
    items = make(attributes, seed=seed)
    assert items.best(k, caps) == [greedy(items, user, k, caps) for user in range(2)]


def test_what_a_cap_rules_out_is_passed_over_in_few_scans():
    # The best 9,990 are all of one kind.
    attributes = [{"kind": "common"} for _ in range(9_990)] + [{"kind": row} for row in range(10)]
    items = make(attributes, share=1.1)
    items.scores[:] = -np.arange(10_000)
    assert items.best(5, ONE_KIND) == [[0, 9_990, 9_991, 9_992, 9_993]] * 2
    assert len(items.sizes) == 2
    assert max(items.sizes) < 200
    assert items.best(100, ONE_KIND) == [[0, *range(9_990, 10_000)]] * 2


def test_only_users_who_lack_items_are_looked_at_again():
    attributes = [{"kind": "common"} for _ in range(500)] + [{"kind": row} for row in range(500)]
    items = make(attributes, share=1.1)
    items.scores[0], items.scores[1] = np.arange(1000), -np.arange(1000)
    asked = []
    scan = items.scan
    items.scan = lambda users, words, k: asked.append(users.tolist()) or scan(users, words, k)
    assert items.best(3, ONE_KIND) == [[999, 998, 997], [0, 500, 501]]
    assert asked == [[0, 1], [1]]


def test_without_wishes_the_ranking_is_asked_for_k_alone():
    items = make([{"kind": 1}] * 100)
    assert items.best(7) == [items.ranking(user)[:7] for user in range(2)]
    assert items.best(7, diversity=Diversity(weight=1)) == items.best(7)
    assert items.sizes == [7] * 3


def test_a_cap_needs_an_attribute_that_exists():
    items = make([{"kind": 1}] * 100)
    with pytest.raises(RequestError, match=r"caps: no item has the attribute 'kin'.*'kind'"):
        items.best(7, [Cap(attribute="kin", most=1)])


def gains(items, user, chosen, weight):
    """Return of every item weight·relevance − (1 − weight)·likeness to those chosen."""
    units = directions(items.states, np.arange(len(items))).astype(float)
    relevance = 1 / (1 + np.exp(-items.scores[user].astype(float)))
    likeness = (units @ units[chosen].T).max(axis=1) if chosen else 0.0
    return weight * relevance - (1 - weight) * likeness


@given(catalogues, caps_of, st.integers(1, 20), st.sampled_from([0.0, 0.3, 0.7, 0.99]))
@settings(deadline=None)
def test_each_next_item_has_the_greatest_gain_that_caps_admit(attributes, caps, k, weight):
    items = make(attributes)
    everything = Diversity(weight=weight, candidates=max(k, len(attributes)))
    for user, chosen in enumerate(items.best(k, caps, everything)):
        left = set(items.ranking(user))
        for at, row in enumerate(chosen):
            before = chosen[:at]
            may = [row for row in left if admits(before, row, attributes, caps)]
            gain = gains(items, user, before, weight)
            assert row in may
            assert gain[row] >= max(gain[may]) - 1e-5
            left.remove(row)
        if len(chosen) < k:
            assert not any(admits(chosen, row, attributes, caps) for row in left)


@given(catalogues, caps_of, st.integers(1, 20), st.integers(0, 20), st.integers(0, 9))
@settings(deadline=None)
def test_caps_hold_of_diverse_lists_that_are_as_long_as_may_be(attributes, caps, k, more, seed):
    items = make(attributes, seed=seed)
    for user, chosen in enumerate(items.best(k, caps, Diversity(weight=0.5, candidates=k + more))):
        assert len(set(chosen)) == len(chosen)
        for at, row in enumerate(chosen):
            assert admits(chosen[:at], row, attributes, caps)
        left = set(items.ranking(user)) - set(chosen)
        assert len(chosen) == k or not any(admits(chosen, row, attributes, caps) for row in left)


def test_all_of_the_weight_on_relevance_is_the_plain_order():
    attributes = [{"kind": row % 7} for row in range(300)]
    items = make(attributes)
    items.scores += 30  # where every probability is 1
    caps = [Cap(attribute="kind", most=3)]
    assert items.best(20, caps, Diversity(weight=1)) == items.best(20, caps)


def test_items_come_of_the_most_relevant_alone():
    items = make([{}] * 500, share=1.1)
    for user, chosen in enumerate(items.best(10, diversity=Diversity(weight=0, candidates=12))):
        assert set(chosen) < set(items.ranking(user)[:12])
        assert chosen[0] == items.ranking(user)[0]
    items.best(10, diversity=Diversity(weight=0.5))
    items.best(40, diversity=Diversity(weight=0.5))
    assert items.sizes == [12, 100, 160]


def test_copies_of_one_item_come_last():
    items = make([{}] * 60, share=1.1)
    items.scores[:] = np.arange(60) / 600
    items.states["item_state"][40:] = items.states["item_state"][40] * np.arange(1, 21)[:, None]
    for chosen in items.best(41, diversity=Diversity(weight=0.5)):
        assert chosen[0] == 59
        assert sorted(chosen) == [*range(40), 59]


def test_states_that_are_not_finite_are_like_nothing():
    states = np.array(
        [[3, 4], [0, 0], [np.inf, 1], [np.nan, 1], [1.5e38, 2e38], [1e-40, 0]], dtype=np.float32
    )
    found = directions({"item_state": states, "item_constant": states[:, 0]}, np.arange(6))
    expected = [[0.6, 0.8], [0, 0], [0, 0], [0, 0], [0.6, 0.8], [1, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_states_of_other_names_are_joined():
    states = {"b": np.array([[2.0]]), "a": np.array([[[1, 2]], [[5, 6]]])}
    found = directions({**states, "b": np.array([2.0, 0.0])}, np.array([0]))
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3, 2 / 3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("make_it", "message", "name"),
    [
        (lambda: Cap(attribute="kind", most=0), "'kind': found at most 0, expected a", "caps"),
        (lambda: Cap(attribute="kind", most=True), "found at most True, expected a whole", "caps"),
        (lambda: Cap(attribute="kind", most=1.5), "found at most 1.5, expected a whole", "caps"),
        (lambda: Cap(attribute="", most=1), "caps: found the attribute '', expected a", "caps"),
        (lambda: Diversity(weight=1.01), "diversity.weight: found 1.01, expected 0", "diversity"),
        (lambda: Diversity(weight=-0.1), "diversity.weight: found -0.1, expected 0", "diversity"),
        (lambda: Diversity(weight=float("nan")), "weight: found nan, expected 0 to", "diversity"),
        (lambda: Diversity(weight="much"), "weight: found 'much', expected 0 to 1", "diversity"),
        (lambda: Diversity(weight=1, candidates=2.5), "candidates: found 2.5, expec", "diversity"),
        (lambda: Selection(k=9, diversity=Diversity(weight=1, candidates=8)),
         "diversity.candidates: found 8, expected k = 9 or more", "diversity"),
        (lambda: Selection(k=9, diversity=0.5), "diversity: found float, expected a", "diversity"),
        (lambda: Selection(k=9, caps=ONE_KIND[0]), "caps: found Cap, expected a list of", "caps"),
        (lambda: Selection(k=9, caps=["kind"]), "caps: found list, expected a list of", "caps"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(make_it, message, name):
    with pytest.raises(RequestError, match=message) as error:
        make_it()
    assert error.value.field == name
