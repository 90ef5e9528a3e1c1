"""Every pair of some checkpoints, half way, as they are and matched: `docs/two_checkpoints.md`.

    python scripts/table_checkpoints.py a.pt b.pt ... --model nets:LeNet --input-shape 2,1,28,28
        --data mnist/ --loss nll_loss --normalize 0.1307,0.3081

A line for each pair: accuracy of the parents, of their mean without alignment, and after matching
(``--matcher``: weights unless told; activations take ``--inputs-data``, or the training images of
``--data``); then all of them averaged after alignment to the first.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch

from wsl.cli import checkpoints
from wsl.cli.choices import add_matcher_arguments, chosen_matcher, with_inputs
from wsl.cli.evaluation import add_evaluation_arguments, scorer
from wsl.connectivity import lerp
from wsl.matching import match
from wsl.merging import average, merge


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    checkpoints.add_arguments(parser, many=True)
    add_matcher_arguments(parser)
    add_evaluation_arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(2)
    loaded = checkpoints.load(options)
    matcher = with_inputs(chosen_matcher(options), options, loaded)
    evaluate = scorer(options, loaded)
    if evaluate is None:
        raise SystemExit("give --data or --evaluate")
    names = [Path(path).stem for path in loaded.paths]
    alone = [evaluate(theta)["accuracy"] for theta in loaded.members]
    print("| pair | parents | mean | mean after matching |\n|---|---|---|---|")
    for i, j in itertools.combinations(range(len(names)), 2):
        a, b = loaded.members[i], loaded.members[j]
        moved = match(loaded.spec, a, b, matcher)(b)
        naive, matched = (evaluate(lerp(a, other, 0.5))["accuracy"] for other in (b, moved))
        parents = f"{alone[i]:.4f} {alone[j]:.4f}"
        print(f"| {names[i]}, {names[j]} | {parents} | {naive:.4f} | {matched:.4f} |", flush=True)
    naive = evaluate(average(loaded.members))["accuracy"]
    aligned = merge(loaded.members, spec=loaded.spec, matcher=matcher).params
    print(f"| all {len(names)} | | {naive:.4f} | {evaluate(aligned)['accuracy']:.4f} |")


if __name__ == "__main__":
    main()
