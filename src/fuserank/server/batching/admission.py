"""How much work the server takes on at a time.

A server that accepts whatever comes spends its time, once there is more than it can do, on calls
that expire before they are answered. Three bounds keep it from that: of calls under way, of
requests that wait for the engine, and of requests that one stream has open.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from fuserank.errors import ConfigError, OverloadedError

if TYPE_CHECKING:
    from fuserank.server.monitoring.metrics import Metrics

__all__ = ["Admission", "AdmissionConfig"]

_RETRY_S = 0.1


@dataclass(frozen=True, kw_only=True)
class AdmissionConfig:
    """The most that is taken on at a time.

    Attributes:
        max_calls: calls under way, a stream counting as one; what comes then is turned away at
            once.
        max_connection_calls: calls under way on one connection; a client that knows this makes
            further calls wait, and one that does not has them refused as UNAVAILABLE. gRPC counts
            calls a little longer than they last: leave room.
        max_backlog: calls that have come and were not looked at yet. gRPC itself ends what comes
            then, for next to nothing but with the status CANCELLED: a bound for floods in which
            the server could not even turn away what it cannot answer.
        max_queue: users that wait for the engine; requests that come then are turned away at once.
        max_outstanding: requests of one stream that were read and not yet answered; no more of
            the stream is read then, and its client has to wait.
    """

    max_calls: int = 1_024
    max_connection_calls: int = 1_024
    max_backlog: int = 1_024
    max_queue: int = 1_024
    max_outstanding: int = 128

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")


class Admission:
    """Counts the calls under way: each runs ``with admission``. Used on one event loop.

    Attributes:
        config: what is admitted.
    """

    def __init__(self, config: AdmissionConfig, metrics: "Metrics | None" = None) -> None:
        """Admit what `config` allows."""
        self.config, self._metrics = config, metrics
        self._calls = 0

    def __enter__(self) -> None:
        """Let a call in.

        Raises:
            OverloadedError: as many are under way as may be.
        """
        if self._calls >= self.config.max_calls:
            if self._metrics is not None:
                self._metrics.count_rejection("calls")
            raise OverloadedError(
                f"{self._calls} calls are under way, which is as many as the server takes; try "
                "again later",
                retry_after_s=_RETRY_S,
            )
        self._calls += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls -= 1
