"""``wsl zoo look FILE [FILE ...] -o page.html``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsl.cli.contents import is_zoo
from wsl.cli.look.shown import Limits
from wsl.cli.outputs import check_elsewhere, check_writable
from wsl.cli.results import write_text
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, detail, say
from wsl.zoo import Checkpoints, Zoo

_AMOUNTS = (
    ("rows", 10_000, "checkpoints shown at most; of more, whole members are drawn"),
    ("align", 1024, "members aligned at most, for the map of aligned weights; 0 for none"),
    ("pairs", 60, "members in the matrix of distances at most; 0 for none"),
)
"""Flags, what they are unless given, and what they limit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags beside the files."""
    parser.add_argument("-o", "--output", required=True, metavar="PAGE", help="page.html to write")
    for name, number, what in _AMOUNTS:
        told = f"{what} (default: {number})"
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=told)
    parser.add_argument(
        "--tsne", action="store_true", help="maps by t-SNE beside those of principal components"
    )
    parser.add_argument(
        "--embed", metavar="RUN", help="folder that wsl train wrote: a map of what it sees"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn, and of t-SNE")


def look(options: argparse.Namespace) -> None:
    """Write the page, and say what of the population it does not show."""
    from wsl.cli.look.document import document  # the verbs beside this one need none of it
    from wsl.cli.look.page import page

    path, limits = _checked(options)
    zoos = [_opened(file, options.where) for file in options.file]
    content = document(zoos, limits, run=options.embed)
    text = page(content)
    write_text(path, text)
    notes = _notes(content)
    told: dict[str, Any] = {"page": str(path), "bytes": path.stat().st_size}
    answer({**told, "checkpoints": content["rows"], "notes": notes})
    for note in notes:
        say(f"note: {note}", error=True)
    for section in content["sections"]:
        detail(f"{section['name']}: {len(section['maps'])} maps, {len(section['tensors'])} tensors")
    kinds = len(content["sections"])
    say(
        f"{path}: {content['rows']} checkpoints of {kinds} architecture{'s' * (kinds > 1)}, "
        f"{told['bytes'] / 1e6:.1f} MB"
    )


def _notes(content: dict[str, Any]) -> list[str]:
    """What was drawn or left out, of each architecture."""
    sections: Sequence[dict[str, Any]] = content["sections"]
    lead = (lambda s: f"{s['name']}: ") if len(sections) > 1 else (lambda _: "")
    return [f"{lead(section)}{note}" for section in sections for note in section["notes"]]


def _checked(options: argparse.Namespace) -> tuple[Path, Limits]:
    """Where the page goes, and how much it shows; all that can be wrong without reading a zoo."""
    path = Path(options.output)
    if path.suffix not in (".html", ".htm"):
        raise ConfigError(f"-o {path}: is a page; let its name end with .html")
    if path.is_dir():
        raise ConfigError(f"-o {path}: is a folder")
    check_writable(path.absolute().parent)
    check_elsewhere(path, *options.file)
    if options.embed and not (Path(options.embed) / "result.json").is_file():
        raise ConfigError(
            f"--embed {options.embed}: no result.json; name a folder that wsl train has finished"
        )
    return path, _limits(options)


def _limits(options: argparse.Namespace) -> Limits:
    """How much is shown."""
    given = {name: getattr(options, name) for name in ("rows", "align", "pairs", "seed")}
    for name, least in (("rows", 1), ("align", 0), ("pairs", 0), ("seed", 0)):
        if given[name] < least:
            raise ConfigError(f"--{name} {given[name]}: must be at least {least}")
    return Limits(**given, tsne=options.tsne)


def _opened(file: str, where: str | None) -> Checkpoints:
    """One zoo, or the rows of it that fulfil a condition."""
    if Path(file).is_file() and not is_zoo(file):
        raise ConfigError(
            f"{file}: is no zoo file; make one of checkpoints with wsl zoo import, or print what "
            "it holds with wsl zoo info"
        )
    zoo = Zoo(file)
    return zoo.where(where) if where else zoo
