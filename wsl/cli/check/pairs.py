"""Evidence on every pair, and on all files together: families, descent, recipes of merges."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Mapping

from wsl.cli.check.gather import GatheredFiles, background
from wsl.cli.choices import chosen_matcher
from wsl.diagnostics import (
    DescentTree,
    MergeRecipe,
    OriginEvidence,
    TensorComparison,
    agreement,
    compare_tensors,
    descent,
    kurtosis,
    merge_recipe,
    origin_evidence,
    relative_distances,
)
from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec

BACKGROUND_PAIRS = 99
"""Networks of the background that are used: each costs a matching, and ranks need no more."""
MARGIN = 0.01
"""What the recipe must gain by alignment to be reported so."""
Pair = tuple[int, int]
"""Numbers of two files, the smaller first."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Files of a common origin, and the tree of descent where there are more than two."""

    members: tuple[int, ...]
    tree: DescentTree | None


@dataclasses.dataclass(frozen=True)
class RecipeOf:
    """The recipe of file ``of`` in terms of ``others``; ``aligned`` if they were aligned to it."""

    of: int
    others: tuple[int, ...]
    aligned: bool
    recipe: MergeRecipe


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that was found: evidence of pairs that fit one network, tensors of those that do not."""

    pairs: Mapping[Pair, OriginEvidence | TensorComparison]
    families: tuple[Family, ...] = ()
    recipes: tuple[RecipeOf, ...] = ()


def find(options: argparse.Namespace, gathered: GatheredFiles) -> Findings:
    """Compare all files with each other."""
    members = gathered.members
    every = list(itertools.combinations(range(len(members)), 2))
    fitting = {i: theta for i, theta in enumerate(members) if theta is not None}
    apart = [pair for pair in every if not fitting.keys() >= {*pair}]
    plain = {pair: _across(gathered, pair, seed=options.seed) for pair in apart}
    if gathered.loaded is None or len(fitting) < 2:
        return Findings(plain)
    found = _evidence(options, gathered.loaded.spec, fitting)
    pairs = {pair: {**plain, **found}[pair] for pair in every}
    return Findings(pairs, _families(fitting, found), _recipes(fitting, found))


def _recipes(
    weights: Mapping[int, Params], found: Mapping[Pair, OriginEvidence]
) -> tuple[RecipeOf, ...]:
    """The recipe of every file in terms of the others, of three or more."""
    return tuple(_recipe(i, weights, found) for i in weights) if len(weights) > 2 else ()


def _families(
    weights: Mapping[int, Params], found: Mapping[Pair, OriginEvidence]
) -> tuple[Family, ...]:
    return tuple(_family(each, weights, found) for each in _related(list(weights), found))


def _across(gathered: GatheredFiles, pair: Pair, *, seed: int) -> OriginEvidence | TensorComparison:
    """Two files of which one does not fit the network: units are compared on what is in common.

    The test is exact all the same, since the units of the one that fits may be relabelled.
    """
    a, b = (gathered.raw[i] for i in pair)
    tensors = compare_tensors(a, b)
    fits = any(gathered.members[i] is not None for i in pair)
    if gathered.loaded is None or not fits:
        return tensors
    spec = gathered.loaded.spec
    common = [n for n in spec.axes if n in tensors.pairs and a[n].shape == spec.shapes[n]]
    if not common:
        return tensors
    parts = ({name: theta[name] for name in common} for theta in (a, b))
    found = origin_evidence(spec.restrict(common), *parts, align=False, seed=seed)
    return dataclasses.replace(found, tensors=tensors)


def _evidence(
    options: argparse.Namespace, spec: PermutationSpec, members: Mapping[int, Params]
) -> dict[Pair, OriginEvidence]:
    matcher, align = chosen_matcher(options), not options.no_match
    strangers = background(options, spec, BACKGROUND_PAIRS) if align else []
    found: dict[Pair, OriginEvidence] = {}
    for i, a in list(members.items())[:-1]:
        known = [agreement(spec, a, x, matcher=matcher).share for x in strangers]
        how = {"matcher": matcher, "align": align, "background": known, "seed": options.seed}
        for j, b in members.items():
            if i < j:
                found[i, j] = origin_evidence(spec, a, b, **how)
    return found


def _related(members: list[int], found: Mapping[Pair, OriginEvidence]) -> list[tuple[int, ...]]:
    """Members in classes: those that are related to any member of the class."""
    classes: list[set[int]] = []
    for i in members:
        near = [c for c in classes if any(found[min(i, j), max(i, j)].related for j in c)]
        classes = [c for c in classes if c not in near] + [{i}.union(*near)]
    return sorted(tuple(sorted(each)) for each in classes)


def _family(
    members: tuple[int, ...],
    weights: Mapping[int, Params],
    found: Mapping[Pair, OriginEvidence],
) -> Family:
    if len(members) < 3:
        return Family(members, None)
    brought = [_brought(members[0], j, weights, found=found) for j in members]
    return Family(members, descent(relative_distances(brought), [kurtosis(x) for x in brought]))


def _recipe(
    of: int, weights: Mapping[int, Params], found: Mapping[Pair, OriginEvidence]
) -> RecipeOf:
    """The better of the recipes as the files lie and after alignment."""
    others = tuple(i for i in weights if i != of)
    best = RecipeOf(of, others, False, merge_recipe(weights[of], [weights[i] for i in others]))
    aligned = [_brought(of, i, weights, found=found) for i in others]
    if all(theta is weights[i] for i, theta in zip(others, aligned, strict=True)):
        return best
    after = RecipeOf(of, others, True, merge_recipe(weights[of], aligned))
    # An exact mixture stays one whatever is done to members that have no part in it.
    return after if after.recipe.gain > best.recipe.gain + MARGIN else best


def _brought(
    to: int, one: int, weights: Mapping[int, Params], *, found: Mapping[Pair, OriginEvidence]
) -> Params:
    """The weights of one file aligned to those of another, by the match that was found."""
    if to == one:
        return weights[one]
    evidence = found[min(to, one), max(to, one)]
    if evidence.agreement is None or evidence.state is None or evidence.state.aligned:
        return weights[one]
    element = evidence.agreement.found.permutation
    if not isinstance(element, Permutation):
        return weights[one]
    return (element if to < one else ~element)(weights[one])
