"""Hyper-networks: the order of classes is a symmetry, and what they learn is worth something."""

import inspect
from functools import partial

import pytest
import torch
from laws.task_generators import (
    NETWORK,
    SPEC,
    TASK_GENERATOR_LAWS,
    TaskRow,
    members,
    rng,
    tasks,
    told,
)
from networks import BY_NAME
from torch import nn
from torch.nn import functional as F

from wsl import params, permutation_spec
from wsl.generative import (
    TASK_GENERATORS,
    AxisFeatures,
    HyperNetwork,
    LabelledExamples,
    TaskDiffusion,
    TaskEmbedding,
    TrainingMembers,
    head_inputs,
    solve_head,
    task_accuracy,
    task_logits,
)
from wsl.generative.conditions import head_problem, ridge
from wsl.generative.conditions.ridge import PENALTIES, SCALES, _leave_one_out
from wsl.generative.models.hyper_decoder import AxisDecoder
from wsl.symmetry import SpecError

SIZE = {"width": 8, "rank": 4}


def hyper(**options):
    return lambda spec, *, seed: HyperNetwork(spec, **{**SIZE, **options}, seed=seed)


ROWS = {
    "rows": TaskRow(hyper(head="rows"), {"steps": 2, "tasks": 3}),
    "ridge": TaskRow(hyper(head="ridge"), {"steps": 2, "tasks": 3}, {"model": NETWORK}),
    "global": TaskRow(hyper(head="rows", classes="global"), {"steps": 2, "tasks": 3}),
}
ROWS["first"] = TaskRow(hyper(first="ridge"), {"steps": 2, "tasks": 3}, {"model": NETWORK})
ROWS["diffusion"] = TaskRow(partial(TaskDiffusion, channels=4, blocks=1, width=4), {"steps": 2})
KINDS = dict.fromkeys(ROWS, "hyper_network") | {"diffusion": "task_diffusion"}


def test_every_generator_that_is_asked_with_examples_has_a_row():
    assert set(KINDS.values()) == TASK_GENERATORS.keys()
    assert KINDS.keys() == ROWS.keys()
    for name, row in ROWS.items():
        assert type(row.new()) is TASK_GENERATORS[KINDS[name]]


@pytest.mark.parametrize("law", TASK_GENERATOR_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ROWS)
def test_a_generator_asked_with_examples_keeps_the_law(name, law, tmp_path):
    law(ROWS[name], *[tmp_path] * (len(inspect.signature(law).parameters) - 1))


def wide(examples):
    return LabelledExamples(examples.inputs.double())


def close(one, other, atol=1e-10):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=atol)


def with_random_mixing(generator):
    """What a task changes is tiny before training; here it is not."""
    torch.manual_seed(0)
    for parameter in generator.decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    return generator.double()


@pytest.mark.parametrize("name", ["rows", "ridge", "first"])
def test_another_order_of_the_classes_is_the_same_network_with_its_rows_in_that_order(name):
    generator = with_random_mixing(ROWS[name].fitted())
    support = wide(told(5))
    order = torch.stack([torch.randperm(3, generator=rng(n)) for n in range(5)])
    with torch.no_grad():
        one, other = generator(support), generator(support.ordered(order))
    close(generator.axes.ordered(one, order), other)
    rows = one["4.weight"]
    assert (rows[:, 0] - rows[:, 1]).abs().amax(1).median() > 1e-3


