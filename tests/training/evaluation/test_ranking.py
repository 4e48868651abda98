import msgspec
import numpy as np
import pytest

from fuserank.errors import DataError
from fuserank.training.data.interactions import Interactions
from fuserank.training.evaluation.label_metrics import Averages
from fuserank.training.evaluation.ranking import Ranking, judge_users, share_of_users


def interactions(*triples):
    user, item, liked = (np.array(column) for column in zip(*triples, strict=True))
    return Interactions(
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        rating=np.ones(len(user), np.float32),
        timestamp=None,
        positive=liked.astype(bool),
    )


SCORES = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]], np.float32)


def test_seen_items_are_left_out_and_users_without_a_positive_do_not_count():
    judged = judge_users(
        lambda users: SCORES[users],
        seen=interactions((0, 0, 1), (0, 1, 0), (1, 4, 1)),
        held_out=interactions((0, 2, 1), (0, 3, 0), (1, 0, 1), (1, 3, 1), (2, 0, 0)),
        n_items=5,
        k=2,
    ).ranking
    assert judged.n_users == 2
    assert judged.recall == pytest.approx((1 + 1 / 2) / 2)
    assert judged.ndcg == pytest.approx((1 + 1 / (1 + 1 / np.log2(3))) / 2)


def test_users_are_scored_in_parts_without_losing_any():
    n_users = 600
    held_out = interactions(*((user, user % 5, 1) for user in range(n_users)))
    asked = []

    def scores(users):
        asked.extend(users.tolist())
        return np.eye(5)[users % 5]

    judged = judge_users(
        scores, seen=held_out.select(np.arange(0)), held_out=held_out, n_items=5
    ).ranking
    assert asked == list(range(n_users))
    assert (judged.n_users, judged.recall, judged.ndcg) == (n_users, 1.0, 1.0)


def test_nothing_to_find_is_an_error():
    nothing = interactions((0, 1, 0))
    with pytest.raises(DataError, match="found no positive interaction in the held-out part"):
        judge_users(lambda users: SCORES[users], seen=nothing, held_out=nothing, n_items=5)


def judge_two(**options):
    """Users 0 and 1 of `SCORES`: user 0 has met items 0 and 1, user 1 item 4."""
    return judge_users(
        lambda users: SCORES[users],
        seen=interactions((0, 0, 1), (0, 1, 0), (1, 4, 1), (1, 0, 0)),
        held_out=interactions((1, 1, 1), (1, 3, 1), (0, 2, 1), (2, 0, 0)),
        n_items=5,
        **options,
    )


def test_every_length_of_a_list_is_judged():
    found = judge_two(k=1, ks=(3, 2)).ranking
    assert [cut.k for cut in found.cuts] == [1, 2, 3]
    # Lists: user 0 has 2, 3, 4 and is to find 2; user 1 has 3, 2, 1 and is to find 1 and 3.
    assert found.at(1).precision == 1
    assert found.at(2).precision == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert found.at(3).recall == 1
    assert found.at(3).map == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)
    assert found.at(3).hit_rate == found.at(3).mrr == 1
    assert (found.recall, found.ndcg) == (found.at(1).recall, found.at(1).ndcg) == (0.75, 1)
    assert [cut.coverage for cut in found.cuts] == [2 / 5, 2 / 5, 4 / 5]


def test_lists_are_judged_as_sets_of_labels():
    found = judge_two(k=2, ks=()).ranking.cuts[0]
    # User 0 has 2 and 3 and is to find 2; user 1 has 3 and 2 and is to find 1 and 3.
    assert found.micro == Averages(precision=2 / 4, recall=2 / 3, f1=4 / 7)
    # Item 1 is missed, 2 and 3 are found once and listed twice, 0 and 4 are neither.
    assert found.macro == Averages(
        precision=pytest.approx((1 / 2 + 1 / 2) / 5),
        recall=pytest.approx(2 / 5),
        f1=pytest.approx((2 / 3 + 2 / 3) / 5),
    )
    some = judge_two(k=2, ks=(), candidates=np.array([0, 1, 1, 0, 0], bool)).ranking.cuts[0]
    assert some.macro.recall == 1
    assert some.macro.precision == pytest.approx((1 + 1 / 2) / 2)


