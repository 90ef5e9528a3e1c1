"""Curves, planes, calibration and several pairs, on losses whose values are known."""

import math

import pytest
import torch

from wsl.connectivity import (
    Bezier,
    PathLosses,
    barriers,
    bezier,
    calibrated,
    loss_barrier,
    path_losses,
    plane,
)


def point(*values):
    return {"w": torch.tensor(values, dtype=torch.float64)}


def norm(theta, _=None):
    return theta["w"].square().sum()


def quadratic(theta):
    return norm(theta), 0.0


def ring(theta, _=None):
    """Zero on the unit circle and nowhere else."""
    return (theta["w"].square().sum() - 1).square()


A, B, C = point(0.0, 0.0, 1.0), point(2.0, 0.0, 1.0), point(1.0, 3.0, 1.0)


def test_the_ends_of_a_curve_are_its_networks_bit_for_bit():
    curve = Bezier(point(0.1, 0.2), point(5.0, 5.0), point(0.3, 0.7), torch.empty(0))
    assert torch.equal(curve(0)["w"], curve.a["w"])
    assert torch.equal(curve(1)["w"], curve.b["w"])
    assert torch.allclose(curve(0.5)["w"], 0.25 * curve.a["w"] + 2.5 + 0.25 * curve.b["w"])


def test_a_path_may_be_any_curve():
    curve = Bezier(point(-1.0), point(0.0), point(1.0), torch.empty(0))
    bent, straight = path_losses(quadratic, curve, points=5), path_losses(quadratic, A, B, points=5)
    assert bent.loss.tolist() == [1.0, 0.25, 0.0, 0.25, 1.0]
    assert straight.loss.tolist() == [1.0, 1.25, 2.0, 3.25, 5.0]
    with pytest.raises(ValueError, match="b is missing"):
        path_losses(quadratic, A)
    with pytest.raises(ValueError, match="leave out b"):
        path_losses(quadratic, curve, B)


def test_a_bend_goes_around_what_a_line_goes_through():
    a, b = point(1.0, 0.0), point(0.0, 1.0)

    def evaluate(theta):
        return ring(theta), 0.0

    curve = bezier(ring, a, b, batches=[None], steps=600, learning_rate=1e-2)
    line, bent = path_losses(evaluate, a, b), path_losses(evaluate, curve)
    assert loss_barrier(line) == pytest.approx(0.25, abs=1e-3)
    assert loss_barrier(bent) < 0.003
    assert len(curve.losses) == 600
    # of all parabolas the one that is closest to the quarter of a circle
    assert torch.allclose(curve.bend["w"], torch.tensor(0.91, dtype=torch.float64), atol=0.03)


def test_what_batch_norm_measures_and_counts_has_no_bend():
    one = torch.ones(2)
    a = {"w": 0 * one, "n.running_var": one, "n.num_batches_tracked": one[0]}
    b = {name: tensor + 2 for name, tensor in a.items()}

    def loss(theta, _):
        return sum((tensor - 9).square().sum() for tensor in theta.values())

    curve = bezier(loss, a, b, batches=[0], steps=3)
    assert torch.equal(curve.bend["n.running_var"], torch.full((2,), 2.0))
    assert not torch.equal(curve.bend["w"], one)
    still = bezier(loss, a, b, batches=[0], steps=3, trained=["n.running_var"])
    assert torch.equal(still.bend["w"], one)


def test_a_curve_needs_batches_and_a_finite_loss():
    with pytest.raises(ValueError, match="no batches were given"):
        bezier(norm, A, B, batches=[])
    with pytest.raises(ValueError, match="the loss of step 0 is nan; lower learning_rate"):
        bezier(lambda theta, _: norm(theta) * float("nan"), A, B, batches=[0])


def test_a_plane_holds_its_corners_and_the_values_of_a_quadratic():
    found = plane(quadratic, A, B, C, points=5, margin=0.5)
    assert found.corners.tolist() == [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]
    assert found.x.tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0]
    assert torch.allclose(found.loss, found.x.square() + found.y.square()[:, None] + 1)
    other = plane(quadratic, A, B, C, points=2, margin=0.0, prepare=lambda _: point(7.0))
    assert other.loss.tolist() == [[49.0, 49.0], [49.0, 49.0]]


def test_no_variance_on_a_plane_is_negative():
    corners = [{"w": corner["w"], "n.running_var": corner["w"][:2]} for corner in (A, B, C)]
    found = plane(lambda theta: (theta["n.running_var"].min(), 0), *corners, margin=1.0)
    assert found.loss.min() == 0
    assert found.corners[1].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ((A, B), "got 2 networks, but three span a plane"),
        ((A, B, B), "lie on one line"),
        ((A, A, B), "lie on one line"),
        ((A, B, point(1.0)), r"w: shapes \(3,\) and \(1,\) differ"),
    ],
)
def test_three_networks_off_a_line_are_needed(corners, message):
    with pytest.raises(ValueError, match=message):
        plane(quadratic, *corners)


def test_a_temperature_undoes_what_scaled_the_logits():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 5, generator=rng)
    labels = torch.multinomial((3 * logits).softmax(1), 1, generator=rng)[:, 0]
    found = calibrated(logits, labels)
    assert found.temperature == pytest.approx(1 / 3, rel=0.05)
    assert found.loss < found.uncalibrated_loss
    scaled = calibrated(7 * logits, labels)
    assert scaled.temperature == pytest.approx(7 * found.temperature, rel=1e-4)
    assert scaled.loss == pytest.approx(found.loss, rel=1e-9)
    slope = [
        torch.nn.functional.cross_entropy(logits.double() / (found.temperature * factor), labels)
        for factor in (0.999, 1.001)
    ]
    assert found.loss < min(slope)


def test_logits_that_say_all_or_nothing_keep_a_finite_temperature():
    sure = calibrated(torch.eye(3), torch.arange(3))
    assert 0 < sure.temperature < 0.2
    assert sure.loss < 1e-3
    unsure = calibrated(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))
    assert unsure.loss == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match=r"logits of shape \(3, 3\) and labels of shape \(2,\)"):
        calibrated(torch.eye(3), torch.arange(2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        calibrated(torch.eye(3) / 0, torch.arange(3))


def test_barriers_of_several_pairs_have_a_mean_and_a_spread():
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    paths = [
        PathLosses(
            t, torch.tensor([0.0, top, 1.0]).double(), torch.tensor([1.0, 0.5, 1.0]).double()
        )
        for top in (1.0, 2.0, 3.0)
    ]
    found = barriers(paths)
    assert found["loss_barrier"].values.tolist() == [0.5, 1.5, 2.5]
    assert (found["loss_barrier"].mean, found["loss_barrier"].std) == (1.5, 1.0)
    assert found["mean_barrier"].mean == 1.5
    assert found["accuracy_barrier"].values.tolist() == [0.5] * 3
    assert found["midpoint_loss"].mean == 2.0
    assert str(found["loss_barrier"]) == "1.5000 ± 1.0000 (3 pairs)"
    assert math.isnan(barriers(paths[:1])["loss_barrier"].std)
    with pytest.raises(ValueError, match="got no paths"):
        barriers([])
