"""Where the HTTP port is."""

from dataclasses import dataclass

from fuserank.errors import ConfigError

__all__ = ["HttpConfig"]


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """Where metrics, probes and the playground are.

    Attributes:
        host: address to listen on; "0.0.0.0" or "::" for every interface.
        port: TCP port; 0 takes a free one, -1 opens none.
    """

    host: str = "127.0.0.1"
    port: int = 8002

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        if not self.host or self.host != self.host.strip():
            raise ConfigError(
                f"http.host: found {self.host!r}, expected a name or an address such as '127.0.0.1'"
            )
        if not -1 <= self.port <= 65_535:
            raise ConfigError(
                f"http.port: found {self.port}, expected 0 to 65535 (0 takes a port that is "
                "free), or -1 for no HTTP port"
            )

    @property
    def enabled(self) -> bool:
        """Whether there is an HTTP port."""
        return self.port >= 0