def test_one_vector_for_all_does_not_have_that_symmetry():
    generator = with_random_mixing(ROWS["global"].fitted())
    support, order = wide(told()), torch.tensor([[1, 2, 0]])
    with torch.no_grad():
        one, other = generator(support), generator(support.ordered(order))
    moved = generator.axes.ordered(one, order)
    assert (moved["4.weight"] - other["4.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["rows", "ridge", "global", "first"])
def test_no_order_of_the_shots_matters(name):
    generator = with_random_mixing(ROWS[name].fitted())
    support = wide(told(2))
    shuffled = LabelledExamples(support.inputs[:, :, torch.tensor([3, 1, 0, 2])])
    with torch.no_grad():
        close(generator(support), generator(shuffled))


def test_it_learns_to_answer_for_fresh_tasks_where_one_that_has_not_is_near_chance():
    episodes = tasks().draw(40, generator=rng(11))
    found = {}
    for steps in (1, 100):
        generator = HyperNetwork(SPEC, width=16, rank=8, head="rows")
        known = TrainingMembers({}, model=NETWORK, tasks=tasks())
        generator.fit(known, steps=steps, tasks=8, lr=5e-3)
        drawn = generator.sample(40, condition=episodes.support)
        found[steps] = task_accuracy(NETWORK, drawn, episodes.query).mean().item()
    assert found[1] < 0.6
    assert found[100] > 0.8


def test_the_first_layer_is_told_the_ridge_solution_on_the_inputs():
    generator = with_random_mixing(ROWS["first"].fitted())
    support = wide(told(2))
    with torch.no_grad():
        embedded = generator.encoder(support)
        before = generator.decoder(embedded)
        after = generator.first(before, embedded, support)
        share = generator.first.scale.exp() * generator.first.share(embedded.classes)
        solved = generator.first.solved(support)
        penalty = generator.first.penalty.exp()
    inputs, labels = support.flat()
    for n in range(2):
        x = torch.cat([inputs[n].flatten(1), torch.ones(12, 1)], 1).double()
        onehot = F.one_hot(labels[n], 3).double() - 1 / 3
        residual = x.T @ (x @ solved[n] - onehot)
        gradient = residual + penalty * x.square().mean() * solved[n]
        assert gradient.abs().max() < 1e-9
        rows = share[n].T @ solved[n].T
        torch.testing.assert_close(after["1.weight"][n], before["1.weight"][n] + rows[:, :16])
        torch.testing.assert_close(after["1.bias"][n], before["1.bias"][n] + rows[:, 16])
    assert all(after[name] is before[name] for name in before if not name.startswith("1."))


def test_a_first_layer_that_does_not_read_whole_inputs_is_refused():
    cnn = BY_NAME["cnn"].spec
    with pytest.raises(SpecError, match="is no matrix from inputs to hidden units"):
        HyperNetwork(cnn, first="ridge", features=4)
    with pytest.raises(ValueError, match="first: 'rigde', but 'learned' or 'ridge' is needed"):
        HyperNetwork(SPEC, first="rigde")
    generator = ROWS["first"].fitted()
    with pytest.raises(ValueError, match=r"9 numbers of each input, but 1\.weight reads 16"):
        generator.first.solved(LabelledExamples(torch.rand(1, 3, 4, 1, 3, 3)))


def test_examples_drawn_again_give_networks_that_differ():
    generator = ROWS["ridge"].fitted()
    one = generator.sample(2, condition=told(), generator=rng())["4.weight"]
    assert torch.equal(one[0], one[1])
    drawn = generator.sample(2, condition=told(), bootstrap=True, generator=rng())["4.weight"]
    assert not torch.equal(drawn[0], drawn[1])


def test_a_solved_head_without_the_network_says_what_is_missing(tmp_path):
    ROWS["ridge"].fitted().save(tmp_path / "a")
    loaded = HyperNetwork.load(tmp_path / "a")
    with pytest.raises(ValueError, match="model: a solved head runs the network"):
        loaded.sample(1, condition=told())


def test_choices_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="head: 'rigde' and classes: 'axis'"):
        HyperNetwork(SPEC, head="rigde")
    with pytest.raises(ValueError, match="condition: numbers were given"):
        ROWS["rows"].new().fit(members(), torch.zeros(6, 1))


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("name", ["mlp", "cnn", "residual"])
def test_the_decoder_is_the_sum_of_rank_one_terms_in_the_definition(name, by_class):
    network = BY_NAME[name]
    torch.manual_seed(0)
    axes = AxisFeatures(network.spec)
    decoder = AxisDecoder(axes, width=4, rank=3, by_class=by_class)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter)
    e = TaskEmbedding(torch.randn(2, axes.count, 4), torch.randn(2, 4))
    with torch.no_grad():
        made = decoder(e)
    assert network.spec.validate(made) == (2,)
    for place, tensor in enumerate(decoder.names):
        base, mix = decoder.base[place], decoder.mix[place]
        keys = [decoder.vectors[decoder.place[key]] for key, _ in decoder._keys(tensor)]
        rows = by_class and tensor in axes.classes
        for n in range(2):
            for c in range(axes.count) if rows else [None]:
                given = e.task[n] if c is None else e.classes[n, c]
                terms = []
                for k in range(3):
                    term = mix(given)[k]
                    for vectors in keys:
                        term = term[..., None] * vectors[:, k]
                    terms.append(term)
                found = made[tensor][n] if c is None else made[tensor][n, c]
                torch.testing.assert_close(found, base + sum(terms), rtol=1e-4, atol=1e-4)


