"""Weights from an architecture: units are a symmetry, sizes are free, and what is learned carries
over to networks that were not seen.
"""

import dataclasses
import itertools

import pytest
import torch
from laws.generators import another_file_is_refused, equal, rng, saving_twice_gives_equal_bytes
from laws.task_generators import tasks
from networks import BY_NAME
from torch import nn

from wsl import permutation_spec
from wsl.generative import ARCHITECTURE_GENERATORS, GraphHyperNetwork, TrainingMembers, is_generator
from wsl.generative.models.graph_decoder import _waves
from wsl.generative.models.graph_nodes import tensor_graph
from wsl.params import unstack
from wsl.populations import Classification
from wsl.symmetry import Permutation, PermutationSpec

NAMES = ["mlp", "cnn", "residual", "attention"]
SIZE = {"width": 8, "rank": 6, "tile": 8, "waves": 6}
DATA = Classification.split(
    (drawn := torch.rand(200, 1, 4, 4, generator=rng(5))).clone(),
    (drawn[:, 0, :2].sum((1, 2)) > drawn[:, 0, 2:].sum((1, 2))).long(),
    sizes=(150, 10, 40),
)
TRAIN = TrainingMembers({}, inputs=DATA.train.images, labels=DATA.train.labels)


def perceptron(*hidden):
    widths = [16, *hidden, 2]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(nn.Flatten(), *[x for one in layers for x in (one, nn.ReLU())][:-1])


def spec_of(model):
    return permutation_spec(model, torch.zeros(2, 1, 4, 4))


def small(spec=None, **more):
    return GraphHyperNetwork(spec or SPEC, **{**SIZE, **more})


def described(widths):
    return {"_target_": "wsl.zoo.architectures.mlp", "widths": widths}


SPEC = spec_of(perceptron(5))


class Fitted:
    """As a row of the laws of generators."""

    family = (described([16, 4, 2]), described([16, 6, 2]))

    def new(self):
        return small(family=self.family)

    def fitted(self):
        made = self.new()
        made.fit(TRAIN, steps=2)
        return made


def test_a_fit_that_was_stopped_ends_where_one_in_a_piece_does(tmp_path):
    how = {"steps": 6, "checkpoint": tmp_path / "state.safetensors", "every": 2}

    def stopped(step, _):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Fitted().new().fit(TRAIN, progress=stopped, **how)
    one, other = Fitted().new(), Fitted().new()
    one.fit(TRAIN, steps=6)
    report = other.fit(TRAIN, **how)
    assert len(report.losses["task"]) == 2
    assert equal(one.state_dict(), other.state_dict())


def test_a_fit_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps: 0, but it must be above 0"):
        Fitted().new().fit(TRAIN, steps=0)


@pytest.mark.parametrize("name", NAMES)
def test_codes_that_are_moved_give_the_network_that_is_moved(name):
    spec = BY_NAME[name].spec
    made, g = small(spec).double(), Permutation.random(spec, rng(1))
    codes = made.decoder.codes(spec, noise=1.0, generator=rng())
    moved = {group: code[g.indices[group]] for group, code in codes.items()}
    before, after = made(spec, codes=codes), made(spec, codes=moved)
    for tensor, expected in zip(after.values(), g(before).values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-9, atol=1e-9)
    assert any(not torch.equal(after[n], before[n]) for n in before)


@pytest.mark.parametrize("name", NAMES)
def test_every_specification_has_an_answer(name):
    network = BY_NAME[name]
    drawn = small().at(network.spec).sample(2, generator=rng())
    assert network.spec.validate(drawn) == (2,)
    like = network.make().state_dict()
    for theta in unstack(drawn):
        network.make().load_state_dict(theta)
    for name, tensor in drawn.items():
        assert tensor.dtype == like[name].dtype, name
        assert tensor.isfinite().all(), name
        assert not tensor.requires_grad, name


def test_the_names_of_groups_do_not_matter():
    text = "h1 = 5\nh2 = 4\n0.weight: h1 3\n2.weight: h2 h1\n4.weight: 2 h2"
    one = PermutationSpec.parse(text)
    other = PermutationSpec.parse(text.replace("h1", "zz"))
    made = small(one)
    assert equal(made(one), made(other))


