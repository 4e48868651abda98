"""Text templates: what is left out where values are missing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuserank.errors import SchemaError
from fuserank.schema.template import TextTemplate

FILM = TextTemplate("{title} ({year}). {genres}. By {director}; {cast} | {note}")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"title": "Alien", "year": 1979}, "Alien (1979)."),
        ({"title": "Alien"}, "Alien."),
        ({"title": "Alien", "year": math.nan}, "Alien."),
        ({"title": "Alien", "genres": ["Horror", "Sci-Fi"]}, "Alien. Horror, Sci-Fi."),
        ({"title": "Alien", "genres": []}, "Alien."),
        ({"genres": ("War",), "cast": "A, B"}, "War. A, B |"),
        ({"director": "Scott"}, "By Scott;"),
        ({"year": 0}, "(0)."),
        ({"unused": "x"}, ""),
        ({}, ""),
    ],
)
def test_missing_values_leave_no_traces(row, text):
    assert FILM.render(row) == text


def test_words_without_placeholders_stay_beside_those_that_have_a_value():
    assert TextTemplate("A film. {title}").render({"title": "Alien"}) == "A film. Alien"
    assert TextTemplate("A film. {title}").render({"title": None}) == ""
    assert TextTemplate("A film.").render({}) == "A film."


def test_values_are_not_read_as_templates():
    assert TextTemplate("{a} {b}").render({"a": "{b}", "b": r"\1"}) == r"{b} \1"


def test_columns_are_named_once_and_in_order():
    assert TextTemplate("{b} {a} {b}").columns == ("b", "a")


@given(
    st.dictionaries(
        st.sampled_from(FILM.columns), st.none() | st.text("ab c", max_size=6) | st.integers()
    )
)
def test_rendering_never_leaves_empty_brackets_or_double_spaces(row):
    text = FILM.render(row)
    assert "()" not in text
    assert "( )" not in text
    assert "  " not in text
    assert text == text.strip()


@pytest.mark.parametrize("pattern", ["{}", "{0}", "{a.b}", "{a!r}", "{a:>3}", "{a b}"])
def test_a_placeholder_must_be_a_plain_column_name(pattern):
    with pytest.raises(SchemaError, match=r"expected \{column\} with the plain name of a column"):
        TextTemplate(pattern)


@pytest.mark.parametrize("pattern", ["{a", "a}", "{{a}}", "{a} }"])
def test_a_brace_without_its_partner_is_refused(pattern):
    with pytest.raises(SchemaError, match="brace without its partner"):
        TextTemplate(pattern)
