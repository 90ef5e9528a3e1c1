"""Weight matching beside the straightforward implementation, and beside its own bound.

    python scripts/bench_matching.py [vgg16 mlp resnet20x4 resnet20x16] [--repeats 3]

The straightforward implementation is what public code does: every visit of a group computes all its
Gram matrices anew from weights permuted anew, the objective goes through one-hot matrices, and each
assignment is SciPy's. Both run in turn, in one process, on the same weights: two independent
initialisations, or with ``--planted S`` a permuted copy with noise of S standard deviations.
Times are processor times of one thread, the least of the repeats, since other work on the machine
makes times longer and never shorter; objectives are inner products in float64. The bound is the
time of wsl's assignments and of one pass of products over all groups.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

import wsl
from wsl.matching import match, match_many
from wsl.matching.blocks import plan
from wsl.matching.solvers import CutWeights, aligned_tensors
from wsl.params import Params, from_module, stack
from wsl.symmetry import Permutation, PermutationSpec

VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def mlp(width: int) -> nn.Module:
    """Three hidden layers on 784 inputs."""
    sizes = (784, width, width, width, 10)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in itertools.pairwise(sizes)]
    return nn.Sequential(*itertools.chain(*layers))[:-1]


def vgg16() -> nn.Module:
    """The thirteen convolutions on 32 x 32 pixels, and a classifier of width 512."""
    layers: list[nn.Module] = []
    last = 3
    for width in VGG:
        if width:
            layers += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU()]
        else:
            layers.append(nn.MaxPool2d(2))
        last = width or last
    head = [nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*layers, *head, nn.Linear(512, 10))


class Block(nn.Module):
    def __init__(self, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        new = inner != out
        self.shortcut = nn.Conv2d(inner, out, 1, stride, bias=False) if new else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


def resnet20(width: int) -> nn.Module:
    """Three stages of three blocks, 16, 32 and 64 channels times ``width``."""
    widths = [16 * width, 32 * width, 64 * width]
    stem = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
    blocks, last = [], widths[0]
    for stage, out in enumerate(widths):
        for i in range(3):
            blocks.append(Block(last, out, 2 if stage and not i else 1))
            last = out
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    norm = nn.BatchNorm2d(widths[0])
    return nn.Sequential(stem, norm, nn.ReLU(), *blocks, pool, nn.Linear(last, 10))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg16": (vgg16, (2, 3, 32, 32)),
    "mlp": (lambda: mlp(2048), (2, 784)),
    "mlp64": (lambda: mlp(64), (2, 784)),
    "mlp512": (lambda: mlp(512), (2, 784)),
    "resnet20x1": (lambda: resnet20(1), (2, 3, 32, 32)),
    "resnet20x4": (lambda: resnet20(4), (2, 3, 32, 32)),
    "resnet20x16": (lambda: resnet20(16), (2, 3, 32, 32)),
}


class Places(NamedTuple):
    """Where each group acts, (tensor, axis) each, and which group each axis of a tensor is."""

    sites: dict[str, list[tuple[str, int]]]
    axes: dict[str, list[str | None]]


def places(spec: PermutationSpec, names: tuple[str, ...]) -> Places:
    sites: dict[str, list[tuple[str, int]]] = {name: [] for name in spec.groups}
    axes: dict[str, list[str | None]] = {}
    for name in names:
        atoms = [axis[0][0] for axis in spec.axes[name]]
        axes[name] = [atom if isinstance(atom, str) else None for atom in atoms]
        for k, atom in enumerate(axes[name]):
            if atom is not None:
                sites[atom].append((name, k))
    return Places(sites, axes)


def permuted(where: Places, perm: dict[str, Tensor], name: str, w: Tensor, skip: int) -> Tensor:
    for k, group in enumerate(where.axes[name]):
        if group is not None and k != skip:
            w = torch.index_select(w, k, perm[group])
    return w


def straightforward(where: Places, a: Params, b: Params, sizes: dict[str, int]) -> tuple[Any, int]:
    """Git Re-Basin's loop as its public PyTorch port writes it."""
    perm = {name: torch.arange(n) for name, n in sizes.items()}
    names, rng = list(sizes), torch.Generator().manual_seed(0)
    sweeps, progress = 0, True
    while progress and sweeps < 100:
        sweeps, progress = sweeps + 1, False
        for i in torch.randperm(len(names), generator=rng).tolist():
            name, n = names[i], sizes[names[i]]
            gram = torch.zeros(n, n)
            for tensor, axis in where.sites[name]:
                w_b = permuted(where, perm, tensor, b[tensor], axis)
                w_a = a[tensor].movedim(axis, 0).reshape(n, -1)
                gram += w_a @ w_b.movedim(axis, 0).reshape(n, -1).T
            _, columns = linear_sum_assignment(gram.numpy(), maximize=True)
            old = torch.einsum("ij,ij->i", gram, torch.eye(n)[perm[name]]).sum()
            new = torch.einsum("ij,ij->i", gram, torch.eye(n)[torch.from_numpy(columns)]).sum()
            progress |= bool(new > old + 1e-12)
            perm[name] = torch.from_numpy(np.asarray(columns))
    return perm, sweeps


