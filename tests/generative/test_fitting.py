"""How distributions of vectors are fitted: early stopping, going on from a file, codes."""

import math

import pytest
import safetensors.torch
import torch
from networks import BY_NAME
from torch import nn

from wsl.generative import (
    D2NWG_LOSS,
    Canonicalizer,
    FlowMatching,
    LabelledExamples,
    LatentDiffusion,
    NoveltyWatch,
    Standardizer,
    TrainingMembers,
    VectorDiffusion,
    VectorFlow,
    WeightAutoencoder,
    WeightChunks,
    WeightPCA,
    WeightVAE,
    normal_kl,
)
from wsl.generative.models.watch import Watched, novelty_ratio, spread_ratio
from wsl.params import call, from_module, stack, unstack
from wsl.symmetry import Permutation, PermutationSpec, SpecError, permutation_spec, with_units


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=64, features=5):
    return torch.randn(n, features, generator=rng())


def small(kind):
    torch.manual_seed(0)
    return kind(5, hidden=16, blocks=1)


# early stopping


def test_dispersion_and_novelty_are_one_for_fresh_rows_and_fall_for_copies():
    x, fresh = rows(400), torch.randn(400, 5, generator=rng(1))
    assert spread_ratio(fresh, x) == pytest.approx(1, abs=0.1)
    assert novelty_ratio(fresh, x) == pytest.approx(1, abs=0.15)
    assert novelty_ratio(x[:50], x) == pytest.approx(0, abs=1e-6)
    assert spread_ratio(x[:1].expand(9, -1), x) == pytest.approx(0, abs=1e-6)
    assert spread_ratio(0.5 * x, x) == pytest.approx(0.5, abs=1e-6)


def test_a_watch_stops_at_the_first_look_below_a_bound():
    x, watch = rows(), NoveltyWatch(dispersion=0.8, novelty=0.5)
    seen = watch.look(10, torch.randn(64, 5, generator=rng(1)), x, before=Watched())
    assert seen.stopped is None
    assert watch.look(20, 0.5 * x, x, before=seen).stopped == 20
    copies = watch.look(20, x, x, before=seen)
    assert copies.stopped == 20
    assert list(copies.seen) == [10, 20]
    assert copies.seen[10] == seen.seen[10]


def test_a_fit_that_is_stopped_keeps_the_state_before():
    """Rows are two points, whose spread a model that was told to expect more cannot reach."""
    x = rows(64)
    stopped = small(VectorDiffusion).fit(x, steps=30, watch=NoveltyWatch(every=10, dispersion=9.0))
    assert stopped.watched.stopped == 10
    untrained = small(VectorDiffusion)
    for kept, first in zip(stopped.parameters(), untrained.parameters(), strict=True):
        assert torch.equal(kept, first)
    through = small(VectorDiffusion).fit(x, steps=30, watch=NoveltyWatch(every=10, dispersion=0.0))
    assert list(through.watched.seen) == [10, 20, 30]
    assert through.watched.stopped is None


def test_watching_changes_nothing_but_when_a_fit_ends():
    x = rows()
    one = small(VectorFlow).fit(x, steps=12)
    other = small(VectorFlow).fit(x, steps=12, watch=NoveltyWatch(every=5, dispersion=0.0))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_report_says_what_was_watched():
    network = BY_NAME["mlp"]
    watch = {"every": 2, "samples": 8, "dispersion": 0.0}
    made = FlowMatching(network.spec, latent=4, hidden=16, blocks=1, watch=watch)
    report = made.fit(network.weights(12), steps=4)
    assert list(report.watched) == [2, 4]
    assert report.stopped is None


# alignment is a choice


@pytest.mark.parametrize("kind", [FlowMatching, LatentDiffusion])
def test_without_alignment_the_order_of_units_is_part_of_the_code(kind, tmp_path):
    network = BY_NAME["mlp"]
    members = network.weights(12)
    g = Permutation.random(network.spec, rng(1))
    for align in (True, False):
        size = {"latent": 4, "hidden": 16, "blocks": 1, "conditions": 0, "code": WeightPCA}
        made = kind(network.spec, align=align, **size)
        made.fit(members, steps=2)
        assert (made.canonicalizer is None) is not align
        moved, codes = made.encode(g(members)), made.encode(members)
        assert torch.allclose(moved, codes, atol=1e-3) is align
        made.save(tmp_path / "generator.safetensors")
        again = kind.load(tmp_path / "generator.safetensors")
        assert torch.equal(again.encode(members), codes)


# going on from a file


