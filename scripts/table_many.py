"""Five networks into one: methods for many models, their time, and accuracy against width.

    python scripts/table_many.py methods --data-root mnist/       five MLPs: each method, merged
    python scripts/table_many.py repaired --data-root mnist/ --seeds 5   the same, then repaired
    python scripts/table_many.py width --data-root mnist/         five thin CNNs: accuracy by width

Everything is trained here, on MNIST, from fixed seeds. ``methods`` compares with C2M3 written as
published, over all pairs with dense matrices and a line search that evaluates the objective, run
after the others in the same process. ``repaired`` sets the methods side by side on several sets of
five networks after REPAIR on 500 inputs, with differences in pairs and their standard errors.
``width`` averages images over 2 x 2 pixels and trains on 20,000 of them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence

import torch
from scipy.optimize import fminbound
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import params, permutation_spec
from wsl.connectivity import repair, reset_batch_norm
from wsl.matching import (
    CycleConsistent,
    JointMatch,
    ManyMatcher,
    MergeMany,
    ToReference,
    match_all,
    widen,
)
from wsl.matching.solvers import assign
from wsl.merging import average
from wsl.params import Params
from wsl.populations.tasks import mnist_images
from wsl.symmetry import Permutation, PermutationSpec

MEMBERS = 5
STEPS = 5
"""Of Frank-Wolfe, where its time is compared."""
RELAXED = CycleConsistent(max_iterations=STEPS, polish=False, rival=None)


class Thin(nn.Module):
    """Four convolutions of 16 and 32 channels with batch norm, the last two in a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv4, self.bn4 = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.head = nn.Linear(32, 10)

    def units(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What the units of each site do, by the parameter that writes them; at last the logits."""
        x = self.bn1(self.conv1(x)).relu()
        yield "conv1.weight", x
        x = self.bn2(self.conv2(x)).relu()
        yield "conv2.weight", x
        y = self.bn3(self.conv3(x)).relu()
        yield "conv3.weight", y
        x = (x + self.bn4(self.conv4(y))).relu()
        yield "conv2.weight", x
        yield "logits", self.head(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        *_, (_, logits) = self.units(x)
        return logits


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["methods", "repaired", "width"])
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--hidden", type=int, default=256, help="units of each layer of the MLPs")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1, help="how many times five networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table == "repaired":
        return repaired(options)
    for run in range(options.seeds):
        (methods if options.table == "methods" else width)(options, MEMBERS * run)


def images(root: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs (N, 1, 28, 28), standardised, and labels, of training and test."""
    data = mnist_images(root)
    found = []
    for pixels, labels in (data.train, data.test):
        scaled = (torch.from_numpy(pixels.copy()).float()[:, None] / 255 - 0.1307) / 0.3081
        found += [scaled, torch.from_numpy(labels.copy()).long()]
    return tuple(found)


def trained(model: nn.Module, x: Tensor, y: Tensor, *, seed: int, epochs: int) -> Params:
    """Adam with one cycle, batches of 128."""
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    steps = epochs * (len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: len(x) // 128 * 128].split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    return params.from_module(model)


def score(model: nn.Module, theta: Params, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy and loss."""
    with torch.no_grad():
        out = torch.cat([params.call(model, theta, part) for part in x.split(1000)])
    return float((out.argmax(1) == y).double().mean()), float(F.cross_entropy(out, y))


def perceptron(h: int) -> nn.Module:
    """Three hidden layers of ``h`` units."""
    layers = [nn.Flatten(), nn.Linear(784, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 10))


def methods(options: argparse.Namespace, first: int) -> None:
    """Five MLPs of three hidden layers, by each method."""
    x, y, tx, ty = images(options.data_root)
    h, model = options.hidden, perceptron(options.hidden)
    seeds = range(first, first + MEMBERS)
    thetas = [trained(model, x, y, seed=seed, epochs=options.epochs) for seed in seeds]
    spec = permutation_spec(model, x[:1])
    each = [score(model, theta, tx, ty)[0] for theta in thetas]
    print(
        f"MLP 3x{h}, seeds {first} to {first + MEMBERS - 1}: {' '.join(f'{a:.4f}' for a in each)}"
    )
    naive = score(model, average(thetas), tx, ty)
    print("| method | objective | accuracy | loss | iterations | s |\n|---|---|---|---|---|---|")
    print(f"| none | | {naive[0]:.4f} | {naive[1]:.3f} | | |", flush=True)
    rows: dict[str, ManyMatcher] = {
        **{f"ToReference({i})": ToReference(reference=i) for i in range(MEMBERS)},
        "MergeMany, as published": MergeMany(start=None),
        "MergeMany": MergeMany(),
        "CycleConsistent, no rival": CycleConsistent(rival=None),
        f"CycleConsistent, {STEPS} steps": RELAXED,
        f"C2M3 over all pairs, {STEPS} steps": AllPairs(STEPS),
    }
    for name, method in rows.items():
        found = match_all(spec, thetas, method)
        accuracy, loss = score(model, average(found(thetas)), tx, ty)
        print(
            f"| {name} | {found.objective:.1f} | {accuracy:.4f} | {loss:.3f} | {found.rounds} "
            f"| {found.seconds['total']:.1f} |",
            flush=True,
        )


JOINT: dict[str, ManyMatcher] = {
    "ToReference": ToReference(),
    "MergeMany": MergeMany(),
    "CycleConsistent, no rival": CycleConsistent(rival=None),
    "CycleConsistent": CycleConsistent(),
}


def repaired(options: argparse.Namespace) -> None:
    """Sets of five MLPs by each method for many models, as averaged and after REPAIR."""
    x, y, tx, ty = images(options.data_root)
    model, scores = perceptron(options.hidden), {name: [] for name in JOINT}
    print("| seeds | method | objective | accuracy | repaired |\n|---|---|---|---|---|")
    for first in range(0, MEMBERS * options.seeds, MEMBERS):
        seeds = range(first, first + MEMBERS)
        thetas = [trained(model, x, y, seed=seed, epochs=options.epochs) for seed in seeds]
        spec = permutation_spec(model, x[:1])
        for name, method in JOINT.items():
            found = match_all(spec, thetas, method)
            moved = found(thetas)
            plain = average(moved)
            mended = repair(model, plain, moved, batches=[x[:500]]).params
            scores[name].append(score(model, mended, tx, ty)[0])
            line = f"| {found.objective:.1f} | {score(model, plain, tx, ty)[0]:.4f}"
            print(
                f"| {first} to {seeds[-1]} | {name} {line} | {scores[name][-1]:.4f} |", flush=True
            )
    for name, found in scores.items():
        gaps = 100 * (torch.tensor(found) - torch.tensor(scores["MergeMany"]))
        error = gaps.std() / len(found) ** 0.5
        mean = sum(found) / len(found)
        print(f"{name}: {mean:.4f}, {gaps.mean():+.2f} ± {error:.2f} points beside MergeMany")


class AllPairs:
    """C2M3 for MLPs, written as published: sums over pairs, dense matrices, a bounded search."""

    needs, joint = frozenset({"weights"}), True

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def solve(self, spec: PermutationSpec, models: Sequence[Params], /) -> JointMatch:
        """From the identity, ``steps`` steps."""
        start = time.perf_counter()
        weights = [[t for n, t in m.items() if n.endswith("weight")] for m in models]
        biases = [[t for n, t in m.items() if n.endswith("bias")] for m in models]
        soft = [[torch.eye(len(w)) for w in ws[:-1]] for ws in weights]
        for _ in range(self.steps):
            towards = self._vertices(weights, biases, soft)
            share = fminbound(
                lambda t, p=soft, d=towards: -_value(weights, biases, _mixed(p, d, t)),
                0,
                1,
                maxfun=20,
                disp=0,
            )
            soft = _mixed(soft, towards, float(share))
        hard = [{g: assign(p) for g, p in zip(spec.groups, ps, strict=True)} for ps in soft]
        permutations = tuple(Permutation(spec, indices) for indices in hard)
        vertices = [[torch.eye(len(i))[i] for i in each.values()] for each in hard]
        value = _value(weights, biases, vertices)
        seconds = {"total": time.perf_counter() - start}
        return JointMatch(permutations, value, self.steps, False, seconds=seconds)

    def _vertices(self, weights, biases, soft) -> list[list[Tensor]]:
        slopes = [[torch.zeros_like(p) for p in ps] for ps in soft]
        for i, j in itertools.permutations(range(len(weights)), 2):
            for k in range(len(soft[i])):
                slopes[i][k] += _slope(weights, biases, soft, pair=(i, j), layer=k)
        return [[torch.eye(len(s))[assign(s)] for s in own] for own in slopes]


def _moved(ws: Sequence[Tensor], soft: Sequence[Tensor], layer: int) -> Tensor:
    """P_k W_k P_{k-1}^T."""
    moved = ws[layer] if layer == len(soft) else soft[layer] @ ws[layer]
    return moved @ soft[layer - 1].T if layer else moved


def _value(weights, biases, soft) -> float:
    total = 0.0
    for i, j in itertools.combinations(range(len(weights)), 2):
        for k in range(len(weights[i])):
            a, b = (_moved(weights[m], soft[m], k) for m in (i, j))
            total += float((a * b).sum())
            last = k == len(soft[i])
            c, d = (biases[m][k] if last else soft[m][k] @ biases[m][k] for m in (i, j))
            total += float(c @ d)
    return total


def _slope(weights, biases, soft, *, pair: tuple[int, int], layer: int) -> Tensor:
    i, j = pair
    mine, other = weights[i], _moved(weights[j], soft[j], layer)
    own = mine[layer] @ soft[i][layer - 1].T if layer else mine[layer]
    slope = other @ own.T + torch.outer(soft[j][layer] @ biases[j][layer], biases[i][layer])
    after = _moved(weights[j], soft[j], layer + 1)
    following = mine[layer + 1]
    if layer + 1 < len(soft[i]):
        following = soft[i][layer + 1] @ following
    return slope + after.T @ following


def _mixed(soft, towards, t: float) -> list[list[Tensor]]:
    return [
        [(1 - t) * p + t * d for p, d in zip(ps, ds, strict=True)]
        for ps, ds in zip(soft, towards, strict=True)
    ]


def width(options: argparse.Namespace, first: int) -> None:
    """Five thin CNNs merged into networks of more and more channels."""
    x, y, tx, ty = images(options.data_root)
    x, y, tx = F.avg_pool2d(x[:20000], 2), y[:20000], F.avg_pool2d(tx, 2)
    model = Thin()
    seeds = range(first, first + MEMBERS)
    thetas = [trained(model, x, y, seed=seed, epochs=options.epochs) for seed in seeds]
    spec = permutation_spec(model, x[:1])
    each = [score(model, theta, tx, ty)[0] for theta in thetas]
    print(
        f"thin CNNs, seeds {first} to {first + MEMBERS - 1}: {' '.join(f'{a:.4f}' for a in each)}"
    )
    with torch.no_grad():
        outs = torch.stack([params.call(model, theta, tx) for theta in thetas])
    together = float((outs.mean(0).argmax(1) == ty).double().mean())
    mean = sum(each) / MEMBERS
    print(f"parents {mean:.4f}, mean of their outputs {together:.4f}")
    print("| matched by | units told by | width | accuracy | below the parents |")
    print("|---|---|---|---|---|")
    for how in ("weights", "activations"):
        moved = aligned(model, spec, thetas, x[:500], how=how)
        described = {"weights": None, "activations": activations(model, spec, moved, x[:500])}
        for by, share in itertools.product(described, (0, 0.25, 0.5, 1, 1.5, 2, 3, 4)):
            wide = widen(spec, moved, share, features=described[by])
            batches = x[:4000].split(500)
            reset = reset_batch_norm(model, wide.params, batches) if share < 4 else wide.params
            accuracy, _ = score(model, reset, tx, ty)
            drop = 100 * (mean - accuracy)
            print(f"| {how} | {by} | {1 + share:g} | {accuracy:.4f} | {drop:.2f} |", flush=True)


def aligned(
    model: Thin, spec: PermutationSpec, thetas: Sequence[Params], x: Tensor, *, how: str
) -> list[Params]:
    """All beside the first: by `CycleConsistent`, or each by the correlation of activations."""
    if how == "weights":
        return match_all(spec, thetas).beside(thetas)
    features = activations(model, spec, thetas, x)
    moved = []
    for i, theta in enumerate(thetas):
        indices = {g: assign(f[0] @ f[i].T) for g, f in features.items()}
        moved.append(Permutation(spec, indices)(theta))
    return moved


@torch.no_grad()
def activations(
    model: Thin, spec: PermutationSpec, thetas: Sequence[Params], x: Tensor
) -> dict[str, Tensor]:
    """Standardised activations (networks, units, sites x positions) by group, all sites of it."""
    groups = {n: spec.axes[n][0][0][0] for n in ("conv1.weight", "conv2.weight", "conv3.weight")}
    found: dict[str, list[Tensor]] = {}
    for theta in thetas:
        model.load_state_dict(theta)
        sites: dict[str, list[Tensor]] = {}
        for name, tensor in model.eval().units(x):
            if name in groups:
                rows = tensor.transpose(0, 1).flatten(1)
                rows = rows - rows.mean(1, keepdim=True)
                sites.setdefault(groups[name], []).append(
                    rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)
                )
        for group, parts in sites.items():
            found.setdefault(group, []).append(torch.cat(parts, 1))
    return {group: torch.stack(parts) for group, parts in found.items()}


if __name__ == "__main__":
    main()
