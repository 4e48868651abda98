"""The tokens that a server takes, from a file that holds no secrets."""

import hashlib
import hmac
import logging
import re
import secrets
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from fuserank.errors import ConfigError
from fuserank.server.security.watched_files import WatchedFiles

__all__ = ["Permission", "Permissions", "Token", "Tokens"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LINE = "name:permissions:sha256 of the token in hex"
_MAX_KNOWN = 1_024


class Permission(StrEnum):
    """What a token may be used for."""

    RECOMMEND = "recommend"
    ITEMS = "items"
    ADMIN = "admin"


Permissions: TypeAlias = frozenset[Permission]


@dataclass(frozen=True, kw_only=True)
class Token:
    """What is known of a token: never the token.

    Attributes:
        name: for the log.
        permissions: what it may be used for.
        sha256: of the token.
    """

    name: str
    permissions: Permissions
    sha256: bytes


class Tokens:
    """The tokens of a file, which is read again when it has changed."""

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: it cannot be used, or everybody may write to it.
        """
        self._file = file
        self._files = WatchedFiles([file])
        self._tokens = self._load()
        self._salt = secrets.token_bytes(32)
        # By a salted hash, those that were found: hundreds of comparisons become one look-up.
        self._known: dict[bytes, Token] = {}

    def find(self, authorization: str) -> Token | None:
        """Return the token that a header ``Bearer ...`` holds; None where there is no such one."""
        if self._files.changed():
            self._reload()
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            return None
        sent = secret.strip().encode("utf-8", "replace")
        key = hashlib.blake2b(sent, key=self._salt, digest_size=32).digest()
        found = self._known.get(key)
        if found is None and (found := self._compare(hashlib.sha256(sent).digest())):
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def permits(self, authorization: str | None, permission: Permission) -> bool:
        """Return whether a header, or its absence, permits something."""
        token = self.find(authorization or "")
        return token is not None and permission in token.permissions

    def _compare(self, digest: bytes) -> Token | None:
        """Compare with every token, so that the time says nothing of which came near."""
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def _reload(self) -> None:
        try:
            self._tokens = self._load()
        except ConfigError as error:
            logger.error("%s; the tokens that were loaded before go on", error)
            return
        self._known.clear()
        logger.info("loaded %d tokens from %s", len(self._tokens), self._file)

    def _load(self) -> tuple[Token, ...]:
        try:
            mode = self._file.stat().st_mode
            content = self._files.contents[0]
            text = (self._file.read_bytes() if content is None else content).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"auth.token_file: {self._file} cannot be read ({error}), expected a text file "
                "that the server's user may read"
            ) from error
        if mode & stat.S_IWOTH:
            raise ConfigError(
                f"auth.token_file: everybody may write to {self._file}, and so give themselves a "
                "token; chmod 600 it"
            )
        return _parse(text, self._file)


def _parse(text: str, file: Path) -> tuple[Token, ...]:
    tokens: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        token = _parse_line(line.strip(), f"auth.token_file: {file}, line {number}")
        if token.name in tokens:
            raise ConfigError(
                f"auth.token_file: {file}, line {number}: found a second token {token.name!r}, "
                "expected each name once"
            )
        tokens[token.name] = token
    if not tokens:
        raise ConfigError(
            f"auth.token_file: {file} holds no token, expected lines {_LINE!r}; without any, "
            "nobody could call the server"
        )
    return tuple(tokens.values())


def _parse_line(line: str, place: str) -> Token:
    # What stands in the place of the hash is never told: it may be a token by mistake.
    name, *rest = line.split(":")
    if len(rest) != 2:
        raise ConfigError(f"{place}: found {len(rest) + 1} parts, expected {_LINE!r}")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{place}: the name has other characters than letters, digits, '.', '_', '-', expected "
            f"{_LINE!r}"
        )
    try:
        permissions = frozenset(Permission(word.strip()) for word in rest[0].split(","))
    except ValueError as error:
        raise ConfigError(
            f"{place}: {name} has a permission that does not exist, expected some of "
            f"{', '.join(Permission)}, with commas between them"
        ) from error
    if not _SHA256.fullmatch(rest[1].lower()):
        raise ConfigError(
            f"{place}: {name} has no hash, expected the SHA-256 of the token as 64 hexadecimal "
            "digits, never the token; see docs/security.md for how to make one"
        )
    return Token(name=name, permissions=permissions, sha256=bytes.fromhex(rest[1]))
