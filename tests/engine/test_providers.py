"""Devices: what is asked for is what runs, or the error says what is missing."""

from types import SimpleNamespace

import onnxruntime as ort
import pytest

from fuserank.engine import providers
from fuserank.engine.providers import Device, check_device, provider_options, resolve_device
from fuserank.errors import ProviderError


@pytest.fixture
def without_provider(monkeypatch):
    """An ONNX Runtime that was built for the CPU alone."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.fixture
def with_provider(monkeypatch):
    """An ONNX Runtime that was built for CUDA too, whatever the machine has."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)


@pytest.fixture
def without_driver(monkeypatch, with_provider):
    def fail(name):
        raise OSError(name)

    monkeypatch.setattr(providers.ctypes, "CDLL", fail)


@pytest.fixture
def without_libraries(monkeypatch, with_provider):
    """A machine with a driver on which ONNX Runtime falls back to the CPU without an error."""
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda *args, **options: session)


CASES = [
    ("without_provider", "has no CUDA provider .*pip install"),
    ("without_driver", r"no NVIDIA driver was found \((libcuda.so.1|nvcuda.dll) does not load\)"),
    ("without_libraries", "CUDA 13 and cuDNN 9 libraries do not load .*pip install"),
]


@pytest.mark.parametrize(("machine", "missing"), CASES)
def test_cuda_that_is_not_there_is_an_error_that_names_what_is_missing(request, machine, missing):
    request.getfixturevalue(machine)
    with pytest.raises(
        ProviderError, match=f"device 'cuda' was asked for, but .*{missing}.*use device='cpu'"
    ):
        resolve_device("cuda")


@pytest.mark.parametrize(("machine", "missing"), CASES)
def test_auto_takes_the_cpu_where_cuda_is_not_there(request, machine, missing):
    request.getfixturevalue(machine)
    assert resolve_device("auto") is Device.CPU
    assert resolve_device(Device.AUTO) is Device.CPU


def test_cpu_is_not_tried_for_cuda(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: pytest.fail("asked"))
    assert resolve_device("cpu") is Device.CPU


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:0", ""])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(
        ProviderError, match=f"device: found '{device}', expected one of auto, cpu, cuda"
    ):
        resolve_device(device)


def test_the_graph_that_tries_a_provider_loads():
    session = ort.InferenceSession(providers._IDENTITY_GRAPH, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": [1.5]})[0].tolist() == [1.5]


def test_the_cpu_has_no_other_provider():
    assert [name for name, _ in provider_options(Device.CPU)] == ["CPUExecutionProvider"]
    assert next(name for name, _ in provider_options(Device.CUDA)) == "CUDAExecutionProvider"


def test_a_session_that_fell_back_to_the_cpu_is_refused():
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    check_device(session, Device.CPU, "user.onnx")
    with pytest.raises(ProviderError, match=r"graph 'user.onnx': expected to run on CUDA"):
        check_device(session, Device.CUDA, "user.onnx")
