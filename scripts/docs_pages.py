"""Pages of the site that are written by the code itself: every public name, verb and recipe.

A hook of MkDocs (`make docs`). For each room of the library one page with what its door exports;
one page with the help of every verb, printed by the verb; one with the cards of all recipes. Rooms
are added to the navigation by their name, so a new one cannot be forgotten.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import wsl
from wsl.cli import VERBS, main, zoo

ROOT = Path(__file__).parent.parent
GROUPS = {
    "datasets": "Populations of base networks: what is trained, how many, on what.",
    "models": "Weight-space models: functionals, editors, generators.",
}


def rooms() -> dict[str, ModuleType]:
    """Every room of the library by its name."""
    found = {name: getattr(wsl, name) for name in sorted(wsl.__all__)}
    return {name: room for name, room in found.items() if isinstance(room, ModuleType)}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a page for each room behind the reference's first page."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    reference[1:1] = [{f"wsl.{name}": f"reference/{name}.md"} for name in rooms()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the pages that the navigation names and no file holds."""
    pages = {f"reference/{name}.md": room_page(name) for name in rooms()}
    pages |= {"reference/commands.md": commands_page(), "reference/recipes.md": recipes_page()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def room_page(name: str) -> str:
    """What the door of a room exports, each name with its signature and its words."""
    room = getattr(wsl, name)
    exported = [
        each
        for each in getattr(room, "__all__", ())
        if not isinstance(getattr(room, each), type(wsl))
    ]
    parts = [
        f"# wsl.{name}\n",
        f"::: wsl.{name}\n    options:\n      members: false\n      show_root_heading: false\n",
    ]
    for each in sorted(exported, key=str.lower):
        thing = getattr(room, each)
        home = getattr(thing, "__module__", None) or ""
        if home.startswith("wsl.") and getattr(thing, "__qualname__", each) == each:
            parts.append(f"::: {home}.{each}\n")
    return "\n".join(parts)


def commands_page() -> str:
    """The help of every verb, as it prints it."""
    parts = ["# The command line\n", "```console", printed([]), "```\n"]
    for verb in VERBS:
        parts += [f"## wsl {verb}\n", "```console", printed([verb]), "```\n"]
    applied = ["match", "--apply", "ELEMENT"]
    parts += [f"## wsl {' '.join(applied)}\n", "```console", printed(applied), "```\n"]
    inner = next(a for a in zoo._parser()._actions if isinstance(a.choices, dict))
    for verb in inner.choices:
        parts += [f"### wsl zoo {verb}\n", "```console", printed(["zoo", verb]), "```\n"]
    return "\n".join(parts)


def printed(words: list[str]) -> str:
    """What ``wsl WORDS --help`` says."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main([*words, "--help"])
    return said.getvalue().rstrip()


def recipes_page() -> str:
    """The card of every recipe, under its group."""
    parts = [
        "# Recipes\n",
        "A recipe is a YAML file with a card; any key can be overridden on the command line.\n",
    ]
    for group, what in GROUPS.items():
        parts += [f"## {group}\n", what, ""]
        for card in sorted((ROOT / group).glob("*.md")):
            head, _, body = card.read_text().partition("\n")
            text = body.replace("\n## ", "\n#### ")
            parts += [
                f"### {head.lstrip('# ')}\n",
                text,
                "",
                "```yaml",
                card.with_suffix(".yaml").read_text().rstrip(),
                "```\n",
            ]
    return "\n".join(parts)
