"""Between the messages of the AdminService and what operators are told."""

from dataclasses import dataclass

from fuserank.engine.results import BundleInfo
from fuserank.server.bundles.loaded import Loaded, Role
from fuserank.server.bundles.shadow import ShadowComparison
from fuserank.server.messages import conversion
from fuserank.server.pb import admin_pb2

__all__ = ["LoadedBundle", "bundle_from_proto", "bundle_to_proto"]

_ROLES = {
    Role.ACTIVE: admin_pb2.BUNDLE_ROLE_ACTIVE,
    Role.PREVIOUS: admin_pb2.BUNDLE_ROLE_PREVIOUS,
    Role.CANDIDATE: admin_pb2.BUNDLE_ROLE_CANDIDATE,
}
_ROLE_OF = {number: role for role, number in _ROLES.items()}


@dataclass(frozen=True, kw_only=True)
class LoadedBundle:
    """A bundle that a server has loaded.

    Attributes:
        info: what it holds.
        role: what it does: ``"active"``, ``"previous"`` or ``"candidate"``; ``"unspecified"`` from
            a server that knows more roles.
        shadow: of a candidate, how it compares with the active bundle; None where nothing is
            compared.
    """

    info: BundleInfo
    role: str
    shadow: ShadowComparison | None = None


def bundle_to_proto(loaded: Loaded, shadow: ShadowComparison | None) -> admin_pb2.LoadedBundle:
    """Return the message for a loaded bundle."""
    message = admin_pb2.LoadedBundle(
        bundle_info=conversion.info_to_proto(loaded.info), role=_ROLES[loaded.role]
    )
    if shadow is not None:
        message.shadow.CopyFrom(
            admin_pb2.ShadowComparison(
                request_count=shadow.request_count,
                rank_biased_overlap=shadow.rank_biased_overlap or 0.0,
                error_count=shadow.error_count,
            )
        )
    return message


def bundle_from_proto(message: admin_pb2.LoadedBundle) -> LoadedBundle:
    """Return what a message says of a loaded bundle."""
    shadow = None
    if message.HasField("shadow"):
        found = message.shadow
        answered = found.request_count > found.error_count
        shadow = ShadowComparison(
            request_count=found.request_count,
            rank_biased_overlap=found.rank_biased_overlap if answered else None,
            error_count=found.error_count,
        )
    return LoadedBundle(
        info=conversion.info_from_proto(message.bundle_info),
        role=str(_ROLE_OF.get(message.role, "unspecified")),
        shadow=shadow,
    )
