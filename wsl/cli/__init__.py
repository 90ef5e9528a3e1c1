"""The command line: experiment verbs take overrides of recipes, file verbs take files and flags.

Every verb is a function ``run(arguments) -> None`` in a module of its own, imported when it is
called. A user's error ends with one line on stderr and exit code 2; nothing that was there before
is touched.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence

import wsl
from wsl.cli.terminal import Manner, detail, say, speaking, write_document

VERBS = {
    "zoo": ("wsl.cli.zoo", "build, inspect, check and export a population of checkpoints"),
    "train": ("wsl.cli.train", "train a neural functional: models=NAME datasets=NAME"),
    "evaluate": ("wsl.cli.evaluate", "score a trained functional on a split"),
    "spec": ("wsl.cli.spec", "print the permutation symmetry of a network, with its proof"),
    "check": ("wsl.cli.check", "whether checkpoints share an origin, and what merging them needs"),
    "match": ("wsl.cli.match", "bring checkpoint B to checkpoint A by permuting its units"),
    "connect": ("wsl.cli.connect", "loss along the straight line between two checkpoints"),
    "merge": ("wsl.cli.merge", "align and average checkpoints"),
    "generate": ("wsl.cli.generate", "train a weight generator and sample initial weights"),
    "init-compare": ("wsl.cli.init_compare", "starting weights side by side at equal budget"),
    "env": ("wsl.cli.env", "versions and devices, for reports of problems"),
    "completion": ("wsl.cli.completion", "print what makes a shell complete wsl: bash, zsh, fish"),
}

CLOSED_PIPE = 141
"""What a shell gives for a program that a closed pipe has ended."""

USAGE = (
    "usage: wsl VERB ...    (wsl VERB --help tells more)\n\n"
    + "\n".join(f"  {verb:<12} {what}" for verb, (_, what) in VERBS.items())
    + """

every verb:
  -q, --quiet    say nothing but errors
  -v, --verbose  say on stderr what it took
  --json         one JSON document on stdout, everything else on stderr
  --debug        show where an error comes from

exit codes: 0 done, 1 an error in wsl itself, 2 what was asked for cannot be done; the reason is one
line on stderr"""
)
ANSWERS = {"-h": USAGE, "--help": USAGE, "--version": f"wsl {wsl.__version__}"}
"""Words that are answered at once, before anything is imported that needs torch."""

OWN_JSON = frozenset({"check", "spec"})
"""Verbs that also write their document to a file: ``--json FILE``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``wsl VERB ...``; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words, manner, debug = _manner(given)
    if not words or words[0] in ANSWERS:
        say(ANSWERS[words[0]] if words else USAGE)
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        return _unknown(verb)
    with speaking(manner):
        return _run(verb, rest, manner) if debug else _guarded(verb, rest, manner)


def _guarded(verb: str, rest: Sequence[str], manner: Manner) -> int:
    """Run a verb; an error of the user's is one line."""
    try:
        return _run(verb, rest, manner)
    except (ValueError, OSError) as error:
        say(f"wsl {verb}: {' '.join(_told(error).split())}", error=True)
        return 2


def _unknown(verb: str) -> int:
    from wsl.base import did_you_mean  # needs torch, which the answers above do without

    hint = did_you_mean(verb, VERBS)
    say(f"wsl: '{verb}' is not a verb{hint}; choose one of {', '.join(VERBS)}", error=True)
    return 2


def _manner(given: Sequence[str]) -> tuple[list[str], Manner, bool]:
    """The words of the verb, how it is to speak, and whether to show where an error comes from."""
    words: list[str] = []
    manner, debug, verb = Manner(), False, next((w for w in given if w in VERBS), "")
    for i, word in enumerate(given):
        following = given[i + 1] if i + 1 < len(given) else "-"
        if word == "--debug":
            debug = True
        elif word in ("-q", "--quiet"):
            manner.quiet = True
        elif word in ("-v", "--verbose"):
            manner.verbose = True
        elif word == "--json" and (verb not in OWN_JSON or following.startswith("-")):
            manner.json = True
        else:
            words.append(word)
    return words, manner, debug


def _told(error: Exception) -> str:
    """An error in words; what the system says of a file leads with the file."""
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{error.filename}: no such file or folder; check the path"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _run(verb: str, rest: Sequence[str], manner: Manner) -> int:
    from wsl.cli.targets import joined  # needs torch

    began = time.monotonic()
    try:
        importlib.import_module(VERBS[verb][0]).run(joined(rest))
        if manner.json:
            write_document({"verb": verb, **manner.document})
        detail(f"wsl {verb}: {time.monotonic() - began:.1f} s, peak memory {_peak()} MiB")
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read the output has gone, as `head` does: nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0
    return 0


def _peak() -> int:
    """The largest resident memory of this process, in MiB: the system counts KiB, macOS bytes."""
    import resource

    counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return counted >> (20 if sys.platform == "darwin" else 10)


__all__ = ["VERBS", "main"]
