"""The last answers, for requests that cannot be answered in time otherwise.

Who asked and what for is not kept: an answer is found by a hash of its request, salted anew in
every process, and what belongs to one user by a hash of the user's id.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import NamedTuple

from fuserank.engine.results import Recommendation
from fuserank.errors import ConfigError

__all__ = ["Answers", "AnswersConfig"]

_DIGEST_BYTES = 16
# What an answer takes in memory, roughly: the objects, and for each item an id, a score, a
# probability and their places in lists.
_ANSWER_BYTES, _ITEM_BYTES = 1_024, 128


@dataclass(frozen=True, kw_only=True)
class AnswersConfig:
    """How many answers are kept, and for how long.

    Attributes:
        max_answers: answers kept; 0 keeps none.
        max_answer_bytes: memory of all of them, roughly.
        answer_ttl_s: seconds that an answer may be old.
    """

    max_answers: int = 10_000
    max_answer_bytes: int = 64 * 1024 * 1024
    answer_ttl_s: float = 300.0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in ("max_answers", "max_answer_bytes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if not 0.0 < self.answer_ttl_s < float("inf"):
            raise ConfigError(
                f"answer_ttl_s: found {self.answer_ttl_s}, expected seconds, more than 0"
            )


class _Kept(NamedTuple):
    answer: Recommendation
    expires: float
    size_bytes: int
    user: bytes | None


class Answers:
    """Answers by the hash of their request, the oldest of which make room for others. Thread-safe.

    Attributes:
        generation: changes with `forget`: what was computed before is not kept after.
    """

    def __init__(
        self, config: AnswersConfig | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Hold nothing yet.

        Args:
            config: how many are kept.
            clock: monotonic seconds.
        """
        self._config, self._clock = config or AnswersConfig(), clock
        self._salt = secrets.token_bytes(32)
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # the oldest first
        self._of_user: dict[bytes, set[bytes]] = {}
        self._size_bytes = 0
        self._lock = Lock()
        self.generation = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Memory of all answers, roughly."""
        return self._size_bytes

    def key(self, *parts: bytes) -> bytes:
        """Return the hash of a request; the parts are told apart from their concatenation."""
        digest = blake2b(digest_size=_DIGEST_BYTES, key=self._salt)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()

    def get(self, key: bytes) -> Recommendation | None:
        """Return the answer to a request, unless there is none or it is too old."""
        with self._lock:
            self._expire()
            kept = self._kept.get(key)
            return None if kept is None else kept.answer

    def put(
        self, key: bytes, answer: Recommendation, *, user_id: str | None, generation: int
    ) -> None:
        """Keep an answer.

        Args:
            key: of its request.
            answer: what was computed.
            user_id: whose it is, where the request named a user.
            generation: `generation` before it was computed.
        """
        size_bytes = _ANSWER_BYTES + _ITEM_BYTES * len(answer)
        user = None if user_id is None else self._user(user_id)
        with self._lock:
            self._drop(key)
            if generation != self.generation or size_bytes > self._config.max_answer_bytes:
                return
            expires = self._clock() + self._config.answer_ttl_s
            self._kept[key] = _Kept(answer, expires, size_bytes, user)
            self._size_bytes += size_bytes
            if user is not None:
                self._of_user.setdefault(user, set()).add(key)
            self._expire()
            while (
                len(self._kept) > self._config.max_answers
                or self._size_bytes > self._config.max_answer_bytes
            ):
                self._drop(next(iter(self._kept)))

    def forget(self, user_id: str) -> int:
        """Drop the answers of a user, those that are being computed too, and return how many."""
        with self._lock:
            self.generation += 1
            keys = tuple(self._of_user.get(self._user(user_id), ()))
            for key in keys:
                self._drop(key)
            return len(keys)

    def _user(self, user_id: str) -> bytes:
        return blake2b(
            user_id.encode(errors="surrogatepass"),
            digest_size=_DIGEST_BYTES,
            key=self._salt,
            person=b"user",
        ).digest()

    def _expire(self) -> None:
        now = self._clock()
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if kept.expires > now:
                return
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._size_bytes -= kept.size_bytes
        if kept.user is not None:
            keys = self._of_user[kept.user]
            keys.discard(key)
            if not keys:
                del self._of_user[kept.user]
