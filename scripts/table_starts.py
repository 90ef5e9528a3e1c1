"""Starting weights side by side on two real cases: the tables of `docs/starts.md`.

    python scripts/table_starts.py cnn -o DIR                     the CNN of digits_cnn
    python scripts/table_starts.py vit -o DIR --data-root mnist/  a small vision transformer

Both are runs of ``wsl init-compare``. ``vit`` first trains a vision transformer that is twice as
wide and deep on MNIST, brought to 8 x 8 pixels by means over 4 x 4 of the padded images, and starts
the small one from it on the 1,797 digits of scikit-learn: another data set, another hand. The page
of each run, its curves and its figures lie in DIR.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.cli import main
from wsl.params import from_module
from wsl.populations import mnist
from wsl.zoo import write_checkpoint

CNN_STARTS = (
    "default_init kaiming orthogonal lsuv best_of_k ridge_head polarity gaussian mean soup noise "
    "retrieval {ridge_head:{start:lsuv}} {ridge_head:{start:soup}} {ridge_head:{start:retrieval}}"
)
VIT_STARTS = (
    "default",
    "kaiming",
    "orthogonal",
    "lsuv",
    "mimetic",
    "{mimetic: {mlp_mean: 0.1}}",
    "weight_selection",
    "{weight_selection: {rescale: true}}",
    "stage_sharing",
    "{stage_sharing: {stages: 1}}",
    "ridge_head",
    "{ridge_head: {start: weight_selection}}",
)
CNN_BUDGET = {"steps": 200, "seeds": 5, "points": 9, "lrs": "[1e-3,3e-3,1e-2,3e-2]"}
VIT_BUDGET = {"steps": 120, "seeds": 5, "batch-size": 16, "points": 7, "lrs": "1e-3,3e-3,1e-2"}


class VisionTransformer(nn.Module):
    """Pre-norm blocks on patches of 2 x 2 pixels of an 8 x 8 image; the mean token is read out."""

    def __init__(self, width: int, heads: int, *, depth: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 2, stride=2)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class _Block(nn.Module):
    """Attention with one matrix for queries, keys and values, and a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + self.out(y.transpose(1, 2).flatten(-2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def small() -> nn.Module:
    """The network that is started: width 32, two heads, two blocks."""
    return VisionTransformer(32, 2, depth=2)


def wide() -> nn.Module:
    """The network that it is started from: twice as wide, four heads, four blocks."""
    return VisionTransformer(64, 4, depth=4)


def train_wide(data_root: str, *, steps: int = 1500, batch: int = 64) -> tuple[nn.Module, float]:
    """The wide network on MNIST at 8 x 8 pixels, and its test accuracy."""
    data = mnist(data_root=data_root)
    images, test = (_shrunk(part.images) for part in (data.train, data.test))
    torch.manual_seed(0)
    model, rng = wide(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,), generator=rng)
        loss = F.cross_entropy(model(images[rows]), data.train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        hits = model.eval()(test).argmax(1) == data.test.labels
    return model, float(hits.float().mean())


def _shrunk(images: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(images, (2, 2, 2, 2)), 4)


def vit(folder: Path, data_root: str) -> Path:
    """Run the second case; what was trained once is kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, digits = folder / "wide.safetensors", folder / "digits.npz"
    if not weights.exists():
        model, accuracy = train_wide(data_root)
        write_checkpoint(weights, from_module(model), {"mnist_accuracy": f"{accuracy:.4f}"})
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    np.savez(digits, inputs=images, labels=labels.astype(np.int64))
    words = ["init-compare", "--model", "table_starts:small", "--data", str(digits)]
    words += ["--larger", "table_starts:wide", "--larger-weights", str(weights)]
    words += ["--starts", ",".join(VIT_STARTS)]
    words += [f"--{name}={value}" for name, value in VIT_BUDGET.items()]
    _run([*words, "-o", str(folder / "vit")])
    return folder / "vit"


def cnn(folder: Path, zoo: str | None) -> Path:
    """Run the first case."""
    words = ["init-compare", "datasets=digits_cnn", f"starts=[{','.join(CNN_STARTS.split())}]"]
    words += [f"zoo={zoo}"] if zoo else []
    words += [f"{name}={value}" for name, value in CNN_BUDGET.items()]
    _run([*words, f"output={folder / 'cnn'}"])
    return folder / "cnn"


def _run(words: list[str]) -> None:
    if code := main(words):
        raise SystemExit(code)


def table(folder: Path) -> str:
    """The result as a table, the largest area first, numbers in percent."""
    done = json.loads((folder / "result.json").read_text())
    rows = sorted(done["starts"].items(), key=lambda item: -item[1]["aulc"])
    lines = [
        f"| start | AULC | as drawn | at the end | steps to {100 * done['target']:.1f} | rate |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows:
        cells = [
            f"{100 * row[key]:.1f} ± {100 * row[f'{key}_spread']:.1f}"
            for key in ("aulc", "as_drawn", "final")
        ]
        steps = row["steps_to_target"]
        cells += ["never" if steps is None else f"{steps:.0f}", f"{row['lr']:g}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=["cnn", "vit"])
    parser.add_argument("-o", "--output", default="runs/table_starts")
    parser.add_argument("--data-root", help="folder of MNIST's files, for vit")
    parser.add_argument("--zoo", help="the population of digits_cnn, if it is built already")
    options = parser.parse_args()
    place = Path(options.output)
    made = cnn(place, options.zoo) if options.case == "cnn" else vit(place, options.data_root)
    print(table(made))
