"""Diagnostics on networks and losses whose answers are known."""

import pytest
import torch
from networks import BY_NAME
from torch import nn

from wsl import params
from wsl.connectivity import (
    input_alignment,
    layer_distances,
    lerp,
    loss_barrier,
    path_losses,
    report,
    singular_alignment,
    singular_spectra,
    taylor_barrier,
    three_models,
)
from wsl.symmetry import Permutation

MLP, RESIDUAL = BY_NAME["mlp"], BY_NAME["residual"]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("network", [MLP, RESIDUAL], ids=lambda n: n.name)
def test_distances_and_cosines_are_those_of_the_tensors(network):
    a, b, c = (network.weights(seed=i) for i in range(3))
    found = layer_distances(a, b, c)
    assert not any("running" in name or "num_batches" in name for name in found.names)
    for i, name in enumerate(found.names[:-1]):
        assert found.before[i] == pytest.approx(float((a[name] - b[name]).norm()), rel=1e-5)
        cosine = torch.cosine_similarity(a[name].flatten(), c[name].flatten(), 0)
        assert found.cosine_after[i] == pytest.approx(float(cosine), abs=1e-5)
    assert found.names[-1] == "total"
    assert found.after[-1] == pytest.approx(float(found.after[:-1].norm()))
    same = layer_distances(a, b, a)
    assert same.after.max() < 1e-5
    assert torch.allclose(same.cosine_after, torch.ones(()).double())


def test_equal_networks_agree_wholly_and_a_common_permutation_changes_nothing():
    a, b = (RESIDUAL.weights(seed=i) for i in (1, 2))
    g = Permutation.random(RESIDUAL.spec, generator(0))
    equal = singular_alignment(g(a), g(a))
    assert torch.allclose(equal.r, torch.ones(()).double())
    assert torch.allclose(equal.layers, torch.ones(()).double())
    plain, moved = singular_alignment(a, b), singular_alignment(g(a), g(b))
    assert torch.allclose(plain.r, moved.r)
    assert (plain.r.abs() < 0.5).all()
    assert not torch.allclose(plain.r, singular_alignment(a, g(b)).r)
    before, after = singular_spectra(a, b), singular_spectra(g(a), g(b))
    assert before.names == ("stem.weight", "inner.weight", "outer.weight", "head.weight")
    pairs = zip(before.a + before.b, after.a + after.b, strict=True)
    assert all(torch.allclose(x, y) for x, y in pairs)


def test_r_is_the_double_sum_over_singular_vectors_that_the_paper_writes():
    a, b = (MLP.weights(seed=i, dtype=torch.float64) for i in (1, 2))
    total, most = 0.0, 0.0
    for name in ("0.weight", "2.weight", "4.weight"):
        (u, s, v), (x, t, y) = (torch.linalg.svd(w[name], full_matrices=False) for w in (a, b))
        for i in range(len(s)):
            for j in range(len(t)):
                if s[i] > 0.3 * s[0] and t[j] > 0.3 * t[0]:
                    total += float((u[:, i] @ x[:, j]) * (v[i] @ y[j]))
        most += float(((s > 0.3 * s[0]).sum() * (t > 0.3 * t[0]).sum()).double().sqrt())
    found = singular_alignment(a, b, gamma=[0.3])
    assert found.r.tolist() == pytest.approx([total / most])
    with pytest.raises(ValueError, match=r"gamma is \[1.0\]; from 0 on and below 1"):
        singular_alignment(a, b, gamma=[1.0])


def test_inputs_along_the_first_singular_vector_show_there_and_nowhere_else():
    model = nn.Sequential(nn.Linear(4, 3))
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0]))[:3]
    x = torch.zeros(6, 4)
    x[:5, 0], x[5, 0] = 2.0, 0.0  # the last input is zero, and has no direction
    theta = {"0.weight": weight, "0.bias": torch.zeros(3)}
    found = input_alignment(model, theta, [x])
    assert found.names == ("0",)
    assert found.singular_values[0].tolist() == pytest.approx([3, 2, 1])
    assert found.alignment[0].tolist() == pytest.approx([1, 0, 0])
    many = input_alignment(model, theta, [torch.randn(5000, 4, generator=generator(0))])
    assert many.alignment[0].tolist() == pytest.approx([0.42] * 3, abs=0.02)
    assert many.chance[0] == pytest.approx(0.4, abs=0.01)


def test_a_convolution_reads_its_patches():
    network = BY_NAME["cnn"]
    found = input_alignment(network.make(), network.weights(), [network.inputs(4)])
    assert found.names == ("conv1", "conv2", "fc1", "fc2")
    assert [len(values) for values in found.alignment] == [5, 7, 11, 3]
    assert all(((v >= 0) & (v <= 1)).all() for v in found.alignment)


def test_the_expansion_of_a_quadratic_loss_is_exact():
    matrix = torch.randn(4, 4, generator=generator(0), dtype=torch.float64)
    matrix, slope = matrix @ matrix.T, torch.arange(4.0, dtype=torch.float64)

    def loss(theta):
        return theta["w"] @ matrix @ theta["w"] / 2 + slope @ theta["w"]

    a, b = ({"w": torch.randn(4, generator=generator(i)).double()} for i in (1, 2))
    found = taylor_barrier(loss, a, b)
    d = b["w"] - a["w"]
    assert found.measured == pytest.approx(-float(d @ matrix @ d) / 8)
    assert found.estimate == pytest.approx(found.measured)
    assert found.gradient == pytest.approx(-2 * found.curvature)


def test_the_expansion_holds_nearby_and_fails_far_away():
    smooth = BY_NAME["layer_norm"]
    model, x = smooth.make().double(), smooth.inputs(8).double()
    a, other = (smooth.weights(seed=i, dtype=torch.float64) for i in (1, 2))
    b = lerp(a, other, 1e-3)

    def loss(theta):
        return params.call(model, theta, x).square().mean()

    near, far = taylor_barrier(loss, a, b), taylor_barrier(loss, a, other)
    assert near.estimate == pytest.approx(near.measured, rel=0.05)
    assert abs(far.estimate - far.measured) > 0.5 * abs(far.measured)


def test_networks_that_are_one_up_to_order_have_no_barrier_to_each_other():
    a = MLP.weights(seed=0)
    b, c = (Permutation.random(MLP.spec, generator(i))(a) for i in (1, 2))
    model, x = MLP.make(), MLP.inputs(16)
    goal = params.call(model, a, x)

    def evaluate(theta):
        return (params.call(model, theta, x) - goal).square().mean(), 0.0

    found = three_models(evaluate, MLP.spec, [a, b, c], points=3)
    assert loss_barrier(found.naive) > 0.1
    for path in (found.first, found.second, found.indirect):
        assert path.loss.max() < 1e-8
    with pytest.raises(ValueError, match="got 2 networks"):
        three_models(evaluate, MLP.spec, [a, b])


def test_a_report_holds_every_diagnostic():
    a, b = (MLP.weights(seed=i) for i in (1, 2))
    model, x = MLP.make(), MLP.inputs(8)

    def loss(theta):
        return params.call(model, theta, x).square().mean()

    paths = {"naive": path_losses(lambda theta: (loss(theta), 0.0), a, b, points=3)}
    found = report(a, b, b, paths=paths, probe=(model, [x]), loss=loss)
    assert list(found.alignment) == ["a, b", "a, b'", "a, mean", "b', mean"]
    assert found.inputs.names == ("0", "2", "4")
    assert list(found.taylor) == ["naive", "matched"]
    short = report(a, b, b, paths=paths)
    assert (short.inputs, short.taylor, short.plane) == (None, {}, None)
