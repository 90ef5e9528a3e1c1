"""Generating weights: canonical forms keep functions, what is generated works, is new, and a
memoriser is caught.
"""

from functools import partial

import pytest
import safetensors.torch
import torch
from networks import BY_NAME, NETWORKS
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from wsl.generative import (
    Behaviour,
    Canonicalizer,
    LatentDiffusion,
    Standardizer,
    TrainingMembers,
    WeightAutoencoder,
    WeightPCA,
    aligned_nearest,
    dispersion_ratio,
    gaussian_baseline,
    initialize,
    leave_one_out,
    max_iou,
    mean_baseline,
    noise_baseline,
    retrieval_baseline,
    round_trip,
)
from wsl.params import call, from_module, ravel, stack, unstack
from wsl.symmetry import Permutation, PermutationSpec, SpecError, permutation_spec

SPEC = PermutationSpec.parse("""
h1 = 16
0.weight: h1 64
0.bias: h1
2.weight: 10 h1
2.bias: 10
""")
MEMBERS, CHECKPOINTS = 80, (12, 100)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def digits():
    data = load_digits()
    images, labels = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def accuracy(params):
    _, _, images, labels = digits()
    return (call(mlp(), params, images).argmax(-1) == labels).float().mean(1)


def take(params, rows):
    return {name: tensor[rows] for name, tensor in params.items()}


@pytest.fixture(scope="module")
def population():
    """80 classifiers from independent seeds, two checkpoints each; rows ordered by member."""
    images, labels, _, _ = digits()
    model, params = mlp(), stack([from_module(mlp(seed)) for seed in range(MEMBERS)])
    optimizer = torch.optim.Adam([t.requires_grad_() for t in params.values()], lr=0.01)
    saved, batches = [], rng()
    for step in range(1, max(CHECKPOINTS) + 1):
        rows = torch.randint(len(images), (64,), generator=batches)
        logits = call(model, params, images[rows])
        optimizer.zero_grad()
        (F.cross_entropy(logits.flatten(0, 1), labels[rows].repeat(MEMBERS)) * MEMBERS).backward()
        optimizer.step()
        if step in CHECKPOINTS:
            saved.append({name: t.detach().clone() for name, t in params.items()})
    return {name: torch.stack([s[name] for s in saved], 1).flatten(0, 1) for name in params}


@pytest.fixture(scope="module")
def member():
    return torch.arange(MEMBERS).repeat_interleave(len(CHECKPOINTS))


@pytest.fixture(scope="module")
def training(population, member):
    return take(population, member < 64)


@pytest.fixture(scope="module")
def fitted(training, member):
    condition = accuracy(training)[:, None]
    model = LatentDiffusion(
        SPEC, latent=32, hidden=128, blocks=2, code=partial(WeightAutoencoder, hidden=128)
    )
    behaviour = Behaviour(mlp(), digits()[0])
    members = TrainingMembers(
        training,
        condition,
        reference=int(condition.argmax()),
        member=member[: len(condition)],
    )
    model.fit(members, behaviour=behaviour, code_steps=250, steps=300)
    return model


@pytest.fixture(scope="module")
def drawn(fitted):
    return fitted.sample(32, condition=0.95, generator=rng())


# canonical forms


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_a_canonical_network_computes_the_same_function(network):
    params = network.weights(3, dtype=torch.float64)
    model, x = network.make().double().eval(), network.inputs().double()
    canonical = Canonicalizer(
        network.spec, unstack(network.weights(1, seed=1, dtype=torch.float64))[0]
    )(params)
    for before, after in zip(unstack(params), unstack(canonical), strict=True):
        torch.testing.assert_close(
            call(model, after, x), call(model, before, x), rtol=1e-9, atol=1e-9
        )
    assert any(not torch.equal(params[name], canonical[name]) for name in params)


def test_the_canonical_form_of_one_hidden_layer_ignores_the_order_of_units(population):
    canonicalizer, rows = (
        Canonicalizer(SPEC, unstack(take(population, [0]))[0]),
        take(population, slice(1, 9)),
    )
    moved = stack(
        [Permutation.random(SPEC, rng(i))(theta) for i, theta in enumerate(unstack(rows))]
    )
    one, other = canonicalizer(rows), canonicalizer(moved)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_canonical_form_of_a_deep_network_is_aligned_as_well_from_any_order():
    network = BY_NAME["cnn"]
    reference = network.weights(seed=7)
    near = {
        name: t + 0.5 * torch.randn(6, *t.shape, generator=rng()) for name, t in reference.items()
    }
    moved = stack(
        [Permutation.random(network.spec, rng(i))(theta) for i, theta in enumerate(unstack(near))]
    )
    canonicalizer = Canonicalizer(network.spec, reference)
    one, other = (ravel(canonicalizer(theta), 1) @ ravel(reference) for theta in (near, moved))
    torch.testing.assert_close(one, other, rtol=0.02, atol=0)


