"""The plan of the site: every page has its place, and tutorials run when it is built."""

import re

import pytest
import yaml
from paths import ROOT

DOCS = ROOT / "docs"
PLAN = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
WRITTEN = {"reference/commands.md", "reference/recipes.md"}
"""Pages that the code writes."""


def places(part):
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for each in part:
            yield from places(each)
    else:
        yield from places(list(part.values()))


def test_every_page_has_a_place_and_every_place_a_page():
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(places(PLAN["nav"])) == there | WRITTEN


@pytest.mark.parametrize("page", sorted((DOCS / "tutorials").glob("*.md")), ids=lambda p: p.stem)
def test_a_tutorial_says_of_every_command_that_it_runs(page):
    opened = re.findall(r"^```bash(.*)$", page.read_text(), re.MULTILINE)
    assert all('exec="1"' in options for options in opened)
