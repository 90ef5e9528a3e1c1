"""What `wsl.diagnostics` says of the spectra of real networks: `docs/spectra.md`.

    python scripts/table_spectra.py lenet_a.pt lenet_b.pt ... --mnist mnist/ --figures docs/spectra

The checkpoints are LeNets of PyTorch's MNIST example; perceptrons of digits are trained here, in a
few minutes on a core. Tables go to the standard output, figures with their CSV to ``--figures``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import plots
from wsl.diagnostics import (
    IntrinsicDimension,
    NetworkSpectra,
    PruningRegime,
    SubspaceTraining,
    UtilisedRank,
    intrinsic_dimension,
    intruder_dimensions,
    koopman_factors,
    magnitude_pruned,
    network_spectra,
    pruning_regime,
    super_weights,
    utilised_ranks,
    welore_ranks,
)
from wsl.params import Params, call, from_module
from wsl.populations import Examples, digits, mnist
from wsl.zoo import read_checkpoint

WIDTH, STEPS, RATE, RANK = 256, 600, 1e-3, 4
DIMENSIONS = (10, 30, 100, 200, 300, 450, 600)
BATCHES, DENSITIES = (512, 64, 8), (0.5, 0.1, 0.05, 0.02)


class LeNet(nn.Module):
    """PyTorch's MNIST example of 2018."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (images, 10)."""
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2)
        return F.log_softmax(self.fc2(self.fc1(x.flatten(1)).relu()), 1)


def perceptron() -> nn.Module:
    """64 pixels, two hidden layers, 10 classes."""
    hidden = nn.Linear(WIDTH, WIDTH)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(WIDTH, 10)
    )


class Digits:
    """Trains perceptrons on digits; all randomness comes from seeds."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.data, self.model = digits(), perceptron()
        self.start = from_module(self.model)

    def train(
        self,
        theta: Params,
        examples: Examples,
        *,
        seed: int,
        batch: int = 64,
        steps: int = STEPS,
        masks: Mapping[str, Tensor] | None = None,
    ) -> Params:
        """Adam on the weights; where there are masks, what is zero stays zero."""
        learned = {name: t.clone().requires_grad_() for name, t in theta.items()}
        optimizer = torch.optim.Adam([*learned.values()], lr=RATE)
        rng = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            optimizer.zero_grad()
            used = {n: t * masks[n] if masks and n in masks else t for n, t in learned.items()}
            self.loss(used, sample(examples, batch, rng)).backward()
            optimizer.step()
        return {n: (t * masks[n] if masks and n in masks else t).detach() for n, t in used.items()}

    def train_low_rank(self, theta: Params, examples: Examples, *, seed: int) -> Params:
        """Fine-tuning by the sum of B A of rank `RANK` on each matrix, B from zero."""
        torch.manual_seed(seed)
        names = [name for name, t in theta.items() if t.dim() > 1]
        a = {n: torch.randn(RANK, theta[n].shape[1]) / RANK for n in names}
        b = {n: torch.zeros(theta[n].shape[0], RANK) for n in names}
        factors = [t.requires_grad_() for t in (*a.values(), *b.values())]
        optimizer, rng = (
            torch.optim.Adam(factors, lr=10 * RATE),
            torch.Generator().manual_seed(seed),
        )
        for _ in range(STEPS):
            optimizer.zero_grad()
            tuned = {**theta, **{n: theta[n] + b[n] @ a[n] for n in names}}
            self.loss(tuned, sample(examples, 64, rng)).backward()
            optimizer.step()
        return {n: t.detach() for n, t in tuned.items()}

    def loss(self, theta: Params, batch: Examples) -> Tensor:
        """The mean cross entropy."""
        return F.cross_entropy(call(self.model, theta, batch.images), batch.labels)

    def accuracy(self, theta: Params, examples: Examples) -> float:
        """The share of right answers."""
        with torch.no_grad():
            return accuracy(call(self.model, theta, examples.images), examples.labels)


def sample(examples: Examples, size: int, rng: torch.Generator) -> Examples:
    """A batch with replacement."""
    chosen = torch.randint(len(examples.labels), (size,), generator=rng)
    return Examples(examples.images[chosen], examples.labels[chosen])


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """The share of largest outputs that are the label."""
    return float((outputs.argmax(1) == labels).double().mean())


def turned(examples: Examples) -> Examples:
    """The same digits by a quarter turn."""
    return Examples(examples.images.rot90(1, (2, 3)), examples.labels)


def lenets(paths: list[Path], images: Tensor, figures: Path) -> None:
    """Spectra, ranks, WeLore's cut, utilised ranks, Koopman factors and super weights."""
    model = LeNet()
    networks = {path.stem: dict(read_checkpoint(path)[0]) for path in paths}
    networks["untrained"] = from_module(model)
    spectra = {name: network_spectra(theta) for name, theta in networks.items()}
    used = {
        name: utilised_ranks(model, theta, images.split(250)) for name, theta in networks.items()
    }
    say_ranks(networks, spectra, used)
    for name, theta in networks.items():
        found = super_weights(model, theta, images[:100])
        best = super_weights(model, theta, images[:100], spike=0, share=0)[0]
        print(f"{name}: {len(found)} super weights; the largest spikes {best}")
    for kind, figure, table, data in (
        ("spectra", plots.network_spectra_figure, plots.network_spectra_table, spectra),
        ("ranks", plots.ranks_figure, plots.ranks_table, spectra),
        ("utilised", plots.utilised_figure, plots.utilised_table, used),
    ):
        plots.save_figure(figures / f"{kind}.png", figure(data), table(data))


