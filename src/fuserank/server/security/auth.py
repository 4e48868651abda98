"""Who may call what: bearer tokens, and the permission that each method asks for."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from fuserank.errors import ConfigError
from fuserank.server.security.loopback import is_loopback
from fuserank.server.security.tls import TlsConfig
from fuserank.server.security.tokens import Permission, Permissions, Tokens

if TYPE_CHECKING:
    from fuserank.server.monitoring.metrics import Metrics

__all__ = [
    "METHODS",
    "AuthConfig",
    "AuthInterceptor",
    "exposures",
]

logger = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


_ANY: Permissions = frozenset(Permission)
_RECOMMENDER = "fuserank.v1.RecommenderService"
_INFERENCE = "inference.GRPCInferenceService"


def _methods(service: str, names: str, permission: Permission | None) -> dict[str, Permissions]:
    needed = frozenset() if permission is None else frozenset({permission})
    return {f"/{service}/{name}": needed for name in names.split()}


# By method the permissions of which a caller needs one; where there are none, it needs no token.
METHODS: dict[str, Permissions] = {
    **_methods(
        _RECOMMENDER,
        "Recommend RecommendStream RecommendBatch Score Encode GetBundleInfo GetItem",
        Permission.RECOMMEND,
    ),
    **_methods(_RECOMMENDER, "UpsertItems DeleteItems", Permission.ITEMS),
    **_methods(
        "fuserank.v1.AdminService",
        "ListBundles LoadBundle PromoteBundle RollbackBundle ForgetUser",
        Permission.ADMIN,
    ),
    **_methods(
        _INFERENCE,
        "ServerMetadata ModelReady ModelMetadata ModelInfer ModelStreamInfer ModelConfig "
        "ModelStatistics RepositoryIndex",
        Permission.RECOMMEND,
    ),
    **_methods(_INFERENCE, "RepositoryModelLoad RepositoryModelUnload", Permission.ADMIN),
    # Probes have no tokens.
    **_methods(_INFERENCE, "ServerLive ServerReady", None),
    **_methods("grpc.health.v1.Health", "Check Watch List", None),
    **_methods("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", None),
    **_methods("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", None),
}
_UNLISTED: Permissions = frozenset({Permission.ADMIN})


@dataclass(frozen=True, kw_only=True)
class AuthConfig:
    """Which tokens are taken.

    Attributes:
        token_file: one token a line, ``name:permissions:sha256 of the token in hex``, permissions
            among recommend, items and admin with commas between them. Without a file everybody may
            call everything, but for the AdminService, which then answers on loopback alone.
        guard_reflection: ask a token, of any permission, of those who list services and messages.
    """

    token_file: Path | None = None
    guard_reflection: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError where an option lacks another one."""
        if self.guard_reflection and self.token_file is None:
            raise ConfigError(
                "auth.token_file: not set, expected a file: auth.guard_reflection is set, and "
                "without tokens nobody could pass"
            )


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call through whose token has the permission that its method asks for.

    What is refused is refused before a byte of the request is read.

    Attributes:
        tokens: those that are taken; None where there is no file of them.
    """

    def __init__(self, config: AuthConfig, *, host: str, metrics: "Metrics | None" = None) -> None:
        """Read the tokens.

        Args:
            config: which tokens are taken.
            host: what the server listens on, as in `ServerConfig`.
            metrics: to count what is refused.

        Raises:
            ConfigError: the file of tokens cannot be used.
        """
        self.tokens = Tokens(config.token_file) if config.token_file else None
        self._local = is_loopback(host)
        self._guard_reflection = config.guard_reflection
        self._unknown_caller = _refusal(
            grpc.StatusCode.UNAUTHENTICATED,
            "expected a valid token in the request header 'authorization: Bearer TOKEN'",
            metrics,
        )
        self._not_permitted = {
            needed: _refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the token lacks the permission {next(iter(needed))}",
                metrics,
            )
            for needed in map(frozenset, ({permission} for permission in Permission))
        }
        self._not_local = _refusal(
            grpc.StatusCode.PERMISSION_DENIED,
            "without a file of tokens the server answers this on a loopback address alone",
            metrics,
        )

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Return the method's handler, or one that refuses the call."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        needed = METHODS.get(method, _UNLISTED)
        if self._guard_reflection and method.startswith("/grpc.reflection."):
            needed = _ANY
        if handler is None or not needed:
            return handler
        if self.tokens is None:
            closed = needed == _UNLISTED and not self._local
            return self._not_local if closed else handler
        token = self.tokens.find(_authorization(handler_call_details.invocation_metadata))
        if token is None:
            return self._unknown_caller
        if not needed & token.permissions:
            return self._not_permitted[needed]
        if needed == _UNLISTED:
            logger.info("%s called by %s", method, token.name)
        return handler


def exposures(host: str, tls: TlsConfig, auth: AuthConfig) -> tuple[str, ...]:
    """Return what an operator should be warned of, each thing as a sentence.

    >>> exposures("127.0.0.1", TlsConfig(), AuthConfig())
    ()
    >>> for warning in exposures("0.0.0.0", TlsConfig(), AuthConfig()): print(warning)
    0.0.0.0: whoever reaches this port reads what is sent over it; set tls.certificate and tls.key
    0.0.0.0: whoever reaches this port may call it; set auth.token_file or tls.client_ca
    """
    if is_loopback(host):
        return ()
    found = []
    if not tls.enabled:
        found.append(
            f"{host}: whoever reaches this port reads what is sent over it"
            f"{', tokens too' if auth.token_file else ''}; set tls.certificate and tls.key"
        )
    if auth.token_file is None and tls.client_ca is None:
        found.append(
            f"{host}: whoever reaches this port may call it; set auth.token_file or tls.client_ca"
        )
    return tuple(found)


def _authorization(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    """Return the one header that has the token; "" where there is none, or more than one."""
    found = [value for key, value in metadata or () if key == "authorization"]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else ""


def _refusal(code: grpc.StatusCode, message: str, metrics: "Metrics | None") -> Any:
    # Of streams, whatever the method: the handler of one message would wait until it is there.
    async def refuse(_: object, context: Context) -> None:
        if metrics is not None:
            metrics.count_rejection("unauthenticated")
        await context.abort(code, message)

    return grpc.stream_stream_rpc_method_handler(refuse)
