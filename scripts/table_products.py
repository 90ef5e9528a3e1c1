"""Networks with a linear bottleneck half way: means of factors, and means of products.

    python scripts/table_products.py

Perceptrons 64-128-16-128-10, linear at 16, from four seeds, on scikit-learn's 8 x 8 digits: 1,200
to train, 597 to test. For six pairs, as they are and matched by weights, mean and standard
deviation of the accuracy half way, and the mean loss. The table stands in `docs/connectivity.md`.
"""

from __future__ import annotations

import itertools
import statistics

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import params
from wsl.connectivity import average_products
from wsl.matching import align_linear, match
from wsl.merging import average
from wsl.params import Params
from wsl.symmetry import PermutationSpec, symmetry_spec

Data = tuple[Tensor, Tensor]
SEEDS, EPOCHS = 4, 60


def network() -> nn.Sequential:
    """Two hidden layers with a linear layer of 16 units between them."""
    first = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16, bias=False)]
    return nn.Sequential(*first, nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 10))


def splits() -> tuple[Data, Data]:
    """Training and test images."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(images).float()[order] / 16, torch.tensor(labels)[order]
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])


def trained(seed: int, data: Data) -> Params:
    """One network."""
    torch.manual_seed(seed)
    model, (x, y) = network(), data
    optimizer = torch.optim.Adam(model.parameters(), 2e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y)).split(100):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return params.from_module(model)


@torch.no_grad()
def evaluate(theta: Params, data: Data) -> tuple[float, float]:
    """Accuracy and loss."""
    logits = params.call(network(), theta, data[0])
    hits = (logits.argmax(1) == data[1]).double().mean()
    return float(hits), float(F.cross_entropy(logits, data[1]))


def merged(spec: PermutationSpec, a: Params, b: Params) -> dict[str, Params]:
    """Half way between two networks, by what is averaged."""
    straight = align_linear(spec, a, b)(b)
    return {
        "factors": average([a, b]),
        "factors brought to a's": average([a, straight]),
        "products": average_products(spec, average([a, b]), [a, b]),
    }


def main() -> None:
    """Print the table."""
    train, test = splits()
    thetas = [trained(seed, train) for seed in range(SEEDS)]
    print("parents:", ", ".join(f"{evaluate(theta, test)[0]:.4f}" for theta in thetas))
    spec = symmetry_spec(network(), train[0][:2])
    found: dict[str, list[tuple[float, float]]] = {}
    for a, b in itertools.combinations(thetas, 2):
        matched = match(spec.without_units(), a, b)(b)
        for how, end in {"as they are": b, "matched": matched}.items():
            for name, theta in merged(spec, a, end).items():
                found.setdefault(f"{how} | {name}", []).append(evaluate(theta, test))
    for name, told in found.items():
        hits, losses = zip(*told, strict=True)
        spread = f"{statistics.mean(hits):.4f} ± {statistics.stdev(hits):.4f}"
        print(f"| {name} | {spread} ({statistics.mean(losses):.3f}) |")


if __name__ == "__main__":
    main()
