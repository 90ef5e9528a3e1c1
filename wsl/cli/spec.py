"""``wsl spec MODEL``: print the permutation symmetry that was discovered, and prove it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from wsl.cli.checkpoints import example, find
from wsl.cli.config import ConfigError
from wsl.cli.terminal import say
from wsl.symmetry import permutation_spec, verify


def run(arguments: Sequence[str]) -> None:
    """Print the specification; with --verify also its proof."""
    parser = argparse.ArgumentParser(prog="wsl spec", description="Print the permutation symmetry of a network's weights.")
    parser.add_argument("model", help="module:callable that returns the network")
    parser.add_argument("--input-shape", required=True, help="shape of one input batch, for example 2,3,32,32")
    parser.add_argument(
        "--verify", action="store_true", help="check in float64 that random group elements leave the function as it is"
    )
    parser.add_argument("--pinned", action="store_true", help="also say why each other axis cannot move")
    options = parser.parse_args(arguments)
    model, x = find(options.model), example(options.input_shape)
    spec = permutation_spec(model, x)
    say(str(spec))
    say(f"\n{len(spec.groups)} groups, log10 of the group's order {spec.log10_order:.1f}")
    say(f"{spec.movable:.1%} of the weights lie on movable axes")
    if options.pinned:
        say("\n".join(f"{axis}: {reason}" for axis, reason in spec.pinned.items()))
    if options.verify:
        proof = verify(spec, model, x)
        say(str(proof))
        if not proof.ok:
            raise ConfigError(
                f"the specification of {options.model} does not preserve its function; please report this network"
            )
