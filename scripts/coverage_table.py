"""The page that `symmetry_coverage.py` writes: a summary, then one table for every collection,
misses with their reasons.

A network counts as verified when a draw of the weights has a difference below the tolerance, and no
draw before it is off by more than `ROUNDING`: random weights can amplify rounding far beyond the
tolerance, but a wrong group is off by much more, at every draw. All draws are shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]
ROUNDING = 1e-6
FEW = 0.9
_SMALL = 1e-9
"""Above this difference all draws are shown."""
"""Below this share of movable entries the largest reasons are named."""

HEAD = """# Symmetry coverage

This page answers whether wsl finds the permutation symmetry of networks that other people wrote.
It lists hundreds of networks and layers, each discovered without help and then proved. Look your
network's family up in it, and read the columns *movable* and *difference* first: the first should
be near 100 %, the second near the precision of float64.

The page is written by `scripts/symmetry_coverage.py` from its results alone, and the script says
how each number is obtained. A random element of the whole group that `wsl.permutation_spec` found
acts on random weights and buffers, in float64; *difference* is the relative change of the output.
*control* is the same with one tensor left unpermuted: it must be large. *groups* counts a family
once for each of its copies; *movable* is the share of entries with at least one axis that a group
permutes, in brackets the share of those parameters that the call uses, where it differs; *seconds*
is processor time of discovery, export included, on one thread. Seed 0; for layers of other packages
three seeds, the least difference shown.

Everything that is found is proved. It is not proved that nothing was missed, and two things are
known to be: the inside of the blocks of a grouped convolution could be permuted in every block on
its own, and not only in all alike; and a channel shuffle interleaves units, which sums of products
cannot express once the axis is cut at an odd place.

Some layers of other packages do not move at all, for reasons of their own: autoregressive
flows, whose masks of True and False tell units apart; adapters that write entries of a matrix by
stored positions (BOFT, SUPERTUNING, UNILORA, ADAMSS, FROD), make it by a Fourier or wavelet
transform (FOURIERFT, WAVEFT), or keep factors of the base weights outside the state dict (PSOFT,
OSF); a KAN of pykan whose formulas are evaluated edge by edge in Python. Without formulas it moves.
"""


def page(rows: Sequence[Row], *, tolerance: float, before: str = "") -> str:
    """The whole page; ``before`` is the page so far, of which collections without rows stay."""
    suites = list(dict.fromkeys(row["suite"] for row in rows))
    head, kept = _kept(before, suites)
    parts = [HEAD, _summary(rows, suites, tolerance, head), *kept]
    for suite in suites:
        parts.append(
            _suite(
                suite,
                sorted((r for r in rows if r["suite"] == suite), key=lambda r: r["name"]),
                tolerance,
            )
        )
    return "\n".join(parts)


def _kept(before: str, suites: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of a page, lines of the summary and sections of collections other than ``suites``."""
    head, *sections = before.split("\n## ")
    names = [section.partition("\n")[0] for section in sections]
    pairs = [(n, f"## {s.rstrip()}\n") for n, s in zip(names, sections, strict=True)]
    others = [(name, section) for name, section in pairs if name not in suites]
    starts = tuple(f"| {name} |" for name, _ in others)
    return [ln for ln in head.splitlines() if ln.startswith(starts or "none")], [
        section for _, section in others
    ]


def verified(row: Row, tolerance: float) -> bool:
    """Whether the group is proved to preserve the function, as far as a draw can."""
    draws = row.get("differences") or [float("inf")]
    return min(draws) <= tolerance and max(draws) <= ROUNDING


def _summary(
    rows: Sequence[Row], suites: Sequence[str], tolerance: float, kept: Sequence[str]
) -> str:
    head = "collection, networks, discovered, verified, median movable, least movable, "
    head += "median s, worst difference, least control"
    lines = [f"| {head.replace(', ', ' | ')} |", "|---" * 9 + "|", *kept]
    for suite in suites:
        mine = [row for row in rows if row["suite"] == suite]
        found = [row for row in mine if "groups" in row]
        proved = [row for row in found if verified(row, tolerance)]
        movable = [row["movable"] for row in found] or [0.0]
        seconds = [row["seconds"] for row in found] or [0.0]
        worst = max((min(row["differences"]) for row in proved), default=float("nan"))
        control = min(
            (max(row["control"].values()) for row in proved if row.get("control")),
            default=float("nan"),
        )
        lines.append(
            f"| {suite} | {len(mine)} | {len(found)} | {len(proved)} | "
            f"{statistics.median(movable):.1%} | {min(movable):.1%} "
            f"| {statistics.median(seconds):.1f} | {worst:.0e} | {control:.0e} |"
        )
    return "\n".join(lines) + "\n"


def _suite(suite: str, rows: Sequence[Row], tolerance: float) -> str:
    versions = sorted(
        {f"{name} {version}" for row in rows for name, version in row.get("packages", {}).items()}
    )
    lines = [
        f"## {suite}\n",
        f"With {', '.join(versions)}.\n",
        "| network | parameters | groups | log10 order | movable | difference | control | seconds "
        "| note |",
        "|---" * 9 + "|",
        *(_row(row) for row in rows),
        "",
    ]
    missed = [row for row in rows if not verified(row, tolerance)]
    lines += [
        "### Missed\n",
        *(f"- `{row['name']}`: {row.get('error', 'the function changes')}" for row in missed),
        "",
    ]
    return "\n".join(lines if missed else lines[:-2])


def _row(row: Row) -> str:
    draws = row.get("differences")
    cells = [
        f"`{row['name']}`",
        f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else "",
        str(row.get("groups", "")),
        f"{row['log10_order']:.0f}" if "log10_order" in row else "",
        _share(row),
        f"{min(draws):.0e}" if draws else "",
        f"{max(row['control'].values()):.0e}" if row.get("control") else "",
        f"{row['seconds']:.1f}" if "seconds" in row else "",
        "; ".join(_notes(row)).replace("|", "\\|"),
    ]
    return "| " + " | ".join(cells) + " |"


def _share(row: Row) -> str:
    """The movable share, and of what the call uses alone if that is another."""
    if "movable" not in row:
        return ""
    shown = [f"{row[key]:.1%}" for key in ("movable", "used") if key in row]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} ({shown[1]})"


def _notes(row: Row) -> Iterator[str]:
    if "error" in row:
        yield row["error"]
    if max(row.get("differences", [0])) > _SMALL:
        yield f"draws {', '.join(f'{d:.0e}' for d in row['differences'])}"
    if row.get("used", row.get("movable", 1)) < FEW:
        largest = list(row["pinned"].items())[:3]
        yield "fixed: " + ", ".join(
            f"{reason} ({count / row['parameters']:.0%})" for reason, count in largest
        )
    for name, difference in row.get("control", {}).items():
        if difference <= ROUNDING:
            yield f"control: nothing depends on how `{name}` moves"
