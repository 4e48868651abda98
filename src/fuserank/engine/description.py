"""What is told of a bundle that was loaded."""

from fuserank.bundle import Bundle
from fuserank.engine.providers import Device
from fuserank.engine.results import BundleInfo, FieldInfo
from fuserank.schema import Side

__all__ = ["describe"]


def describe(bundle: Bundle, device: Device, n_users: int) -> BundleInfo:
    """Return what a bundle's manifest says of it.

    Args:
        bundle: that was opened.
        device: where its graphs run.
        n_users: stored users.
    """
    manifest = bundle.manifest
    return BundleInfo(
        name=manifest.name,
        version=manifest.version,
        format_version=manifest.format_version,
        space=manifest.space,
        model=manifest.model,
        scorer=manifest.scorer.kind.value,
        n_items=manifest.n_items,
        n_users=n_users,
        title=manifest.title,
        threshold=manifest.threshold,
        encoder=manifest.encoder.model if manifest.encoder else None,
        precision=manifest.encoder.precision if manifest.encoder else None,
        device=device.value,
        user_fields=tuple(
            FieldInfo(name=f.field.name, kind=f.field.kind.value)
            for f in bundle.schema.side(Side.USER, Side.CONTEXT)
        ),
        degraded=manifest.encoder.degraded if manifest.encoder else (),
    )
