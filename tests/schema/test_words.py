"""Bags of words: vocabulary, weights, stop words and stems."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from fuserank.errors import SchemaError
from fuserank.schema.stop_words import ENGLISH
from fuserank.schema.words import BagOfWords

PLOTS = [
    "A crew of seven in deep space; the crew wakes.",
    "Deep in the Amazon, a crew looks for gold",
    "Gold, GOLD and the mule: a western about gold.",
    "",
    "Élan vital — naïve, naïve and 2001",
    "Space, 2001: the computer of a ship in deep space.",
]


def test_a_vocabulary_is_the_words_of_most_rows_in_alphabetical_order():
    texts = ["b b b c", "a c", "a c", "bb cc aa", "cc bb"]
    assert BagOfWords.fit(texts, "f").words == ("bb", "cc")
    assert BagOfWords.fit(texts, "f", min_rows=1).words == ("aa", "bb", "cc")
    assert BagOfWords.fit(texts, "f", min_rows=1, max_words=1).words == ("bb",)


def test_words_are_runs_of_two_or_more_letters_digits_and_underscores_in_lower_case():
    bag = BagOfWords.fit(["I'll SEE x_1 at 24-hour Café; a 7"], "f", min_rows=1)
    assert bag.words == ("24", "at", "café", "hour", "ll", "see", "x_1")


@pytest.mark.parametrize(
    ("weighting", "rows"),
    [("count", [[2, 1], [0, 1], [0, 0]]), ("binary", [[1, 1], [0, 1], [0, 0]])],
)
def test_counts_and_marks(weighting, rows):
    bag = BagOfWords.fit(["gold ship"], "f", min_rows=1, weighting=weighting)
    encoded = bag.encode(["gold ship gold", "Ship of fools", ""])
    assert encoded.dtype == np.float32
    assert encoded.tolist() == rows
    assert bag.idf == ()


def test_tfidf_by_hand():
    bag = BagOfWords.fit(["gold ship", "gold", "", "mule"], "f", min_rows=1)
    gold, ship = 2 * (math.log(5 / 3) + 1), math.log(5 / 2) + 1
    assert bag.words == ("gold", "mule", "ship")
    assert bag.encode(["gold, gold, ship"])[0] == pytest.approx(
        np.array([gold, 0, ship]) / math.hypot(gold, ship)
    )


@pytest.mark.parametrize("stop_words", [None, "english"])
def test_tfidf_is_that_of_scikit_learn(stop_words):
    bag = BagOfWords.fit(PLOTS, "plot", min_rows=1, stop_words=stop_words)
    reference = TfidfVectorizer(stop_words=None if stop_words is None else sorted(ENGLISH))
    expected = reference.fit_transform(PLOTS).toarray()
    assert bag.words == tuple(reference.get_feature_names_out())
    np.testing.assert_allclose(bag.encode(PLOTS), expected, rtol=1e-6)
    unseen = ["gold in the Nebula of gold", "nothing known"]
    np.testing.assert_allclose(bag.encode(unseen), reference.transform(unseen).toarray(), rtol=1e-6)


@given(st.lists(st.text("aAbßÉ 1_-\n", max_size=20), min_size=1), st.sampled_from([False, True]))
def test_counts_are_those_of_scikit_learn(texts, binary):
    reference = CountVectorizer(binary=binary, token_pattern=r"(?u)\b\w\w+\b")
    try:
        expected = reference.fit_transform(texts).toarray()
    except ValueError:  # not a single word
        with pytest.raises(SchemaError, match="found no word"):
            BagOfWords.fit(texts, "f", min_rows=1)
        return
    weighting = "binary" if binary else "count"
    bag = BagOfWords.fit(texts, "f", min_rows=1, weighting=weighting, max_words=10**6)
    assert bag.words == tuple(reference.get_feature_names_out())
    np.testing.assert_array_equal(bag.encode(texts), expected)


def test_stop_words_go_before_stems():
    texts = ["They were doing this while the ships don't", "doe"]
    bag = BagOfWords.fit(texts, "f", min_rows=1, stop_words="english", stem="porter")
    assert bag.words == ("doe", "ship")


def test_the_stop_words_are_words_as_texts_are_cut():
    assert len(ENGLISH) > 100
    lone = {"i", "a"}  # too short to be words of a bag, and listed for who reads the list
    bag = BagOfWords.fit([" ".join(ENGLISH)], "f", min_rows=1)
    assert set(bag.words) == ENGLISH - lone


# The examples of Porter, "An algorithm for suffix stripping", 1980, by step.
PORTER = """
caresses caress ponies poni ties ti caress caress cats cat
feed feed agreed agre plastered plaster bled bled motoring motor sing sing
conflated conflat troubled troubl sized size hopping hop tanned tan falling fall hissing hiss
fizzed fizz failing fail filing file happy happi sky sky
relational relat conditional condit rational ration valenci valenc hesitanci hesit
digitizer digit conformabli conform radicalli radic differentli differ vileli vile
analogousli analog vietnamization vietnam predication predic operator oper feudalism feudal
decisiveness decis hopefulness hope callousness callous formaliti formal sensitiviti sensit
sensibiliti sensibl triplicate triplic formative form formalize formal electriciti electr
electrical electr hopeful hope goodness good revival reviv allowance allow inference infer
airliner airlin gyroscopic gyroscop adjustable adjust defensible defens irritant irrit
replacement replac adjustment adjust dependent depend adoption adopt homologou homolog
communism commun activate activ angulariti angular homologous homolog effective effect
bowdlerize bowdler probate probat rate rate cease ceas controll control roll roll
generalizations gener oscillators oscil
"""


@pytest.mark.parametrize(("word", "stem"), re.findall(r"(\w+) (\w+)", PORTER))
def test_stems_are_those_of_porter(word, stem):
    assert BagOfWords.fit([word], "f", min_rows=1, stem="porter").words == (stem,)


def test_forms_of_a_word_count_as_one():
    bag = BagOfWords.fit(["connected", "connections"], "f", weighting="count", stem="porter")
    assert bag.words == ("connect",)
    assert bag.encode(["Connecting the connected"]).tolist() == [[2]]


def test_no_word_at_all_is_refused():
    with pytest.raises(
        SchemaError, match=r"field 'plot': found no word in 2 or more of its 3 rows.*lower min_rows"
    ):
        BagOfWords.fit(["one", "two", ""], "plot")


def test_no_texts():
    bag = BagOfWords.fit(["gold"], "f", min_rows=1)
    assert bag.encode([]).shape == (0, 1)


@pytest.mark.parametrize("options", [{}, {"weighting": "count", "stem": "porter"}])
def test_the_dictionary_round_trip(options):
    bag = BagOfWords.fit(PLOTS, "f", **options)
    assert BagOfWords.from_dict(bag.to_dict()) == bag


@pytest.mark.parametrize(
    ("words", "idf", "weighting", "message"),
    [
        (("aa", "aa"), (1.0, 1.0), "tfidf", "a word occurs twice"),
        (("aa", "bb"), (1.0,), "tfidf", "found 1 weights for 2 words with weighting tfidf"),
        (("aa",), (1.0,), "count", "found 1 weights for 1 words with weighting count"),
    ],
)
def test_words_and_weights_that_do_not_fit_together(words, idf, weighting, message):
    with pytest.raises(SchemaError, match=message):
        BagOfWords(words=words, idf=idf, weighting=weighting)


@given(st.lists(st.text("abc ", max_size=12)))
def test_rows_of_tfidf_have_length_1_or_0(texts):
    bag = BagOfWords.fit(["aa ab", "ab cc", "cc"], "f", min_rows=1)
    lengths = np.linalg.norm(bag.encode(texts), axis=1)
    for text, length in zip(texts, lengths, strict=True):
        known = Counter(text.split()).keys() & set(bag.words)
        assert length == pytest.approx(1 if known else 0)
