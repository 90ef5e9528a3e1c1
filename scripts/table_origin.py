"""What `wsl.diagnostics` says of related and unrelated networks of digits: `docs/origin.md`.

    python scripts/table_origin.py --networks mlp cnn --pairs 20

Every network is trained here, stacked, in a few minutes on a core. A line for each way in which b
comes from a: how many pairs are found to be consistent with a common origin, and by which evidence.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.stats import kstest
from torch import Tensor
from torch.nn import functional as F

import wsl
from wsl import diagnostics
from wsl.diagnostics import OriginEvidence, agreement, common_origin, origin_evidence
from wsl.params import Params, stack, unstack
from wsl.populations import (
    AdamW,
    MemberSettings,
    SampledBatches,
    SharedSettings,
    build_architecture,
    digits,
    initial_population,
    train_population,
)
from wsl.symmetry import Permutation, PermutationSpec

NETWORKS = {
    "mlp": {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 512, 10]},
    "cnn": {
        "_target_": "wsl.zoo.architectures.cnn",
        "in_channels": 1,
        "channels": [32, 64, 64],
        "classes": 10,
        "strides": [2, 2, 1],
    },
}
STEPS, FURTHER, LR, DECAY, BATCH = 300, 100, 1e-3, 1e-2, 64
SHARES = (0.02, 0.05, 0.1)


class Trainer:
    """Trains stacked networks of one architecture on digits; ``seeds`` give starts and orders."""

    def __init__(self, name: str) -> None:
        self.data, self.description = digits(), NETWORKS[name]
        self.model = self.make()
        self.spec = wsl.permutation_spec(self.model, self.data.train.images[:2])

    def make(self) -> torch.nn.Module:
        """A network with torch's own initialisation."""
        return build_architecture(self.description)

    def start(self, seeds: Sequence[int]) -> Params:
        """Stacked initial weights."""
        return initial_population(self.make, seeds)

    def train(
        self, theta: Params, orders: Sequence[int], steps: int, teacher: Params | None = None
    ) -> Params:
        """Further training, each in its own data order, towards a teacher's logits if given."""
        batches = SampledBatches(
            *self.data.train,
            seeds=torch.tensor(orders),
            batch_size=BATCH,
            fraction=torch.ones(len(orders)),
        )
        count = len(orders)
        done = train_population(
            self.model,
            theta,
            F.cross_entropy if teacher is None else F.mse_loss,
            batches=batches if teacher is None else self._taught(batches, teacher),
            members=MemberSettings(
                lr=torch.full((count,), LR), weight_decay=torch.full((count,), DECAY)
            ),
            shared=SharedSettings(optimizer=AdamW(), steps=steps),
        )
        return done.snapshots[-1]

    def accuracy(self, theta: Params) -> float:
        """Mean over the members on the test images."""
        return float(self.data.evaluate(self.model, theta)["accuracy"].mean())

    def _taught(
        self, batches: SampledBatches, teacher: Params
    ) -> Callable[[int], tuple[Tensor, Tensor]]:
        def taught(step: int) -> tuple[Tensor, Tensor]:
            images, _ = batches(step)
            with torch.no_grad():
                logits = torch.vmap(
                    lambda theta, x: torch.func.functional_call(self.model, theta, (x,))
                )(teacher, images)
            return images, logits

        return taught


def derived(
    trainer: Trainer, a: Params, b: Params, *, seeds: Sequence[int]
) -> Iterator[tuple[str, Params]]:
    """What comes of stacked ``a`` (N, ...) from ``seeds``, and of ``a`` and independent ``b``."""
    count = len(next(iter(a.values())))
    orders = [10_000 + i for i in range(count)]
    tuned = trainer.train(a, orders, STEPS)
    halved = pruned(a, 0.5)
    yield "fine-tuned", tuned
    yield "pruned, 50 %", halved
    yield "pruned, then fine-tuned", trainer.train(halved, orders, FURTHER)
    for share in SHARES:
        part = grafted(trainer.spec, a, b, share)
        yield f"graft of {share:.0%} of the units", part
        yield f"graft of {share:.0%}, then trained", trainer.train(part, orders, FURTHER)
    yield "one initialisation", trainer.train(trainer.start(seeds), orders, STEPS)
    yield "fine-tuned, units reordered", shuffled(trainer.spec, tuned)
    yield "pruned, units reordered", shuffled(trainer.spec, halved)
    fresh = trainer.start([20_000 + i for i in range(count)])
    yield "distilled from a's logits", trainer.train(fresh, orders, STEPS, teacher=a)


def pruned(theta: Params, share: float) -> Params:
    """The smallest of each matrix set to zero, member by member."""

    def one(tensor: Tensor) -> Tensor:
        if tensor.dim() < 3:
            return tensor
        size = tensor.abs().flatten(1)
        bound = size.quantile(share, dim=1) if size.shape[1] < 1e6 else size.median(1).values
        return torch.where(tensor.abs() > bound.view(-1, *[1] * (tensor.dim() - 1)), tensor, 0.0)

    return {name: one(tensor) for name, tensor in theta.items()}


