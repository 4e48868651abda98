"""What a request asks of its results, from the client to the engine and back."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank import Cap, Diversity, Predicate
from fuserank.engine.catalogue import Catalogue
from fuserank.engine.engine import load
from fuserank.engine.stored_columns import StoredColumns
from fuserank.errors import RequestError
from fuserank.export.columns import build_columns
from fuserank.server.client.client import Client
from fuserank.server.messages.options import (
    caps_to_proto,
    diversity_to_proto,
    options_from_proto,
    where_to_proto,
)
from fuserank.server.pb import recommender_pb2 as pb

names = st.text(min_size=1, max_size=6)
numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
scalars = st.one_of(st.text(max_size=6), st.booleans(), numbers)
bounds = st.none() | st.floats(allow_nan=False, allow_infinity=False)
predicates = st.one_of(
    st.builds(Predicate.equals, names, scalars),
    st.builds(Predicate.one_of, names, st.lists(scalars, max_size=4)),
    st.tuples(names, bounds, bounds).map(
        lambda args: Predicate.between(args[0], *(args[1:] if None in args else sorted(args[1:])))
    ),
)
caps_of = st.builds(Cap, attribute=names, most=st.integers(1, 2**31 - 1))
diversities = st.none() | st.builds(
    Diversity,
    weight=st.floats(0, 1, width=32),
    candidates=st.none() | st.integers(0, 2**31 - 1),
)


@given(st.lists(predicates, max_size=3), st.lists(caps_of, max_size=3), diversities, st.booleans())
def test_options_arrive_as_they_were_sent(where, caps, diversity, batch):
    kind = pb.RecommendBatchRequest if batch else pb.RecommendRequest
    request = kind(
        eligibility=pb.Eligibility(
            exclude=["1"],
            allow=pb.ItemIds(ids=[]),
            include_seen=True,
            where=where_to_proto(where),
        ),
        caps=caps_to_proto(caps),
        diversity=diversity_to_proto(diversity),
    )
    assert options_from_proto(kind.FromString(request.SerializeToString())) == {
        "exclude": ["1"],
        "allow": [],
        "include_seen": True,
        "where": where,
        "caps": caps,
        "diversity": diversity,
    }


def test_a_request_that_asks_for_nothing_has_the_defaults():
    assert options_from_proto(pb.RecommendRequest()) == {
        "exclude": [],
        "allow": None,
        "include_seen": False,
        "where": [],
        "caps": [],
        "diversity": None,
    }


def a_predicate(**test):
    return pb.RecommendRequest(
        eligibility=pb.Eligibility(where=[pb.Predicate(**{"attribute": "year", **test})])
    )


LIST = pb.Value(string_list=pb.StringList(values=["War"]))


@pytest.mark.parametrize(
    ("request_", "message", "field"),
    [
        (a_predicate(), r"eligibility.where\[0\]: found no test, expected one of equals", "where"),
        (a_predicate(equals=pb.Value()), r"where\[0\].equals: found a value of no kind", "where"),
        (a_predicate(equals=LIST), r"where\[0\].equals: found string_list, expected str", "where"),
        (a_predicate(one_of=pb.Values(values=[LIST])), "one_of: found string_list, exp", "where"),
        (a_predicate(equals=pb.Value(number_value=np.nan)), "'year': found nan", "where"),
        (a_predicate(range=pb.Range(least=np.inf)), "'year': found inf, expected", "where"),
        (a_predicate(range=pb.Range(least=2, most=1)), "a range from 2 to 1", "where"),
        (a_predicate(attribute="", range=pb.Range()), "attribute '', expected a name", "where"),
        (pb.RecommendRequest(caps=[pb.Cap(attribute="x")]), "found at most 0, expected", "caps"),
        (pb.RecommendRequest(caps=[pb.Cap(most=1)]), "attribute '', expected a name", "caps"),
        (pb.RecommendRequest(diversity=pb.Diversity(weight=2)), "weight: found 2", "diversity"),
    ],
)
def test_what_says_nothing_is_named_on_arrival(request_, message, field):
    with pytest.raises(RequestError, match=message) as error:
        options_from_proto(request_)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("send", "message"),
    [
        (lambda: where_to_proto([Predicate.equals("id", 2**53 + 1)]), "'id': .*beyond 2\\^53"),
        (lambda: where_to_proto([Predicate.equals("id", "\ud800")]), "'id': .*surrogates"),
        (lambda: where_to_proto({"id": 1}), "where: found dict, expected a list of predicates"),
        (lambda: caps_to_proto([Cap(attribute="\ud800", most=1)]), "caps: .*surrogates"),
        (lambda: caps_to_proto([Cap(attribute="a", most=2**31)]), "caps: .*out of range"),
        (lambda: caps_to_proto(Cap(attribute="a", most=1)), "caps: found Cap, expected a list"),
        (lambda: diversity_to_proto(0.5), "diversity: found float, expected a Diversity"),
        (lambda: diversity_to_proto(Diversity(weight=1, candidates=2**31)), "diversity: .*range"),
    ],
)
def test_what_no_message_can_carry_is_named(send, message):
    with pytest.raises(RequestError, match=message):
        send()


def test_options_reach_the_engine(client, engine):
    asked = {
        "where": [Predicate.one_of("genres", ["War", 3]), Predicate.between("year", most=1999)],
        "caps": [Cap(attribute="genres", most=2)],
        "diversity": Diversity(weight=0.5, candidates=40),
    }
    client.recommend({}, **asked)
    client.recommend_many([{}, {}], **asked)
    assert len(engine.selections) == 3
    for arrived in engine.selections:
        assert {name: arrived[name] for name in asked} == asked


def film(row):
    return {
        "title": f"Film {row}",
        "year": 1900 + row,
        "language": "de" if row % 5 == 0 else "en",
        "genres": [["War", "Drama", "Horror"][row % 3], f"g{row % 11}"],
        "studio": f"s{row % 17}",
        "stars": 3 + row % 5 / 2,
    }


def test_the_examples_of_the_documentation_run(tiny_bundle, start_server, on_loop, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "requests.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 8
    monkeypatch.setattr(Catalogue, "attributes_of", lambda _, row: film(row))
    films = [film(row) for row in range(len(tiny_bundle.items.ids))]
    monkeypatch.setattr(StoredColumns, "open", lambda _: build_columns(films))
    server, address = start_server()
    with load(tiny_bundle.path, device="cpu") as engine, Client(address) as client:
        on_loop(server.load(lambda: engine))
        for local in (engine, client):  # what is said of one holds of the other
            names = {"engine": local, "client": client}
            for example in examples:
                if local is engine or not re.search("plan=|filters=", example):
                    exec(example, names)


@pytest.fixture(scope="module")
def real(tiny_bundle):
    with load(tiny_bundle.path, device="cpu") as loaded:
        yield loaded


@pytest.fixture
def remote(real, start_server, on_loop):
    server, address = start_server()
    on_loop(server.load(lambda: real))
    with Client(address) as connected:
        yield connected


@pytest.mark.parametrize(
    "options",
    [
        {"where": [Predicate.between("year", 1950, 1969)], "k": 30},
        {"where": [Predicate.one_of("title", ["Film 7", "Film 9"])]},
        {"where": [Predicate.equals("year", "1950")]},
        {"caps": [Cap(attribute="title", most=1)], "k": 7},
        {"diversity": Diversity(weight=0.25), "k": 20},
        {"diversity": Diversity(weight=0.75, candidates=30), "k": 20,
         "caps": [Cap(attribute="year", most=1)], "where": [Predicate.between("year", 1920)]},
    ],
)  # fmt: skip
def test_the_server_answers_as_the_engine(real, remote, options):
    for user in ({}, {"user_id": "u1"}, {"history": ["i3"]}):
        local, found = real.recommend(user, **options), remote.recommend(user, **options)
        assert found.item_ids == local.item_ids
        np.testing.assert_array_equal(found.scores, local.scores)
        assert (found.plan, found.degraded, found.degraded_reason) == ("exact", False, "")


def test_an_attribute_that_does_not_exist_is_named_over_the_wire(remote):
    with pytest.raises(RequestError, match=r"no item has the attribute 'yaer'.*mean 'year'"):
        remote.recommend({}, where=[Predicate.equals("yaer", 1990)])
    with pytest.raises(RequestError, match=r"diversity.candidates: found 9, expected k = 10"):
        remote.recommend({}, diversity=Diversity(weight=0.5, candidates=9))