def test_rows_of_one_member_are_moved_by_one_permutation(population, member):
    rows = take(population, slice(0, 8))
    canonical = Canonicalizer(SPEC, unstack(take(population, [20]))[0])(rows, member=member[:8])
    first, last = take(canonical, slice(0, 8, 2)), take(canonical, slice(1, 8, 2))
    before = [(rows[n][1::2] - rows[n][::2]).flatten(1).norm(dim=1) for n in rows]
    for name, distance in zip(rows, before, strict=True):
        torch.testing.assert_close((last[name] - first[name]).flatten(1).norm(dim=1), distance)


def test_a_planted_population_of_permuted_copies_collapses_to_its_noise():
    network = BY_NAME["residual"]
    base, noise = network.weights(seed=3), 0.01
    copies = stack([Permutation.random(network.spec, rng(i))(base) for i in range(12)])
    noisy = {
        n: t + noise * torch.randn(t.shape, generator=rng()) if t.is_floating_point() else t
        for n, t in copies.items()
    }
    canonical = Canonicalizer(network.spec, base).fit(noisy, start=5)(noisy)
    floating = [t for t in canonical.values() if t.is_floating_point()]
    assert max(float(t.std(0).mean()) for t in floating) < 2 * noise


def test_a_reference_with_batch_axes_is_refused(population):
    with pytest.raises(SpecError, match=r"reference: has batch axes \(160,\)"):
        Canonicalizer(SPEC, population)
    with pytest.raises(
        SpecError, match=r"params: leading axes \(\), but one axis with at least one member"
    ):
        Canonicalizer(SPEC, unstack(population)[0])(unstack(population)[0])
    with pytest.raises(
        ValueError, match=r"member: shape \(3,\), but one number for each of the 160 rows"
    ):
        Canonicalizer(SPEC, unstack(population)[0])(population, member=torch.arange(3))


# standardised vectors and codes


def test_standardising_is_undone_exactly_and_counters_take_no_part():
    network = BY_NAME["residual"]
    params = network.weights(9, dtype=torch.float64)
    counters = tuple(name for name in params if name.endswith("num_batches_tracked"))
    standardizer = Standardizer(network.spec, copied=counters).double().fit(params)
    x = standardizer(params)
    torch.testing.assert_close(x.mean(0), torch.zeros(x.shape[1]).double(), rtol=0, atol=1e-12)
    back = standardizer.inverse(x)
    assert set(params) - set(back) == set(counters)
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, params[name])


def test_generated_variances_are_positive_whatever_the_vector():
    network = BY_NAME["residual"]
    standardizer = Standardizer(
        network.spec, copied=("bn1.num_batches_tracked", "bn2.num_batches_tracked")
    )
    standardizer.fit(network.weights(9))
    drawn = standardizer.inverse(5 * torch.randn(100, standardizer.features, generator=rng()))
    assert drawn["bn1.running_var"].min() > 0


def test_a_tensor_that_never_varies_comes_back_unchanged():
    network = BY_NAME["mlp"]
    params = {
        name: t if name != "0.bias" else torch.full_like(t, 0.25)
        for name, t in network.weights(5).items()
    }
    standardizer = Standardizer(network.spec).fit(params)
    assert torch.equal(standardizer.inverse(standardizer(params))["0.bias"], params["0.bias"])


def test_a_linear_code_as_long_as_the_rank_is_exact():
    x = torch.randn(20, 6, generator=rng()) @ torch.randn(6, 50, generator=rng(1)) + 3
    code = WeightPCA(50, 6).fit(x)
    torch.testing.assert_close(code.decode(code.encode(x)), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(code.encode(x).T.cov(correction=0), torch.eye(6), rtol=0, atol=1e-4)


def test_a_linear_code_refuses_what_it_cannot_do():
    with pytest.raises(
        ValueError, match="latent is 8, but 4 rows of 50 weights have no more than 4"
    ):
        WeightPCA(50, 8).fit(torch.randn(4, 50))
    with pytest.raises(ValueError, match="use WeightAutoencoder, or fit without"):
        WeightPCA(50, 2).fit(torch.randn(4, 50), penalty=lambda *_: torch.zeros(()))


def test_codes_of_training_rows_are_centred_and_scaled():
    torch.manual_seed(0)
    x = torch.randn(100, 30, generator=rng())
    z = WeightAutoencoder(30, 8, hidden=16).fit(x, steps=20).encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(8), rtol=0, atol=1e-4)


