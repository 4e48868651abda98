import hashlib

import pytest

from fuserank.errors import ConfigError
from fuserank.server.security.tokens import Permission, Tokens

READER = "a-reader's-token"


def line(name, permissions, token):
    return f"{name}:{permissions}:{hashlib.sha256(token.encode()).hexdigest()}\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "holds no token"),
        ("# nobody\n", "holds no token"),
        ("\n\nabc", "line 3: found 1 parts"),
        (f"reader:recommend:{READER}\n", "line 1: reader has no hash.*never the token"),
        (f"reader:recommend:{'0' * 63}\n", "reader has no hash"),
        (f"reader:read:{'0' * 64}\n", "permission that does not exist.*recommend, items, admin"),
        (f"reader::{'0' * 64}\n", "permission that does not exist"),
        (f"{READER} x:recommend:{'0' * 64}\n", "the name has other characters"),
        (f"a:items:{'0' * 64}\na:admin:{'1' * 64}\n", "line 2: found a second token 'a'"),
    ],
)
def test_a_line_at_fault_is_named_and_no_secret_is_quoted(tmp_path, content, found):
    file = tmp_path / "tokens"
    file.write_text(content)
    with pytest.raises(ConfigError, match=found) as error:
        Tokens(file)
    assert READER not in str(error.value)


def test_a_file_that_is_not_there_or_that_everybody_may_write_to_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"missing cannot be read.*No such file"):
        Tokens(tmp_path / "missing")
    token_file = tmp_path / "tokens"
    token_file.write_text(line("reader", "recommend", READER))
    Tokens(token_file)
    token_file.chmod(0o606)
    with pytest.raises(ConfigError, match="chmod 600"):
        Tokens(token_file)


def test_many_tokens_are_all_found_again(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("".join(line(f"t{i}", "recommend", f"secret-{i}") for i in range(1500)))
    tokens = Tokens(file)
    for _ in range(2):
        for i in range(1500):
            assert tokens.find(f"Bearer secret-{i}").name == f"t{i}"
    assert tokens.find("Bearer secret-1500") is None


def test_a_header_permits_what_its_token_does(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(line("reader", "recommend", READER))
    tokens = Tokens(file)
    assert tokens.permits(f"Bearer {READER}", Permission.RECOMMEND)
    assert not tokens.permits(f"Bearer {READER}", Permission.ITEMS)
    assert not tokens.permits("Bearer other", Permission.RECOMMEND)
    assert not tokens.permits(None, Permission.RECOMMEND)
