"""What `bench_layers.py` runs: networks, our layers and classifiers, nfn's layers and classifiers,
and the bound.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wsl.nn import NFN, UNF, DWSNet, EquivariantLinear
from wsl.populations.architectures import networks as architectures
from wsl.symmetry import PermutationSpec, permutation_spec

Way = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network whose weights are read, how many at once, and on how many channels."""

    name: str
    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    channels: int
    exact: bool = False

    @property
    def spec(self) -> PermutationSpec:
        return permutation_spec(self.network(), torch.randn(self.shape))

    def weights(self, *channels: int, grad: bool = False) -> dict[str, Tensor]:
        """Random weights (batch, *shape, *channels)."""
        return {
            n: torch.randn(self.batch, *s, *channels, requires_grad=grad)
            for n, s in self.spec.shapes.items()
        }


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


SIREN = ("SIREN 2-32-32-1", partial(architectures.siren, [2, 32, 32, 1]), (2, 2))
CNN = (
    "CNN of digits_cnn",
    partial(architectures.cnn, 1, [8, 16, 16], 10, strides=[2, 2, 1]),
    (2, 1, 8, 8),
)
MLP = ("MLP 784-128-128-10", mlp, (2, 784))
LAYERS = [Case(*SIREN, batch, channels, exact=True) for batch in (32, 128) for channels in (16, 32)]
LAYERS += [Case(*CNN, 32, 16), Case(*MLP, 8, 16), Case(*CNN, 32, 32), Case(*CNN, 128, 16)]
LAYERS += [Case(*CNN, 128, 32), Case(*MLP, 8, 32)]
CLASSIFIERS = [Case(*SIREN, 32, 32)]
DEPTH = 4


def layer_ways(case: Case, *, compiled: bool) -> dict[str, Way]:
    """One linear layer: NFN's (fixed="encoded"), DWSNet's (fixed="exact"), nfn's NPLinear and
    HNPLinear.
    """
    channels = case.channels
    ways = {"bound": bound(case)}
    for fixed in ("encoded", "exact") if case.exact else ("encoded",):
        layer = EquivariantLinear(case.spec, channels, channels, fixed=fixed)
        ways |= both(f"ours, {fixed}", layer, case, channels, compiled=compiled)
    if not nfn_missing():
        from nfn.layers import HNPLinear, NPLinear

        described, theirs = nfn_input(case, channels)
        ways["nfn NPLinear"] = step(NPLinear(described, channels, channels, io_embed=True), theirs)
        if case.exact:
            ways["nfn HNPLinear"] = step(HNPLinear(described, channels, channels), theirs)
    return ways


def both(
    name: str, module: nn.Module, case: Case, *channels: int, compiled: bool
) -> dict[str, Way]:
    """A module as it is, and under torch.compile as one graph; a layer's input needs gradients, a
    classifier's does not.
    """
    params = case.weights(*channels, grad=bool(channels))
    found = {f"{name}, eager": step(module, params)}
    if compiled:
        torch._dynamo.reset()
        found[f"{name}, compiled"] = step(
            torch.compile(module, fullgraph=True, dynamic=False), params
        )
    return found


def step(module: Any, x: Any) -> Way:
    """Forward and backward from random gradients of the outputs to everything that requires one."""
    wrt = [t for t in (*tensors(x), *module.parameters()) if t.requires_grad]
    cotangents = [torch.randn_like(t) for t in tensors(getattr(module, "_orig_mod", module)(x))]
    return lambda: torch.autograd.grad(tensors(module(x)), wrt, cotangents)


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return list(value.values()) if isinstance(value, dict) else [*value.weights, *value.biases]


def bound(case: Case, layers: int = 1) -> Way:
    """The matrix products of ``layers`` pointwise maps on every weight of the batch."""
    rows, c = case.batch * sum(shape.numel() for shape in case.spec.shapes.values()), case.channels
    x, g, w = torch.randn(rows, c), torch.randn(rows, c), torch.randn(c, c)
    y, dx, dw = torch.empty(rows, c), torch.empty(rows, c), torch.empty(c, c)

    def run() -> None:
        for _ in range(layers):
            torch.mm(x, w, out=y)
            torch.mm(g, w.t(), out=dx)
            torch.mm(g.t(), x, out=dw)

    return run


def classifier_ways(case: Case, *, compiled: bool) -> dict[str, Way]:
    """Classifiers of four layers: DWSNet, NFN, UNF, and nfn's as its examples build them."""
    options = {"hidden": case.channels, "layers": DEPTH, "out_features": 10}
    ways = {"bound": bound(case, DEPTH)}
    for name, make in {"DWSNet": DWSNet, "NFN": NFN, "UNF": UNF}.items():
        ways |= both(name, make(case.spec, **options), case, compiled=compiled)
    if not nfn_missing():
        from nfn.layers import HNPLinear, NPLinear

        described, theirs = nfn_input(case, 1)
        for name, layer in {"NP": partial(NPLinear, io_embed=True), "HNP": HNPLinear}.items():
            ways[f"nfn {name}"] = step(
                nfn_classifier(described, layer, case.channels), theirs.detach()
            )
    return ways


def nfn_missing() -> bool:
    return importlib.util.find_spec("nfn") is None


def nfn_input(case: Case, channels: int) -> tuple[Any, Any]:
    """The weights as nfn holds them: (batch, channels, *shape), weights and biases apart."""
    from nfn.common import WeightSpaceFeatures, network_spec_from_wsfeat

    given = [
        torch.randn(case.batch, channels, *s, requires_grad=True) for s in case.spec.shapes.values()
    ]
    features = WeightSpaceFeatures(given[::2], given[1::2])
    return network_spec_from_wsfeat(features), features


def nfn_classifier(described: Any, layer: Callable[..., nn.Module], channels: int) -> nn.Module:
    from nfn.layers import HNPPool, TupleOp

    layers: list[nn.Module] = []
    for i in range(DEPTH):
        layers += [layer(described, channels if i else 1, channels), TupleOp(nn.ReLU())]
    head = nn.Linear(channels * HNPPool.get_num_outs(described), 10)
    return nn.Sequential(*layers, HNPPool(described), nn.Flatten(start_dim=-2), head)
