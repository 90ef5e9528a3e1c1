"""Every pair of some checkpoints half way, and all of them: matched, then repaired without labels.

    python scripts/table_repair.py a.pt b.pt ... --model nets:LeNet --input-shape 2,1,28,28
        --data mnist/ --loss nll_loss --normalize 0.1307,0.3081

A line for each pair and one for all: accuracy and loss of the average after matching, then after
REPAIR without data in closed form and on noise, after REPAIR, after least squares, and after both;
with ``--scales`` the members are brought to the scales of the first. The inputs are the first of
the training split; labels serve for the scores alone. The tables stand in
`docs/two_checkpoints.md` and `docs/connectivity.md`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from wsl.cli import checkpoints
from wsl.cli.choices import add_matcher_arguments, chosen_matcher
from wsl.cli.evaluation import add_evaluation_arguments, scorer, unlabelled
from wsl.connectivity import least_squares, repair, repair_closed_form, repair_on_noise
from wsl.matching import align_scales
from wsl.merging import align, average
from wsl.params import Params
from wsl.symmetry import symmetry_spec

WITHOUT_DATA = (repair_closed_form, repair_on_noise)

HEAD = (
    "| networks | matched | + closed form | + noise | + REPAIR | + least squares | + both |\n"
    "|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    checkpoints.add_arguments(parser, many=True)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
    parser.add_argument("--scales", choices=("closest", "norms"), help="of units, as those of A")
    parser.add_argument("--samples", type=int, default=1000, help="inputs to repair on")
    options = parser.parse_args()
    loaded, matcher = checkpoints.load(options), chosen_matcher(options)
    score = scorer(options, loaded)
    if score is None:
        raise SystemExit("give --data or --evaluate")
    batches = unlabelled(options, loaded)[: options.samples].split(250)
    names = [Path(path).stem for path in loaded.paths]
    pairs = [*itertools.combinations(range(len(names)), 2), tuple(range(len(names)))]
    print(HEAD)
    for chosen in dict.fromkeys(pairs):
        members = align(loaded.spec, [loaded.members[i] for i in chosen], matcher=matcher)
        members = scaled(loaded, members, options.scales)
        with torch.no_grad():
            told = [score(theta) for theta in mended(loaded.network(), members, batches)]
        cells = [f"{each['accuracy']:.4f} ({each['loss']:.3f})" for each in told]
        print("|", ", ".join(names[i] for i in chosen), "|", " | ".join(cells), "|", flush=True)


def scaled(loaded: checkpoints.Loaded, members: Sequence[Params], how: str | None) -> list[Params]:
    """The members with the scales of the first."""
    if how is None or loaded.inputs is None:
        return list(members)
    (inputs, named), first = loaded.inputs, members[0]
    spec = symmetry_spec(loaded.network(), *inputs, **named)
    found = [
        align_scales(spec, first, m, norms=how == "norms", one_sided=False)(m) for m in members[1:]
    ]
    return [first, *found]


def mended(model: nn.Module, members: Sequence[Params], batches: Sequence[Tensor]) -> list[Params]:
    """The average of aligned members: as it is, repaired without data, and on data."""
    mean = average(members)
    free = [mend(model, mean, members, example=batches[0][:2]).params for mend in WITHOUT_DATA]
    repaired = repair(model, mean, members, batches=batches).params
    fitted = least_squares(model, mean, members, batches=batches).params
    both = least_squares(model, repaired, members, batches=batches).params
    return [mean, *free, repaired, fitted, both]


if __name__ == "__main__":
    main()
