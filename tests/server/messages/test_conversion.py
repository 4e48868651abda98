import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fuserank.engine.results import (
    BundleInfo,
    Embeddings,
    FieldInfo,
    Recommendation,
    Scores,
    Timings,
)
from fuserank.errors import RequestError
from fuserank.server.messages import conversion
from fuserank.server.pb import recommender_pb2 as pb

texts = st.text(max_size=8)
numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
users = st.dictionaries(
    texts, st.one_of(texts, numbers, st.lists(texts, max_size=4), st.lists(numbers, max_size=4))
)
float32 = st.floats(width=32, allow_nan=False)
times = st.builds(
    Timings,
    tokenize_ms=st.floats(0, 1e6),
    encode_ms=st.floats(0, 1e6),
    user_graph_ms=st.floats(0, 1e6),
    scan_ms=st.floats(0, 1e6),
    total_ms=st.floats(0, 1e6),
    queue_ms=st.floats(0, 1e6),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def sent(message):
    """What arrives of a message."""
    return type(message).FromString(message.SerializeToString())


@given(users)
def test_a_user_arrives_as_it_was_sent(user):
    assert conversion.user_from_proto(sent(conversion.user_to_proto(user))) == user


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_that_may_be_an_id_stays_whole(number):
    user = conversion.user_to_proto({"user_id": number, "history": [number]})
    arrived = conversion.user_from_proto(sent(user))
    assert (str(arrived["user_id"]), str(arrived["history"][0])) == (str(number), str(number))


def test_arrays_and_their_scalars_are_numbers():
    vector = np.array([0.5, 1.25, -2.0], dtype=np.float32)
    user = {"vector": vector, "age": np.int64(24), "weight": np.float32(0.5), "ids": ("1", "2")}
    arrived = conversion.user_from_proto(conversion.user_to_proto(user))
    assert arrived == {"vector": vector.tolist(), "age": 24, "weight": 0.5, "ids": ["1", "2"]}


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ({"age": None}, "user field 'age': found NoneType, expected a string, a number, or a list"),
        ({"when": object()}, "user field 'when': found object"),
        ({"ids": ["1", 2]}, "user field 'ids': found a list of int, str, expected all strings"),
        ({"ids": [["1"]]}, "user field 'ids': found a list of list, expected all strings"),
        ({"user_id": 2**53 + 1}, "beyond 2\\^53, expected it as a string"),
        ({"ids": [-(2**60)]}, "beyond 2\\^53, expected it as a string"),
        ({"text": "\ud800"}, "user field 'text': .*surrogates"),
        ({3: "x"}, "found the field name 3, expected a string"),
        ({"\ud800": "x"}, "a field name is not valid text"),
    ],
)
def test_what_no_message_can_carry_is_named(user, message):
    with pytest.raises(RequestError, match=message):
        conversion.user_to_proto(user)


def test_a_value_of_no_kind_is_refused_on_arrival():
    with pytest.raises(RequestError, match="'age': found a value of no kind") as caught:
        conversion.user_from_proto(pb.User(fields={"age": pb.Value()}))
    assert caught.value.field == "age"


def same(left, right):
    assert left.dtype == right.dtype == np.float32
    np.testing.assert_array_equal(left, right)


@given(
    st.lists(st.tuples(texts, float32, float32, st.dictionaries(texts, json_values, max_size=3))),
    st.sampled_from(["known", "unknown", "cold"]),
    texts,
    times,
    st.sampled_from(["", "deadline"]),
)
def test_a_recommendation_arrives_as_it_was_sent(items, served_as, plan, timings, reason):
    found = Recommendation(
        item_ids=tuple(item[0] for item in items),
        scores=np.array([item[1] for item in items], dtype=np.float32),
        probabilities=np.array([item[2] for item in items], dtype=np.float32),
        plan=plan,
        served_as=served_as,
        timings=timings,
        degraded=bool(reason),
        degraded_reason=reason,
    )
    attributes = [item[3] for item in items]
    arrived = conversion.recommendation_from_proto(
        sent(conversion.recommendation_to_proto(found, attributes))
    )
    assert (arrived.item_ids, arrived.plan, arrived.served_as) == (found.item_ids, plan, served_as)
    assert arrived.timings == timings
    assert (arrived.degraded, arrived.degraded_reason) == (bool(reason), reason)
    assert arrived.attributes == tuple(attributes)
    same(arrived.scores, found.scores)
    same(arrived.probabilities, found.probabilities)


def test_whole_numbers_among_attributes_come_back_as_int():
    found = Recommendation(
        item_ids=("1",),
        scores=np.ones(1, np.float32),
        probabilities=np.ones(1, np.float32),
        plan="exact",
        served_as="cold",
    )
    message = conversion.recommendation_to_proto(found, [{"year": 1990, "more": [{"n": 2}]}])
    (attributes,) = conversion.recommendation_from_proto(message).attributes
    assert str(attributes["year"]) == "1990"
    assert str(attributes["more"]) == "[{'n': 2}]"


@given(st.lists(st.tuples(texts, float32, float32)), times)
def test_scores_arrive_as_they_were_sent(items, timings):
    scores = Scores(
        item_ids=tuple(item[0] for item in items),
        scores=np.array([item[1] for item in items], dtype=np.float32),
        probabilities=np.array([item[2] for item in items], dtype=np.float32),
        served_as="unknown",
        timings=timings,
    )
    arrived = conversion.scores_from_proto(
        sent(conversion.scores_to_proto(scores)), scores.item_ids
    )
    assert (arrived.item_ids, arrived.served_as) == (scores.item_ids, "unknown")
    assert arrived.timings == timings
    same(arrived.scores, scores.scores)
    same(arrived.probabilities, scores.probabilities)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2)), texts, times)
def test_embeddings_arrive_as_they_were_sent(vectors, space, timings):
    message = sent(
        conversion.embeddings_to_proto(Embeddings(vectors=vectors, space=space, timings=timings))
    )
    assert len(message.vectors) == 4 * vectors.size
    arrived = conversion.embeddings_from_proto(message)
    same(arrived.vectors, vectors)
    assert (arrived.space, arrived.timings) == (space, timings)


def test_embeddings_travel_as_little_endian_rows():
    vectors = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    sliced = np.asfortranarray(vectors)
    message = conversion.embeddings_to_proto(Embeddings(vectors=sliced, space=""))
    assert message.vectors.hex() == "0000803f" + "00000040" + "00004040" + "00008040"


@given(st.none() | texts, st.none() | texts, st.none() | texts)
def test_a_description_arrives_with_what_it_lacks(title, encoder, precision):
    info = BundleInfo(
        name="films",
        version="3",
        format_version=2,
        space="a1b2",
        model="neumf",
        scorer="additive",
        n_items=2**40,
        n_users=0,
        title=title,
        threshold=0.1,
        encoder=encoder,
        precision=precision,
        device="cuda",
        user_fields=(FieldInfo(name="age", kind="number"),),
        degraded=("ndcg_loss is 0.0200, expected at most 0.005",),
    )
    assert conversion.info_from_proto(sent(conversion.info_to_proto(info))) == info
