"""How requests share calls of the engine."""

import math
from dataclasses import dataclass

from fuserank.errors import ConfigError

__all__ = ["BatchingConfig"]


@dataclass(frozen=True, kw_only=True)
class BatchingConfig:
    """How requests share calls of the engine.

    Attributes:
        max_users: users of one call.
        max_text_chars: characters to encode in one call; a request with more has its own.
        delay_ms: milliseconds that a request waits for others to share its call.
        engine_calls: calls of the engine at a time. A call beside another one is made for
            `max_users` alone, and both share the cores: what fewer would gain by not waiting, they
            would lose by not sharing a call.
        inline_ms: calls that take less lately run on the event loop where nothing else runs.
        bulk_every: while interactive and bulk requests wait, every so many calls are for bulk.
    """

    max_users: int = 64
    max_text_chars: int = 32_768
    delay_ms: float = 0.0
    engine_calls: int = 2
    inline_ms: float = 1.0
    bulk_every: int = 8

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in ("max_users", "max_text_chars", "engine_calls"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        if self.bulk_every < 2:
            raise ConfigError(f"bulk_every: found {self.bulk_every}, expected 2 or more")
        for name in ("delay_ms", "inline_ms"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(
                    f"{name}: found {getattr(self, name)}, expected 0 or more milliseconds"
                )