def test_what_a_tensor_is_told_comes_along_the_wiring():
    """The last layer of two networks is alike; what feeds it is not."""
    one, other = (spec_of(perceptron(8, width, 8)) for width in (4, 64))
    made = small(one, rounds=3).double()
    with torch.no_grad():
        first, second = (made.encoder(tensor_graph(s)) for s in (one, other))
    assert not torch.allclose(first[-2], second[-2])
    deaf = small(one, rounds=0).double()
    first, second = (deaf.encoder(tensor_graph(s)) for s in (one, other))
    torch.testing.assert_close(first[-2], second[-2])


def test_matrices_have_the_root_mean_square_that_keeps_signals_alive():
    spec = spec_of(perceptron(30, 20))
    for name, tensor in small(spec)(spec).items():
        if tensor.dim() > 1:
            expected = (2 / tensor.shape[1]) ** 0.5
            assert float(tensor.detach().square().mean().sqrt()) == pytest.approx(
                expected, rel=1e-4
            ), name


def test_a_layer_wider_than_the_tile_repeats_its_units_unless_there_is_noise():
    spec = spec_of(perceptron(20))
    made = small(spec)
    plain = made(spec)["1.weight"]
    torch.testing.assert_close(plain[8:16], plain[:8])
    drawn = made.sample(1, generator=rng())["1.weight"][0]
    assert not torch.allclose(drawn[8:16], drawn[:8], atol=1e-3)


def test_cosines_tell_the_entries_of_any_axis_apart():
    for size in (1, 3, 10, 64, 100):
        found = _waves(size, 64)
        assert found.shape == (size, 64)
        rank = int(torch.linalg.matrix_rank(found.double(), tol=1e-6))
        assert rank == min(size, 64)


def test_a_network_of_a_width_and_a_depth_never_seen_is_predicted():
    made = small(family=[perceptron(6), perceptron(10), perceptron(6, 6)], rank=16)
    report = made.fit(TRAIN, steps=150)
    assert len(report.losses["task"]) == 150
    images, labels = DATA.test
    for hidden in ((5,), (8,), (24,), (10, 6)):
        model = perceptron(*hidden)
        theta = made.at(spec_of(model))(spec_of(model))
        out = torch.func.functional_call(model, theta, (images,))
        assert float((out.argmax(1) == labels).float().mean()) > 0.8, hidden


def test_it_is_a_generator_and_shares_what_it_learned_with_other_architectures():
    made = Fitted().fitted()
    other = spec_of(perceptron(7))
    at = made.at(other)
    assert is_generator(made)
    assert at.spec == other
    assert made.spec != other
    assert at.decoder is made.decoder
    assert type(made) in ARCHITECTURE_GENERATORS.values()


def test_the_generator_alone_decides():
    def run(noise):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        drawn = Fitted().fitted().sample(2, generator=rng(7))
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    first = run(0)
    assert equal(first, run(1))
    assert not torch.equal(*first["1.weight"])


def test_a_saved_one_draws_the_same(tmp_path):
    made = Fitted().fitted()
    made.save(tmp_path / "generator.safetensors")
    again = GraphHyperNetwork.load(tmp_path / "generator.safetensors")
    assert equal(*(g.sample(3, generator=rng()) for g in (made, again)))
    saving_twice_gives_equal_bytes(Fitted(), tmp_path)
    another_file_is_refused(Fitted(), tmp_path)


def test_the_networks_of_the_family_are_left_alone():
    model = perceptron(4).train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    small(family=[model]).fit(TRAIN, steps=1)
    assert equal(model.state_dict(), before)
    assert model.training


def test_errors_say_what_is_needed():
    with pytest.raises(ValueError, match="family: empty"):
        small().fit(TRAIN)
    with pytest.raises(ValueError, match="GraphHyperNetwork needs inputs"):
        Fitted().new().fit(TrainingMembers({}, tasks=tasks()))
    with pytest.raises(ValueError, match="condition: numbers"):
        Fitted().new().fit(dataclasses.replace(TRAIN, condition=torch.ones(3, 1)))
    with pytest.raises(ValueError, match=r"condition: none is read; ask at\(spec\)"):
        small().sample(1, condition=0.5)
