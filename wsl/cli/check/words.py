"""Findings in words: one screen. Weights are consistent with something; nobody has copied."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Sequence

from wsl.cli.check.pairs import Family, RecipeOf
from wsl.diagnostics import KINDS, OriginEvidence, TensorComparison
from wsl.symmetry import PermutationSpec

SHOWN = 4
LIMITS = (
    "not seen: distillation, which copies no weight; trainings from one initialisation count as "
    "one origin"
)

SHORT = {
    "same": "the same weights",
    "equal entries": "consistent with a common origin, entries equal",
    "common origin": "consistent with a common origin",
    "reordered": "consistent with a common origin, reordered",
    "alike": "consistent with a common origin, reordered",
    "weak": "a weak sign",
    "none": "no sign",
}


def difference(found: TensorComparison) -> Iterator[str]:
    """Names, shapes, types, and kinds of tensors."""
    if found.alike:
        entries = sum(pair.entries for pair in found.pairs.values())
        yield f"architecture  the same: {len(found.pairs)} tensors, {entries} values"
    else:
        yield f"architecture  different: {len(found.pairs)} tensors in common"
        for what, names in (
            ("only in the first", found.missing),
            ("only in the second", found.new),
        ):
            if names:
                yield f"              {len(names)} {what}: {listed(names)}"
        yield from _reshaped(found)
    kinds = [f"{len(names)} {kind}" for kind in KINDS if (names := found.of_kind(kind))]
    equal = f"{found.equal_entries:.1%} of the entries equal"
    yield f"tensors       {', '.join(kinds) or 'none in common'}; {equal}{_cosines(found)}"
    yield from _details(found)


def _reshaped(found: TensorComparison) -> Iterator[str]:
    for name, (a, b) in list(found.reshaped.items())[:SHOWN]:
        yield f"              {name}: {shape(a)} and {shape(b)}"
    if len(found.reshaped) > SHOWN:
        yield f"              and {len(found.reshaped) - SHOWN} more of two shapes"


def verdict(evidence: OriginEvidence) -> str:
    """What the weights are consistent with, and by what evidence."""
    fixed, units = evidence.origin.fixed
    place = f"{fixed} of {units} units in the same place, p = {small(evidence.origin.log10_p)}"
    agreed = "" if evidence.agreement is None else f"{evidence.agreement.share:.0%}"
    rank = f"p = {evidence.background_p:.2g} against {len(evidence.background)} unrelated pairs"
    yes = "consistent with a common origin"
    return {
        "same": "the same weights",
        "equal entries": f"{yes}: {evidence.equal:.0%} of the entries of matrices are equal; "
        f"{place}",
        "common origin": f"{yes}: {place}",
        "reordered": f"{yes}, units in another order: {evidence.equal_after:.0%} of the entries of "
        f"matrices are equal after alignment; {place}",
        "alike": f"{yes}, units in another order: two views of the aligned units agree on {agreed} "
        f"of them, {rank}; as they lie {place}",
        "weak": f"a weak sign of a common origin, not enough to go by: {place}",
        "none": f"no sign of a common origin: {place} (chance puts one of each group in place)",
    }[evidence.verdict]


def untested(found: TensorComparison) -> str:
    """What is said of the origin where no units are known."""
    if found.same:
        return "the same weights"
    if not found.pairs:
        return "not tested: no tensor is in common"
    return "not tested: no network says which units there are; tensors speak for themselves"


def in_short(found: OriginEvidence | TensorComparison) -> str:
    """One line for a pair of many."""
    if isinstance(found, TensorComparison):
        many = len(found.missing) + len(found.new)
        if found.alike:
            return f"the same architecture, {found.equal_entries:.1%} of the entries equal"
        return f"different: {many} tensors only in one, {len(found.reshaped)} of two shapes"
    fixed, units = found.origin.fixed
    told = f"{SHORT[found.verdict]}; {fixed}/{units} in place, p = {small(found.origin.log10_p)}"
    if found.state is None:
        return told
    word = "aligned" if found.state.aligned else "not aligned"
    return f"{told}; {word}, cosine {found.state.before:.2f} -> {found.state.after:.2f}"


def alignment(evidence: OriginEvidence) -> Iterator[str]:
    """Whether they lie in one basin, and how alike they are after alignment."""
    if evidence.state is None or evidence.agreement is None:
        return
    state, seen = evidence.state, evidence.agreement
    word = "already aligned" if state.aligned else f"not aligned: {state.moved:.0%} of units move"
    yield f"alignment     {word}; cosine of all weights {state.before:.3f} -> {state.after:.3f}"
    if not seen.groups:
        return
    told = f"units agree on {seen.share:.0%} in two views, mean cosine {seen.cosine:.2f}"
    if evidence.background:
        top = max(evidence.background)
        told += f"; {len(evidence.background)} unrelated pairs at most {top:.0%}, "
        told += f"p = {evidence.background_p:.2g}"
    elif not evidence.related:
        told += "; judge this by --background with unrelated files"
    yield f"              after it {told}"


def groups(evidence: OriginEvidence) -> str:
    """The groups with most of their units in place."""
    tested = sorted(evidence.origin.groups.values(), key=lambda each: each.log_p)
    told = [
        f"{each.group} {each.fixed}/{each.size * each.copies} "
        f"(p = {small(each.log_p / math.log(10))})"
        for each in tested[:SHOWN]
    ]
    out = [f"{name} {why}" for name, why in list(evidence.origin.left_out.items())[:SHOWN]]
    more = f", and {len(tested) - SHOWN} more" if len(tested) > SHOWN else ""
    return ", ".join(told) + more + (f"; not tested: {', '.join(out)}" if out else "")


def standing(spec: PermutationSpec) -> Iterator[str]:
    """What moves, and why the rest does not."""
    count = len(spec.groups)
    yield f"movable       {spec.movable:.1%} of the values, in {count} group{'s' * (count != 1)}"
    reasons = collections.Counter(spec.pinned.values())
    if reasons:
        told = [f"{why} ({n} ax{'i' if n == 1 else 'e'}s)" for why, n in reasons.most_common(SHOWN)]
        more = f", and {len(reasons) - SHOWN} reasons more" if len(reasons) > SHOWN else ""
        yield f"              stand still: {', '.join(told)}{more}"


def descended(family: Family, names: Sequence[str]) -> str:
    """The members of a family, as a tree where there is one."""
    if family.tree is None:
        return ", ".join(names[i] for i in family.members)
    arrows = [
        f"{names[family.members[parent]]} -> {names[family.members[child]]}"
        for child, parent in enumerate(family.tree.parents)
        if parent is not None
    ]
    return f"{', '.join(arrows)} (direction by kurtosis alone: a guess)"


def mixed(found: RecipeOf, names: Sequence[str]) -> str:
    """The recipe of a merge."""
    pairs = zip(found.recipe.whole.weights, found.others, strict=True)
    sum_of = " + ".join(f"{weight:.2f} {names[i]}" for weight, i in pairs if abs(weight) >= 0.005)
    after = " after alignment" if found.aligned else ""
    return (
        f"{names[found.of]} is consistent with a merge{after}, {sum_of} (gain "
        f"{found.recipe.gain:.2f}, by chance {found.recipe.chance:.2f})"
    )


def small(log10_p: float) -> str:
    """A p-value, however small."""
    if log10_p > -300:
        return f"{10**log10_p:.2g}"
    return "0" if math.isinf(log10_p) else f"1e{math.ceil(log10_p)}"


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (" and more" if len(names) > SHOWN else "")


def shape(sizes: Sequence[int]) -> str:
    """A shape in words."""
    return " x ".join(map(str, sizes)) or "one number"


def _cosines(found: TensorComparison) -> str:
    known = [pair.cosine for pair in found.pairs.values() if not math.isnan(pair.cosine)]
    return f"; cosines {min(known):.2f} to {max(known):.2f}" if known else ""


def _details(found: TensorComparison) -> Iterator[str]:
    """Ranks of low-rank changes, shares of zeros, types."""
    if low := [found.pairs[name].rank for name in found.of_kind("low rank")]:
        ranks = sorted({rank.rank for rank in low if rank is not None})
        span = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
        yield f"              low rank: {len(low)} matrices differ by rank {span}"
    if pruned := found.of_kind("pruned"):
        shares = [found.pairs[name].zeros[1] for name in pruned]
        yield f"              pruned: {min(shares):.0%} to {max(shares):.0%} zeros, equal elsewhere"
    kinds = collections.Counter(found.retyped.values())
    for (a, b), count in kinds.items():
        yield f"              {count} tensors are {a} in the first and {b} in the second"
