"""Why matched networks connect: the protocol of Ito, Yamada and Kumagai (arXiv 2402.04051), small.

    python scripts/table_study.py runs/ --data-root DIR -o docs/study --keep DIR [--triples 3]

The networks are those of `train_pairs.py mlp --data mnist`. In every triple (a, b, c) of seeds b
and c are matched to a: by weights, by activations, and straight through (STE), by the loss half way
alone and from b as it is. Printed, as mean and standard deviation over pairs or triples: distances,
R, the expansion of the barrier, barriers of matched pairs, and of b and c, which were never matched
to each other. Each figure is written with its numbers beside it.
``--keep`` is where permutations are kept, so that another run need not find them again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from pair_networks import network
from table_pairs import load
from torch import Tensor
from torch.nn import functional as F
from train_pairs import splits, write

from wsl import params, plots
from wsl.connectivity import (
    InputAlignment,
    LayerDistances,
    PathLosses,
    SingularAlignment,
    TaylorBarrier,
    input_alignment,
    layer_distances,
    loss_barrier,
    path_losses,
    singular_alignment,
    singular_spectra,
    taylor_barrier,
)
from wsl.matching import (
    ActivationMatching,
    Match,
    Matcher,
    StraightPermutations,
    WeightMatching,
    free_groups,
    match,
)
from wsl.params import Params
from wsl.symmetry import Permutation, PermutationSpec, permutation_spec

GAMMA = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
MATRICES = ("1.weight", "3.weight", "5.weight", "7.weight")
TRIPLES = ((0, 1, 2), (2, 3, 4), (4, 0, 1), (1, 3, 0), (3, 4, 2))
"""Every pair of five seeds as (a, b) or (a, c)."""
Data = tuple[Tensor, Tensor]


class Study:
    """The networks, the data, and every matching of every pair."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = network("mlp", data="mnist").eval()
        self.thetas = load(options.folder, "mlp-mnist-x1")
        (x, y), (test_x, test_y) = splits("mnist", options.data_root)
        self.data = {"train": (x[:1000], y[:1000]), "test": (test_x[:3000], test_y[:3000])}
        self.few = (x[:500], y[:500])
        self.spec = permutation_spec(self.model, x[:4])
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:10000]
        batches = list(zip(x[rows].split(250), y[rows].split(250), strict=True))
        self.matchers: dict[str, Matcher] = {
            "weights": WeightMatching(),
            "activations": ActivationMatching(x[:2000], self.model),
            "STE": StraightThrough(self.loss, batches, options.steps),
        }

    def loss(self, theta: Mapping[str, Tensor], batch: Data) -> Tensor:
        """Mean cross-entropy on a batch."""
        return F.cross_entropy(params.call(self.model, theta, batch[0]), batch[1])

    def few_loss(self, theta: Params) -> Tensor:
        """The loss on a few training images."""
        return self.loss(theta, self.few)

    @torch.no_grad()
    def evaluate(self, theta: Params, split: str = "test") -> tuple[float, float]:
        """Loss and accuracy on a split."""
        x, y = self.data[split]
        logits = torch.cat([params.call(self.model, theta, part) for part in x.split(1000)])
        return float(F.cross_entropy(logits, y)), float((logits.argmax(1) == y).double().mean())

    def line(self, a: Params, b: Params, split: str = "test") -> PathLosses:
        """Losses between two networks."""
        points = self.options.points
        return path_losses(lambda theta: self.evaluate(theta, split), a, b, points=points)

    def moved(self, name: str, a: int, b: int) -> Params:
        """b as a matcher brings it to a."""
        if name == "none":
            return self.thetas[b]
        kept = self.options.keep / f"{name.replace(' ', '-')}-{a}-{b}.pt"
        if not kept.exists():
            found = match(self.spec, self.thetas[a], self.thetas[b], self.matchers[name])
            write(kept, dict(found.permutation.indices))
        indices = torch.load(kept, weights_only=True)
        return Permutation(self.spec, indices)(self.thetas[b])


