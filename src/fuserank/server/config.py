"""Options of the server."""

from dataclasses import dataclass, field
from pathlib import Path

from fuserank.errors import ConfigError
from fuserank.server.batching.admission import AdmissionConfig
from fuserank.server.batching.answers import AnswersConfig
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.bundles.config import BundlesConfig, ShadowConfig
from fuserank.server.http.config import HttpConfig
from fuserank.server.messages.limits import Limits
from fuserank.server.monitoring.tracing import TracingConfig
from fuserank.server.security.auth import AuthConfig
from fuserank.server.security.connections import ConnectionConfig
from fuserank.server.security.tls import TlsConfig

__all__ = ["ServerConfig"]


@dataclass(frozen=True, kw_only=True)
class ServerConfig(Limits):
    """Where the server listens, and the most that it takes on; what a request may hold is `Limits`.

    Attributes:
        host: address to listen on; "0.0.0.0" or "::" for every interface.
        port: TCP port; 0 takes a free one.
        call_threads: calls of Score and Encode at a time. Each may use several cores itself.
        max_message_bytes: size of one message, either way.
        grace_s: seconds that requests in flight have to finish when the server stops.
        http: where metrics, probes and the playground are.
        admission: how much is taken on at a time.
        batching: how requests share calls of the engine.
        answers: what is kept for requests that come when there is no time.
        bundles: what may be loaded beside the bundle that serves.
        shadow: how much of what is answered is compared with candidates.
        tls: the certificate; without one nothing is encrypted.
        auth: who may call what.
        connections: what a connection may do.
        tracing: whether calls are traced.
        live: directory for the items that come while it serves; None takes none.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    call_threads: int = 4
    max_message_bytes: int = 64 * 1024 * 1024
    grace_s: float = 30.0
    http: HttpConfig = field(default_factory=HttpConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    answers: AnswersConfig = field(default_factory=AnswersConfig)
    bundles: BundlesConfig = field(default_factory=BundlesConfig)
    shadow: ShadowConfig = field(default_factory=ShadowConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    connections: ConnectionConfig = field(default_factory=ConnectionConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    live: Path | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        super().__post_init__()
        if not self.host or self.host != self.host.strip():
            raise ConfigError(
                f"host: found {self.host!r}, expected a name or an address such as '127.0.0.1'"
            )
        if not 0 <= self.port <= 65_535:
            raise ConfigError(
                f"port: found {self.port}, expected 0 to 65535 (0 takes a port that is free)"
            )
        for name in ("call_threads", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        if self.max_message_bytes > 2**31 - 1:
            raise ConfigError(
                f"max_message_bytes: found {self.max_message_bytes}, expected less than 2 GiB, "
                "which is as large as a protobuf message gets"
            )
        if not 0.0 <= self.grace_s < float("inf"):
            raise ConfigError(f"grace_s: found {self.grace_s}, expected 0 or more seconds")
