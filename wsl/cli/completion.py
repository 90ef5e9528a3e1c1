"""``wsl completion SHELL``: a script by which bash, zsh or fish completes verbs, flags, recipes.

The script is written out whole, from the parsers themselves, so that nothing runs while somebody
types; it is to be written again after an update.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence

from wsl.cli import VERBS
from wsl.cli.config import recipes
from wsl.cli.parsers import verb_parser
from wsl.cli.terminal import answer, say

FLAGS = ("--help", "--quiet", "--verbose", "--json", "--debug")
"""Of every verb."""


def run(arguments: Sequence[str]) -> None:
    """Print the script."""
    shell = _parser().parse_args(arguments).shell
    script = SHELLS[shell](words())
    answer({"shell": shell, "script": script})
    say(script)


def words() -> dict[str, list[str]]:
    """What may follow each verb: flags, the verbs inside of it, recipes."""
    found = {}
    for verb, (door, _) in VERBS.items():
        # a verb that is a folder has its parser in the file that runs it
        home = importlib.import_module(door).run.__module__
        own = _words(importlib.import_module(home)._parser())
        found[verb] = sorted({*own, *FLAGS, *_recipes(verb)})
    return found


def _words(parser: argparse.ArgumentParser) -> list[str]:
    own: list[str] = []
    for action in parser._actions:
        own += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            own += action.choices
            for each in action.choices.values():
                own += _words(each)
    return own


def _recipes(verb: str) -> list[str]:
    """``datasets=NAME`` and ``models=NAME`` where a verb takes recipes."""
    both = ("datasets", "models")
    one = ("datasets",)
    groups = {"zoo": one, "train": both, "generate": both, "init-compare": one}
    return [f"{group}={name}" for group in groups.get(verb, []) for name in recipes(group)]


def _bash(found: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f"    {verb}) words='{' '.join(own)}' ;;" for verb, own in found.items())
    return f"""_wsl() {{
  local words='{" ".join(found)}' current="${{COMP_WORDS[COMP_CWORD]}}"
  # a word with = is several words to bash, and only its last part is replaced
  local whole="${{COMP_LINE:0:COMP_POINT}}"; whole="${{whole##* }}"
  local kept="${{whole%"$current"}}"; [[ $whole == *= ]] && kept="$whole" current=""
  if (( COMP_CWORD > 1 )); then case "${{COMP_WORDS[1]}}" in
{cases}
    *) words='' ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$whole"))
  COMPREPLY=("${{COMPREPLY[@]#"$kept"}}")
}}
complete -o default -o bashdefault -F _wsl wsl"""


def _zsh(found: Mapping[str, Sequence[str]]) -> str:
    cases = "\n".join(f"    {verb}) own=({' '.join(own)}) ;;" for verb, own in found.items())
    return f"""#compdef wsl
_wsl() {{
  local -a verbs own
  verbs=({" ".join(found)})
  if (( CURRENT == 2 )); then compadd -a verbs; return; fi
  case $words[2] in
{cases}
  esac
  compadd -a own
  _files
}}
# found by name it is to answer at once, and sourced it is to be made known
if [[ $funcstack[1] == _wsl ]]; then _wsl "$@"; else compdef _wsl wsl; fi"""


def _fish(found: Mapping[str, Sequence[str]]) -> str:
    lines = [f"complete -c wsl -f -n __fish_use_subcommand -a '{' '.join(found)}'"]
    lines += [
        f"complete -c wsl -n '__fish_seen_subcommand_from {verb}' -a '{' '.join(own)}'"
        for verb, own in found.items()
    ]
    return "\n".join(lines)


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("completion", "Print what makes a shell complete wsl.")
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    return parser
