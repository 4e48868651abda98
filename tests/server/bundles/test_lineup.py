from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import BundleStateError, UnknownVersionError
from fuserank.server.bundles.lineup import Lineup
from fuserank.server.bundles.loaded import Role


@dataclass(frozen=True)
class Bundle:
    version: str


BUNDLES = [Bundle(str(number)) for number in range(6)]


@st.composite
def lineups(draw):
    active, *others = draw(st.permutations(BUNDLES).map(lambda found: found[:4]))
    previous = others.pop(0) if draw(st.booleans()) else None
    return Lineup(active=active, previous=previous, candidates=tuple(others))


@given(lineup=lineups(), most=st.integers(1, 6))
def test_who_joins_stays_and_only_candidates_go_for_it_the_oldest_first(lineup, most):
    fresh = Bundle("fresh")
    joined = lineup.joined(fresh, most)
    assert (joined.active, joined.previous) == (lineup.active, lineup.previous)
    assert joined.candidates[-1] is fresh
    kept = joined.candidates[:-1]
    assert kept == lineup.candidates[len(lineup.candidates) - len(kept) :]
    assert len(list(joined)) <= most or not kept
    assert len(list(joined)) == min(len(list(lineup)) + 1, most) or not kept


@given(lineup=lineups(), data=st.data())
def test_a_promotion_makes_the_active_one_the_previous(lineup, data):
    one = data.draw(st.sampled_from(list(lineup)))
    promoted = lineup.promoted(one)
    if one is lineup.active:
        assert promoted == lineup
        return
    assert (promoted.active, promoted.previous) == (one, lineup.active)
    assert promoted.candidates == tuple(c for c in lineup.candidates if c is not one)
    again = promoted.rolled_back()
    assert (again.active, again.previous) == (lineup.active, None)
    assert again.candidates[-1] is one


@given(lineup=lineups())
def test_roles_are_those_of_the_places(lineup):
    assert [lineup.role(one) for one in lineup] == [
        Role.ACTIVE,
        *([] if lineup.previous is None else [Role.PREVIOUS]),
        *(Role.CANDIDATE for _ in lineup.candidates),
    ]
    assert all(lineup.find(one.version, "version") is one for one in lineup)


def test_what_cannot_be_done_says_so():
    lineup = Lineup(active=BUNDLES[0])
    with pytest.raises(BundleStateError, match="no previous bundle"):
        lineup.rolled_back()
    with pytest.raises(UnknownVersionError, match="header: found '9'") as caught:
        lineup.find("9", "header")
    assert caught.value.field == "header"