@pytest.mark.parametrize("kind", [VectorDiffusion, VectorFlow])
def test_a_fit_that_goes_on_ends_where_one_in_a_piece_does(kind, tmp_path):
    x, file = rows(), tmp_path / "state.safetensors"
    whole = small(kind).fit(x, steps=20, batch_size=8)

    def broken(step, _):
        if step == 15:
            raise KeyboardInterrupt

    options = {"steps": 20, "batch_size": 8, "checkpoint": file, "every": 5}
    with pytest.raises(KeyboardInterrupt):
        small(kind).fit(x, progress=broken, **options)
    seen = []
    resumed = small(kind).fit(x, progress=lambda step, _: seen.append(step), **options)
    assert seen == list(range(11, 21))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_another_fit_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="not the state of a fit of this model"):
        small(VectorFlow).fit(rows(), steps=2, checkpoint=file)


# codes


def test_the_divergence_from_a_standard_normal_is_exact():
    mean, logvar = torch.randn(7, 3, generator=rng()).double(), torch.randn(7, 3).double()
    q = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    p = torch.distributions.Normal(torch.zeros(3).double(), torch.ones(3).double())
    expected = torch.distributions.kl_divergence(q, p).sum(1)
    torch.testing.assert_close(normal_kl(mean, logvar), expected)
    assert normal_kl(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


@pytest.mark.parametrize("loss", [{}, D2NWG_LOSS], ids=["usual", "d2nwg"])
def test_a_variational_code_reconstructs_and_is_standardised(loss):
    torch.manual_seed(0)
    x = torch.randn(200, 4, generator=rng()) @ torch.randn(4, 20, generator=rng(1))
    x = x / x.std()
    code = WeightVAE(20, 8, hidden=32, **loss).fit(x, steps=200, lr=3e-3)
    z = code.encode(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(8), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(8), rtol=0, atol=1e-3)
    assert (code.decode(z) - x).square().mean() < 0.25


def test_more_divergence_makes_the_code_forget():
    def error(kl):
        torch.manual_seed(0)
        code = WeightVAE(5, 4, hidden=16, kl=kl).fit(x, steps=400, lr=3e-3)
        return float((code.decode(code.encode(x)) - x).detach().square().mean())

    x = rows(100)
    assert error(10.0) > 0.8
    assert error(1e-4) < 0.6


def test_chunks_never_cross_a_tensor_and_come_back_as_they_were():
    chunks = WeightChunks((5, 8, 1), 4)
    x = torch.randn(3, 14, generator=rng())
    tokens = chunks.split(x)
    assert tokens.shape == (3, 5, 4)
    assert chunks.positions.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]
    assert torch.equal(chunks.join(tokens), x)
    assert tokens.isnan().sum().item() == 3 * (3 + 3)
    assert torch.equal(tokens[:, 2], x[:, 5:9])


def test_weights_with_batch_norm_come_back_from_chunks_to_rounding():
    network = BY_NAME["residual"]
    counters = tuple(n for n in network.spec.axes if n.endswith("num_batches_tracked"))
    params = network.weights(9)
    standard = Standardizer(network.spec, copied=counters).fit(params)
    chunks = WeightChunks(tuple(shape.numel() for shape in standard.shapes.values()), 16)
    back = standard.inverse(chunks.join(chunks.split(standard(params))))
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, params[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [WeightAutoencoder, WeightVAE])
def test_a_coder_of_chunks_is_shared_and_is_rebuilt_from_its_config(kind):
    torch.manual_seed(0)
    code = kind(40, 8, hidden=16, chunk=16, sizes=(20, 20)).fit(rows(50, 40), steps=5)
    again = kind(**code.config)
    again.load_state_dict(code.state_dict())
    x = rows(3, 40)
    assert code.encode(x).shape == (3, 8)
    assert torch.equal(again.decode(again.encode(x)), code.decode(code.encode(x)))
    more = kind(400, 52, hidden=16, chunk=16, sizes=(200, 200))  # 26 chunks, with 2 numbers each
    assert [p.shape for p in more.decoder.body.parameters()] == [
        p.shape for p in code.decoder.body.parameters()
    ]
    with pytest.raises(ValueError, match="must be a multiple of the 4 chunks"):
        kind(40, 6, chunk=16, sizes=(20, 20))


