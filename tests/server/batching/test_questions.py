"""What is asked, and what of it may share a call of the engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank import Cap, Predicate
from fuserank.engine.filters import EVERYTHING, ItemFilter
from fuserank.server.batching.answers import Answers
from fuserank.server.batching.questions import keyword_question, question_of
from fuserank.server.messages.options import caps_to_proto, where_to_proto
from fuserank.server.pb import recommender_pb2 as pb

NEW = pb.Eligibility(where=where_to_proto([Predicate.between("year", 1990)]))
OLD = pb.Eligibility(where=where_to_proto([Predicate.between("year", None, 1980)]))
SOME = pb.Eligibility(allow=pb.ItemIds(ids=["1", "2"]))

ids = st.lists(st.text(max_size=3), max_size=4)


def asked(eligibility=None, **fields):
    return question_of(pb.RecommendRequest(eligibility=eligibility, **fields))


@given(ids, st.booleans(), st.integers(1, 16))
def test_what_each_excludes_or_has_seen_is_its_own(exclude, include_seen, k):
    found = asked(pb.Eligibility(exclude=exclude, include_seen=include_seen), k=k)
    assert found.group == asked(k=10).group == keyword_question([{}], 10, {}).group
    assert found.filter == ItemFilter(exclude=exclude, include_seen=include_seen)
    assert {"exclude", "allow", "include_seen", "k"}.isdisjoint(found.keywords)


def test_a_plain_request_filters_nothing():
    assert asked().filter is EVERYTHING
    assert asked().keywords == {}
    assert keyword_question([{}], 10, {}).filter is EVERYTHING


def test_those_that_allow_some_share_among_themselves():
    other = asked(pb.Eligibility(allow=pb.ItemIds(), exclude=["3"]))
    assert asked(SOME).group == other.group != asked().group
    assert asked(SOME).filter.allow == ["1", "2"]
    assert other.filter == ItemFilter(allow=[], exclude=["3"])


def test_what_is_not_of_each_keeps_apart():
    questions = [
        asked(),
        asked(k=17),
        asked(SOME),
        asked(NEW),
        asked(OLD),
        asked(caps=caps_to_proto([Cap(attribute="year", most=1)])),
        asked(caps=caps_to_proto([Cap(attribute="year", most=2)])),
        asked(NEW, caps=caps_to_proto([Cap(attribute="year", most=1)])),
        asked(diversity=pb.Diversity(weight=0.5), k=9),
        asked(diversity=pb.Diversity(weight=0.5), k=10),
        asked(diversity=pb.Diversity(weight=0.6), k=10),
    ]
    assert len({question.group for question in questions}) == len(questions)
    # Whatever they exclude beside that.
    more = pb.Eligibility(exclude=["8"], include_seen=True)
    more.MergeFrom(NEW)
    assert asked(more).group == asked(NEW).group
    assert asked(more).keywords == asked(NEW).keywords


@pytest.mark.parametrize("batch", [False, True])
def test_a_question_of_many_has_one_filter(batch):
    kind = pb.RecommendBatchRequest if batch else pb.RecommendRequest
    found = question_of(kind(eligibility=SOME))
    assert (found.filter.allow, found.filter.exclude) == (["1", "2"], [])


def test_answers_are_kept_apart_whatever_shares_a_call():
    keep = Answers().key
    eligibilities = [
        None,
        pb.Eligibility(exclude=["1"]),
        pb.Eligibility(exclude=["2"]),
        pb.Eligibility(exclude=["1", "2"]),
        pb.Eligibility(exclude=["12"]),
        pb.Eligibility(include_seen=True),
        pb.Eligibility(allow=pb.ItemIds()),
        pb.Eligibility(allow=pb.ItemIds(ids=["1"])),
        SOME,
        NEW,
        OLD,
    ]

    def keys():
        requests = [pb.RecommendRequest(eligibility=one) for one in eligibilities]
        return [question_of(request, keep=keep).answer_key for request in requests]

    assert len(set(keys())) == len(eligibilities)
    assert keys() == keys()


def test_keywords_that_filter_nothing_share_no_call():
    found = keyword_question([{}], 10, {"exclude": ["1"], "caps": [Cap(attribute="a", most=1)]})
    assert found.group is None
    assert found.filter == ItemFilter(exclude=["1"])
    assert found.keywords == {"caps": [Cap(attribute="a", most=1)]}
