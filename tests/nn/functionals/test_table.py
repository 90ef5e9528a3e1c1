"""The table of functionals: every row obeys the laws of the family, and every recipe has a row."""

import re
import subprocess
import sys

import pytest
import torch
from laws.functionals import (
    FUNCTIONAL_LAWS,
    does_not_follow_the_wrong_group,
    keeps_its_claim_over_the_market,
)
from networks import NETWORKS
from paths import ROOT
from torch import nn

from wsl.nn import FUNCTIONALS, Functional

BY_SPEC = {network.spec: network for network in NETWORKS}
SERIAL = {"attention", "gru"}  # vmap has no rule for the fused kernels of these two
SMALL = {
    "dwsnet": {"hidden": 4, "layers": 2},
    "equivariant_net": {"hidden": 4, "layers": 2, "scale": 0.5},
    "flat_edit": {"hidden": 8, "scale": 0.5},
    "flat_mlp": {"hidden": 8},
    "graph_metanetwork": {"hidden": 4, "layers": 2},
    "nfn": {"hidden": 4, "layers": 2, "fourier": 2, "positions": 2},
    "nfn_edit": {"hidden": 4, "layers": 2, "scale": 0.5},
    "nft": {"hidden": 4, "layers": 2, "heads": 2},
    "nft_edit": {"hidden": 4, "layers": 2, "heads": 2, "scale": 0.5},
    "scalegmn": {"hidden": 4, "layers": 2},
    "stat_boost": {"iterations": 40},
    "statnet": {"hidden": 8},
    "unf": {"hidden": 4, "layers": 2},
    "weight_tokens": {"token": 5, "hidden": 4, "layers": 1, "heads": 2},
}
BLIND = {"statnet", "stat_boost"}
"""Statistics of a tensor forget its order, so these two follow any group at all."""


def probes(spec):
    network = BY_SPEC[spec]
    return FUNCTIONALS["probenet"](
        spec,
        network.make(),
        network.input_shape,
        probes=4,
        out_features=3,
        vectorized=network.name not in SERIAL,
    )


def maker(name):
    cls = FUNCTIONALS[name]
    if cls.reads_function:
        return probes
    width = {} if cls.gives_weights else {"out_features": 3}
    return lambda spec: cls(spec, **SMALL[name], **width)


@pytest.mark.parametrize("law", FUNCTIONAL_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", FUNCTIONALS)
def test_every_functional_obeys(law, name):
    if name in BLIND and law is does_not_follow_the_wrong_group:
        with pytest.raises(AssertionError):
            law(maker(name))
    else:
        law(maker(name))


def test_every_recipe_of_a_functional_has_a_row_and_every_row_a_recipe():
    found = {}
    for path in (ROOT / "models").glob("*.yaml"):
        target = re.search(r"^network:\n  _target_: wsl\.nn\.(\w+)$", path.read_text(), re.M)
        found |= {path.stem: target[1]} if target else {}
    assert found == {name: cls.__name__ for name, cls in FUNCTIONALS.items()}


def test_the_table_does_not_load_pytorch_geometric():
    code = "import wsl.nn, sys; wsl.nn.FUNCTIONALS['graph_metanetwork']; "
    code += "sys.exit('torch_geometric' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class Sum(Functional):
    """Sums of everything, and a claim about it."""

    equivariance = "none"

    def __init__(self, spec):
        super().__init__()
        self.spec, self.scale = spec, nn.Parameter(torch.ones(3))

    def forward(self, params):
        self.spec.validate(params)
        total = sum(t.to(self.scale.dtype).flatten(1).sum(1) for t in params.values())
        return total[:, None] * self.scale


class First(Sum):
    """The first entry of every tensor, as if it were invariant."""

    equivariance = "invariant"

    def forward(self, params):
        return super().forward({n: t - t.flatten(1)[:, :1].sum() for n, t in params.items()})


@pytest.mark.parametrize("wrong", [Sum, First])
def test_the_laws_find_a_wrong_claim(wrong):
    with pytest.raises(AssertionError, match="mlp"):
        keeps_its_claim_over_the_market(wrong)


def test_a_claim_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match=r"Odd\.equivariance is 'sign'; a functional claims one of"):

        class Odd(Functional):
            equivariance = "sign"
