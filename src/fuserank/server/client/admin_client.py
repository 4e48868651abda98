"""The client for operators: loads, promotes and takes back bundles of a running server."""

from typing import Any, Self, Unpack

import grpc

from fuserank.errors import UnknownVersionError
from fuserank.server.client.channel import ChannelKeywords, ChannelOptions, open_channel
from fuserank.server.messages.admin_conversion import LoadedBundle, bundle_from_proto
from fuserank.server.messages.status import error_of
from fuserank.server.pb import admin_pb2, admin_pb2_grpc

__all__ = ["AdminClient"]

_TIMEOUT_S = 600.0


class AdminClient:
    """Calls the AdminService of a server and waits for each answer.

    A failed call raises what the server says: RequestError, UnknownVersionError, BundleError;
    beside these UnavailableError where no server answers, and ServerError for a call that failed,
    was not allowed or took too long.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = _TIMEOUT_S,
        **connection: Unpack[ChannelKeywords],
    ) -> None:
        """Take an address; the connection is made by the first call.

        Args:
            address: ``host:port``.
            timeout_s: seconds that one call may take. A load reads every byte of the bundle, and
                goes on in the server where the client waits no longer.
            connection: the attributes of `ChannelOptions`, such as ``token="..."``.

        Raises:
            ConfigError: the options contradict each other, or a file cannot be read.
        """
        self._address, self._timeout_s = address, timeout_s
        self._channel = open_channel(address, ChannelOptions(**connection))
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def list(self) -> tuple[LoadedBundle, ...]:
        """Return what is loaded, the active bundle first."""
        reply = self._call("ListBundles", admin_pb2.ListBundlesRequest())
        return tuple(map(bundle_from_proto, reply.bundles))

    def load(self, name: str) -> LoadedBundle:
        """Load a bundle of the server's folder beside the one that serves.

        Raises:
            RequestError: no name of a directory in the folder.
            BundleError: the bundle cannot be used, or none can be loaded now; what serves goes on.
        """
        reply = self._call("LoadBundle", admin_pb2.LoadBundleRequest(name=name))
        return bundle_from_proto(reply.bundle)

    def promote(self, version: str) -> LoadedBundle:
        """Have a loaded bundle serve from now on.

        Raises:
            UnknownVersionError: no bundle of that version is loaded.
        """
        reply = self._call("PromoteBundle", admin_pb2.PromoteBundleRequest(version=version))
        return bundle_from_proto(reply.bundle)

    def rollback(self) -> LoadedBundle:
        """Have the bundle serve again that did before the last promotion.

        Raises:
            BundleError: there is none.
        """
        reply = self._call("RollbackBundle", admin_pb2.RollbackBundleRequest())
        return bundle_from_proto(reply.bundle)

    def forget(self, user_id: str) -> int:
        """Drop what is kept of a user between requests, and return how many answers that was."""
        reply = self._call("ForgetUser", admin_pb2.ForgetUserRequest(user_id=user_id))
        return int(reply.dropped_count)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, rpc: str, request: object) -> Any:
        try:
            return getattr(self._stub, rpc)(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:  # no admin call names an item
                raise UnknownVersionError(error.details() or "", field="version") from error
            raise error_of(error, self._address) from error
