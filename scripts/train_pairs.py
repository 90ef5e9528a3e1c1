"""Train the same network from several seeds, for tables of matching and merging.

    python scripts/train_pairs.py resnet20 --data cifar10 --data-root DIR --seeds 0 1 -o runs/

Adam (MLP, VGG) or SGD with Nesterov momentum (ResNet20), one cosine cycle with warm-up, images
moved by up to an eighth of their side and, on CIFAR-10, flips. Each run goes on from its last whole
epoch when it is started again. Written: OUT/NET-DATA-xWIDTH-SEED.pt, a state dict with
``accuracy`` on the test set.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from pair_networks import SHAPES, network
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base import replacing
from wsl.populations.tasks.images import Images, cifar10, mnist

BATCH = 128


def tensors(images: Images, data: str) -> tuple[Tensor, Tensor]:
    """Normalised images (N, C, side, side) and labels (N,)."""
    pixels, labels = torch.tensor(images[0]).float() / 255, torch.tensor(images[1]).long()
    if data.startswith("mnist"):
        x = (F.pad(pixels[:, None], (2, 2, 2, 2)) - 0.1307) / 0.3081
        return F.avg_pool2d(x, 2) if data == "mnist16" else x, labels
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    return ((pixels - mean) / std).permute(0, 3, 1, 2).contiguous(), labels


def splits(data: str, root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The training set and the test set."""
    found = (cifar10 if data == "cifar10" else mnist)(root)
    return tensors(found.train, data), tensors(found.test, data)


def crops(x: Tensor, rng: torch.Generator, *, flip: bool) -> Tensor:
    """Every image moved by up to an eighth of its side, and mirrored half of the time."""
    n, side = len(x), x.shape[-1]
    padded = F.pad(x, [side // 8] * 4)
    top, left = torch.randint(2 * (side // 8) + 1, (2, n), generator=rng)
    rows = (top[:, None] + torch.arange(side))[:, None, :, None]
    columns = (left[:, None] + torch.arange(side))[:, None, None, :]
    images, channels = torch.arange(n)[:, None, None, None], torch.arange(x.shape[1])
    moved = padded[images, channels[:, None, None], rows, columns]
    if flip:
        mirrored = torch.rand(n, generator=rng) < 0.5
        moved[mirrored] = moved[mirrored].flip(-1)
    return moved


def rate(step: int, steps: int, top: float) -> float:
    """Up for a tenth of all steps, then down along a cosine."""
    done = torch.tensor(step / steps)
    up = float((done / 0.1).clamp(max=1))
    return top * up * float((1 + torch.cos(torch.pi * ((done - 0.1) / 0.9).clamp(min=0))) / 2)


def optimizer(model: nn.Module, name: str) -> tuple[torch.optim.Optimizer, float]:
    """The optimiser of a kind of network, and its highest learning rate."""
    if name == "resnet20":
        sgd = torch.optim.SGD(model.parameters(), 0.2, 0.9, nesterov=True, weight_decay=5e-4)
        return sgd, 0.2
    return torch.optim.Adam(model.parameters(), 1e-3), 1e-3 if name == "mlp" else 5e-4


@torch.no_grad()
def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """The share of right answers."""
    model.eval()
    x, y = data
    answers = torch.cat([model(part).argmax(1) for part in x.split(500)])
    return float((answers == y).float().mean())


@dataclasses.dataclass
class Run:
    """One network in training, and where its files are."""

    options: argparse.Namespace
    seed: int
    model: nn.Module
    steps: int
    epoch: int = 0

    def __post_init__(self) -> None:
        options = self.options
        stem = f"{options.network}-{options.data}-x{options.width:g}-{self.seed}"
        self.final, self.partial = options.out / f"{stem}.pt", options.out / f"{stem}.partial"
        self.optimizer, self.top = optimizer(self.model, options.network)

    def resume(self) -> None:
        """Go on from the last whole epoch, if there is one."""
        if self.partial.exists():
            kept = torch.load(self.partial, weights_only=True)
            self.model.load_state_dict(kept["model"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.epoch = kept["epoch"]

    def train_epoch(self, x: Tensor, y: Tensor) -> float:
        """Every training image once, but for the last batch if it is not full; the mean loss."""
        rng = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        order = torch.randperm(len(y), generator=rng)[: self.steps * BATCH]
        self.model.train()
        total = 0.0
        for i, rows in enumerate(order.split(BATCH)):
            done = self.epoch * self.steps + i
            for group in self.optimizer.param_groups:
                group["lr"] = rate(done, self.options.epochs * self.steps, self.top)
            inputs = crops(x[rows], rng, flip=self.options.data == "cifar10")
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bfloat16):
                outputs = self.model(inputs)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(outputs.float(), y[rows])
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach())
        self.epoch += 1
        return total / self.steps

    def save(self) -> None:
        """What the run goes on from."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        write(self.partial, {**state, "epoch": self.epoch})


def train(options: argparse.Namespace, seed: int) -> None:
    """One run to its end."""
    torch.manual_seed(seed)
    (x, y), test = splits(options.data, options.data_root)
    x, y = x[: options.images], y[: options.images]
    model = network(options.network, data=options.data, width=options.width)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    run = Run(options, seed, model, len(y) // BATCH)
    if run.final.exists():
        return
    run.resume()
    while run.epoch < options.epochs:
        start = time.time()
        loss = run.train_epoch(x, y)
        run.save()
        spent = time.time() - start
        print(f"{run.final.stem}, epoch {run.epoch}: loss {loss:.4f}, {spent:.0f} s", flush=True)
    score = accuracy(model, test)
    print(f"{run.final.stem}: {score:.4f}", flush=True)
    write(run.final, {"state_dict": model.state_dict(), "accuracy": score, "seed": seed})
    run.partial.unlink(missing_ok=True)


def write(path: Path, content: dict[str, Any]) -> None:
    """A file, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def main() -> None:
    """Train every seed, one after the other."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("network", choices=["mlp", "vgg11", "vgg16", "resnet20"])
    parser.add_argument("--data", choices=sorted(SHAPES), required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--width", type=float, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, help="only the first ones of the training set")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="products of training")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        train(options, seed)


if __name__ == "__main__":
    main()