class StraightThrough:
    """Permutations that follow the loss half way, and nothing else, from b as it is.

    Hard forwards and soft backwards (`StraightPermutations` without a pull): no part of the start
    or of the score is that of weight matching.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"loss"})
    searches: ClassVar[frozenset[str]] = frozenset({"permutation"})
    many: ClassVar[bool] = False

    def __init__(self, loss: Any, batches: Sequence[Any], steps: int, rate: float = 0.2) -> None:
        self.loss, self.batches, self.steps, self.rate = loss, batches, steps, rate

    def solve(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /
    ) -> Match:
        """The permutation after all steps."""
        orders = StraightPermutations(spec, a, free_groups(spec), pull=0)
        optimizer = torch.optim.Adam(list(orders.moves.values()), self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for step in range(self.steps):
            with torch.enable_grad():
                middle = {name: (a[name] + tensor) / 2 for name, tensor in orders(b).items()}
                lost = self.loss(middle, self.batches[step % len(self.batches)])
            optimizer.zero_grad()
            lost.backward()
            optimizer.step()
            schedule.step()
        orders(b)
        return Match(orders.permutation, -float(lost), self.steps, False)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


def print_rows(
    title: str, columns: Sequence[str], rows: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    """Print a table: under every name of a row, for each column the values to be summed up."""
    print(f"\n### {title}\n\n| | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(spread(list(cell)) for cell in cells) + " |", flush=True)


def mean_distances(found: Sequence[LayerDistances]) -> LayerDistances:
    """The mean of every number over pairs."""
    columns = ("before", "after", "cosine_before", "cosine_after")
    means = (torch.stack([getattr(each, name) for each in found]).mean(0) for name in columns)
    return LayerDistances(found[0].names, *means)


def mean_alignment(found: Sequence[SingularAlignment]) -> SingularAlignment:
    """The mean R over pairs."""
    r, layers = (torch.stack([getattr(each, n) for each in found]).mean(0) for n in ("r", "layers"))
    return SingularAlignment(found[0].names, found[0].gamma, r, layers)


def mean_inputs(found: Sequence[InputAlignment]) -> InputAlignment:
    """The mean over networks."""
    values, aligned = (
        tuple(torch.stack(layer).mean(0) for layer in zip(*columns, strict=True))
        for columns in ([f.singular_values for f in found], [f.alignment for f in found])
    )
    return InputAlignment(found[0].names, values, aligned, found[0].chance)


def mean_taylor(found: Sequence[TaylorBarrier]) -> TaylorBarrier:
    """The mean over pairs."""
    columns = ("gradient", "curvature", "measured")
    return TaylorBarrier(*(statistics.mean(getattr(f, name) for f in found) for name in columns))


def mean_path(found: Sequence[PathLosses]) -> PathLosses:
    """The mean over pairs."""
    loss, accuracy = (
        torch.stack([getattr(f, n) for f in found]).mean(0) for n in ("loss", "accuracy")
    )
    return PathLosses(found[0].t, loss, accuracy)


METHODS = ("none", "weights", "activations", "STE")


def print_direct(study: Study, pairs: Sequence[tuple[int, int]]) -> dict[str, list[PathLosses]]:
    """Barriers between a and what was matched to it, and by how much it came closer."""
    lines = {
        m: [study.line(study.thetas[a], study.moved(m, a, b)) for a, b in pairs] for m in METHODS
    }
    rows = {}
    for name, found in lines.items():
        train = [study.line(study.thetas[a], study.moved(name, a, b), "train") for a, b in pairs]
        accuracy = [float(path.accuracy[len(path.t) // 2]) for path in found]
        rows[name] = [[loss_barrier(p) for p in train], [loss_barrier(p) for p in found], accuracy]
    columns = ("barrier, train", "barrier, test", "accuracy half way, test")
    print_rows("Pairs matched to each other", columns, rows)
    return lines


def print_distances(study: Study, pairs: Sequence[tuple[int, int]]) -> dict[str, LayerDistances]:
    """Distances after matching, as a share of those before."""
    means, rows = {}, {}
    for name in METHODS[1:]:
        found = [
            layer_distances(study.thetas[a], study.thetas[b], study.moved(name, a, b))
            for a, b in pairs
        ]
        means[name] = mean_distances(found)
        cut = 1 - torch.stack([each.after / each.before for each in found])
        chosen = [found[0].names.index(n) for n in (*MATRICES, "total")]
        rows[name] = [(100 * cut[:, i]).tolist() for i in chosen]
    print_rows("Distance cut by, in percent", (*MATRICES, "total"), rows)
    return means


def print_alignment(study: Study, pairs: Sequence[tuple[int, int]]) -> dict[str, SingularAlignment]:
    """R over the threshold."""
    means, rows = {}, {}
    for name in METHODS:
        found = [
            singular_alignment(study.thetas[a], study.moved(name, a, b), gamma=GAMMA)
            for a, b in pairs
        ]
        means[name] = mean_alignment(found)
        rows[name] = torch.stack([each.r for each in found], 1).tolist()
    print_rows("R, by the threshold gamma", [f"{g:g}" for g in GAMMA], rows)
    layers = {
        name: [[float(row[3, i])] for i in range(len(means[name].names))]
        for name, row in ((n, m.layers) for n, m in means.items())
    }
    print_rows("R at 0.3, by layer, mean", means["none"].names, layers)
    return means


def print_taylor(study: Study, pairs: Sequence[tuple[int, int]]) -> dict[str, TaylorBarrier]:
    """The expansion of the barrier half way, and what it is, on a few training images."""
    means, rows = {}, {}
    for name in METHODS:
        found = [
            taylor_barrier(study.few_loss, study.thetas[a], study.moved(name, a, b))
            for a, b in pairs
        ]
        means[name] = mean_taylor(found)
        rows[name] = [[f.estimate for f in found], [f.measured for f in found]]
    print_rows("Barrier half way, 500 training images", ("expanded", "measured"), rows)
    return means


def print_inputs(study: Study) -> InputAlignment:
    """Over networks, how far inputs lie along the first and along the median singular vector."""
    found = [input_alignment(study.model, theta, [study.few[0]]) for theta in study.thetas]
    rows = {}
    for i, name in enumerate(found[0].names):
        aligned = [each.alignment[i] for each in found]
        first = [float(each[:5].mean()) for each in aligned]
        rest = [float(each.median()) for each in aligned]
        rows[name] = [first, rest, [found[0].chance[i]]]
    print_rows("Inputs along right singular vectors", ("first five", "median", "chance"), rows)
    return mean_inputs(found)


def print_indirect(
    study: Study, triples: Sequence[tuple[int, int, int]]
) -> dict[str, list[PathLosses]]:
    """Barriers between b and c, which were matched to a only."""
    lines, rows = {}, {}
    for name in METHODS:
        ends = [(study.moved(name, a, b), study.moved(name, a, c)) for a, b, c in triples]
        lines[name] = [study.line(*each) for each in ends]
        accuracy = [float(path.accuracy[len(path.t) // 2]) for path in lines[name]]
        rows[name] = [
            [loss_barrier(study.line(*each, "train")) for each in ends],
            [loss_barrier(path) for path in lines[name]],
            accuracy,
        ]
    columns = ("barrier, train", "barrier, test", "accuracy half way, test")
    print_rows("Three models: b and c, both matched to a", columns, rows)
    return lines


def main() -> None:
    """Print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True, help="a folder for permutations")
    parser.add_argument("--triples", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="of STE")
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for folder in (options.out, options.keep):
        folder.mkdir(parents=True, exist_ok=True)
    report(Study(options), TRIPLES[: options.triples])


