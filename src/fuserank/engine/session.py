"""One ONNX graph, loaded, checked and ready to run."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fuserank.engine.providers import Device, check_device, place, provider_options
from fuserank.errors import BundleIntegrityError

__all__ = ["BoundRun", "GraphSession"]

Array = npt.NDArray[Any]

# The CPU's kernel of this fused operator takes seven times as long as the sum and the normalisation
# that it stands for (ONNX Runtime 1.31), a fifth of all the time of a text encoder.
_SLOW_FUSIONS = ("SkipLayerNormFusion",)
# The pause between two operators is far shorter; that between two requests need not be.
_SPIN_US = 1000


class GraphSession:
    """A graph on a resolved device; thread-safe, and the GIL is released while it runs.

    Attributes:
        input_names: names of the graph's inputs, in order.
        output_names: names of the graph's outputs, in order.
    """

    def __init__(
        self,
        path: Path,
        device: Device = Device.CPU,
        *,
        threads: int = 0,
        captured: bool = False,
        spinning: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            path: an ONNX file.
            device: `CPU` or `CUDA`, as `resolve_device` returned it.
            threads: intra-op threads; 0 takes one for each core.
            captured: CUDA records the runs of each `BoundRun` and replays them.
            spinning: whether threads wait busily for the next operator, for a millisecond at most.
                That takes a third off a run of many small operators, and takes cores meanwhile.

        Raises:
            BundleIntegrityError: the file is not an ONNX graph that ONNX Runtime can load.
            ProviderError: the session does not run on the device.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # A process that serves idles between requests; threads that spin on would take its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
        try:
            self._session = ort.InferenceSession(
                str(path),
                sess_options=options,
                providers=provider_options(device, captured=captured),
                disabled_optimizers=_SLOW_FUSIONS if device is Device.CPU else (),
            )
        except Exception as error:  # ONNX Runtime raises a class of its own for each fault
            raise BundleIntegrityError(
                f"{path}: expected an ONNX graph that ONNX Runtime can load, found: {error}"
            ) from error
        check_device(self._session, device, path.name)
        self._device = device
        self._options = ort.RunOptions()
        if captured:
            # What is not bound has another place each time, and is not to be recorded.
            self._options.add_run_config_entry("gpu_graph_id", "-1")
        self._n_bound = 0
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on named arrays and return every output by name."""
        feeds = {name: inputs[name] for name in self.input_names}
        outputs = self._session.run(None, feeds, self._options)
        return dict(zip(self.output_names, map(np.asarray, outputs), strict=True))

    def bind(
        self,
        resident: Mapping[str, ort.OrtValue],
        changing: Mapping[str, Array],
        outputs: Mapping[str, Array],
    ) -> "BoundRun":
        """Fix where the graph reads and writes, so that a run copies what changes and no more.

        Args:
            resident: inputs that lie where they are needed.
            changing: the other inputs, in the shapes that every run will have.
            outputs: outputs, in their shapes.
        """
        self._n_bound += 1
        placed = {name: place(array, self._device) for name, array in changing.items()}
        written = {name: place(array, self._device) for name, array in outputs.items()}
        return BoundRun(self._session, self._n_bound, {**resident, **placed}, placed, written)


class BoundRun:
    """A graph with fixed inputs, outputs and shapes; thread-safe, one run at a time.

    On CUDA the first run is recorded, and every later one is a single launch of the record.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        number: int,
        inputs: Mapping[str, ort.OrtValue],
        changing: Mapping[str, ort.OrtValue],
        outputs: Mapping[str, ort.OrtValue],
    ) -> None:
        """Take what `GraphSession.bind` placed; the number tells one record from another."""
        self._session = session
        self._changing, self._outputs = changing, outputs
        self._binding = session.io_binding()
        for name, value in inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(number))
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run on new values of what changes, and return copies of the outputs."""
        with self._lock:
            for name, value in self._changing.items():
                value.update_inplace(np.ascontiguousarray(inputs[name]))
            self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding, self._options)
            self._binding.synchronize_outputs()
            return {name: value.numpy().copy() for name, value in self._outputs.items()}
