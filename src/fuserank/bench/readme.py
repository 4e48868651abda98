"""The README's tables of measurements, and its plot, made from the committed results."""

import re
from pathlib import Path

from fuserank.bench.report import Report
from fuserank.bench.scan import BATCH, OURS, OURS_FLOAT, WORKS, ScanReport, ScanRow
from fuserank.bundle.atomic import write_file

__all__ = ["main", "measured", "replaced", "scanned"]

_RESULTS = Path(__file__).parent / "results"
_SCAN = _RESULTS / "scan" / "synthetic.json"
_PLOT = Path("docs") / "scan.svg"


def measured(results: Path = _RESULTS) -> str:
    """Return the single-stream figures of every committed result as Markdown."""
    parts = []
    for path in sorted(results.glob("*.json")):
        report = Report.load(path)
        machine = report.machine
        parts.append(
            f"**{report.workload}**: {report.n_items:,} items, {report.scorer} scorer, top "
            f"{report.k}; {machine.cpu}, {machine.cores} cores, {report.threads} threads, load "
            f"average {machine.load:.1f} at the start. Merely reading what a scan reads, "
            f"{report.state_bytes / 1e6:,.1f} MB, takes {report.floor_ms:.2f} ms. "
            f"`{report.command}`\n\n"
            "| one request at a time | p50 ms | p99 ms | naive ÷ this | this ÷ floor |\n"
            "|---|--:|--:|--:|--:|\n"
        )
        for row in report.results:
            if row.scenario != "single stream":
                continue
            ratio = "" if row.naive_ratio is None else f"{row.naive_ratio:.1f}"
            parts.append(
                f"| {row.system} | {row.summary.p50_ms:.2f} | {row.summary.p99_ms:.2f} "
                f"| {ratio} | {row.floor_ratio:.1f} |\n"
            )
        parts.append("\n")
    return "".join(parts)


def scanned(result: Path = _SCAN) -> str:
    """Return the figures of the scan alone as Markdown."""
    report = ScanReport.load(result)
    machine = report.machine
    batched = [r for r in report.peers if r.queries == BATCH and r.system == OURS]
    shares = ", ".join(
        f"{report.n_items * report.width * BATCH / row.median_ms * 1e3 / report.peak_per_s:.0%} "
        f"for the {row.work}"
        for row in batched
    )
    parts = [
        f"{machine.cpu}, {machine.cores} cores, {report.threads} threads, load average "
        f"{machine.load:.1f} at the start; median of a pass. Merely reading {report.n_items:,} × "
        f"{report.width} states takes {report.read_states_ms:.2f} ms in float32, "
        f"{report.read_codes_ms:.2f} ms as codes. With {BATCH} users the multiply-adds run at "
        f"{shares} of what the same instruction reaches on one block in the nearest cache. "
        f"`{report.command}`\n\n"
        f"| {report.n_items:,} items | 1 user, ms | ÷ fuserank | {BATCH} users, ms | ÷ fuserank |\n"
        "|---|--:|--:|--:|--:|\n"
    ]
    found = {(row.work, row.system, row.queries): row for row in report.peers}
    for work, system in dict.fromkeys((row.work, row.system) for row in report.peers):
        cells = [_cells(found.get((work, system, queries))) for queries in (1, BATCH)]
        parts.append(f"| {work}: {system} | {' | '.join(cells)} |\n")
    parts.append("\n| eligible | " + " | ".join(f"{w}, ms" for w in WORKS) + " |\n|---|--:|--:|\n")
    for share in dict.fromkeys(row.eligible for row in report.filtered):
        mine = {row.work: row for row in report.filtered if row.eligible == share}
        parts.append(
            f"| {share:.2%} | " + " | ".join(f"{mine[w].median_ms:.2f}" for w in WORKS) + " |\n"
        )
    parts.append(
        "\n| items | work | 1 user: codes, ms | float32, ms "
        f"| {BATCH} users: codes, ms | float32, ms |\n|--:|---|--:|--:|--:|--:|\n"
    )
    sizes = {(r.n_items, r.work, r.queries, r.system): r.median_ms for r in report.sizes}
    for n_items, work in dict.fromkeys((row.n_items, row.work) for row in report.sizes):
        cells = [
            f"{sizes[n_items, work, queries, system]:.2f}"
            for queries in (1, BATCH)
            for system in (OURS, OURS_FLOAT)
        ]
        parts.append(f"| {n_items:,} | {work} | {' | '.join(cells)} |\n")
    parts.append(f"\n![Time of a pass by size of the catalogue]({_PLOT.as_posix()})\n")
    return "".join(parts)


def _cells(row: ScanRow | None) -> str:
    return " | " if row is None else f"{row.median_ms:.2f} | {row.times_ours:.1f}"


def replaced(readme: str, marker: str, table: str) -> str:
    """Return a README with what stands between two markers replaced."""
    block = re.compile(rf"(?<=<!-- {marker} -->\n).*?(?=<!-- /{marker} -->)", re.DOTALL)
    return block.sub(lambda _: table, readme)


def _plot(report: ScanReport, path: Path) -> None:
    """Draw the time of a pass over the size of the catalogue."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "fuserank", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for system, line in ((OURS, "-o"), (OURS_FLOAT, "--o")):
            for queries, colour in ((1, "C0"), (BATCH, "C1")):
                rows = [
                    row
                    for row in report.sizes
                    if (row.work, row.system, row.queries) == (WORKS[1], system, queries)
                ]
                users = "1 user" if queries == 1 else f"{queries} users"
                axes.loglog(
                    [row.n_items for row in rows],
                    [row.median_ms for row in rows],
                    line,
                    color=colour,
                    label=f"{system}, {users}",
                )
        axes.set_xlabel("items")
        axes.set_ylabel("ms a pass")
        axes.set_title(f"{WORKS[1]}, {report.width} hidden units, exact top {report.k}")
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Rewrite README.md and its plot in the working directory."""
    path = Path("README.md")
    readme = replaced(path.read_text(encoding="utf-8"), "bench", measured())
    write_file(path, replaced(readme, "scan", scanned()).encode())
    _plot(ScanReport.load(_SCAN), _PLOT)


if __name__ == "__main__":
    main()
