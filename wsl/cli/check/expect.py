"""What merging needs, and what it can be expected to give where data says so."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from wsl.cli.check.gather import GatheredFiles
from wsl.cli.check.pairs import Findings
from wsl.cli.checkpoints import Loaded
from wsl.cli.connect import resetter
from wsl.cli.evaluation import scorer
from wsl.cli.mergeable import check_mergeable
from wsl.cli.targets import ConfigError
from wsl.connectivity import lerp
from wsl.diagnostics import OriginEvidence
from wsl.params import Params, is_running_statistic


def needs(gathered: GatheredFiles, found: Findings) -> Iterator[str]:
    """What has to be done before, and after, the files are averaged."""
    loaded = gathered.loaded
    if loaded is None:
        yield "a specification: give --model or --spec, so that units can be aligned"
        return
    for path, why in gathered.misfits.items():
        yield f"one architecture: {path} cannot take part ({why})"
    if len(loaded.members) < 2:
        return
    yield _basin(found)
    if any(map(is_running_statistic, loaded.spec.axes)):
        yield "batch-norm statistics measured anew: wsl merge --inputs-data PATH"
    try:
        check_mergeable(loaded)
    except ConfigError as error:
        yield str(error)


def expected(
    options: argparse.Namespace, gathered: GatheredFiles, found: Findings
) -> dict[str, dict[str, float]]:
    """Losses of the first two files and half way between them, as they lie and after alignment."""
    loaded, evidence = gathered.loaded, found.pairs[0, 1]
    fits = all(theta is not None for theta in gathered.members[:2])
    if loaded is None or not isinstance(evidence, OriginEvidence) or not fits:
        raise ConfigError(
            "--data and --evaluate need two files of one network; "
            + next(iter(gathered.misfits.values()), "add --model, so that it can be run")
        )
    return _scored(options, loaded, evidence)


def _basin(found: Findings) -> str:
    every = [each for each in found.pairs.values() if isinstance(each, OriginEvidence)]
    pairs = [each for each in every if each.tensors.alike]
    states = [each.state for each in pairs]
    if any(state is None for state in states):
        return "alignment was not looked at (--no-match)"
    if all(state.aligned for state in states if state is not None):
        return "no alignment: wsl merge --no-match"
    related = " first" if any(each.related for each in pairs) else " first, and expect a barrier"
    return f"alignment{related}: wsl merge aligns to the first file"


def _scored(
    options: argparse.Namespace, loaded: Loaded, evidence: OriginEvidence
) -> dict[str, dict[str, float]]:
    score = scorer(options, loaded)
    if score is None:
        raise ConfigError("nothing says what the networks are worth; give --data or --evaluate")
    repair = resetter(options, loaded) if options.inputs_data else None
    middles = _middles(loaded, evidence)
    middles = {name: repair(theta) if repair else theta for name, theta in middles.items()}
    return {name: score(x) for name, x in {"a": loaded.a, "b": loaded.b, **middles}.items()}


def _middles(loaded: Loaded, evidence: OriginEvidence) -> dict[str, Params]:
    """The networks half way, as the files lie and after alignment."""
    middles = {"half way": lerp(loaded.a, loaded.b, 0.5)}
    if evidence.agreement is not None:
        moved = evidence.agreement.found(loaded.b)
        middles["half way, aligned"] = lerp(loaded.a, moved, 0.5)
    return middles


def barriers(scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Loss half way above the mean of the ends; nothing where no loss was returned."""
    if not all("loss" in each for each in scores.values()):
        return {}
    ends = (scores["a"]["loss"] + scores["b"]["loss"]) / 2
    return {name: each["loss"] - ends for name, each in scores.items() if name not in ("a", "b")}
