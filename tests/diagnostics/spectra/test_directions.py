"""Planted subspaces, intruders and super weights are found, and nothing is where none was put."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsl.diagnostics import (
    intruder_dimensions,
    super_weights,
    utilised_rank,
    utilised_ranks,
)
from wsl.diagnostics.spectra.inputs import rows, watched, weight_of
from wsl.params import from_module


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def orthogonal(size, seed=0):
    return torch.linalg.qr(torch.randn(size, size, generator=generator(seed))).Q


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (3, 6)),
        (nn.Linear(6, 4), (3, 5, 6)),
        (nn.Conv2d(2, 4, 3, stride=2, padding=1), (3, 2, 7, 6)),
        (nn.Conv2d(2, 4, (1, 3), dilation=(1, 2)), (3, 2, 7, 6)),
        (nn.Conv1d(2, 4, 3, padding=2, stride=2), (3, 2, 9)),
    ],
    ids=["linear", "tokens", "conv2d", "dilated", "conv1d"],
)
def test_the_rows_of_a_layer_times_its_weight_are_its_outputs(layer, shape):
    x = torch.randn(shape, generator=generator())
    found = rows(layer, x) @ weight_of(layer).float().mT + layer.bias
    y = layer(x)
    golden = y.movedim(1, -1) if isinstance(layer, nn.Conv1d | nn.Conv2d) else y
    torch.testing.assert_close(found, golden.flatten(0, -2))


def test_layers_that_are_not_one_map_are_passed_over_and_the_mode_is_kept():
    model = nn.Sequential(
        nn.Conv2d(2, 2, 3, groups=2, padding=1),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Dropout(),
        nn.Conv2d(2, 2, 3),
    ).train()
    seen = []
    watched(
        model,
        from_module(model),
        [torch.ones(1, 2, 5, 5)],
        visit=lambda name, *_: seen.append((name, model.training)),
    )
    assert seen == [("3", False)]
    assert model.training
    assert not model[3]._forward_pre_hooks
    with pytest.raises(ValueError, match="no inputs were given"):
        watched(model, from_module(model), [], visit=lambda *_: None)


@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_the_utilised_rank_is_the_dimension_of_the_data(dimension):
    w, turn = orthogonal(8)[:6].double(), orthogonal(8, 2).double()
    x = torch.randn(100, dimension, generator=generator(1)).double() @ turn[:dimension]
    found = utilised_rank(w, x.mT @ x, energy=1 - 1e-9)
    assert found.inputs == dimension
    assert found.rank == min(6, dimension)
    assert found.full == 6
    assert found.error < 1e-4


def test_the_utilised_rank_is_that_of_the_weight_if_data_fill_the_space():
    thin, flat = (torch.randn(s, generator=generator()).double() for s in ((6, 2), (2, 8)))
    low = thin @ flat
    found = utilised_rank(low, torch.eye(8), energy=1 - 1e-9)
    assert (found.inputs, found.outputs, found.rank) == (8, 2, 2)
    assert found.utilisation == pytest.approx(1 / 3)


def test_the_error_is_that_of_the_projected_weight_on_the_data():
    w, x = (torch.randn(s, generator=generator(i)) for i, s in enumerate([(5, 7), (50, 7)]))
    xx = (x.mT @ x).double()
    found = utilised_rank(w, xx, energy=0.8)
    read = torch.linalg.eigh(xx).eigenvectors[:, -found.inputs :]
    written = torch.linalg.eigh(w.double() @ xx @ w.double().mT).eigenvectors[:, -found.outputs :]
    projected = written @ written.mT @ w.double() @ read @ read.mT
    y = x.double() @ w.double().mT
    golden = (y - x.double() @ projected.mT).norm() / y.norm()
    assert found.error == pytest.approx(float(golden))
    assert 0 < found.error < 1


def test_utilised_ranks_of_a_network_are_those_of_its_layers():
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    params = {n: torch.randn(t.shape, generator=generator()) for n, t in from_module(model).items()}
    x = torch.randn(40, 6, generator=generator(1))
    found = utilised_ranks(model, params, x.split(16), energy=0.9)
    assert [*found] == ["0", "2"]
    hidden = F.linear(x, params["0.weight"], params["0.bias"]).relu()
    for name, inputs in (("0", x), ("2", hidden)):
        golden = utilised_rank(
            params[f"{name}.weight"], inputs.double().mT @ inputs.double(), energy=0.9
        )
        assert found[name].rank == golden.rank
        assert found[name].error == pytest.approx(golden.error, rel=1e-4)


def test_a_planted_direction_is_the_only_intruder():
    u, v = orthogonal(12), orthogonal(15, 1)[:12]
    base = {"w": u[:, :8] * torch.arange(8.0, 0, -1) @ v[:8], "b": torch.zeros(12)}
    # a new direction outside of the base's left space, with the third largest value
    planted = {**base, "w": base["w"] + 6.5 * torch.outer(u[:, 10], v[10])}
    found = intruder_dimensions(base, planted, leading=5)["w"]
    assert found.found == (2,)
    assert found.values[2] == pytest.approx(6.5, rel=1e-5)
    assert found.likeness[2] < 1e-3
    assert intruder_dimensions(base, base)["w"].found == ()


def test_scaling_a_base_and_turning_its_inputs_makes_no_intruders():
    base = {"w": torch.randn(6, 9, generator=generator())}
    for tuned in ({"w": 2 * base["w"]}, {"w": base["w"] @ orthogonal(9)}):
        found = intruder_dimensions(base, tuned)["w"]
        assert found.found == ()
        assert found.likeness.tolist() == pytest.approx([1] * 6, abs=1e-4)
    with pytest.raises(ValueError, match="leading is 0"):
        intruder_dimensions(base, base, leading=0)
    with pytest.raises(ValueError, match="w: "):
        intruder_dimensions(base, {"w": torch.ones(2, 2)})


def network():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU())
    params = {
        n: 0.1 * torch.randn(t.shape, generator=generator(i))
        for i, (n, t) in enumerate(from_module(model).items())
    }
    return model, params


def test_a_planted_super_weight_is_found_and_none_without_it():
    model, params = network()
    x = torch.randn(20, 16, generator=generator(9))
    assert super_weights(model, params, x) == []
    params["0.weight"][5] *= 100  # a channel with huge values ...
    params["2.weight"][7, 5] = 50.0  # ... that one number carries on
    found = super_weights(model, params, x)
    last = next(each for each in found if each.layer == "2")
    assert (last.row, last.column, last.value) == (7, 5, 50)
    assert last.share == pytest.approx(1, abs=0.02)
    assert min(last.inputs, last.outputs) > 20


def test_every_layer_has_a_candidate_if_asked():
    model, params = network()
    found = super_weights(model, params, torch.ones(2, 16), spike=0, share=0)
    assert {each.layer for each in found} == {"0", "2"}
    assert found[0].outputs >= found[1].outputs
