"""No page promises what is not there: verbs, flags, recipes, names and files."""

import contextlib
import importlib
import io
import re
import shlex

import pytest
from paths import ROOT

import wsl
from wsl.cli import VERBS, main, zoo

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*.md")]
    + [*ROOT.glob("models/*.md"), *ROOT.glob("scripts/README.md")]
)
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it tells of what has gone, too
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
SPANS = re.compile(r"`([^`\n]+)`")
FENCES = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (wsl (?:[a-z][\w-]*) .*)$", re.MULTILINE)
OF_OTHERS = {"--no-deps", "--address", "--head", "--pair", "--constraint"}
"""Flags of pip and ray, and one that an error line tells of."""
MADE_THERE = re.compile(r"wrong|mergee|unff|nothing|NAME")
"""Names that a page misspells on purpose, or leaves open."""


def helped(*words):
    """The flags that ``wsl WORDS --help`` tells of."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main([*words, "--help"])
    return set(FLAG.findall(said.getvalue())) | {"--help", "--version"}


@pytest.fixture(scope="module")
def flags():
    inner = next(a.choices for a in zoo._parser()._actions if isinstance(a.choices, dict))
    told = {verb: helped(verb) for verb in VERBS if verb != "zoo"}
    told |= {f"zoo {verb}": helped("zoo", verb) for verb in inner}
    told["match"] |= helped("match", "--apply", "ELEMENT")
    everywhere = {"--debug", "--json", "--quiet", "--verbose"}
    return {verb: known | everywhere for verb, known in told.items()}


def commands(page):
    """Every command ``wsl ...`` of a page, its lines joined, without what follows a pipe."""
    text = page.read_text()
    blocks = [code for kind, code in FENCES.findall(text) if kind in ("", "bash", "text")]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = SPANS.findall(FENCES.sub("", text))
    for line in [*lines, *spans, *INDENTED.findall(text)]:
        if re.match(r"(\$ )?wsl [a-z]", line.strip()):
            yield re.split(r" [|>#] | 2>&1|  #", line.strip().removeprefix("$ ") + " ")[0]


def verb_of(command):
    words = command.split()[1:]
    return " ".join(words[:2]) if words[0] == "zoo" and len(words) > 1 else words[0]


def ids(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_has_a_verb_and_flags_that_there_are(page, flags):
    wrong = []
    for command in commands(page):
        verb = verb_of(command)
        if verb.startswith(("merge:", "match:", "zoo:", "train:")) or MADE_THERE.fullmatch(verb):
            continue  # an error line
        if verb not in flags and verb != "zoo":
            wrong.append(command)
        for flag in set(FLAG.findall(command)) - OF_OTHERS:
            known = flags.get(verb, set().union(*flags.values()))
            if flag not in known and not any(each.startswith(flag) for each in known):
                wrong.append(f"{flag}: {command}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_recipe_that_is_named_is_there(page):
    for group, name in re.findall(r"\b(models|datasets)=([a-z]\w*)", page.read_text()):
        assert (ROOT / group / f"{name}.yaml").exists() or known_there(page, name), name


def known_there(page, name):
    """Whether the page makes the recipe itself, or misspells it to show an error."""
    text = page.read_text()
    return f'"models/{name}.yaml"' in text or MADE_THERE.fullmatch(name) is not None


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_dotted_name_can_be_found(page):
    wrong = []
    for name in set(re.findall(r"\bwsl(?:\.[A-Za-z_]\w*)+", page.read_text())):
        if not found(name) and not re.search(r"permutation\.json|element\.|wsl\.recipes", name):
            wrong.append(name)
    assert not wrong


def found(name):
    """Whether a dotted name is a module, what one exports, or an attribute of that."""
    thing = wsl
    for part in name.split(".")[1:]:
        if not hasattr(thing, part):
            try:
                importlib.import_module(f"{thing.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
        thing = getattr(thing, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_of_the_repository_that_is_named_is_there(page):
    spans = {word for span in SPANS.findall(page.read_text()) for word in span.split()}
    places = {
        word for word in spans if re.match(r"(docs|scripts|tests|models|datasets|wsl)/", word)
    }
    places = {word.rstrip(",.;:") for word in places if not re.search(r"[*{<]|NAME", word)}
    assert not [word for word in places if not (ROOT / word).exists()]


def test_commands_are_found_in_blocks_and_in_the_text(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```\nwsl check a b \\\n  --json x | tail\n```\nand `wsl env`, not `wsl.nn`\n")
    assert [shlex.split(each) for each in commands(page)] == [
        ["wsl", "check", "a", "b", "--json", "x"],
        ["wsl", "env"],
    ]
