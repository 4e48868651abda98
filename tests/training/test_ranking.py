import numpy as np
import pytest

from fuserank.errors import DataError
from fuserank.training.dataset import Interactions
from fuserank.training.ranking import judge_ranking


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
    judged = judge_ranking(
        lambda users: SCORES[users],
        seen=interactions((0, 0, 1), (0, 1, 0), (1, 4, 1)),
        held_out=interactions((0, 2, 1), (0, 3, 0), (1, 0, 1), (1, 3, 1), (2, 0, 0)),
        n_items=5,
        k=2,
    )
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

    judged = judge_ranking(scores, seen=held_out.select(np.arange(0)), held_out=held_out, n_items=5)
    assert asked == list(range(n_users))
    assert (judged.n_users, judged.recall, judged.ndcg) == (n_users, 1.0, 1.0)


def test_nothing_to_find_is_an_error():
    nothing = interactions((0, 1, 0))
    with pytest.raises(DataError, match="found no positive interaction in the held-out part"):
        judge_ranking(lambda users: SCORES[users], seen=nothing, held_out=nothing, n_items=5)
