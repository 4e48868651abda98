import grpc
import pytest

from fuserank.server.pb import recommender_pb2 as pb

Code = grpc.StatusCode
NAN = float("nan")

USER = pb.User(fields={"user_id": pb.Value(string_value="42")})
LIMITS = {
    "max_k": 15,
    "max_batch": 3,
    "max_items": 4,
    "max_fields": 2,
    "max_values": 5,
    "max_texts": 2,
    "max_text_chars": 12,
    "max_predicates": 2,
    "max_caps": 1,
    "max_candidates": 40,
    "max_message_bytes": 4_096,
}


def a_user(**fields):
    return pb.User(fields=fields)


def number(value):
    return pb.Value(number_value=value)


def strings(*values):
    return pb.Value(string_list=pb.StringList(values=values))


def numbers(*values):
    return pb.Value(number_list=pb.NumberList(values=values))


def recommend(**fields):
    return "Recommend", pb.RecommendRequest(**{"user": USER, **fields})


def batch(**fields):
    return "RecommendBatch", pb.RecommendBatchRequest(**{"users": [USER], **fields})


def score(**fields):
    return "Score", pb.ScoreRequest(**{"user": USER, "item_ids": ["1"], **fields})


def encode(*texts):
    return "Encode", pb.EncodeRequest(texts=texts)


def where(*predicates):
    return {"eligibility": pb.Eligibility(where=predicates)}


def one_of(*values):
    return pb.Predicate(attribute="year", one_of=pb.Values(values=values))


LONG = pb.Value(string_value="x" * 13)
A_CAP = pb.Cap(attribute="genres", most=1)


@pytest.fixture
def stub(serve, connect):
    return connect(serve(**LIMITS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (recommend(k=0), "k: found 0, expected 1 to 15"),
        (recommend(k=-1), "k: found -1, expected 1 to 15"),
        (recommend(k=16), "k: found 16, expected 1 to 15"),
        (batch(k=16), "k: found 16, expected 1 to 15"),
        (batch(users=[]), "users: found 0 entries, expected 1 to 3"),
        (batch(users=[USER] * 4), "users: found 4 entries, expected 1 to 3"),
        (batch(users=[USER, a_user(age=number(NAN))]), "users[1].fields['age']: found nan"),
        (score(item_ids=[]), "item_ids: found 0 entries, expected 1 to 4"),
        (score(item_ids=["1"] * 5), "item_ids: found 5 entries, expected 1 to 4"),
        (score(item_ids=["x" * 13]), "item_ids: found a text of 13 characters"),
        (score(user=a_user(age=number(NAN))), "user.fields['age']: found nan"),
        (encode(), "texts: found 0 entries, expected 1 to 2"),
        (encode("a", "b", "c"), "texts: found 3 entries, expected 1 to 2"),
        (encode("a", ""), "texts[1]: found an empty text, expected words"),
        (encode(" \n"), "texts[0]: found an empty text, expected words"),
        (encode("x" * 13), "texts: found a text of 13 characters, expected at most 12"),
        (recommend(user=a_user(a=USER.fields["user_id"], b=number(1), c=number(2))),
         "user.fields: found 3, expected at most 2"),
        (recommend(user=a_user(**{"x" * 13: number(1)})), "user.fields: found a text of 13"),
        (recommend(user=a_user(bio=pb.Value(string_value="x" * 13))),
         "user.fields['bio']: found a text of 13 characters"),
        (recommend(user=a_user(history=strings("1", "x" * 13))),
         "user.fields['history']: found a text of 13 characters"),
        (recommend(user=a_user(history=strings(*"123456"))),
         "user.fields['history']: found 6 entries, expected 0 to 5"),
        (recommend(user=a_user(vector=numbers(*range(6)))),
         "user.fields['vector']: found 6 entries, expected 0 to 5"),
        (recommend(user=a_user(vector=numbers(0, float("inf")))),
         "user.fields['vector']: found inf, expected a finite number"),
        (recommend(user=a_user(age=pb.Value())), "user field 'age': found a value of no kind"),
        (recommend(eligibility=pb.Eligibility(exclude=["1"] * 5)),
         "eligibility.exclude: found 5 entries, expected 0 to 4"),
        (recommend(eligibility=pb.Eligibility(allow=pb.ItemIds(ids=["1"] * 5))),
         "eligibility.allow: found 5 entries, expected 0 to 4"),
        (batch(eligibility=pb.Eligibility(exclude=["x" * 13])),
         "eligibility.exclude: found a text of 13 characters"),
        (recommend(**where(*[one_of()] * 3)),
         "eligibility.where: found 3 entries, expected 0 to 2"),
        (batch(**where(one_of(), one_of(*map(number, range(6))))),
         "eligibility.where[1].one_of: found 6 entries, expected 0 to 5"),
        (recommend(**where(one_of(number(1), LONG))),
         "eligibility.where[0].one_of: found a text of 13 characters"),
        (recommend(**where(pb.Predicate(attribute="year", equals=LONG))),
         "eligibility.where[0].equals: found a text of 13 characters"),
        (recommend(**where(pb.Predicate(attribute="year", equals=number(NAN)))),
         "eligibility.where[0].equals: found nan, expected a finite number"),
        (recommend(**where(pb.Predicate(attribute="x" * 13, equals=number(1)))),
         "eligibility.where[0].attribute: found a text of 13 characters"),
        (recommend(**where(pb.Predicate(attribute="year"))),
         "eligibility.where[0]: found no test, expected one of equals, one_of, range"),
        (recommend(**where(pb.Predicate(attribute="year", range=pb.Range(most=NAN)))),
         "where: attribute 'year': found nan"),
        (recommend(caps=[A_CAP] * 2), "caps: found 2 entries, expected 0 to 1"),
        (recommend(caps=[pb.Cap(attribute="genres")]),
         "caps[0].most: found 0, expected 1 or more"),
        (batch(caps=[pb.Cap(attribute="x" * 13, most=1)]),
         "caps[0].attribute: found a text of 13 characters"),
        (recommend(diversity=pb.Diversity(weight=1.5)),
         "diversity.weight: found 1.5, expected 0 to 1"),
        (batch(diversity=pb.Diversity(weight=NAN)), "diversity.weight: found nan"),
        (recommend(diversity=pb.Diversity(candidates=0)),
         "diversity.candidates: found 0, expected 1 to 40"),
        (recommend(diversity=pb.Diversity(candidates=41)),
         "diversity.candidates: found 41, expected 1 to 40"),
        (recommend(user=a_user(flavour=number(1))), "user: this bundle has no field 'flavour'"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named(stub, engine, call, message):
    rpc, request = call
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, rpc)(request)
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert message in caught.value.details()
    assert not engine.users


def test_what_is_at_the_limit_passes(stub):
    user = a_user(history=strings(*["x" * 12] * 5), vector=numbers(*range(5)))
    asked = pb.Eligibility(
        exclude=["19"] * 4,
        allow=pb.ItemIds(ids=["1", "2", "3", "4"]),
        where=[one_of(*[number(1)] * 5), pb.Predicate(attribute="x" * 12, range=pb.Range())],
    )
    reply = stub.RecommendBatch(
        pb.RecommendBatchRequest(
            users=[user] * 3,
            k=15,
            eligibility=asked,
            caps=[A_CAP],
            diversity=pb.Diversity(weight=1, candidates=40),
        )
    )
    assert [len(found.item_ids) for found in reply.recommendations] == [4, 4, 4]


def test_a_message_that_is_too_large_is_refused(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Encode(pb.EncodeRequest(texts=["x" * 5_000]))
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
