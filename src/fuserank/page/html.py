"""Parts of a page: sections, tables, figures, and the document that holds them."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from fuserank.page.plot import look
from fuserank.page.style import STYLE

__all__ = ["document", "figure", "section", "table"]


def document(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """Return a page that needs no script, no font, no file and no network.

    Args:
        title: the heading; escaped.
        subtitle: one sentence below it, or empty; escaped.
        sections: HTML, as `section` makes it.
    """
    heading = escape(title)
    sentence = f"<p>{escape(subtitle)}</p>\n" if subtitle else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{heading}</h1>\n{sentence}</header>\n{''.join(sections)}"
        "</main>\n</body>\n</html>\n"
    )


def section(heading: str, body: str) -> str:
    """Return a section under a heading; nothing where there is no HTML to stand in it."""
    if not body:
        return ""
    # Figures stand side by side where there is room; a table has the width to itself.
    return f'<section>\n<h2>{heading}</h2>\n<div class="parts">\n{body}</div>\n</section>\n'


def table(
    head: Sequence[str], groups: Mapping[str, Iterable[tuple[str, Sequence[str]]]], caption: str
) -> str:
    """Return a table of HTML cells; the first header names the rows, a group may have no name."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = ""
    for name, rows in groups.items():
        body += "<tbody>\n"
        if name:
            body += f'<tr><th scope="rowgroup" colspan="{len(head)}">{escape(name)}</th></tr>\n'
        for row, cells in rows:
            found = "".join(f"<td>{cell}</td>" for cell in cells)
            body += f'<tr><th scope="row">{row}</th>{found}</tr>\n'
        body += "</tbody>\n"
    return (
        # Who has no mouse scrolls what is wider than the page with the keyboard.
        f'<div class="wide" role="region" tabindex="0" aria-label="{caption}"><table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{top}</tr></thead>\n{body}</table></div>\n"
    )


def figure(title: str, svg: str, legend: Sequence[tuple[int, str]], details: str = "") -> str:
    """Return a drawing with its title and legend, and a table of its figures to be opened.

    Args:
        title: HTML.
        svg: as `Plot.draw` makes it.
        legend: number and name of each series; names are escaped.
        details: HTML, as `table` makes it, or empty.
    """
    keys = "".join(
        '<li><svg viewBox="0 0 28 8" aria-hidden="true">'
        f'<path class="{look(series)}" d="M2 4H26"/></svg>{escape(text)}</li>'
        for series, text in legend
    )
    if details:
        details = f"<details><summary>Figures</summary>\n{details}</details>\n"
    return f"<figure>\n<figcaption>{title}</figcaption>\n<ul>{keys}</ul>\n{svg}{details}</figure>\n"
