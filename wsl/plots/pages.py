"""Figures to files: a picture with its table, or one page of many that loads nothing."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wsl.base import write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_page(
    path: str | Path,
    title: str,
    figures: Mapping[str, tuple[Figure, Mapping[str, Sequence]]],
    *,
    notes: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write one self-contained HTML page, and beside it the table of every figure as CSV.

    Figures are vector graphics inside of the page: nothing is loaded from elsewhere. ``notes`` are
    sentences that stand above a figure, by its name, in the lines that they are given in; ``facts``
    are lines of a card below the title.
    Returns the tables' files, named after the page and the figure.
    """
    place, parts, tables = Path(path), [_card(facts)] if facts else [], []
    for name, (figure, table) in figures.items():
        file = place.with_name(f"{place.stem}_{name}.csv")
        write_csv(file, table)
        tables.append(file)
        parts.append(_part(name, figure, note=(notes or {}).get(name, ""), link=file.name))
    head = html.escape(title)
    place.write_text(_PAGE.format(title=head, body="\n".join(parts)), encoding="utf-8")
    return tables


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
.note {{ white-space: pre-wrap }}
svg {{ max-width: 100%; height: auto }} dd {{ overflow-wrap: anywhere }}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def _card(facts: Mapping[str, str]) -> str:
    """Names and what is said of them, as a list of a page."""
    rows = [f"<dt>{html.escape(n)}</dt><dd>{html.escape(told)}</dd>" for n, told in facts.items()]
    return '<h2 id="card">card</h2>\n<dl>\n' + "\n".join(rows) + "\n</dl>"


def _part(name: str, figure: Figure, *, note: str, link: str) -> str:
    """The part of a page that shows one figure, with a link to its table."""
    link = html.escape(link)
    return (
        f'<h2 id="{name}">{name}</h2>\n<p class="note">{html.escape(note)}</p>\n{_svg(figure)}\n'
        f'<p><a href="{link}">{link}</a></p>'
    )


def _svg(figure: Figure) -> str:
    """A figure as an element of a page, without what names its maker and the day.

    Names of parts inside of it are hashes, salted alike, so that equal runs write equal pages.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "wsl"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_figure(path: str | Path, figure: Figure, table: Mapping[str, Sequence]) -> None:
    """Write ``figure``, and its numbers beside it with the suffix ``.csv``.

    The suffix of ``path`` chooses the format.
    """
    figure.savefig(path, dpi=150)
    write_csv(Path(path).with_suffix(".csv"), table)
