"""``wsl merge --scales HOW --products``: the gauge of the members, before and in their average.

    --scales     scales and signs of units brought to those of A     `matching.align_scales`
    --products   linear maps that meet brought to those of A         `matching.align_linear`
                 and averaged as their product                       `connectivity.average_products`

What may be scaled or mixed is read off the network, or stands in the ``--spec`` file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from torch import Tensor

from wsl.cli.checkpoints import Loaded
from wsl.cli.evaluation import example_inputs
from wsl.cli.networks import Inputs, discover
from wsl.cli.targets import ConfigError
from wsl.connectivity import average_products
from wsl.matching import align_linear, align_scales
from wsl.params import Params
from wsl.symmetry import PermutationSpec


def add_gauge_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which gauge is fixed."""
    parser.add_argument(
        "--scales",
        choices=("closest", "norms"),
        help="bring the scales and signs of units to those of A before merging: to the least "
        "distance, or to equal norms",
    )
    parser.add_argument(
        "--products",
        action="store_true",
        help="average linear maps that meet, such as values and outputs of heads, as products",
    )


def check_gauge_arguments(options: argparse.Namespace) -> None:
    """Raise `ConfigError` for a method whose result is no average of products."""
    if options.products and options.method is not None:
        raise ConfigError("--products is of the plain average; leave out --method or --products")


def gauged(
    options: argparse.Namespace, loaded: Loaded, members: Sequence[Params], *, base: Params | None
) -> list[Params]:
    """The members with scales, signs and matrices like those of the base, or of the first."""
    if not options.scales and not options.products:
        return list(members)
    spec = _with_units(options, loaded)
    reference = members[0] if base is None else base

    def brought(member: Params) -> Params:
        if options.products:
            member = align_linear(spec, reference, member)(member)
        if not options.scales:
            return member
        # Weights before a batch norm keep their norms: making those equal measured worse.
        norms = options.scales == "norms"
        return align_scales(spec, reference, member, norms=norms, one_sided=False)(member)

    return [m if m is reference else brought(m) for m in members]


def averaged(
    options: argparse.Namespace, loaded: Loaded, merged: Params, *, members: Sequence[Params]
) -> Params:
    """The plain average, of products where that was asked for."""
    if not options.products:
        return merged
    weights = [1 - options.weight, options.weight] if len(members) == 2 else None
    return average_products(_with_units(options, loaded), merged, members, weights=weights)


def _with_units(options: argparse.Namespace, loaded: Loaded) -> PermutationSpec:
    if loaded.spec.units:
        return loaded.spec
    if options.spec:
        raise ConfigError(
            f"--spec {options.spec}: has no lines of unit symmetries, which --scales and "
            "--products need; write it with wsl spec --units"
        )
    return discover(loaded.network(), _inputs(options, loaded), units=True)


def _inputs(options: argparse.Namespace, loaded: Loaded) -> Inputs:
    if loaded.inputs is not None:
        return loaded.inputs
    return (example_inputs(options, loaded)[:2],), {}


def example_of(options: argparse.Namespace, loaded: Loaded) -> Tensor:
    """Inputs of which a repair without data uses the shape; `ConfigError` for several."""
    args, kwargs = _inputs(options, loaded)
    if len(args) != 1 or kwargs:
        raise ConfigError(
            f"--repair-without-data: the network takes {len(args) + len(kwargs)} inputs, but it "
            "is for networks of one"
        )
    return args[0]
