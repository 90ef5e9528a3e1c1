"""Learned matching of small transformers from different seeds: barriers on the line between them.

    python scripts/table_learned.py runs/ --data-root DIR [--networks vit gpt words] [--pairs 0-1]

A ViT on MNIST, a GPT over characters and a GPT over words that is stopped early, two blocks each
(`small_transformers.py`), are trained from each seed unless RUNS has them. Then, from as they are
to what is learned: weight matching by permutations, `CircuitMatching` of the folded networks, and
from there `LearnedMatching` with the matrices alone and with the permutations of feed-forward
units. The barrier is the largest loss above the line between the losses of the ends, at 11 points,
on training data and on test data.
Learned on training data only; data of the barrier are another draw.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from small_transformers import (
    Data,
    Digits,
    SmallTransformer,
    Text,
    Words,
    cross_entropy,
    trained,
)
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import params
from wsl.connectivity import PathLosses, loss_barrier, path_losses
from wsl.matching import (
    ActivationMatching,
    CircuitMatching,
    LearnedMatching,
    Match,
    Matcher,
    WeightMatching,
    fold_norms,
    folded_spec,
    match,
)
from wsl.params import Params
from wsl.symmetry import symmetry_spec

TASKS = {"vit": Digits, "gpt": Text, "words": Words}
MATRICES = ("orthogonal", "linear", "rotation")


@dataclasses.dataclass(frozen=True)
class Found:
    """A matcher that returns what was found before."""

    match: Match
    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    searches: ClassVar[frozenset[str]] = CircuitMatching.searches
    many: ClassVar[bool] = False

    def solve(self, *_: object) -> Match:
        """What was found."""
        return self.match


@torch.no_grad()
def streams_of(model: nn.Module, theta: Params, x: Tensor) -> list[Tensor]:
    """What every layer norm finds in the residual stream, centred (positions, width)."""
    found: list[Tensor] = []
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]

    def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
        found.append(F.layer_norm(inputs[0], inputs[0].shape[-1:]).flatten(0, -2))

    hooks = [norm.register_forward_pre_hook(keep) for norm in norms]
    params.call(model, theta, x)
    for hook in hooks:
        hook.remove()
    return [stream - stream.mean(0) for stream in found]


def explained(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The share of a's variance in the best orthogonal map of b, and in the best linear one.

    The linear one is fitted on the first half of the positions and measured on the second.
    """
    left, _, right = torch.linalg.svd(a.T @ b)
    half = len(a) // 2
    fitted = torch.linalg.lstsq(b[:half], a[:half]).solution
    rests = [(a, a - b @ (left @ right).T), (a[half:], a[half:] - b[half:] @ fitted)]
    turned, mapped = (float(1 - rest.square().sum() / full.square().sum()) for full, rest in rests)
    return turned, mapped


class Pairs:
    """Networks of one kind, and how pairs of them are matched."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.task = TASKS[name](options.data_root)
        self.task.recipe = dataclasses.replace(self.task.recipe, stop=options.stop)
        rng = torch.Generator().manual_seed(10_000)
        counts = {"vit": 2000, "gpt": 200, "words": 200}[name]
        self.parts = {part: self.task.draw(counts, rng, part) for part in ("train", "test")}
        self.batches = [
            self.task.draw(options.batch or {"vit": 128, "gpt": 32, "words": 16}[name], rng)
            for _ in range(options.steps)
        ]
        self.model = SmallTransformer(self.task.shape).eval()
        self.spec = symmetry_spec(self.model, self.batches[0][0][:2])

    def network(self, seed: int) -> Params:
        """The weights of a seed, trained now if they are not there."""
        stop = f"-{self.options.stop}" if self.options.stop else ""
        file = self.options.runs / f"{self.name}-small-{seed}{stop}.pt"
        if not file.exists():
            start = time.time()
            torch.save(trained(self.task, seed).state_dict(), file)
            print(f"{file.name}: {time.time() - start:.0f} s", flush=True)
        return torch.load(file, weights_only=True)

    def loss(self, theta: Mapping[str, Tensor], batch: Data) -> Tensor:
        """Mean cross-entropy on a batch."""
        return cross_entropy(params.call(self.model, theta, batch[0]), batch[1])

    def line(self, a: Params, b: Params, part: str) -> PathLosses:
        """Losses on the line between two networks."""
        data = self.parts[part]
        evaluate = lambda theta: (self.loss(theta, data), 0.0)  # noqa: E731
        return path_losses(evaluate, a, b, points=self.options.points)

    def row(self, name: str, a: Params, b: Params, seconds: float) -> None:
        """Print a line of the table."""
        lines = [self.line(a, b, part) for part in ("train", "test")]
        cells = [f"{loss_barrier(line):.4f}" for line in lines]
        cells += [f"{float(line.loss[i]):.5f}" for line in lines for i in (0, -1)]
        print(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} |", flush=True)

    def alike(self, a: Params, b: Params) -> None:
        """Print how much of what one network computes the other computes too, in any symmetry."""
        x = self.parts["train"][0]
        streams = [streams_of(self.model, theta, x) for theta in (a, b)]
        turned, mapped = zip(
            *(explained(*pair) for pair in zip(*streams, strict=True)), strict=True
        )
        spec = self.spec.without_units()
        found = match(spec, a, b, ActivationMatching(x, self.model)).groups or {}
        units = [found[n] for n, k in spec.groups.items() if k == 4 * self.task.shape.width]
        for name, values in (("turned", turned), ("mapped", mapped), ("units", units)):
            print(f"alike, {name}: " + " ".join(f"{value:.2f}" for value in values), flush=True)
        print()

    def pair(self, first: int, second: int) -> None:
        """Every matching of two seeds."""
        a, b = self.network(first), self.network(second)
        print(f"\n### {self.name}, seeds {first} and {second}\n")
        self.alike(a, b)
        print("| matched by | train | test | a, train | b, train | a, test | b, test | s |")
        print("|---|---|---|---|---|---|---|---|")
        self.row("none", a, b, 0)
        self.matched("weights, permutations", WeightMatching(), a, b, folded=False)
        a, b = (fold_norms(self.spec, theta) for theta in (a, b))
        found = self.matched("weights, orthogonal stream", CircuitMatching(max_sweeps=8), a, b)
        learned = LearnedMatching(self.loss, self.batches, self.options.steps, start=Found(found))
        self.matched("learned", learned, a, b)
        if not self.options.short:
            matrices = dataclasses.replace(learned, kinds=MATRICES)
            self.matched("learned, matrices alone", matrices, a, b)

    def matched(
        self, name: str, matcher: Matcher, a: Params, b: Params, *, folded: bool = True
    ) -> Match:
        """What a matcher finds, and its line of the table."""
        start = time.time()
        spec = folded_spec(self.spec) if folded else self.spec.without_units()
        found = match(spec, a, b, matcher)
        self.row(name, a, found(b), time.time() - start)
        return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=[*TASKS], default=[*TASKS])
    parser.add_argument("--pairs", nargs="+", default=["0-1", "2-3"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--batch", type=int, help="of each step; 128 images, 32 windows, 16 of words"
    )
    parser.add_argument("--points", type=int, default=11)
    parser.add_argument("--short", action="store_true", help="leave out matrices alone")
    parser.add_argument("--stop", type=int, help="end training of the networks after so many steps")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.runs.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        pairs = Pairs(name, options)
        for pair in options.pairs:
            pairs.pair(*map(int, pair.split("-")))


if __name__ == "__main__":
    main()
