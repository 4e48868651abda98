import pytest

from fuserank.errors import ConfigError
from fuserank.export.sides import read_sides
from fuserank.schema import Side


def test_sides_are_read_from_lists_of_inputs(tmp_path):
    path = tmp_path / "sides.toml"
    path.write_text('user = ["a", "b"]\nitem = ["c"]\ncontext = ["hour"]\n')
    expected = {"a": Side.USER, "b": Side.USER, "c": Side.ITEM, "hour": Side.CONTEXT}
    assert read_sides(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('users = ["a"]', "user, item and context"),
        ("user = 3", "lists of input names"),
        ("user = [", "lists of input names"),
        ('user = ["a"]\nitem = ["a"]', "'a' is named twice"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, text, message):
    path = tmp_path / "sides.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sides(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_sides(tmp_path / "none.toml")
