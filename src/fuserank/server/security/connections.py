"""What one connection may cost, before any call is looked at."""

from dataclasses import dataclass

from fuserank.errors import ConfigError

__all__ = ["ConnectionConfig"]

# Clients may ask whether the server is there this often; those of this package ask less.
_LEAST_PING_S = 5.0
_KEEPALIVE_TIMEOUT_S = 20.0
# gRPC's own two minutes let whoever connects and says nothing hold a connection as long.
_HANDSHAKE_TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig:
    """Limits of a connection.

    Attributes:
        max_metadata_bytes: of the headers of one call; a call with more is refused.
        keepalive_s: seconds of silence after which a client is asked whether it is still there; a
            connection without an answer is closed after 20 more.
        max_age_s: seconds after which a connection is closed in good order, so that clients behind
            a balancer spread over servers again; 0 for never.
        max_age_grace_s: seconds that calls have to end on a connection that is closed by its age.
    """

    max_metadata_bytes: int = 16 * 1024
    keepalive_s: float = 60.0
    max_age_s: float = 0.0
    max_age_grace_s: float = 30.0

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if not 1_024 <= self.max_metadata_bytes <= 2**20:
            raise ConfigError(
                f"max_metadata_bytes: found {self.max_metadata_bytes}, expected 1024 to 1048576"
            )
        for name, least in (("keepalive_s", 1.0), ("max_age_s", 0.0), ("max_age_grace_s", 0.0)):
            value = getattr(self, name)
            if not least <= value <= 1e6:
                raise ConfigError(f"{name}: found {value}, expected {least:g} to 1000000 seconds")

    def options(self) -> list[tuple[str, int]]:
        """Return the arguments for `grpc.aio.server`."""
        milliseconds = {
            "grpc.keepalive_time_ms": self.keepalive_s,
            "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_S,
            "grpc.http2.min_ping_interval_without_data_ms": _LEAST_PING_S,
            "grpc.server_handshake_timeout_ms": _HANDSHAKE_TIMEOUT_S,
        }
        if self.max_age_s:
            milliseconds["grpc.max_connection_age_ms"] = self.max_age_s
            milliseconds["grpc.max_connection_age_grace_ms"] = self.max_age_grace_s
        return [
            # Between the two gRPC refuses at random, to make callers notice: they are the same.
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.max_metadata_bytes),
            ("grpc.keepalive_permit_without_calls", 1),
            *((name, round(seconds * 1e3)) for name, seconds in milliseconds.items()),
        ]