def test_behaviour_is_zero_for_the_same_function_and_differentiable(population):
    behaviour, few = Behaviour(mlp(), digits()[0], weight=3.0), take(population, slice(0, 4))
    moved = stack([Permutation.random(SPEC, rng(i))(theta) for i, theta in enumerate(unstack(few))])
    assert behaviour(moved, few, rng()) < 1e-10
    changed = {name: (t * 1.1).requires_grad_() for name, t in few.items()}
    behaviour(changed, few, rng()).backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in changed.values())


# the whole


def test_generated_networks_work_as_drawn(drawn):
    assert accuracy(drawn).mean() > 0.6
    assert accuracy(drawn).min() > 0.3


def test_generated_networks_are_no_copies_of_training_members(fitted, drawn, training, member):
    zoo = take(training, slice(1, None, 2))
    ours = aligned_nearest(SPEC, take(drawn, slice(0, 6)), zoo).distance
    assert (
        ours.min()
        > 0.25
        * leave_one_out(SPEC, zoo, rows=torch.arange(6), member=member[:128:2]).distance.median()
    )


def test_generated_networks_beat_weights_drawn_one_by_one(fitted, drawn, training):
    canonical = fitted.canonicalizer(take(training, slice(1, None, 2)))
    assert (
        accuracy(drawn).mean()
        > accuracy(gaussian_baseline(canonical, 32, generator=rng())).mean() + 0.1
    )


def test_the_condition_moves_the_quality_of_what_is_drawn(fitted, drawn):
    poor = fitted.sample(32, condition=0.3, generator=rng())
    assert accuracy(drawn).mean() > accuracy(poor).mean() + 0.1


def test_unseen_members_survive_the_round_trip(fitted, population, member):
    held_out = take(population, member >= 64)
    before, after = accuracy(held_out), accuracy(round_trip(fitted, held_out))
    assert after[1::2].mean() > 0.75 * before[1::2].mean()


def test_a_code_trained_for_behaviour_keeps_more_accuracy_of_unseen_members(
    training, fitted, population, member
):
    blind = LatentDiffusion(
        SPEC, latent=32, hidden=128, blocks=2, code=partial(WeightAutoencoder, hidden=128)
    )
    members = TrainingMembers(
        training, torch.zeros(len(training["0.bias"]), 1), member=member[:128]
    )
    blind.fit(members, code_steps=250, steps=1)
    held_out = take(population, (member >= 64) & (torch.arange(len(member)) % 2 == 1))
    assert (
        accuracy(round_trip(fitted, held_out)).mean()
        > accuracy(round_trip(blind, held_out)).mean() + 0.03
    )


def test_a_saved_generator_draws_the_same_networks(fitted, drawn, tmp_path):
    fitted.save(tmp_path / "generator.safetensors")
    again = LatentDiffusion.load(tmp_path / "generator.safetensors")
    assert again.spec == fitted.spec
    redrawn = again.sample(32, condition=0.95, generator=rng())
    assert all(torch.equal(redrawn[name], drawn[name]) for name in drawn)


