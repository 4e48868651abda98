"""Execution providers: the one place where their names occur.

ONNX Runtime falls back to the CPU without an error when CUDA cannot be loaded, and its list of
*available* providers names what was compiled in, not what works. So a device is chosen here by
trying it, and every session is asked afterwards which provider it really runs on.
"""

import ctypes
import logging
import os
import sys
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fuserank.errors import ProviderError

__all__ = ["Device", "check_device", "cores", "place", "provider_options", "resolve_device"]

logger = logging.getLogger(__name__)

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class Device(StrEnum):
    """Where graphs run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_device(device: Device | str) -> Device:
    """Return `CPU` or `CUDA` for what was asked; `auto` takes CUDA where it works.

    Raises:
        ProviderError: an unknown device, or CUDA asked for and not usable; says what is missing.
    """
    try:
        wanted = Device(device)
    except ValueError:
        choices = ", ".join(Device)
        raise ProviderError(f"device: found {device!r}, expected one of {choices}") from None
    if wanted is Device.CPU:
        return Device.CPU
    missing = _missing_for_cuda()
    if not missing:
        return Device.CUDA
    if wanted is Device.AUTO:
        logger.info("running on the CPU: %s", missing)
        return Device.CPU
    raise ProviderError(
        f"device 'cuda' was asked for, but {missing}; use device='cpu', or 'auto' to take "
        "whichever works"
    )


def provider_options(device: Device, *, captured: bool = False) -> list[tuple[str, dict[str, Any]]]:
    """Return the providers of a session on a resolved device, in ONNX Runtime's form.

    Args:
        device: `CPU` or `CUDA`.
        captured: record runs as CUDA graphs, which are launched as one from then on.
    """
    if device is Device.CUDA:
        options = {
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(captured)),
            # Ten bits of a factor would not give the scores that the CPU gives.
            "use_tf32": "0",
        }
        # The CPU comes second because shape arithmetic belongs there; `check_device` makes sure
        # that it is not all that is left.
        return [(_CUDA, options), (_CPU, {})]
    return [(_CPU, {})]


def place(array: npt.NDArray[Any], device: Device) -> ort.OrtValue:
    """Return a copy of an array in the memory of a device."""
    name = "cuda" if device is Device.CUDA else "cpu"
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), name, 0)


def check_device(session: ort.InferenceSession, device: Device, graph: str) -> None:
    """Raise unless a session really runs on the device it was made for.

    Raises:
        ProviderError: CUDA was wanted and the session fell back to the CPU.
    """
    providers = session.get_providers()
    if device is Device.CUDA and (not providers or providers[0] != _CUDA):
        raise ProviderError(
            f"graph {graph!r}: expected to run on {_CUDA}, found {providers}; "
            "the CUDA libraries loaded but the provider refused the session"
        )


def _missing_for_cuda() -> str:
    """Say what keeps CUDA from working, or return an empty string where it works."""
    if _CUDA not in ort.get_available_providers():
        return (
            "the installed ONNX Runtime has no CUDA provider "
            "(remedy: pip install 'fuserank[gpu]' on Linux x86-64 or Windows)"
        )
    driver = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(driver)
    except OSError:
        return f"no NVIDIA driver was found ({driver} does not load)"
    return _missing_cuda_libraries()


def _missing_cuda_libraries() -> str:
    """Load CUDA and cuDNN from the packages of the gpu extra and try a session on them."""
    ort.preload_dlls()
    session = ort.InferenceSession(_IDENTITY_GRAPH, providers=[_CUDA, _CPU])
    if session.get_providers()[0] != _CUDA:
        return (
            "the CUDA 13 and cuDNN 9 libraries do not load "
            "(remedy: pip install 'fuserank[gpu]'; a driver for CUDA 13 is needed)"
        )
    return ""


# y = Identity(x), opset 17, float (1,): the smallest model that shows whether a provider loads.
# Kept as bytes because what serves does not import onnx.
_IDENTITY_GRAPH = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a001011"
)