def one_pass(spec: PermutationSpec, a: Params, rows: Params) -> float:
    """Processor time of the products of all groups with all rows, each once."""
    cut = plan(spec, aligned_tensors(a))
    weights = CutWeights(cut, a, rows)
    began = time.process_time()
    for block in cut.blocks.values():
        for others in block.terms:
            weights.term(block, others, slice(None))
    return time.process_time() - began


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    found = run()
    return time.process_time() - began, found


def inner(a: Params, b: Params, names: tuple[str, ...]) -> float:
    return sum(float((a[n].double() * b[n].double()).sum()) for n in names)


def draw(make: Callable[[], nn.Module], seed: int) -> Params:
    torch.manual_seed(seed)
    return from_module(make().eval())


def compare(case: str, repeats: int, planted: float | None) -> None:
    make, shape = CASES[case]
    with torch.device("meta"):
        spec = wsl.permutation_spec(make().eval(), torch.zeros(shape))
    a, b = draw(make, 1), draw(make, 2)
    if planted is not None:
        b = {
            n: t + planted * t.std() * torch.randn_like(t) if t.dim() > 1 else t
            for n, t in a.items()
        }
        b = Permutation.random(spec, torch.Generator().manual_seed(3))(b)
    names = aligned_tensors(a)
    where, sizes = places(spec, names), dict(spec.groups)
    theirs, ours, bounds = [], [], []
    for _ in range(repeats):
        theirs.append(timed(lambda: straightforward(where, a, b, sizes)))
        ours.append(timed(lambda: match(spec, a, b)))
        bounds.append(one_pass(spec, a, {name: tensor[None] for name, tensor in b.items()}))
    t_theirs, (perm, sweeps) = min(theirs, key=lambda pair: pair[0])
    t_ours, found = min(ours, key=lambda pair: pair[0])
    reference = inner(a, Permutation(spec, perm)(b), names)
    shares = {k: found.seconds[k] / found.seconds["total"] for k in ("assignment", "products")}
    bound = shares["assignment"] * t_ours + min(bounds)
    print(
        f"{case:<12} {t_theirs:7.2f} s in {sweeps:2} sweeps | wsl {t_ours:6.2f} s in "
        f"{found.sweeps:2} | ratio {t_theirs / t_ours:5.1f} | objective {reference:.5g} -> "
        f"{found.objective:.5g} ({found.objective / reference - 1:+.2%}) | assignment "
        f"{shares['assignment']:.0%}, products {shares['products']:.0%} | one pass of products "
        f"{min(bounds):.2f} s, total over bound {t_ours / bound:.2f}",
        flush=True,
    )


def many(case: str, repeats: int) -> None:
    """Ten checkpoints to one reference in one call, beside four calls of one."""
    make, shape = CASES[case]
    with torch.device("meta"):
        spec = wsl.permutation_spec(make().eval(), torch.zeros(shape))
    a, rows = draw(make, 1), [draw(make, seed) for seed in range(2, 12)]
    stacked = stack(rows)
    together, single, products = [], [], []
    for _ in range(repeats):
        together.append(timed(lambda: match_many(spec, a, stacked))[0])
        single.append(timed(lambda: [match(spec, a, row) for row in rows[:4]])[0])
        products.append(one_pass(spec, a, stacked))
    print(
        f"{case:<12} ten in one call {min(together):.2f} s, four calls {min(single):.2f} s: "
        f"{min(together) / min(single):.2f} of it; products of ten once, which is no match yet, "
        f"{min(products) / min(single):.2f} of it",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("cases", nargs="*", help=", ".join(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--planted", type=float, metavar="S")
    parser.add_argument("--many", action="store_true", help="ten checkpoints in one call instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, load {os.getloadavg()[0]:.1f}", flush=True)
    for case in arguments.cases or ("vgg16", "mlp", "resnet20x4", "resnet20x16"):
        if arguments.many:
            many(case, arguments.repeats)
        else:
            compare(case, arguments.repeats, arguments.planted)


if __name__ == "__main__":
    main()
