"""Options of the server."""

from dataclasses import dataclass

from fuserank.errors import ConfigError

__all__ = ["ServerConfig"]

_AT_LEAST_ONE = (
    "workers",
    "max_message_bytes",
    "max_k",
    "max_batch",
    "max_items",
    "max_fields",
    "max_values",
    "max_texts",
    "max_text_chars",
)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the server listens, and the most that it takes on.

    Attributes:
        host: address to listen on; "0.0.0.0" or "::" for every interface.
        port: TCP port; 0 takes a free one.
        workers: engine calls at a time. Each may use several cores itself.
        max_message_bytes: size of one message, either way.
        max_k: items asked for one user.
        max_batch: users of one batch.
        max_items: item ids in one list: to score, to exclude or to allow.
        max_fields: fields given of one user.
        max_values: entries of one field that is a list, such as a history.
        max_texts: texts of one Encode request.
        max_text_chars: length of one text, id or category, in characters.
        grace_s: seconds that requests in flight have to finish when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    workers: int = 4
    max_message_bytes: int = 64 * 1024 * 1024
    max_k: int = 1_000
    max_batch: int = 1_024
    max_items: int = 100_000
    max_fields: int = 256
    max_values: int = 10_000
    max_texts: int = 1_024
    max_text_chars: int = 20_000
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if not self.host or self.host != self.host.strip():
            raise ConfigError(
                f"host: found {self.host!r}, expected a name or an address such as '127.0.0.1'"
            )
        if not 0 <= self.port <= 65_535:
            raise ConfigError(
                f"port: found {self.port}, expected 0 to 65535 (0 takes a port that is free)"
            )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        if self.max_message_bytes > 2**31 - 1:
            raise ConfigError(
                f"max_message_bytes: found {self.max_message_bytes}, expected less than 2 GiB, "
                "which is as large as a protobuf message gets"
            )
        if not 0.0 <= self.grace_s < float("inf"):
            raise ConfigError(f"grace_s: found {self.grace_s}, expected 0 or more seconds")