def test_novelty_can_be_told_from_elsewhere():
    share = np.array([1, 1, 1 / 2, 1 / 4, 1 / 8])
    assert judge_two(k=1, ks=(), met_by=share).ranking.cuts[0].novelty == pytest.approx(1.5)
    whole = interactions((0, 4, 1), (1, 4, 1), (2, 4, 0), (3, 0, 1))
    parts = [whole.select(np.arange(3)), whole.select(np.arange(3, 4))]
    np.testing.assert_allclose(share_of_users(parts, 5), [1 / 4, 1 / 4, 1 / 4, 1 / 4, 3 / 4])


def test_novelty_counts_who_had_met_an_item_and_one_where_nobody_had():
    found = judge_two(k=3, ks=()).ranking
    assert found.cuts[0].novelty == pytest.approx((1 + 1 + 1) / 3)  # of two users, each 1 or 0 met
    # Three of four users have met item 4, and a fifth is recommended it.
    found = judge_users(
        lambda users: np.tile(np.arange(5.0), (len(users), 1)),
        seen=interactions((0, 4, 1), (1, 4, 1), (2, 4, 0), (3, 0, 1)),
        held_out=interactions((4, 4, 1)),
        n_items=5,
        k=2,
        ks=(1,),
    ).ranking
    assert found.at(1).novelty == pytest.approx(-np.log2(3 / 4))
    assert found.at(2).novelty == pytest.approx((-np.log2(3 / 4) + 2) / 2)


def test_diversity_needs_item_vectors_and_two_items():
    vectors = np.eye(5, dtype=np.float32)
    assert judge_two().ranking.at(10).diversity is None
    found = judge_two(ks=(1, 2), item_vectors=vectors).ranking
    assert found.at(1).diversity is None
    assert found.at(2).diversity == 1
    alike = judge_two(item_vectors=np.ones_like(vectors)).ranking
    assert alike.at(10).diversity == pytest.approx(0)


def test_figures_of_each_user_are_in_the_order_of_users_and_average_to_the_ranking():
    found = judge_two(k=1)
    assert found.users.tolist() == [0, 1]
    assert found.recall.tolist() == [1, 0.5]
    assert found.ndcg.tolist() == [1, 1]
    assert found.ranking == judge_two(k=1).ranking
    assert found.ranking.recall == found.recall.mean()


def test_candidates_alone_are_ranked_and_to_be_found():
    found = judge_two(k=1, ks=(), candidates=np.array([0, 1, 1, 0, 1], bool))
    assert found.users.tolist() == [0, 1]
    assert found.recall.tolist() == [1, 0]  # user 1 ranks item 2 above 1, and 3 is not looked for
    assert found.ranking.cuts[0].coverage == 1 / 3


def test_users_without_a_positive_among_the_candidates_do_not_count():
    found = judge_two(candidates=np.array([0, 1, 0, 1, 0], bool))
    assert found.users.tolist() == [1]
    assert found.ranking.recall == 1


def test_only_the_users_asked_for_are_judged():
    found = judge_two(users=np.array([2, 1]))
    assert found.users.tolist() == [1]
    assert found.ranking.n_users == 1


def test_nothing_to_find_among_candidates_is_an_error():
    with pytest.raises(
        DataError, match="found none of 3 held-out positives among 1 candidate items and all users"
    ):
        judge_two(candidates=np.eye(5, dtype=bool)[0])
    with pytest.raises(DataError, match="among 5 candidate items and 1 users"):
        judge_two(users=np.array([2]))


def test_lists_that_stay_empty_have_no_novelty():
    everything = interactions(*((0, item, 1) for item in range(5)))
    found = judge_users(
        lambda users: SCORES[users], seen=everything, held_out=everything, n_items=5
    ).ranking
    assert found.recall == 0
    assert found.at(10).novelty is None
    assert found.at(10).coverage == 0


def test_a_length_that_was_not_judged_is_an_error():
    with pytest.raises(DataError, match="no figures of lists of 7, expected one of 5, 10, 20"):
        judge_two().ranking.at(7)


def test_a_ranking_survives_json():
    found = judge_two().ranking
    assert msgspec.json.decode(msgspec.json.encode(found), type=Ranking) == found
