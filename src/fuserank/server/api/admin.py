"""The gRPC service for operators: bundles come and go, users are forgotten."""
# ruff: noqa: N802 - methods have the names of their RPCs.

from collections.abc import Callable
from typing import Any

from fuserank.errors import RequestError
from fuserank.server.api.answering import Context, always_answered
from fuserank.server.bundles.bundles import Bundles
from fuserank.server.bundles.loaded import Loaded
from fuserank.server.bundles.shadow import Shadow
from fuserank.server.messages.admin_conversion import bundle_to_proto
from fuserank.server.pb import admin_pb2, admin_pb2_grpc
from fuserank.server.workers.relay import Relay

__all__ = ["SERVICE_NAME", "AdminServicer"]

SERVICE_NAME: str = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name

_MAX_CHARS = 20_000
"""Of a user id; as for other texts of a request."""


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """`fuserank.v1.AdminService`. Who may call it is checked before a call comes here."""

    def __init__(
        self,
        bundles: Bundles[Any],
        shadow: Shadow[Any, Any],
        forget: Callable[[str], int],
        *,
        relay: Relay | None = None,
    ) -> None:
        """Take what operators act on.

        Args:
            bundles: what is loaded.
            shadow: compares candidates.
            forget: drops what is kept of a user, and returns how many answers that was.
            relay: acts on all processes that share the port, of which a call reaches one; None
                where this one is alone.
        """
        self._bundles, self._shadow, self._forget = bundles, shadow, forget
        self._relay = relay

    @always_answered
    async def ListBundles(
        self, request: admin_pb2.ListBundlesRequest, context: Context
    ) -> admin_pb2.ListBundlesResponse:
        """Return what this process has loaded, the active bundle first."""
        return admin_pb2.ListBundlesResponse(
            bundles=[self._describe(loaded) for loaded in self._bundles.loaded()]
        )

    @always_answered
    async def LoadBundle(
        self, request: admin_pb2.LoadBundleRequest, context: Context
    ) -> admin_pb2.LoadBundleResponse:
        """Load a bundle beside the one that serves; it goes on where the caller leaves."""
        loaded = await (self._relay or self._bundles).load(request.name)
        return admin_pb2.LoadBundleResponse(bundle=self._describe(loaded))

    @always_answered
    async def PromoteBundle(
        self, request: admin_pb2.PromoteBundleRequest, context: Context
    ) -> admin_pb2.PromoteBundleResponse:
        """Have a loaded bundle serve."""
        if self._relay is None:
            loaded = self._bundles.promote(request.version)
        else:
            loaded = await self._relay.promote(request.version)
        return admin_pb2.PromoteBundleResponse(bundle=self._describe(loaded))

    @always_answered
    async def RollbackBundle(
        self, request: admin_pb2.RollbackBundleRequest, context: Context
    ) -> admin_pb2.RollbackBundleResponse:
        """Have the previous bundle serve again."""
        if self._relay is None:
            loaded = self._bundles.rollback()
        else:
            loaded = await self._relay.rollback()
        return admin_pb2.RollbackBundleResponse(bundle=self._describe(loaded))

    @always_answered
    async def ForgetUser(
        self, request: admin_pb2.ForgetUserRequest, context: Context
    ) -> admin_pb2.ForgetUserResponse:
        """Drop what is kept of a user."""
        if not 0 < len(request.user_id) <= _MAX_CHARS:
            raise RequestError(
                f"user_id: found {len(request.user_id)} characters, expected 1 to {_MAX_CHARS}",
                field="user_id",
            )
        if self._relay is None:
            dropped = self._forget(request.user_id)
        else:
            dropped = await self._relay.forget(request.user_id)
        return admin_pb2.ForgetUserResponse(dropped_count=dropped)

    def _describe(self, loaded: Loaded) -> admin_pb2.LoadedBundle:
        return bundle_to_proto(loaded, self._shadow.comparison(loaded))