def test_the_base_is_the_network_it_starts_from():
    network = BY_NAME["residual"]
    weights = network.weights()
    decoder = AxisDecoder(AxisFeatures(network.spec), width=4, rank=3, by_class=False)
    for mix in decoder.mix:
        nn.init.zeros_(mix.weight)
    decoder.start_from(weights)
    with torch.no_grad():
        made = decoder(TaskEmbedding(torch.zeros(1, 3, 4), torch.zeros(1, 4)))
    for name, tensor in weights.items():
        measured = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0}
        last = name.rpartition(".")[2]
        expected = torch.full_like(tensor, measured[last]) if last in measured else tensor
        torch.testing.assert_close(made[name][0], expected)


def stacked(models):
    return params.stack([params.from_module(model) for model in models])


def perceptron(bias=True):
    hidden = [nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3, bias=bias)]
    return nn.Sequential(nn.Flatten(), *hidden)


@pytest.mark.parametrize("bias", [True, False])
def test_the_solved_layer_is_the_ridge_of_the_definition(bias):
    models = [perceptron(bias) for _ in range(2)]
    axes = AxisFeatures(permutation_spec(models[0], torch.zeros(2, 1, 4, 4)))
    support = told(2)
    inputs, labels = support.flat()
    seen = head_inputs(models[0], stacked(models), inputs, head="3")
    for n, model in enumerate(models):
        torch.testing.assert_close(seen[n], model[:3](inputs[n]))
    phi, targets = head_problem(models[0], stacked(models), support, axes=axes)
    assert phi.shape[-1] == 5 + bias
    found = ridge(phi, targets, torch.tensor([0.5, 2.0]))
    for n, penalty in enumerate((0.5, 2.0)):
        features = torch.cat([seen[n], torch.ones(12, 1)], 1) if bias else seen[n]
        onehot = F.one_hot(labels[n], 3).float() - 1 / 3
        # the stationary point: gradient of the squared error plus that of the penalty is zero
        gradient = features.T @ (features @ found[n] - onehot) + penalty * found[n]
        assert gradient.abs().max() < 1e-4


def test_leaving_one_out_in_closed_form_is_leaving_one_out():
    generator = rng(3)
    phi = torch.randn(1, 12, 4, dtype=torch.float64, generator=generator)
    targets = torch.randn(12, 3, dtype=torch.float64, generator=generator)
    penalty = torch.tensor([0.7], dtype=torch.float64)
    _, left_out = _leave_one_out(phi, targets, penalty)
    for i in range(12):
        kept = torch.arange(12) != i
        alone = ridge(phi[:, kept], targets[kept], penalty)
        torch.testing.assert_close(left_out[0, i], phi[0, i] @ alone[0])


def test_a_solved_head_is_better_than_the_one_it_replaces_and_looks_at_nothing_else():
    torch.manual_seed(0)
    models = [perceptron() for _ in range(20)]
    axes = AxisFeatures(permutation_spec(models[0], torch.zeros(2, 1, 4, 4)))
    support, query = tasks().draw(20, generator=rng(4))
    before = stacked(models)
    after = solve_head(models[0], before, support, axes=axes)
    assert torch.equal(after["1.weight"], before["1.weight"])
    score = [task_accuracy(models[0], w, query).mean() for w in (before, after)]
    assert score[0] < 0.5 < 0.7 < score[1]
    again = solve_head(models[0], after, support, axes=axes)
    for name in after:
        torch.testing.assert_close(again[name], after[name])


def test_the_scale_is_chosen_so_that_left_out_examples_lose_least():
    models = [perceptron() for _ in range(3)]
    axes = AxisFeatures(permutation_spec(models[0], torch.zeros(2, 1, 4, 4)))
    support = told(3)
    single = [
        solve_head(models[0], stacked(models), support, axes=axes, penalties=(p,))
        for p in PENALTIES
    ]
    phi, targets = head_problem(models[0], stacked(models), support, axes=axes)
    unit = phi.square().mean((1, 2))
    for penalty, weights in zip(PENALTIES, single, strict=True):
        solved, left_out = _leave_one_out(phi, targets, penalty * unit)
        labels = targets.argmax(1)
        for n in range(3):
            losses = [F.cross_entropy(s * left_out[n], labels).item() for s in SCALES]
            best = SCALES[losses.index(min(losses))]
            torch.testing.assert_close(weights["3.weight"][n], best * solved[n, :5].T)


def test_a_head_that_is_no_linear_layer_is_refused():
    with pytest.raises(ValueError, match="2: ReLU, but a closed form needs a Linear"):
        head_inputs(perceptron(), stacked([perceptron()]), told().flat()[0], head="2")


def test_networks_answer_as_they_would_alone():
    models = [perceptron() for _ in range(2)]
    inputs, _ = told(2).flat()
    found = task_logits(models[0], stacked(models), inputs)
    for n, model in enumerate(models):
        torch.testing.assert_close(found[n], model(inputs[n]))
