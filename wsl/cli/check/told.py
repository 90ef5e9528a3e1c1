"""Findings as JSON: every number, under the names that the library gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsl.cli.check.gather import GatheredFiles
from wsl.cli.check.pairs import Family, Findings, RecipeOf
from wsl.diagnostics import (
    Agreement,
    CommonOrigin,
    MixtureFit,
    OriginEvidence,
    TensorComparison,
    TensorPair,
)
from wsl.symmetry import PermutationSpec


def told(gathered: GatheredFiles, found: Findings) -> dict[str, Any]:
    """Pairs, families and recipes; numbers of files are their places in ``files``."""
    spec = gathered.loaded.spec if gathered.loaded is not None else None
    symmetry = None if spec is None else _symmetry(spec)
    return {
        **_files(gathered),
        "symmetry": symmetry,
        "pairs": [{"files": list(pair), **_pair(each)} for pair, each in found.pairs.items()],
        "families": [_family(each) for each in found.families],
        "recipes": [_recipe(each) for each in found.recipes],
    }


def _files(gathered: GatheredFiles) -> dict[str, Any]:
    """Names of files without their folders, and why some do not fit the network."""
    return {
        "files": [Path(path).name for path in gathered.paths],
        "misfits": {Path(path).name: why for path, why in gathered.misfits.items()},
    }


def _symmetry(spec: PermutationSpec) -> dict[str, Any]:
    return {"groups": dict(spec.groups), "movable": spec.movable, "pinned": dict(spec.pinned)}


def _family(family: Family) -> dict[str, Any]:
    parents = None if family.tree is None else list(family.tree.parents)
    return {"members": list(family.members), "parents": parents}


def _pair(found: OriginEvidence | TensorComparison) -> dict[str, Any]:
    if isinstance(found, TensorComparison):
        return {"verdict": None, **_tensors(found)}
    seen = found.agreement
    return {
        "verdict": found.verdict,
        "related": found.related,
        **_tensors(found.tensors),
        "equal_in_matrices": found.equal,
        "common_origin": _origin(found.origin),
        "alignment": _alignment(found),
        "agreement": None if seen is None else _agreement(seen),
        "background": {"shares": list(found.background), "p": found.background_p},
    }


def _alignment(found: OriginEvidence) -> dict[str, Any] | None:
    state = found.state
    if state is None:
        return None
    return {
        "aligned": state.aligned,
        "moved": state.moved,
        "cosine_before": state.before,
        "cosine_after": state.after,
        "equal_in_matrices": found.equal_after,
    }


def _tensors(found: TensorComparison) -> dict[str, Any]:
    return {
        "same_architecture": found.alike,
        "missing": list(found.missing),
        "new": list(found.new),
        "reshaped": {name: [list(a), list(b)] for name, (a, b) in found.reshaped.items()},
        "retyped": {name: list(types) for name, types in found.retyped.items()},
        "equal_entries": found.equal_entries,
        "tensors": {name: _tensor(pair) for name, pair in found.pairs.items()},
    }


def _tensor(pair: TensorPair) -> dict[str, Any]:
    return {
        "kind": pair.kind,
        "cosine": pair.cosine,
        "equal": pair.equal,
        "zeros": list(pair.zeros),
        "rank_of_difference": None if pair.rank is None else pair.rank._asdict(),
    }


def _origin(found: CommonOrigin) -> dict[str, Any]:
    return {
        "log10_p": found.log10_p,
        "fixed": found.fixed[0],
        "units": found.fixed[1],
        "classes": [list(names) for names in found.classes],
        "not_tested": dict(found.left_out),
        "groups": {
            name: {
                "units": group.size * group.copies,
                "fixed": group.fixed,
                "log_p": group.log_p,
                "cosine": group.cosine,
            }
            for name, group in found.groups.items()
        },
    }


def _agreement(seen: Agreement) -> dict[str, Any]:
    return {
        "share": seen.share,
        "cosine": seen.cosine,
        "groups": {
            name: {"units": group.units, "agreed": group.agreed, "cosine": group.cosine}
            for name, group in seen.groups.items()
        },
    }


def _recipe(each: RecipeOf) -> dict[str, Any]:
    return {
        "of": each.of,
        "others": list(each.others),
        "aligned": each.aligned,
        "called": each.recipe.called,
        "gain": each.recipe.gain,
        "chance": each.recipe.chance,
        **_fit(each.recipe.whole),
        "tensors": {name: _fit(fit) for name, fit in each.recipe.by_tensor.items()},
    }


def _fit(fit: MixtureFit) -> dict[str, Any]:
    return {"weights": list(fit.weights), "rss": fit.rss, "best_single": fit.best_single}