def say_ranks(
    networks: Mapping[str, Params],
    spectra: Mapping[str, NetworkSpectra],
    used: Mapping[str, Mapping[str, UtilisedRank]],
) -> None:
    """A line for each matrix of each network."""
    print(
        "| network | matrix | full | effective | stable | WeLore 50 % | utilised | log10 Koopman |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, theta in networks.items():
        cut, factors = welore_ranks(spectra[name], 0.5), koopman_factors(theta)
        for each in spectra[name]:
            layer = used[name][each.name.removesuffix(".weight")]
            ranks = f"{each.effective_rank:.1f} | {each.stable_rank:.1f} | {cut.ranks[each.name]}"
            print(
                f"| {name} | {each.name} | {len(each.values)} | {ranks} | {layer.rank} "
                f"(error {layer.error:.3f}) | {factors[each.name].log10:.1f} |"
            )


def cut(paths: list[Path], test: Examples) -> None:
    """Accuracy before and after all weights were cut to WeLore's ranks."""
    model = LeNet()
    print("| network | accuracy | cut to WeLore's ranks, 50 % |\n|---|---|---|")
    for path in paths:
        theta = dict(read_checkpoint(path)[0])
        ranks = welore_ranks(network_spectra(theta), 0.5).ranks
        low = {n: truncated(t, ranks[n]) if n in ranks else t for n, t in theta.items()}
        scores = [scored(model, each, test) for each in (theta, low)]
        print(f"| {path.stem} | " + " | ".join(f"{each:.4f}" for each in scores) + " |")


def truncated(weight: Tensor, rank: int) -> Tensor:
    """The nearest matrix of this rank."""
    u, s, vh = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    return (u[:, :rank] * s[:rank] @ vh[:rank]).view_as(weight)


@torch.no_grad()
def scored(model: nn.Module, theta: Params, test: Examples) -> float:
    """The accuracy on all test images."""
    outputs = torch.cat([call(model, theta, x) for x in test.images.split(1000)])
    return accuracy(outputs, test.labels)


def intruders(task: Digits) -> None:
    """Full and low-rank fine-tuning on turned digits: new leading directions, and what is lost."""
    train, test = task.data.train, task.data.test
    base = task.train(task.start, train, seed=0)
    full = task.train(base, turned(train), seed=1)
    low = task.train_low_rank(base, turned(train), seed=1)
    print("| network | intruders by matrix | turned digits | digits |\n|---|---|---|---|")
    for name, theta in (("base", base), ("full", full), (f"rank {RANK}", low)):
        found = intruder_dimensions(base, theta)
        counts = ", ".join(f"{n} {len(each.found)}" for n, each in found.items())
        scores = [task.accuracy(theta, each) for each in (turned(test), test)]
        print(f"| {name} | {counts} | {scores[0]:.3f} | {scores[1]:.3f} |")


def intrinsic(task: Digits) -> IntrinsicDimension:
    """The intrinsic dimension of digits for this perceptron."""
    train, test = task.data.train, task.data.test
    whole = task.accuracy(task.train(task.start, train, seed=0), test)
    rng = torch.Generator().manual_seed(0)
    return intrinsic_dimension(
        lambda theta: task.loss(theta, sample(train, 64, rng)),
        task.start,
        lambda theta: task.accuracy(theta, test),
        dimensions=DIMENSIONS,
        baseline=whole,
        training=SubspaceTraining(steps=300, learning_rate=0.03),
    )


def regimes(task: Digits) -> dict[tuple[float, float], PruningRegime]:
    """Batches of falling size, pruned to falling densities, trained on twice."""
    train, test = task.data.train, task.data.test
    found: dict[tuple[float, float], PruningRegime] = {}
    print("| batch | density | regime | barrier | CKA | accuracy |\n|---|---|---|---|---|---|")
    for batch in BATCHES:
        dense = task.train(task.start, train, seed=0, batch=batch)
        for density in DENSITIES:
            sparse, masks = magnitude_pruned(dense, density)
            twins = [
                task.train(sparse, train, seed=10 + i, batch=batch, steps=200, masks=masks)
                for i in range(2)
            ]
            each = pruning_regime(
                lambda theta: 1 - task.accuracy(theta, test),
                outputs_on(task, test),
                (twins[0], twins[1]),
                tolerance=0.01,
                alike=0.95,
            )
            found[batch, density] = each
            right = task.accuracy(twins[0], test)
            told = f"{each.regime} | {each.barrier:.4f} | {each.cka:.3f} | {right:.3f}"
            print(f"| {batch} | {density} | {told} |", flush=True)
    return found


def outputs_on(task: Digits, test: Examples) -> Callable[[Params], Tensor]:
    """What a network says of the test images."""

    def outputs(theta: Params) -> Tensor:
        with torch.no_grad():
            return call(task.model, theta, test.images)

    return outputs


def main() -> None:
    """Print the tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lenets", nargs="+", type=Path)
    parser.add_argument("--mnist", required=True, help="the folder of MNIST's files")
    parser.add_argument("--figures", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    data = mnist(data_root=options.mnist)
    train, test = (Examples((x - 0.1307) / 0.3081, y) for x, y in (data.train, data.test))
    lenets(options.lenets, train.images[:1000], options.figures)
    cut(options.lenets, test)
    task = Digits()
    intruders(task)
    found = {"perceptron, digits": intrinsic(task)}
    print(found)
    figure, table = plots.intrinsic_figure(found), plots.intrinsic_table(found)
    plots.save_figure(options.figures / "intrinsic.png", figure, table)
    grid = regimes(task)
    plots.save_figure(
        options.figures / "regimes.png",
        plots.regimes_figure(grid, label="batch size"),
        plots.regimes_table(grid),
    )


if __name__ == "__main__":
    main()
