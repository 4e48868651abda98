import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.engine.results import Plan
from fuserank.server.batching.waiting import Job, Waiting


def a_job(users=1, *, group="g", bulk=False, chars=0, arrived=0.0):
    return Job(
        users=[{}] * users,
        k=10,
        group=group,
        keywords={},
        text_chars=chars,
        bulk=bulk,
        deadline=math.inf,
        done=lambda job, outcome: None,
        arrived=arrived,
    )


def a_queue(*jobs, max_users=8, max_text_chars=100, bulk_every=4):
    waiting = Waiting(max_users=max_users, max_text_chars=max_text_chars, bulk_every=bulk_every)
    for job in jobs:
        waiting.add(job)
    return waiting


def exact(job, n_users):
    return Plan.EXACT


def taken(waiting):
    return waiting.take(exact).calls[Plan.EXACT]


def test_those_of_the_oldest_group_go_together():
    first, other, second = a_job(), a_job(group="h"), a_job()
    waiting = a_queue(first, other, second)
    assert taken(waiting) == [first, second]
    assert taken(waiting) == [other]
    assert not waiting


def test_a_turn_has_so_many_users_and_no_more():
    jobs = [a_job(3), a_job(3), a_job(3)]
    waiting = a_queue(*jobs, max_users=8)
    assert waiting.n_users == 9
    assert taken(waiting) == jobs[:2]
    assert taken(waiting) == jobs[2:]


def test_a_turn_has_so_many_characters_but_one_job_at_least():
    jobs = [a_job(chars=150), a_job(chars=60), a_job(chars=40), a_job(chars=1)]
    waiting = a_queue(*jobs, max_text_chars=100)
    assert taken(waiting) == jobs[:1]
    assert taken(waiting) == jobs[1:3]
    assert taken(waiting) == jobs[3:]


def test_bulk_waits_for_the_others():
    bulk, urgent = a_job(bulk=True), a_job()
    waiting = a_queue(bulk, urgent)
    assert waiting.n_ahead(bulk=False) == 1
    assert waiting.n_ahead(bulk=True) == 2
    assert taken(waiting) == [urgent]
    assert taken(waiting) == [bulk]


def test_bulk_has_every_fourth_turn_while_others_wait():
    waiting = a_queue(*(a_job(group=number, bulk=True) for number in range(3)), bulk_every=4)
    turns = []
    for number in range(100, 112):
        waiting.add(a_job(group=number))
        turns.append(taken(waiting)[0].bulk)
    assert turns == [False, False, False, True] * 3


def test_what_is_removed_is_not_taken():
    jobs = [a_job(), a_job(), a_job()]
    waiting = a_queue(*jobs)
    assert waiting.remove(jobs[0])
    assert not waiting.remove(jobs[0])
    assert taken(waiting) == jobs[1:]
    assert not waiting.remove(jobs[1])


def test_the_least_time_goes_first_and_those_without_any_apart():
    jobs = [a_job(), a_job(), a_job()]
    plans = {jobs[0]: Plan.EXACT, jobs[1]: None, jobs[2]: Plan.QUANTIZED}
    turn = a_queue(*jobs).take(lambda job, n_users: plans[job])
    assert list(turn.calls.items()) == [(Plan.QUANTIZED, [jobs[2]]), (Plan.EXACT, [jobs[0]])]
    assert turn.late == [jobs[1]]
    assert turn.n_users == 2


def test_those_that_are_late_take_no_place():
    jobs = [a_job() for _ in range(10)]
    late = set(jobs[:6])
    waiting = a_queue(*jobs, max_users=4)
    turn = waiting.take(lambda job, n_users: None if job in late else Plan.EXACT)
    assert turn.calls[Plan.EXACT] == jobs[6:]
    assert not waiting


def test_plans_are_chosen_for_the_users_that_share_the_turn():
    seen = []
    a_queue(*(a_job(3) for _ in range(4)), max_users=8).take(
        lambda job, n_users: seen.append(n_users) or Plan.EXACT
    )
    assert set(seen) == {8}


@pytest.mark.parametrize(
    ("remaining", "most", "expected"),
    [
        ([9] * 8, 8, [8]),  # all have time for a call of all
        ([4] * 8, 8, [4]),  # none has, but half of them have for half a call
        ([9, 9, 2, 2, 2, 2, 2, 2], 8, [2]),
        ([9, 2, 2, 2, 2], 5, [2]),
        ([0] * 5, 5, []),
    ],
)
def test_a_call_is_as_long_as_most_have_time_for(remaining, most, expected):
    """A call takes as long as it has users."""
    jobs = [a_job() for _ in remaining]
    left = dict(zip(jobs, remaining, strict=True))
    waiting = a_queue(*jobs, max_users=most)
    sizes = []
    while waiting:
        turn = waiting.take(lambda job, n: Plan.EXACT if left[job] >= n else None)
        if turn.n_users:
            sizes.append(turn.n_users)
        for job in left:
            left[job] -= turn.n_users
    assert sizes == expected


@given(
    st.lists(
        st.tuples(
            st.integers(1, 5), st.sampled_from("abc"), st.booleans(), st.sampled_from([0, 30, 200])
        )
    ),
    st.integers(1, 8),
)
def test_every_job_leaves_once_in_the_order_of_its_group(drawn, max_users):
    jobs = [a_job(n, group=(g, c > 0), bulk=b, chars=c) for n, g, b, c in drawn]
    waiting = a_queue(*jobs, max_users=max_users)
    left = []
    while waiting:
        turn = taken(waiting)
        assert len({(job.group, job.bulk) for job in turn}) == 1
        assert len(turn) == 1 or sum(len(job.users) for job in turn) <= max_users
        assert len(turn) == 1 or sum(job.text_chars for job in turn) <= 100
        left += turn
    assert waiting.n_users == 0
    assert sorted(map(id, left)) == sorted(map(id, jobs))
    for key in {(job.group, job.bulk) for job in jobs}:
        of_key = [job for job in jobs if (job.group, job.bulk) == key]
        assert [job for job in left if (job.group, job.bulk) == key] == of_key