def grafted(spec: PermutationSpec, a: Params, b: Params, share: float) -> Params:
    """b with the first units of every group from a, incoming and outgoing weights."""
    theta = {name: tensor.clone() for name, tensor in b.items()}
    for group, size in spec.groups.items():
        units = max(1, round(share * size))
        for place in spec.occurrences(group):
            whole = a[place.tensor]
            per = whole.shape[place.axis + 1] // size  # a flattened axis has several of each unit
            index = (slice(None),) * (place.axis + 1) + (slice(units * per),)
            theta[place.tensor][index] = whole[index]
    return theta


def shuffled(spec: PermutationSpec, theta: Params) -> Params:
    """Each member with its units in a random order of its own."""
    rng = torch.Generator().manual_seed(1)
    return stack([Permutation.random(spec, rng)(row) for row in unstack(theta)])


def report(name: str, pairs: int, *, first: int, only_null: bool) -> None:
    """The tables of one architecture."""
    trainer = Trainer(name)
    seeds = range(first, first + 2 * pairs)
    trained = trainer.train(trainer.start(seeds), seeds, STEPS)
    rows = unstack(trained)
    firsts, seconds = rows[::2], rows[1::2]
    widths = ", ".join(f"{group} = {size}" for group, size in trainer.spec.groups.items())
    say(f"\n## {name}: {widths}; test accuracy {trainer.accuracy(trained):.3f}\n")
    uniform(trainer.spec, firsts, seconds)
    every_pair(trainer.spec, rows)
    if only_null:
        return
    background = [
        [agreement(trainer.spec, a, seconds[(i + k) % pairs]).share for k in range(1, pairs)]
        for i, a in enumerate(firsts)
    ]
    say("\n| b | accuracy | found | as | log10 p, median (range) | units agree after alignment |")
    say("|---|---|---|---|---|---|")
    made = {"trained apart": stack(seconds)}
    for what, theta in [
        *made.items(),
        *derived(trainer, stack(firsts), stack(seconds), seeds=seeds[::2]),
    ]:
        found = [
            origin_evidence(trainer.spec, a, b, background=known)
            for a, b, known in zip(firsts, unstack(theta), background, strict=True)
        ]
        say(f"| {what} | {trainer.accuracy(theta):.3f} | {told(found)} |")


def uniform(spec: PermutationSpec, firsts: Sequence[Params], seconds: Sequence[Params]) -> None:
    """Kolmogorov-Smirnov of the p-values of independent pairs, for each group and all together."""
    rng = np.random.default_rng(0)
    found = [common_origin(spec, a, b) for a, b in zip(firsts, seconds, strict=True)]
    say("| tested | fixed points of each pair | KS of randomised p | mean p, as reported |")
    say("|---|---|---|---|")
    for group in found[0].groups:
        each = [one.groups[group] for one in found]
        ps = [
            one.randomized_p(float(u)) for one, u in zip(each, rng.random(len(each)), strict=True)
        ]
        counts = " ".join(str(one.fixed) for one in each)
        mean = statistics.mean(float(np.exp(one.log_p)) for one in each)
        say(f"| {group} | {counts} | p = {kstest(ps, 'uniform').pvalue:.2f} | {mean:.2f} |")
    ps = [float(np.exp(one.log_p)) for one in found]
    below = sum(p <= 0.05 for p in ps)
    say(
        f"\nAll groups together: {below} of {len(ps)} pairs have p <= .05, the least {min(ps):.2g}."
    )


def every_pair(spec: PermutationSpec, rows: Sequence[Params]) -> None:
    """Mean fixed points over all pairs: they share networks, and are uncorrelated all the same."""
    found = [common_origin(spec, a, b) for a, b in itertools.combinations(rows, 2)]
    means = [
        f"{name} {statistics.mean(one.groups[name].fixed for one in found):.3f}"
        for name in spec.groups
    ]
    error = len(found) ** -0.5
    say(f"All {len(found)} pairs, mean fixed points: {', '.join(means)}; 1 +- {error:.3f} by law.")


def told(found: Sequence[OriginEvidence]) -> str:
    """Cells of one line."""
    kinds = collections.Counter(one.verdict for one in found)
    words = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    logs = sorted(one.origin.log10_p for one in found)
    shares = [one.agreement.share for one in found if one.agreement is not None]
    related = sum(one.related for one in found)
    return (
        f"{related} of {len(found)} | {words} | {statistics.median(logs):.1f} "
        f"({logs[0]:.1f} to {logs[-1]:.1f}) | {min(shares):.2f} to {max(shares):.2f}"
    )


def say(line: str) -> None:
    """Print a line of the page at once."""
    print(line, flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first network")
    parser.add_argument("--only-null", action="store_true", help="only what is trained apart")
    options = parser.parse_args()
    torch.set_num_threads(1)
    verdicts = ", ".join(diagnostics.VERDICTS)
    say(f"Verdicts: {verdicts}.")
    for name in options.networks:
        report(name, options.pairs, first=options.first, only_null=options.only_null)


if __name__ == "__main__":
    main()
