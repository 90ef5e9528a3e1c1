"""`wsl merge` without data: scales, products of linear maps, and repair from weights alone."""

import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file

from wsl import params
from wsl.cli import main
from wsl.connectivity import average_products, repair_closed_form, repair_on_noise
from wsl.matching import align_linear, align_scales, match
from wsl.merging import average
from wsl.symmetry import LinearMaps, Rescaling, symmetry_spec

CODE = """
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)
            self.c, self.norm, self.d = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)

        def forward(self, x):
            return self.d(self.norm(self.c(self.b(self.a(x).relu()))).relu())
"""
NETWORK = ["--model", "nets:Small", "--input-shape", "2,5"]


@pytest.fixture
def two(tmp_path, monkeypatch):
    """A network with its specification and two sets of weights in files a and b."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    (tmp_path / "nets.py").write_text(textwrap.dedent(CODE))
    monkeypatch.syspath_prepend(tmp_path)
    import nets

    given = []
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        given.append(params.from_module(nets.Small()))
        given[-1]["norm.running_var"] = torch.rand(8) + 0.5
        save_file(given[-1], f"{name}.safetensors")
    model = nets.Small().eval()
    return model, symmetry_spec(model, torch.randn(2, 5)), given


def run(*flags):
    words = ["merge", "a.safetensors", "b.safetensors", *NETWORK, *flags, "-o", "m.safetensors"]
    return main(words)


def merged(*flags):
    assert run(*flags) == 0
    return load_file("m.safetensors")


def close(a, b, atol=1e-5):
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=atol) for n in a)


def test_scales_and_products_are_those_of_the_library(two):
    _, spec, (a, b) = two
    moved = match(spec.without_units(), a, b)(b)
    scaled = align_scales(spec, a, moved, one_sided=False)(moved)
    assert close(merged("--scales", "closest"), average([a, scaled]))
    normed = align_scales(spec, a, moved, norms=True, one_sided=False)(moved)
    assert close(merged("--scales", "norms"), average([a, normed]))
    assert not close(normed, scaled, atol=1e-3)
    straight = align_linear(spec, a, moved)(moved)
    both = average([a, straight])
    assert close(merged("--products"), average_products(spec, both, [a, straight]))
    assert not close(merged(), average([a, scaled]), atol=1e-3)


def test_planted_scales_and_matrices_give_the_first_network(two):
    _, spec, (a, _) = two
    g, m = (kind.random(spec, torch.Generator().manual_seed(2)) for kind in (Rescaling, LinearMaps))
    save_file({n: t.contiguous() for n, t in m(a).items()}, "b.safetensors")
    assert close(merged("--no-match", "--products"), a, atol=1e-4)
    assert not close(merged("--no-match"), a, atol=1e-2)
    units = [
        torch.ones_like(v) if "running_var" in str(u) else v
        for u, v in zip([u for u in spec.units if not u.mixes], g.values, strict=True)
    ]
    save_file(Rescaling(spec, tuple(units))(a), "b.safetensors")
    assert close(merged("--no-match", "--scales", "closest"), a, atol=1e-3)


@pytest.mark.parametrize(
    ("word", "mend"), [("noise", repair_on_noise), ("closed-form", repair_closed_form)]
)
def test_repair_without_data_asks_for_no_inputs(two, word, mend):
    model, spec, (a, b) = two
    moved = match(spec.without_units(), a, b)(b)
    theta = average([a, moved])
    expected = mend(model, theta, [a, moved], example=torch.zeros(2, 5)).params
    assert close(merged("--repair-without-data", word), expected)
    assert not close(expected, theta, atol=1e-3)
    line = {n: torch.lerp(t.double(), moved[n].double(), 0.25).to(t) for n, t in a.items()}
    expected = mend(model, line, [a, moved], example=torch.zeros(2, 5), weights=[3, 1]).params
    assert close(merged("--repair-without-data", word, "-t", "0.25"), expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--repair-without-data", "noise", "--repair"], "for where there are no inputs"),
        (["--products", "--method", "ties", "--base", "a.safetensors"], "of the plain average"),
    ],
)
def test_flags_that_contradict_each_other_are_one_line(two, capsys, flags, message):
    assert run(*flags) == 2
    assert message in capsys.readouterr().err
