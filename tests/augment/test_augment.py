"""Augmentations: what each does to the function, row by row, from its generator alone; and MixUp
with its alignment.
"""

import math

import pytest
import torch
from networks import NETWORKS

from wsl import augment, params
from wsl.metrics import accuracy
from wsl.populations.architectures import networks as architectures
from wsl.symmetry import Permutation, PermutationBatch, PermutationSpec, SignedBatch, SpecError

SPECS = {network.name: network for network in NETWORKS}
SIREN = PermutationSpec.parse(
    "h1 = 7, h2 = 5\n0.weight: h1 2\n0.bias: h1\n1.weight: h2 h1\n1.bias: h2\n2.weight: 1 "
    "h2\n2.bias: 1"
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def siren_weights(rows=6, seed=0):
    rng = generator(seed)
    return {name: torch.randn(rows, *shape, generator=rng) for name, shape in SIREN.shapes.items()}


def siren(theta, x):
    for k in range(3):
        x = x @ theta[f"{k}.weight"].mT + theta[f"{k}.bias"].unsqueeze(-2)
        x = torch.sin(3 * x) if k < 2 else x
    return x


@pytest.mark.parametrize("name", SPECS)
def test_a_batch_of_permutations_does_to_each_row_what_its_element_does(name):
    spec, theta = SPECS[name].spec, SPECS[name].weights(3)
    batch = PermutationBatch.random(spec, 3, generator())
    moved = batch(theta)
    for row in range(3 if spec.groups else 0):
        assert equal(
            batch.element(row)({k: t[row] for k, t in theta.items()}),
            {k: t[row] for k, t in moved.items()},
        )


def test_stacking_elements_keeps_them():
    spec = SPECS["mlp"].spec
    elements = [Permutation.random(spec, generator(seed)) for seed in range(4)]
    batch = PermutationBatch.stack(elements)
    assert [batch.element(row) for row in range(4)] == elements
    assert batch[torch.tensor([2, 0])].element(0) == elements[2]


def test_signs_act_after_the_permutation_on_every_axis_of_their_group():
    theta, batch = siren_weights(4), SignedBatch.random(SIREN, 4, ["h1"], generator=generator())
    moved, order, signs = batch(theta), batch.permutations(theta), batch.signs["h1"]
    assert torch.equal(moved["0.weight"], signs[..., None] * order["0.weight"])
    assert torch.equal(moved["0.bias"], signs * order["0.bias"])
    assert torch.equal(moved["1.weight"], order["1.weight"] * signs[:, None])
    assert equal(
        {k: moved[k] for k in ("1.bias", "2.weight", "2.bias")},
        {k: order[k] for k in ("1.bias", "2.weight", "2.bias")},
    )
    where = torch.tensor([3, 1])
    assert equal(
        batch[where]({k: t[where] for k, t in theta.items()}),
        {k: t[where] for k, t in moved.items()},
    )


def test_signs_that_are_none_are_refused():
    still = PermutationBatch.random(SIREN, 4, generator())
    for signs in (torch.ones(3, 7), torch.ones(4, 5), torch.full((4, 7), 0.5)):
        with pytest.raises(SpecError, match="signs of 'h1': numbers -1 and 1 of shape"):
            SignedBatch(still, {"h1": signs})


def test_a_batch_of_another_length_is_refused():
    with pytest.raises(SpecError, match="4 permutations need 4 rows"):
        PermutationBatch.random(SIREN, 4, generator())(siren_weights(3))


def test_stack_needs_one_specification():
    with pytest.raises(SpecError, match="one specification"):
        PermutationBatch.stack(
            [Permutation.identity(SIREN), Permutation.identity(SPECS["mlp"].spec)]
        )


AUGMENTATIONS = {
    "noise": augment.GaussianNoise(),
    "dropout": augment.Dropout(0.3),
    "quantile": augment.QuantileDropout(0.5),
    "rotate": augment.Rotate("0.weight"),
    "stretch": augment.Stretch("0.weight"),
    "translate": augment.Translate("0.weight", "0.bias"),
    "permutation": augment.RandomPermutation(SIREN),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_is_drawn_from_its_generator_row_by_row(name):
    one, theta = (
        AUGMENTATIONS[name],
        {k: t[:1].expand(6, *t.shape[1:]).clone() for k, t in siren_weights().items()},
    )
    before = {k: t.clone() for k, t in theta.items()}
    moved = one(theta, generator(1))
    assert equal(moved, one(theta, generator(1)))
    assert not equal(moved, one(theta, generator(2)))
    assert equal(theta, before)
    assert {k: t.shape for k, t in moved.items()} == {k: t.shape for k, t in theta.items()}
    assert (
        len(
            {
                tuple(torch.cat([t[row].flatten() for t in moved.values()]).tolist())
                for row in range(6)
            }
        )
        == 6
    )


def test_noise_has_the_scale_that_was_asked_for():
    theta = {
        "w": torch.stack([torch.randn(20000, generator=generator()) * s for s in (0.1, 5.0)]),
        "n": torch.ones(2, 3).long(),
    }
    moved = augment.GaussianNoise(0.32)(theta, generator(1))
    ratio = (moved["w"] - theta["w"]).std(1) / theta["w"].std(1)
    torch.testing.assert_close(ratio, torch.full((2,), 0.32), rtol=0.03, atol=0)
    assert torch.equal(moved["n"], theta["n"])


def test_dropout_zeroes_the_share_that_was_asked_for():
    theta = {"w": torch.ones(1, 20000)}
    moved = augment.Dropout(0.25, rescale=True)(theta, generator())["w"]
    assert abs(float((moved == 0).float().mean()) - 0.25) < 0.02
    assert float(moved.max()) == pytest.approx(4 / 3)


def test_quantile_dropout_zeroes_the_smallest_weights_only():
    theta = {
        "a": torch.randn(5, 400, generator=generator()),
        "b": torch.randn(5, 100, generator=generator(1)) * 3,
    }
    moved = augment.QuantileDropout(0.5)(theta, generator(2))
    for row in range(5):
        size = torch.cat([theta["a"][row], theta["b"][row]]).abs()
        gone = torch.cat([moved["a"][row], moved["b"][row]]) == 0
        assert gone.any()
        assert size[gone].max() <= size[~gone].min()
        assert gone.float().mean() <= 0.5


def test_input_maps_move_the_argument_of_the_function():
    theta, x = siren_weights(), torch.rand(6, 11, 2, generator=generator(3)) * 2 - 1
    rotated = augment.Rotate("0.weight", 180)(theta, generator(4))
    angle = (2 * torch.rand(6, generator=generator(4)) - 1) * math.pi
    turn = torch.stack(
        [torch.stack([angle.cos(), angle.sin()], 1), torch.stack([-angle.sin(), angle.cos()], 1)], 1
    )
    torch.testing.assert_close(siren(rotated, x), siren(theta, x @ turn), rtol=1e-4, atol=1e-4)
    stretched = augment.Stretch("0.weight", 2, 2)(theta, generator())
    torch.testing.assert_close(siren(stretched, x), siren(theta, 2 * x), rtol=1e-4, atol=1e-4)
    moved = augment.Translate("0.weight", "0.bias", 0.5)(theta, generator(5))
    shift = (2 * torch.rand(6, 2, generator=generator(5)) - 1) * 0.5
    torch.testing.assert_close(
        siren(moved, x), siren(theta, x + shift[:, None]), rtol=1e-4, atol=1e-4
    )


def test_the_first_layer_is_read_off_the_specification():
    assert augment.first_layer(SIREN) == ("0.weight", "0.bias")
    with pytest.raises(SpecError, match="no first layer"):
        augment.first_layer(PermutationSpec.parse("w: 3 4"))


def test_rotation_needs_two_coordinates():
    with pytest.raises(SpecError, match="rotation needs shape"):
        augment.Rotate("1.weight")(siren_weights(), generator())


@pytest.mark.parametrize(
    "make",
    [lambda: augment.Dropout(1.0), lambda: augment.QuantileDropout(2), lambda: augment.MixUp(0)],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match="but"):
        make()


def test_compose_applies_in_order():
    both = augment.Compose(
        augment.Stretch("0.weight", 2, 2), augment.Translate("0.weight", "0.bias", 0.5)
    )
    theta = siren_weights()
    first = augment.Stretch("0.weight", 2, 2)(theta, generator())
    rng = generator()
    torch.rand(6, generator=rng)
    assert equal(both(theta, generator()), augment.Translate("0.weight", "0.bias", 0.5)(first, rng))


def test_mixup_mixes_weights_and_targets_alike():
    theta = siren_weights()
    mixed = augment.MixUp(0.4)(theta, generator(1))
    assert (mixed.partner != torch.arange(6)).all()
    own = {k: mixed.target(t) for k, t in theta.items()}
    assert equal(mixed.params, own)
    labels = torch.eye(6)
    torch.testing.assert_close(mixed.target(labels).sum(1), torch.ones(6))
    with pytest.raises(ValueError, match="one-hot"):
        mixed.target(torch.arange(6))


def test_mixing_weights_are_beta_distributed():
    theta = {"w": torch.zeros(20000, 1)}
    for alpha in (0.2, 1.0, 4.0):
        weight = augment.MixUp(alpha)(theta, generator()).weight
        assert float(weight.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(weight.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_randomised_mixup_moves_networks_within_their_orbit():
    theta = {k: t[:1].expand(5, *t.shape[1:]).clone() for k, t in siren_weights().items()}
    direct, moved = (
        augment.MixUp()(theta, generator()),
        augment.MixUp.randomised(SIREN)(theta, generator()),
    )
    torch.testing.assert_close(direct.params, theta)
    assert (moved.params["1.weight"] - theta["1.weight"]).abs().amax() > 0.1


def test_aligned_networks_of_one_orbit_mix_to_the_network_itself():
    one = {k: t[0] for k, t in siren_weights().items()}
    orbit = {k: t[None].expand(8, *t.shape).clone() for k, t in one.items()}
    orbit = PermutationBatch.random(SIREN, 8, generator(2))(orbit)
    alignment = augment.Alignment.fit(SIREN, orbit, reference=one)
    where = torch.tensor([5, 1, 3])
    aligned = alignment({k: t[where] for k, t in orbit.items()}, where)
    mixed = augment.MixUp()(aligned, generator(3)).params
    torch.testing.assert_close(mixed, {k: t[None].expand(3, *t.shape) for k, t in one.items()})


def test_signed_alignment_without_a_reference_brings_an_orbit_together():
    orbit = {k: t[:1].expand(8, *t.shape[1:]) for k, t in siren_weights().items()}
    orbit = SignedBatch.random(SIREN, 8, ["h1", "h2"], generator=generator(2))(orbit)
    aligned = augment.Alignment.fit(SIREN, orbit, odd=["h1", "h2"])(orbit, torch.arange(8))
    assert all(torch.equal(t, t[:1].expand_as(t)) for t in aligned.values())


def test_aligned_mixtures_of_trained_networks_work_where_direct_ones_do_not(digits_pair):
    model, spec, theta, images, labels = digits_pair
    both = {k: torch.stack([t[0], t[1]]) for k, t in theta.items()}
    alignment = augment.Alignment.fit(spec, both, reference=params.unstack(both)[0])
    aligned = alignment(both, torch.arange(2))
    middle = [
        params.call(model, {k: t.mean(0) for k, t in one.items()}, images)
        for one in (both, aligned)
    ]
    assert accuracy(middle[1], labels) > accuracy(middle[0], labels) + 0.05


@pytest.fixture(scope="module")
def digits_pair():
    """Two networks trained on the digits from different starts."""
    from wsl.populations import digits
    from wsl.symmetry import permutation_spec

    task, model = digits(), architectures.mlp([64, 32, 10])
    images, labels = task.train.images.flatten(1), task.train.labels
    spec, found = permutation_spec(model, images[:2]), []
    for seed in range(2):
        torch.manual_seed(seed)
        net = architectures.mlp([64, 32, 10])
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(120):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
        found.append(params.from_module(net))
    return model, spec, params.stack(found), images, labels


def test_the_importance_of_tensors_decides_what_is_aligned():
    """Two units that the first layer would exchange and the second, larger, would not."""
    spec = PermutationSpec.parse("h = 2\na: h 2\nb: 1 h")
    one, turn = torch.eye(2), torch.eye(2).flip(0)
    theta = {"a": torch.stack([one, turn]), "b": torch.stack([torch.tensor([[3.0, 1.0]])] * 2)}
    reference = {name: tensor[0] for name, tensor in theta.items()}
    for factor, order in ((1.0, [0, 1]), (10.0, [1, 0])):
        found = augment.Alignment.fit(spec, theta, importance={"a": factor}, reference=reference)
        assert found.elements.permutations.indices["h"][1].tolist() == order
    with pytest.raises(SpecError, match="importance: no tensor 'c'; the specification has a, b"):
        augment.Alignment.fit(spec, theta, importance={"c": 2.0})


def test_noise_keeps_running_variances_positive_and_their_size_in_the_middle():
    rng = torch.Generator().manual_seed(0)
    variance = torch.rand(64, 100, generator=rng) ** 4 + 1e-6
    theta = {"1.running_var": variance, "1.running_mean": variance, "1.weight": variance}
    noisy = augment.GaussianNoise(1.0)(theta, torch.Generator().manual_seed(1))
    assert (noisy["1.running_var"] > 0).all()
    assert not torch.equal(noisy["1.running_var"], variance)
    assert 0.8 < (noisy["1.running_var"] / variance).median() < 1.25
    assert (noisy["1.running_mean"] < 0).any()  # what may be negative is moved by sums, as before


def test_noise_leaves_a_variance_of_zero_and_equal_variances_as_they_are():
    theta = {"running_var": torch.tensor([[0.0, 0.0], [2.0, 2.0]])}
    noisy = augment.GaussianNoise(0.5)(theta, torch.Generator().manual_seed(0))
    assert torch.equal(noisy["running_var"], theta["running_var"])


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_noise_of_no_size_is_refused(scale):
    with pytest.raises(ValueError, match=r"GaussianNoise: scale is .* must lie in \[0, inf\)"):
        augment.GaussianNoise(scale)
