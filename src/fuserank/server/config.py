"""Options of the server."""

from dataclasses import dataclass, field
from pathlib import Path

from fuserank.errors import ConfigError
from fuserank.server.batching.admission import AdmissionConfig
from fuserank.server.batching.answers import AnswersConfig
from fuserank.server.batching.config import BatchingConfig
from fuserank.server.bundles.bundles import BundlesConfig
from fuserank.server.bundles.shadow import ShadowConfig
from fuserank.server.http.http_port import HttpConfig
from fuserank.server.monitoring.tracing import TracingConfig
from fuserank.server.security.auth import AuthConfig
from fuserank.server.security.connections import ConnectionConfig
from fuserank.server.security.tls import TlsConfig

__all__ = ["ServerConfig"]

_AT_LEAST_ONE = (
    "call_threads",
    "max_message_bytes",
    "max_k",
    "max_batch",
    "max_items",
    "max_fields",
    "max_values",
    "max_texts",
    "max_text_chars",
    "max_predicates",
    "max_caps",
    "max_candidates",
)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the server listens, and the most that it takes on.

    Attributes:
        host: address to listen on; "0.0.0.0" or "::" for every interface.
        port: TCP port; 0 takes a free one.
        call_threads: calls of Score and Encode at a time. Each may use several cores itself.
        max_message_bytes: size of one message, either way.
        max_k: items asked for one user.
        max_batch: users of one batch.
        max_items: item ids in one list: to score, to exclude or to allow.
        max_fields: fields given of one user.
        max_values: entries of one field that is a list, such as a history, and of one predicate.
        max_texts: texts of one Encode request.
        max_text_chars: length of one text, id or category, in characters.
        max_predicates: predicates of one request.
        max_caps: caps of one request.
        max_candidates: items that diversity may choose from.
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
    max_k: int = 1_000
    max_batch: int = 1_024
    max_items: int = 100_000
    max_fields: int = 256
    max_values: int = 10_000
    max_texts: int = 1_024
    max_text_chars: int = 20_000
    max_predicates: int = 32
    max_caps: int = 8
    max_candidates: int = 4_000
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