def test_another_file_is_refused(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a saved LatentDiffusion"):
        LatentDiffusion.load(tmp_path / "other.safetensors")


def test_the_seed_alone_decides_whatever_the_global_generator_did(training):
    def run(noise):
        torch.manual_seed(noise)
        model = LatentDiffusion(SPEC, latent=8, hidden=16, blocks=1, conditions=0, seed=3)
        model.fit(
            take(training, slice(0, 10)),
            behaviour=Behaviour(mlp(), digits()[0]),
            code_steps=3,
            steps=3,
            seed=4,
        )
        return ravel(model.sample(2, generator=rng(), eta=1.0), 1)

    assert torch.equal(run(0), run(1))


def test_batch_norm_is_generated_with_its_counters(tmp_path):
    network = BY_NAME["residual"]
    model = LatentDiffusion(
        network.spec, conditions=0, latent=4, hidden=16, blocks=1, code=WeightPCA
    )
    params = network.weights(12)
    model.fit(params, steps=3)
    sample = model.sample(2, steps=5, generator=rng())
    assert list(sample) == list(params)
    assert sample["bn1.num_batches_tracked"].tolist() == [1, 1]
    assert sample["bn1.num_batches_tracked"].dtype == torch.int64
    assert sample["bn2.running_var"].min() > 0
    assert call(network.make().eval(), sample, network.inputs()).isfinite().all()
    model.save(tmp_path / "bn.safetensors")
    again = LatentDiffusion.load(tmp_path / "bn.safetensors").sample(2, steps=5, generator=rng())
    assert all(
        torch.equal(sample[name], again[name]) and sample[name].dtype == again[name].dtype
        for name in sample
    )


def test_progress_counts_all_steps_once(training):
    seen = []
    model = LatentDiffusion(SPEC, latent=4, hidden=16, blocks=1, conditions=0)
    model.fit(
        take(training, slice(0, 6)),
        code_steps=3,
        steps=4,
        progress=lambda step, _: seen.append(step),
    )
    assert seen == [1, 2, 3, 4, 5, 6, 7]


def test_unfit_training_weights_are_refused_by_name(training):
    model = LatentDiffusion(SPEC, latent=4, hidden=16, blocks=1)
    with pytest.raises(SpecError, match=r"0\.weight: axis 1 has size 63"):
        model.fit({**training, "0.weight": training["0.weight"][..., :63]}, torch.zeros(128, 1))
    with pytest.raises(ValueError, match=r"2\.bias: holds NaN"):
        model.fit({**training, "2.bias": training["2.bias"] * torch.nan}, torch.zeros(128, 1))
    with pytest.raises(SpecError, match=r"2\.bias: torch\.int64, but it must be a floating tensor"):
        model.fit({**training, "2.bias": training["2.bias"].long()}, torch.zeros(128, 1))


# initialisation


def test_a_model_is_initialised_in_place_and_works_before_any_training(fitted):
    model = mlp(123)
    before = accuracy(stack([from_module(model)]))
    assert initialize(model, fitted, condition=0.95, seed=1) is model
    assert accuracy(stack([from_module(model)])) > before + 0.3
    assert all(p.requires_grad for p in model.parameters())


def test_initialisation_keeps_the_dtype_and_follows_the_seed(fitted):
    one, same, other = (
        initialize(mlp().double(), fitted, condition=0.95, seed=seed) for seed in (1, 1, 2)
    )
    assert one[0].weight.dtype == torch.float64
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_another_architecture_is_refused(fitted):
    with pytest.raises(
        SpecError, match=r"0\.weight: axis 0 has size 8, but group 'h1' has size 16"
    ):
        initialize(nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)), fitted)


# evaluation


def test_a_memoriser_is_caught_even_when_it_permutes_and_a_fresh_seed_is_not(
    training, population, member
):
    zoo = take(training, slice(1, None, 2))
    stolen = stack(
        [
            Permutation.random(SPEC, rng(i))(theta)
            for i, theta in enumerate(unstack(take(zoo, [3, 40])))
        ]
    )
    caught = aligned_nearest(SPEC, stolen, zoo)
    assert caught.index.tolist() == [3, 40]
    assert caught.distance.max() < 1e-4
    fresh = aligned_nearest(SPEC, take(population, [len(member) - 1]), zoo).distance
    assert fresh.min() > 1
    assert ravel(stolen, 1).sub(ravel(take(zoo, [3, 40]), 1)).norm(dim=1).min() > 1


def test_a_shortlist_of_aligned_networks_finds_the_same_copy(fitted, training):
    zoo = fitted.canonicalizer(take(training, slice(1, 40, 2)))
    found = aligned_nearest(SPEC, take(zoo, [7]), zoo, shortlist=2)
    assert (found.index.tolist(), float(found.distance)) == ([7], 0.0)


def test_leaving_one_out_skips_the_members_own_checkpoints(training, member):
    zoo, of = take(training, slice(0, 12)), member[:12]
    found = leave_one_out(SPEC, zoo, rows=torch.tensor([0, 5]), member=of)
    assert (of[found.index] != of[torch.tensor([0, 5])]).all()
    assert found.distance.min() > 0


def test_the_largest_overlap_of_errors_is_that_of_a_toy():
    def errors(*wrong):
        return torch.tensor([i in wrong for i in range(6)])

    others = torch.stack([errors(2, 3, 4), errors(5)])
    assert max_iou(torch.stack([errors(1, 2, 3), errors(2, 3, 4), errors(0)]), others).tolist() == [
        0.5,
        1.0,
        0.0,
    ]
    assert max_iou(errors()[None], errors()[None]).tolist() == [1.0]


def test_dispersion_is_one_for_the_zoo_itself_and_zero_for_one_network_repeated(training):
    assert dispersion_ratio(training, training) == pytest.approx(1)
    assert dispersion_ratio(take(training, [3, 3, 3]), training) == pytest.approx(0, abs=1e-6)
    half = {name: t.mean(0) + 0.5 * (t - t.mean(0)) for name, t in training.items()}
    assert dispersion_ratio(half, training) == pytest.approx(0.5, rel=1e-4)