def test_a_generator_with_chunks_is_read_back_from_its_file(tmp_path):
    network = BY_NAME["mlp"]
    size = sum(shape.numel() for shape in network.spec.shapes.values())
    count = -(-size // 16)

    def code(features, latent):
        return WeightVAE(features, latent, hidden=16, chunk=16)

    made = LatentDiffusion(
        network.spec, conditions=0, latent=count, hidden=16, blocks=1, code=code, seed=1
    )
    made.fit(network.weights(12), code_steps=2, steps=2)
    made.save(tmp_path / "g")
    again = LatentDiffusion.load(tmp_path / "g")
    for a, b in zip(
        made.sample(2, generator=rng()).values(),
        again.sample(2, generator=rng()).values(),
        strict=True,
    ):
        assert torch.equal(a, b)


# canonical units and measured statistics


def relu_population(n=6):
    network = BY_NAME["mlp"]
    spec = with_units(network.spec, positive=list(network.spec.groups))
    return network, spec, network.weights(n, dtype=torch.float64)


@pytest.mark.parametrize("units", [True, "balanced"])
def test_networks_that_differ_by_the_scale_of_units_have_one_canonical_form(units):
    spec = with_units(
        PermutationSpec.parse("h = 4\n0.weight: h 3\n0.bias: h\n2.weight: 2 h\n2.bias: 2"),
        positive=["h"],
    )
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    theta = stack([from_module(model)])
    factor = torch.rand(4, generator=rng()).double() + 0.5
    scaled = {
        "0.weight": theta["0.weight"] * factor[:, None],
        "0.bias": theta["0.bias"] * factor,
        "2.weight": theta["2.weight"] / factor,
        "2.bias": theta["2.bias"],
    }
    canonical = Canonicalizer(spec, unstack(theta)[0], units=units)
    one, other = canonical(theta), canonical(scaled)
    for name in one:
        torch.testing.assert_close(one[name], other[name])
    x = torch.randn(7, 3, generator=rng()).double()
    torch.testing.assert_close(call(model, unstack(one)[0], x), model(x))
    plain = Canonicalizer(spec, unstack(theta)[0])
    assert not torch.allclose(plain(theta)["0.weight"], plain(scaled)["0.weight"])


def test_units_need_lines_in_the_specification():
    network = BY_NAME["mlp"]
    with pytest.raises(SpecError, match="no lines of units"):
        FlowMatching(network.spec.without_units(), units=True)
    with pytest.raises(ValueError, match="units='even'; give true, false or balanced"):
        Canonicalizer(network.spec, unstack(network.weights(1))[0], units="even")


def test_statistics_of_batch_norm_are_measured_on_the_members_inputs(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    spec, inputs = permutation_spec(model, torch.zeros(2, 5)), torch.randn(300, 5)
    params = stack([from_module(model)] * 8)
    moved = {
        name: t + 0.1 * torch.randn(t.shape) if "weight" in name or "bias" in name else t
        for name, t in params.items()
    }
    made = FlowMatching(spec, latent=4, hidden=8, blocks=1, recalibrate=True)
    made.fit(TrainingMembers(moved, model=model, inputs=inputs), steps=2)
    drawn = made.sample(3, generator=rng())
    hidden = inputs @ drawn["0.weight"].mT + drawn["0.bias"][:, None]
    torch.testing.assert_close(drawn["1.running_mean"], hidden.mean(1), rtol=0.2, atol=0.05)
    assert (drawn["1.running_var"] > 0).all()
    with pytest.raises(ValueError, match="recalibrate: the training members come without"):
        FlowMatching(spec, latent=4, recalibrate=True).fit(moved, steps=1)
    made.save(tmp_path / "g")
    again = FlowMatching.load(tmp_path / "g")
    with pytest.raises(ValueError, match="a file holds no network and no inputs"):
        again.sample(1)
    again.recalibration.fit(model, inputs)
    assert torch.equal(again.sample(3, generator=rng())["0.weight"], drawn["0.weight"])


def test_temperature_is_a_factor_on_the_noise_and_is_kept_in_the_file(tmp_path):
    network, noise = BY_NAME["mlp"], torch.randn(5, 4, generator=rng())
    made = FlowMatching(network.spec, latent=4, hidden=8, blocks=1, temperature=1.5)
    made.fit(network.weights(8), steps=1)
    drawn = made.sample(5, generator=rng())
    for name, tensor in made.sample(5, noise=1.5 * noise).items():
        assert torch.equal(drawn[name], tensor)
    made.save(tmp_path / "g")
    assert torch.equal(
        FlowMatching.load(tmp_path / "g").sample(5, generator=rng())["0.weight"], drawn["0.weight"]
    )


# conditions


def test_examples_of_a_task_are_refused_by_a_generator_made_for_numbers():
    network = BY_NAME["mlp"]
    made = FlowMatching(network.spec, latent=4, hidden=8, blocks=1)
    made.fit(network.weights(8), steps=1)
    with pytest.raises(ValueError, match="labelled examples, but this generator was made for"):
        made.sample(1, condition=LabelledExamples(torch.zeros(1, 2, 3, 4)))


def test_a_flow_can_be_trained_for_what_networks_do_through_a_linear_code():
    network = BY_NAME["mlp"]
    model = network.make()
    inputs = network.inputs()
    inputs = inputs[0] if isinstance(inputs, tuple) else inputs
    members = TrainingMembers(network.weights(12), model=model, inputs=inputs)

    def run(behaviour):
        made = FlowMatching(network.spec, latent=6, hidden=16, blocks=1)
        report = made.fit(members, steps=5, behaviour=behaviour)
        assert math.isfinite(report.losses["diffusion"][-1])
        return made.sample(2, generator=rng())["0.weight"]

    assert not torch.equal(run(None), run(1.0))


def test_a_linear_code_holds_what_it_is_given():
    assert WeightPCA(9, 3).trains is False
    assert WeightAutoencoder(9, 3).trains is True
