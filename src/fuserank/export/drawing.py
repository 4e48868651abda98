"""A picture of a factorised ranker: its three parts in three colours."""

import shutil
import subprocess
from pathlib import Path

import onnx

from fuserank.bundle.atomic import write_file
from fuserank.errors import ExportError
from fuserank.export.factorise import Factorised

__all__ = ["as_dot", "draw"]

_FILLS = {"user": "#cfe2f3", "item": "#d9ead3", "joint": "#fce5cd"}


def draw(parts: Factorised, target: Path) -> None:
    """Write the picture: ``.dot`` as text, any other ending through Graphviz.

    Raises:
        ExportError: Graphviz is not there, or does not know the ending.
    """
    text = as_dot(parts)
    if target.suffix == ".dot":
        write_file(target, text)
        return
    program = shutil.which("dot")
    if program is None:
        raise ExportError(
            f"{target}: drawing needs Graphviz, whose program 'dot' was not found; install it, "
            "or name a file that ends in .dot"
        )
    command = [program, f"-T{target.suffix.lstrip('.')}"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode:
        raise ExportError(f"{target}: Graphviz refused: {done.stderr.decode().strip()}")
    write_file(target, done.stdout)


def as_dot(parts: Factorised) -> str:
    """Return the three graphs in Graphviz's language; states join them."""
    lines = ["digraph ranker {", "rankdir=TB; node [shape=box, style=filled, fontname=Helvetica];"]
    graphs = {"user": parts.user, "item": parts.item, "joint": parts.joint}
    for part, model in graphs.items():
        lines += [f"subgraph cluster_{part} {{", f'label="{part}"; color="{_FILLS[part]}";']
        lines += _nodes(part, model)
        lines.append("}")
    for value in parts.joint.graph.input:
        part = value.name.partition("_")[0]
        lines.append(f'"{part}/{value.name}" -> "joint/{value.name}" [style=bold];')
    return "\n".join([*lines, "}"]) + "\n"


def _nodes(part: str, model: onnx.ModelProto) -> list[str]:
    fill, graph = _FILLS[part], model.graph
    constants = {tensor.name for tensor in graph.initializer}
    lines = [
        f'"{part}/{value.name}" [label="{value.name}", shape=ellipse, fillcolor="{fill}"];'
        for value in [*graph.input, *graph.output]
    ]
    made: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        name = f"{part}/#{index}"
        lines.append(f'"{name}" [label="{node.op_type}", fillcolor="{fill}"];')
        lines += [
            f'"{made.get(source, f"{part}/{source}")}" -> "{name}";'
            for source in node.input
            if source and source not in constants
        ]
        made.update(dict.fromkeys(node.output, name))
    lines += [
        f'"{made[value.name]}" -> "{part}/{value.name}";'
        for value in graph.output
        if value.name in made
    ]
    return lines