def test_statistics_of_batch_norm_are_no_part_of_the_dispersion():
    zoo = {"0.weight": torch.randn(8, 3, generator=rng())}
    zoo["1.running_var"] = torch.rand(8, 3, generator=rng())
    wide = {**zoo, "1.running_var": 1e3 * zoo["1.running_var"]}
    assert dispersion_ratio(wide, zoo) == pytest.approx(1)


def test_baselines_are_what_they_say_and_leave_the_zoo_alone(training):
    before = {name: t.clone() for name, t in training.items()}
    flat = ravel(training, 1)
    found = ravel(retrieval_baseline(training, 5, generator=rng()), 1)
    assert (found[:, None] == flat).all(2).any(1).all()
    still = noise_baseline(training, 5, scale=0.0, generator=rng())
    assert torch.equal(ravel(still, 1), found)
    everyone = mean_baseline(training, 2, members=128, generator=rng())
    torch.testing.assert_close(ravel(everyone, 1), flat.mean(0).expand(2, -1), rtol=0, atol=1e-5)
    many = ravel(gaussian_baseline(training, 4000, generator=rng()), 1)
    assert ((many.mean(0) - flat.mean(0)) / flat.std(0).clamp_min(1e-3)).abs().max() < 0.1
    torch.testing.assert_close(many.std(0), flat.std(0), rtol=0.1, atol=1e-3)
    assert all(torch.equal(training[name], before[name]) for name in training)


def test_noise_has_the_stated_size(training):
    clean = retrieval_baseline(training, 50, generator=rng())
    noisy = noise_baseline(training, 50, scale=0.5, generator=rng())
    ratio = (noisy["0.weight"] - clean["0.weight"]).flatten(1).std(1) / clean["0.weight"].flatten(
        1
    ).std(1)
    torch.testing.assert_close(ratio, torch.full((50,), 0.5), rtol=0.2, atol=0)
    assert float(ratio.mean()) == pytest.approx(0.5, rel=0.02)


def test_baselines_keep_counters_and_variances_legal():
    network = BY_NAME["residual"]
    zoo = network.weights(10)
    for made in (
        noise_baseline(zoo, 4, scale=3.0, generator=rng()),
        gaussian_baseline(zoo, 4, generator=rng()),
        mean_baseline(zoo, 4, members=3, generator=rng()),
        retrieval_baseline(zoo, 4, generator=rng()),
    ):
        assert network.spec.validate(made) == (4,)
        assert made["bn1.num_batches_tracked"].dtype == torch.int64
        assert made["bn1.running_var"].min() >= 0


def batch_norm_population(count=6):
    """Networks with batch norm, and what they are made by."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    members = stack([from_module(model)] * count)
    moved = {
        name: tensor + 0.1 * torch.rand(tensor.shape) if tensor.is_floating_point() else tensor
        for name, tensor in members.items()
    }
    return model, moved


def test_behaviour_reaches_running_statistics_with_the_gradients_of_the_plain_formula():
    model, members = batch_norm_population()
    inputs = torch.randn(48, 5)
    decoded = {
        name: (tensor * 1.1).requires_grad_() if tensor.is_floating_point() else tensor
        for name, tensor in members.items()
    }
    behaviour = Behaviour(model, inputs, weight=1.0)
    distance = behaviour(decoded, members, torch.Generator().manual_seed(0))
    distance.backward()
    for name in ("1.running_mean", "1.running_var", "1.weight", "0.weight"):
        assert decoded[name].grad.isfinite().all(), name
        assert decoded[name].grad.abs().max() > 0, name
    assert isinstance(model[1], nn.BatchNorm1d)  # the user's model is left alone
    rows = torch.randint(48, (48,), generator=torch.Generator().manual_seed(0))
    plain, wanted = (
        call(model, {k: t.detach() for k, t in theta.items()}, inputs[rows])
        for theta in (decoded, members)
    )
    expected = (plain - wanted).square().mean() / (wanted - wanted.mean()).square().mean()
    assert torch.allclose(distance, expected, rtol=1e-4)


def test_decoded_running_variances_are_positive_and_finite_however_far_off_a_code_is():
    model, members = batch_norm_population()
    spec = permutation_spec(model, torch.zeros(2, 5))
    standard = Standardizer(spec, copied=("1.num_batches_tracked",)).fit(members)
    assert len(standard.inverse(standard(members))["0.weight"]) == 6
    for far in (-1e6, 1e6):
        variance = standard.inverse(torch.full((2, standard.features), far))["1.running_var"]
        assert (variance > 0).all()
        assert variance.isfinite().all()
