"""One ONNX graph, loaded, checked and ready to run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fuserank.engine.providers import Device, check_device, provider_options
from fuserank.errors import BundleIntegrityError

__all__ = ["GraphSession"]

Array = npt.NDArray[Any]


class GraphSession:
    """A graph on a resolved device; thread-safe, and the GIL is released while it runs.

    Attributes:
        input_names: names of the graph's inputs, in order.
        output_names: names of the graph's outputs, in order.
    """

    def __init__(self, path: Path, device: Device = Device.CPU, *, threads: int = 0) -> None:
        """Load a graph.

        Args:
            path: an ONNX file.
            device: `CPU` or `CUDA`, as `resolve_device` returned it.
            threads: intra-op threads; 0 takes one for each core.

        Raises:
            BundleIntegrityError: the file is not an ONNX graph that ONNX Runtime can load.
            ProviderError: the session does not run on the device.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # A serving process idles between requests; spinning threads would take its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(
                str(path), sess_options=options, providers=provider_options(device)
            )
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault
            raise BundleIntegrityError(
                f"{path}: expected an ONNX graph that ONNX Runtime can load, found: {error}"
            ) from error
        check_device(self._session, device, path.name)
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays and return every output by name."""
        feeds = {name: inputs[name] for name in self.input_names}
        outputs = self._session.run(None, feeds)
        return dict(zip(self.output_names, map(np.asarray, outputs), strict=True))
