"""The command that measures."""

import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from fuserank import console
from fuserank.bench.config import BenchConfig
from fuserank.errors import ConfigError

if TYPE_CHECKING:
    from fuserank.bench.report import Report
    from fuserank.bench.workloads import Workload

__all__ = ["app", "bench"]

app = cyclopts.App(name="bench")

Json = Annotated[bool, Parameter(name="--json", negative="")]
_DEFAULTS = BenchConfig()


@app.default
def bench(
    bundle: Path | None = None,
    *,
    dataset: Path | None = None,
    synthetic_items: int = 0,
    config: Annotated[BenchConfig, Parameter(name="*")] = _DEFAULTS,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Measure a bundle: in this process, over gRPC, scored naively, and the physical floor.

    Example: fuserank bench movielens.bundle --dataset movielens-100k/dataset.toml

    Example: fuserank bench --synthetic-items 1000000 --out synthetic-1000000.json

    Args:
        bundle: The bundle's directory; its stored users are asked for.
        dataset: The dataset.toml that the bundle was made of: scores it naively as well.
        synthetic_items: Measure a made-up catalogue of so many items instead of a bundle.
        config: How it is measured.
        out: File to write the report to.
        json: Print JSON.
    """
    from fuserank.bench.workloads import bundle_workload

    if (bundle is None) == (synthetic_items == 0):
        raise ConfigError(
            "bench: expected either a bundle or --synthetic-items N, found "
            + ("neither" if bundle is None else "both")
        )
    if bundle is not None:
        report = _measure(bundle_workload(bundle, config.requests, dataset, config.seed), config)
    else:
        report = _measure_synthetic(synthetic_items, config)
    if out is not None:
        report.save(out)
    if json:
        console.print_json(report)
    else:
        console.out.print(report.table())


def _measure_synthetic(n_items: int, config: BenchConfig) -> "Report":
    from fuserank.bench.synthetic import SyntheticItems, synthetic_workload

    items = SyntheticItems(n_items=n_items, seed=config.seed)
    with tempfile.TemporaryDirectory(prefix="fuserank-bench-") as directory:
        with console.progress("precomputing items", n_items) as advance:
            workload = synthetic_workload(
                Path(directory) / "bundle", items, config.requests, on_progress=advance
            )
        return _measure(workload, config)


def _measure(workload: "Workload", config: BenchConfig) -> "Report":
    from fuserank.bench.suite import run_bench

    systems = 1 + config.grpc + 2 * (workload.item_inputs is not None)
    with console.progress("measuring systems", systems) as advance:
        command = shlex.join(["fuserank", *sys.argv[1:]])
        return run_bench(workload, config, command=command, on_progress=advance)
