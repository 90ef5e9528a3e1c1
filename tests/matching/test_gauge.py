"""Scales and signs of one network brought to another's: planted ones are undone."""

import pytest
import torch
from networks import BY_NAME
from torch import nn
from torch.nn import functional as F

from wsl.matching import align_scales, gauge
from wsl.symmetry import PermutationSpec, Rescaling, SpecError, symmetry_spec


def generator(seed):
    return torch.Generator().manual_seed(seed)


def close(a, b, atol=1e-6):
    return all(torch.allclose(a[n], b[n], atol=atol) for n in a)


def distance(a, b):
    return sum((a[n] - b[n]).square().sum() for n in a if "running" not in n and "num_" not in n)


class Odd(nn.Module):
    """Signs of tanh units and scales of ReLU units."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 4)

    def forward(self, x):
        return self.c(self.b(self.a(x).tanh()).relu())


MODELS = {
    "mlp": (BY_NAME["mlp"].make, (5,)),
    "cnn": (BY_NAME["cnn"].make, (2, 6, 6)),
    "residual": (BY_NAME["residual"].make, (2, 6, 6)),
    "odd": (Odd, (5,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_planted_scales_and_signs_are_undone(name):
    make, shape = MODELS[name]
    model = make()
    spec = symmetry_spec(model, torch.randn(3, *shape))
    assert spec.units
    rng = generator(0)
    a = {
        n: torch.randn(t.shape, generator=rng, dtype=torch.float64) if t.is_floating_point() else t
        for n, t in model.state_dict().items()
    }
    a = {n: t.abs() + 0.5 if "running_var" in n else t for n, t in a.items()}
    planted = Rescaling.random(spec, generator(1))
    values = [
        torch.ones_like(value) if _only_a_gain(unit) else value
        for unit, value in zip(spec.units, planted.values, strict=True)
    ]
    b = Rescaling(spec, tuple(values))(a)
    for norms in (False, True):
        assert close(align_scales(spec, a, b, norms=norms)(b), a, atol=1e-4)
    assert close(align_scales(spec, a, a)(a), a)
    assert not close(b, a, atol=0.1)


def _only_a_gain(unit):
    """A gain and the running variance that undoes it, which is left alone."""
    names = " ".join(place.tensor for place in unit.places)
    return "running_var" in names and "running_mean" not in names


def test_the_factor_is_the_root_of_the_quartic():
    spec = PermutationSpec.parse(
        "h = 5\nin.weight: h 3\nout.weight: 2 h\nscale h: in.weight[0] / out.weight[1]"
    )
    rng = generator(0)
    a, b = (
        {n: torch.randn(s, generator=rng).double() for n, s in spec.shapes.items()} for _ in "ab"
    )
    (d,) = align_scales(spec, a, b).values
    (ai, ao), (bi, bo) = (a.values(), b.values()), (b.values(), a.values())
    ai, ao, bi, bo = a["in.weight"], a["out.weight"], b["in.weight"], b["out.weight"]
    ins, outs = (ai * bi).sum(1), (ao * bo).sum(0)
    quartic = d**4 * bi.square().sum(1) - d**3 * ins + d * outs - bo.square().sum(0)
    assert quartic.abs().max() < 1e-8
    best = distance(a, align_scales(spec, a, b)(b))
    for factor in torch.linspace(-3, 3, 200).exp():
        other = Rescaling(spec, (torch.full((5,), float(factor), dtype=torch.float64),))
        each = (ai - other(b)["in.weight"]).square().sum(1)
        each = each + (ao - other(b)["out.weight"]).square().sum(0)
        mine = (ai - d[:, None] * bi).square().sum(1) + (ao - bo / d).square().sum(0)
        assert (mine <= each + 1e-12).all()
    assert best <= distance(a, b)


def test_what_no_place_pays_for_gets_equal_norms_and_not_zero():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)

        def forward(self, x):
            return self.b(self.norm(self.a(x)).sigmoid())

    torch.manual_seed(0)
    model, x = Norm().double(), torch.randn(4, 5).double()
    spec = symmetry_spec(model, x)
    a = {n: t.clone() for n, t in model.state_dict().items()}
    b = a | {"a.weight": 9 * torch.randn(7, 5).double(), "a.bias": torch.randn(7).double()}
    moved = align_scales(spec, a, b)(b)

    def length(theta):
        return torch.cat([theta["a.weight"], theta["a.bias"][:, None]], 1).norm(dim=1)

    assert torch.allclose(length(moved), length(a))
    left = align_scales(spec, a, b, one_sided=False)(b)
    assert torch.allclose(length(left), length(b))
    before, after = (F.relu(torch.func.functional_call(model.eval(), t, (x,))) for t in (b, moved))
    assert torch.allclose(before, after)


def test_dead_units_keep_a_factor_of_one_and_wrong_weights_are_refused():
    spec = PermutationSpec.parse(
        "h = 2\nin.weight: h 1\nout.weight: 1 h\nscale h: in.weight[0] / out.weight[1]"
    )
    a = {"in.weight": torch.tensor([[1.0], [0.0]]), "out.weight": torch.tensor([[1.0, 0.0]])}
    b = {"in.weight": torch.tensor([[2.0], [0.0]]), "out.weight": torch.tensor([[0.5, 0.0]])}
    assert torch.allclose(
        align_scales(spec, a, b, norms=True).values[0], torch.tensor([0.5, 1.0]).double()
    )
    found = align_scales(spec, a, b)
    assert torch.allclose(found.values[0], torch.tensor([0.5, 1.0]).double())
    plain = spec.without_units()
    assert align_scales(plain, a, b).values == ()
    with pytest.raises(SpecError, match=r"b: has batch axes \(4,\), but align_scales takes one"):
        align_scales(spec, a, {n: t.expand(4, *t.shape) for n, t in b.items()})
    with pytest.raises(ValueError, match=r"in.weight: 2 of 2 values in 'b' are NaN"):
        align_scales(spec, a, b | {"in.weight": b["in.weight"] * float("nan")})


def test_a_network_of_many_symmetries_costs_no_more_than_its_own_tensors(monkeypatch):
    """One symmetry is solved for on the tensors where it acts, not on the whole network."""
    network = BY_NAME["residual"]
    spec = symmetry_spec(network.make(), network.inputs(2))
    a, b = (network.weights(seed=i) for i in range(2))
    seen = []
    monkeypatch.setattr(gauge, "_distance", lambda x, y: seen.append(len(x)) or _far(x, y))
    align_scales(spec, a, b, sweeps=1)
    largest = max(len({place.tensor for place in unit.places}) for unit in spec.units)
    assert sorted(seen)[-2:] == [len(spec.axes)] * 2
    assert max(sorted(seen)[:-2]) <= largest < len(spec.axes)


_far = gauge._distance
