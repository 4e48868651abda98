"""Options of a benchmark."""

from dataclasses import dataclass

from fuserank.engine.providers import Device
from fuserank.errors import ConfigError

__all__ = ["BenchConfig"]


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """How a workload is measured.

    Attributes:
        k: items wanted a request.
        requests: requests of one scenario at most.
        seconds: seconds in which requests of one scenario may start.
        rate: Poisson arrivals a second; 0 takes half of what the system's single stream reached.
        threads: threads of the engine, the naive way and the floor; 0 takes one for each core.
        device: where graphs run.
        seed: of the requests and of the arrival times.
        grpc: also measure a server over gRPC.
    """

    k: int = 10
    requests: int = 200
    seconds: float = 10.0
    rate: float = 0.0
    threads: int = 0
    device: Device = Device.AUTO
    seed: int = 0
    grpc: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigError where a value is out of range."""
        for name in ("k", "requests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 1 or more")
        for name in ("threads", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}: found {getattr(self, name)}, expected 0 or more")
        if not 0.0 < self.seconds < float("inf"):
            raise ConfigError(f"seconds: found {self.seconds}, expected more than 0")
        if not 0.0 <= self.rate < float("inf"):
            raise ConfigError(
                f"rate: found {self.rate}, expected arrivals a second, or 0 to choose the rate "
                "by what the system reaches"
            )
