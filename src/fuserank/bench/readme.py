"""The README's table of measurements, made from the committed results."""

import re
from pathlib import Path

from fuserank.bench.report import Report
from fuserank.bundle.atomic import write_file

__all__ = ["main", "measured", "replaced"]

_RESULTS = Path(__file__).parent / "results"
_BLOCK = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)


def measured(results: Path = _RESULTS) -> str:
    """Return the single-stream figures of every committed result as Markdown."""
    parts = []
    for path in sorted(results.glob("*.json")):
        report = Report.load(path)
        machine = report.machine
        parts.append(
            f"**{report.workload}**: {report.n_items:,} items, {report.scorer} scorer, top "
            f"{report.k}; {machine.cpu}, {machine.cores} cores, {report.threads} threads, load "
            f"average {machine.load:.1f} at the start. Reading the item states once takes "
            f"{report.floor_ms:.2f} ms. `{report.command}`\n\n"
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


def replaced(readme: str, table: str) -> str:
    """Return a README with the measurements between its two markers replaced."""
    return _BLOCK.sub(lambda _: table, readme)


def main() -> None:
    """Rewrite README.md in the working directory."""
    path = Path("README.md")
    write_file(path, replaced(path.read_text(encoding="utf-8"), measured()))


if __name__ == "__main__":
    main()