def report(study: Study, triples: Sequence[tuple[int, int, int]]) -> None:
    """All tables and figures."""
    pairs = [(a, other) for a, b, c in triples for other in (b, c)]
    scores = [study.evaluate(theta) for theta in study.thetas]
    print("networks:", ", ".join(f"{loss:.4f} / {hits:.4f}" for loss, hits in scores), flush=True)
    direct, indirect = print_direct(study, pairs), print_indirect(study, triples)
    first = (study.thetas[pairs[0][0]], study.moved("weights", *pairs[0]))
    drawn: dict[str, tuple[Any, Callable, Callable]] = {
        "pairs": (means_of(direct), plots.path_figure, plots.path_table),
        "three_models": (means_of(indirect), plots.path_figure, plots.path_table),
        "distances": (
            print_distances(study, pairs)["weights"],
            plots.distance_figure,
            plots.distance_table,
        ),
        "alignment": (print_alignment(study, pairs), plots.alignment_figure, plots.alignment_table),
        "taylor": (print_taylor(study, pairs), plots.taylor_figure, plots.taylor_table),
        "inputs": (print_inputs(study), plots.input_figure, plots.input_table),
        "spectra": (singular_spectra(*first), plots.spectra_figure, plots.spectra_table),
    }
    for name, (data, figure, table) in drawn.items():
        plots.save_figure(study.options.out / f"{name}.png", figure(data), table(data))


def means_of(lines: Mapping[str, Sequence[PathLosses]]) -> dict[str, PathLosses]:
    """The mean path of every method."""
    return {name: mean_path(found) for name, found in lines.items()}


if __name__ == "__main__":
    main()
