"""`wsl merge --help`: flags under titles, each group on one screen."""

import argparse
import re

import pytest

from wsl.cli import main
from wsl.cli.merge import GROUPS
from wsl.cli.parsers import grouped

SCREEN = 24


@pytest.fixture
def sections(monkeypatch, capsys):
    """The parts of the help by their titles, at 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["merge", "--help"]) == 0
    out = capsys.readouterr().out
    parts = re.split(r"^(\S[^\n]*):\n", out, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_no_group_of_flags_is_longer_than_a_screen(sections):
    assert [title for title in sections if title in GROUPS] == list(GROUPS)
    lengths = {title: len(sections[title].strip("\n").splitlines()) + 1 for title in GROUPS}
    assert all(1 < length <= SCREEN for length in lengths.values()), lengths


def test_every_flag_stands_in_one_group(sections):
    assert re.findall(r"--\w+", sections["options"]) == ["--help"]
    assert "positional arguments" not in sections
    flags = re.findall(r"^  (?:-\w[^-]*, )?(--[\w-]+)", "".join(sections[g] for g in GROUPS), re.M)
    assert len(flags) == len(set(flags)) > 25
    assert {"--method", "--stream", "--report", "--repair"} <= set(flags)


def test_help_of_adapters_is_told_of(sections):
    assert "wsl merge ADAPTER --help" in " ".join(sections["adapters"].split())


def test_grouping_changes_nothing_of_what_is_read():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--size", type=int, default=3)
    grouped(parser, {"input": ["file"], "more": ["size"], "note": "said once"})
    assert vars(parser.parse_args(["x", "--size", "4"])) == {"file": "x", "size": 4}
    assert "note:\n  said once" in parser.format_help()
