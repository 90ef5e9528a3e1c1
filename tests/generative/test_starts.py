"""Starting weights: each start does what its formula says."""

import dataclasses
import functools
import itertools

import pytest
import torch
from networks import BY_NAME
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from wsl.generative import (
    INITIALIZERS,
    AxisFeatures,
    BestOfK,
    DefaultStart,
    Episodes,
    KaimingStart,
    LabelledExamples,
    Larger,
    LSUVStart,
    MimeticStart,
    NearestMeanStart,
    NearestStart,
    OrthogonalStart,
    PolarityStart,
    ReptileStart,
    RidgeHead,
    SoupStart,
    StageSharing,
    Start,
    TrainingMembers,
    WeightSelection,
    eva,
    eva_ranks,
    initialize,
    initializer,
    lora,
    pissa,
    ridge_solution,
    selected_index,
    solve_head,
    starting_weights,
)
from wsl.params import call, from_module, stack, unstack
from wsl.populations import digits as read_digits
from wsl.symmetry import Permutation, PermutationSpec, SpecError, permutation_spec


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


digits = functools.cache(read_digits)


def net(width=16, depth=2, outputs=10, *, batch_norm=False):
    """A perceptron on 8x8 digits; its layers are numbered."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [64, *[width] * depth]
            pairs = itertools.pairwise(sizes)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
            self.norms = nn.ModuleList(
                nn.BatchNorm1d(width) if batch_norm else nn.Identity() for _ in self.layers
            )
            self.head = nn.Linear(width, outputs)

        def forward(self, x):
            x = x.flatten(1)
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = norm(layer(x)).relu()
            return self.head(x)

    torch.manual_seed(0)
    return Net()


def spec_of(model):
    return permutation_spec(model, torch.randn(3, 1, 8, 8))


def draw(method, start, n=3, seed=0):
    return starting_weights(method, start, n, generator=rng(seed))


def accuracy(model, params, split="test"):
    return digits().evaluate(model, params, split)["accuracy"]


# names


def test_a_start_may_be_asked_for_by_its_name():
    one, other = net(), net()
    initialize(one, "orthogonal", seed=3)
    initialize(other, OrthogonalStart(), seed=3)
    assert torch.equal(one.head.weight, other.head.weight)
    assert isinstance(initializer("default"), DefaultStart)


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r"start 'kaimng' does not exist \(did you mean 'kaiming'"):
        initialize(net(), "kaimng")


def test_a_start_on_top_of_another_needs_what_the_other_needs():
    assert RidgeHead(start=LSUVStart()).needs == {"labelled", "inputs"}
    with pytest.raises(ValueError, match="BestOfK needs data"):
        draw(BestOfK(start=LSUVStart()), Start(net()))


# by shape


def test_kaiming_weights_have_the_variance_of_their_fan_in_and_biases_are_zero():
    drawn = draw(KaimingStart(), Start(net(width=200)), 4)
    for name, fan_in in (("layers.0.weight", 64), ("layers.1.weight", 200)):
        assert float(drawn[name].var() * fan_in) == pytest.approx(2, rel=0.05)
    assert not drawn["layers.0.bias"].any()


def test_orthogonal_weights_are_orthonormal_for_each_of_stacked_matrices():
    attention = nn.MultiheadAttention(8, 2)
    drawn = draw(OrthogonalStart(gain=2.0), Start(attention), 2)["in_proj_weight"]
    for part in drawn.view(2, 3, 8, 8).flatten(0, 1):
        torch.testing.assert_close(part @ part.T, 4 * torch.eye(8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "dense", "depthwise"])
def test_lsuv_brings_the_variance_of_every_output_within_a_tenth_of_one(name):
    network = BY_NAME[name]
    inputs = 3 * network.inputs(batch=128)
    members = TrainingMembers(network.weights(2), inputs=inputs)
    model = network.make().eval()
    outputs = {}
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(lambda *told, path=path: outputs.update({path: told[2]}))
    for theta in unstack(draw(LSUVStart(), Start(network.make(), members=members), 2)):
        model.load_state_dict(theta)
        with torch.no_grad():
            model(inputs)
        assert len(outputs) > 1
        for path, output in outputs.items():
            assert float(output.var(correction=0)) == pytest.approx(1, abs=0.1), path


# from a larger network


def test_selected_units_are_those_of_the_golden_cases():
    assert selected_index(192, 384).tolist() == list(range(0, 384, 2))
    assert selected_index(3, 5).tolist() == [0, 2, 4]
    assert selected_index(3, 7).tolist() == [0, 3, 6]
    assert selected_index(4, 10).tolist() == [0, 3, 6, 9]
    assert selected_index(4, 6).tolist() == [0, 2, 3, 5]
    with pytest.raises(ValueError, match="6 units cannot be taken from 4"):
        selected_index(6, 4)


def larger(model, **sizes):
    """A network with other sizes of groups, its entries all different."""
    text = str(spec_of(model) if isinstance(model, nn.Module) else model)
    for group, size in sizes.items():
        head, _, rest = text.partition(f"{group} = ")
        text = f"{head}{group} = {size}{rest.lstrip('0123456789')}"
    spec = PermutationSpec.parse(text)
    params = {n: torch.randn(s, generator=rng(i)) for i, (n, s) in enumerate(spec.shapes.items())}
    return Larger(params, spec)


def test_weight_selection_takes_one_index_for_every_group():
    model = BY_NAME["mlp"].make()
    wide = larger(BY_NAME["mlp"].spec, h1=14, h2=9)
    drawn = draw(WeightSelection(), Start(model, spec=BY_NAME["mlp"].spec, larger=wide), 2)
    one, two = selected_index(7, 14), selected_index(6, 9)
    assert torch.equal(drawn["0.weight"][0], wide.params["0.weight"][one])
    assert torch.equal(drawn["2.weight"][1], wide.params["2.weight"][two][:, one])
    assert torch.equal(drawn["4.weight"][0], wide.params["4.weight"][:, two])


def test_weight_selection_takes_heads_whole_and_never_mixes_queries_keys_and_values():
    network = BY_NAME["attention"]
    wide = larger(network.spec, h1=16, head1=4)
    drawn = draw(WeightSelection(), Start(network.make(), spec=network.spec, larger=wide), 1)
    stream, heads = selected_index(8, 16), torch.tensor([0, 2])
    qkv = wide.params["qkv.weight"].view(3, 4, 4, 16)
    expected = qkv[:, heads][..., stream].reshape(24, 8)
    assert torch.equal(drawn["qkv.weight"][0], expected)
    # The published rule strides through the stacked matrix, and its heads hold half of two each.
    assert not torch.equal(drawn["qkv.weight"][0], wide.params["qkv.weight"][::2][:, ::2])
    out = wide.params["out.weight"].view(16, 4, 4)[stream][:, heads].reshape(8, 8)
    assert torch.equal(drawn["out.weight"][0], out)


def test_weight_selection_from_a_network_of_equal_size_is_that_network():
    for name in ("residual", "attention", "gru"):
        network = BY_NAME[name]
        theta = network.weights(seed=4)
        start = Start(network.make(), spec=network.spec, larger=Larger(theta, network.spec))
        drawn = draw(WeightSelection(), start, 1)
        assert all(torch.equal(drawn[k][0], theta[k]) for k in theta), name


def test_weight_selection_takes_the_first_layers_and_leaves_another_head_as_it_is():
    model, wide = net(depth=2, outputs=5), net(width=32, depth=4)
    start = Start(model, spec=spec_of(model), larger=Larger(from_module(wide), spec_of(wide)))
    drawn, own = draw(WeightSelection(), start, 2), draw(DefaultStart(), start, 2)
    every_second = wide.layers[1].weight[::2, ::2]
    assert torch.equal(drawn["layers.1.weight"][1], every_second)
    assert torch.equal(drawn["head.weight"], own["head.weight"])


def test_rescaled_selection_multiplies_matrices_by_the_root_of_the_ratio_of_fan_ins():
    model, wide = net(), net(width=64)
    start = Start(model, spec=spec_of(model), larger=Larger(from_module(wide), spec_of(wide)))
    plain, rescaled = draw(WeightSelection(), start), draw(WeightSelection(rescale=True), start)
    torch.testing.assert_close(rescaled["layers.1.weight"], 2 * plain["layers.1.weight"])
    torch.testing.assert_close(rescaled["layers.0.weight"], plain["layers.0.weight"])
    torch.testing.assert_close(rescaled["layers.1.bias"], plain["layers.1.bias"])


def test_a_larger_network_of_another_kind_is_refused():
    model = net()
    spec = PermutationSpec.parse("h = 3\nother.weight: h 2")
    start = Start(
        model, spec=spec_of(model), larger=Larger({"other.weight": torch.ones(3, 2)}, spec)
    )
    with pytest.raises(SpecError, match="no tensor of the same kind"):
        draw(WeightSelection(), start)
    with pytest.raises(ValueError, match="no layers of the two networks are numbered alike"):
        draw(StageSharing(), start)


def test_layers_of_one_stage_share_the_layer_of_the_ancestor():
    model, ancestor = net(depth=5), net(width=32, depth=7)
    known = Larger(from_module(ancestor), spec_of(ancestor))
    drawn = draw(StageSharing(stages=2), Start(model, spec=spec_of(model), larger=known), 1)
    weights = [drawn[f"layers.{i}.weight"][0] for i in range(5)]
    assert torch.equal(weights[0], ancestor.layers[0].weight[::2])
    assert torch.equal(weights[3], weights[4])
    assert torch.equal(weights[3], ancestor.layers[4].weight[::2, ::2])
    own = draw(DefaultStart(), Start(model), 1)  # layer 1 is of the first stage, but of other shape
    assert torch.equal(weights[1], own["layers.1.weight"][0])


# attention


def test_mimetic_values_and_outputs_are_near_minus_the_identity():
    network = BY_NAME["attention"]
    method = MimeticStart(values=(0.0, 0.4), queries=(0.0, 0.7))
    theta = unstack(draw(method, Start(network.make(), spec=network.spec), 1))[0]
    q, k, v = theta["qkv.weight"].view(3, 2, 4, 8)
    product = theta["out.weight"] @ v.reshape(8, 8)
    torch.testing.assert_close(product, -0.4 * torch.eye(8), rtol=0, atol=1e-5)
    for head in range(2):  # of rank 4, the best approximation of 0.7 I is a projection times 0.7
        scores = q[head].T @ k[head] / 0.7
        torch.testing.assert_close(scores @ scores, scores, rtol=0, atol=1e-5)
        assert float(scores.trace()) == pytest.approx(4, abs=1e-4)


def test_mimetic_noise_has_the_stated_size():
    network = BY_NAME["attention"]
    start = Start(network.make(), spec=network.spec)
    drawn = draw(MimeticStart(), start, 200)
    v = drawn["qkv.weight"].view(200, 3, 8, 8)[:, 2]
    products = drawn["out.weight"] @ v
    noise = products + 0.4 * torch.eye(8)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.4 / 8**0.5, rel=0.05)


def test_the_mean_of_the_first_matrix_of_blocks_is_an_option():
    network = BY_NAME["transformer"]
    start = Start(network.make(), spec=network.spec, make=network.make)
    plain, shifted = draw(MimeticStart(), start, 1), draw(MimeticStart(mlp_mean=0.5), start, 1)
    moved = shifted["up1.weight"] - plain["up1.weight"]
    torch.testing.assert_close(moved, 0.5 * plain["up1.weight"].std().expand_as(moved))
    assert torch.equal(shifted["down1.weight"], plain["down1.weight"])


def test_a_network_without_attention_is_refused_by_the_mimetic_start():
    with pytest.raises(ValueError, match="shows no attention"):
        draw(MimeticStart(), Start(net(), spec=spec_of(net())))


# from a population


def trained(count=8, steps=30):
    """Quickly trained networks on digits, and their specification."""
    data, model = digits(), net()
    params = draw(DefaultStart(), Start(model), count)
    optimizer = torch.optim.Adam([t.requires_grad_() for t in params.values()], lr=1e-2)
    for step in range(steps):
        rows = torch.randint(len(data.train.labels), (64,), generator=rng(step))
        logits = call(model, params, data.train.images[rows])
        loss = F.cross_entropy(logits.flatten(0, 1), data.train.labels[rows].repeat(count))
        optimizer.zero_grad()
        (loss * count).backward()
        optimizer.step()
    return model, {name: t.detach() for name, t in params.items()}


@pytest.fixture(scope="module")
def population():
    model, params = trained()
    members = TrainingMembers(params, accuracy(model, params, "val")[:, None])
    return Start(model, spec=spec_of(model), members=members, good=params, data=digits())


def test_polarity_keeps_magnitudes_and_takes_signs(population):
    drawn, own = draw(PolarityStart(), population), draw(DefaultStart(), population)
    mean = population.aligned["layers.0.weight"].mean(0)
    assert torch.equal(drawn["layers.0.weight"].abs(), own["layers.0.weight"].abs())
    assert torch.equal(drawn["layers.0.weight"].sign(), mean.sign().expand(3, -1, -1))


def test_the_greedy_soup_is_no_worse_on_validation_than_its_best_member(population):
    drawn = draw(SoupStart(), population, 2)
    scores = accuracy(population.model, drawn, "val")
    assert scores.min() >= accuracy(population.model, population.good, "val").max()


def test_the_best_of_k_is_the_best_of_the_same_draws_and_differs_by_network(population):
    every = draw(DefaultStart(), population, 6)
    loss = digits().evaluate(population.model, every, "val")["loss"].view(2, 3)
    drawn = draw(BestOfK(k=3), population, 2)
    for i, best in enumerate(loss.argmin(1).tolist()):
        assert torch.equal(drawn["head.weight"][i], every["head.weight"][3 * i + best])


# the last layer in closed form


def test_ridge_equals_the_reference():
    x, y = torch.randn(40, 7, generator=rng()), torch.randn(40, 3, generator=rng(1))
    centred = (x - x.mean(0)).double()
    alpha = 0.1 * float(centred.square().sum() / 7)
    reference = Ridge(alpha=alpha).fit(x.numpy(), y.numpy())
    w, b = ridge_solution(x, y, 0.1)
    torch.testing.assert_close(
        w, torch.tensor(reference.coef_), rtol=1e-4, atol=1e-5, check_dtype=False
    )
    torch.testing.assert_close(
        b, torch.tensor(reference.intercept_), rtol=1e-4, atol=1e-5, check_dtype=False
    )


def test_a_solved_last_layer_works_on_a_random_network_and_leaves_the_rest():
    start = Start(net(width=64), data=digits())
    own, drawn = draw(DefaultStart(), start), draw(RidgeHead(), start)
    assert accuracy(start.model, drawn).min() > 0.85
    assert accuracy(start.model, own).max() < 0.4
    assert torch.equal(own["layers.0.weight"], drawn["layers.0.weight"])


def test_each_network_is_solved_for_its_own_task():
    images, labels = digits().train
    classes = torch.tensor([[3, 5], [8, 1]])
    inputs = torch.stack(
        [torch.stack([images[labels == c][:30] for c in task]) for task in classes]
    )
    start = Start(net(width=64, outputs=2), condition=LabelledExamples(inputs))
    drawn = unstack(draw(RidgeHead(), start, 2))
    for theta, task in zip(drawn, classes, strict=True):
        for place, c in enumerate(task):
            told = call(start.model, theta, digits().test.images[digits().test.labels == c])
            assert (told.argmax(1) == place).float().mean() > 0.8
    with pytest.raises(ValueError, match="2 tasks for 3 networks; give 1 or 3"):
        draw(RidgeHead(), start, 3)


def test_a_head_without_a_ridge_of_its_own_is_the_one_that_leaving_out_chooses():
    model = net(width=32, outputs=3)
    spec = permutation_spec(model.eval(), digits().test.images[:2])
    told = tasks_of([[3, 5, 8], [8, 1, 0]])
    start = Start(model, spec=spec, condition=told)
    drawn = draw(RidgeHead(ridge=None), start, 2)
    own = draw(DefaultStart(), start, 2)
    expected = solve_head(model, own, told, axes=AxisFeatures(spec))
    for name, tensor in expected.items():
        torch.testing.assert_close(drawn[name], tensor)
    assert not torch.equal(drawn["head.weight"], own["head.weight"])
    assert RidgeHead(ridge=None).needs == {"labelled", "spec"}


def test_a_network_without_a_last_linear_layer_has_none_to_solve_for():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh())
    with pytest.raises(ValueError, match="its output is not that of one of its linear layers"):
        draw(RidgeHead(), Start(model, data=digits()))


# retrieval by data set


def tasks_of(orders, shots=10, first=0):
    images, labels = digits().train
    return LabelledExamples(
        torch.stack(
            [
                torch.stack([images[labels == c][first : first + shots] for c in order])
                for order in orders
            ]
        )
    )


def test_the_nearest_member_is_found_and_reordered_whatever_the_order_of_classes():
    known, wanted = [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[5, 3, 4], [7, 8, 6]]
    model = net(outputs=3)
    params = draw(DefaultStart(), Start(model), 3)
    members = TrainingMembers(params, examples=tasks_of(known))
    start = Start(model, members=members, condition=tasks_of(wanted, first=20))
    drawn = draw(NearestStart(), start, 2)
    for i, (member, order) in enumerate([(1, [2, 0, 1]), (2, [1, 2, 0])]):
        assert torch.equal(drawn["layers.0.weight"][i], params["layers.0.weight"][member])
        assert torch.equal(drawn["head.weight"][i], params["head.weight"][member][order])
        assert torch.equal(drawn["head.bias"][i], params["head.bias"][member][order])


def test_without_reordering_the_nearest_member_is_taken_as_it_is():
    model = net(outputs=3)
    params = draw(DefaultStart(), Start(model), 2)
    members = TrainingMembers(params, examples=tasks_of([[0, 1, 2], [3, 4, 5]]))
    start = Start(model, members=members, condition=tasks_of([[3, 4, 5]], first=20))
    drawn = draw(NearestStart(any_order=False), start, 2)
    assert torch.equal(drawn["head.weight"], params["head.weight"][[1, 0]])


def members_of_three():
    """Networks of one function in three bases, for one task in three orders of its classes."""
    model = net(outputs=3)
    spec = permutation_spec(model.eval(), digits().test.images[:2])
    orders = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    one = {n: t.expand(3, *t.shape[1:]) for n, t in draw(DefaultStart(), Start(model), 1).items()}
    params = AxisFeatures(spec).ordered(one, orders)
    params = stack(
        [Permutation.random(spec, rng(i))({n: t[i] for n, t in params.items()}) for i in range(3)]
    )
    members = TrainingMembers(params, examples=tasks_of(orders.tolist()))
    start = Start(model, spec=spec, members=members, condition=tasks_of([[1, 0, 2]], first=20))
    return start, AxisFeatures(spec).ordered(one, torch.tensor([[1, 0, 2]] * 3))


def test_the_mean_of_the_nearest_is_taken_after_alignment_and_relabelling():
    start, same = members_of_three()
    for spread in (0.0, 1.0):
        (theta,) = unstack(draw(NearestMeanStart(members=3, spread=spread), start, 1))
        x = digits().test.images[:20]
        expected = call(start.model, {n: t[0] for n, t in same.items()}, x)
        torch.testing.assert_close(call(start.model, theta, x), expected, rtol=1e-4, atol=1e-4)


def test_a_spread_around_the_mean_is_that_of_the_members():
    model = net(outputs=3)
    spec = permutation_spec(model.eval(), digits().test.images[:2])
    members = TrainingMembers(
        draw(DefaultStart(), Start(model), 4), examples=tasks_of([[0, 1, 2]] * 4)
    )
    start = Start(model, spec=spec, members=members, condition=tasks_of([[0, 1, 2]], first=20))
    mean = draw(NearestMeanStart(), start, 500)
    drawn = draw(NearestMeanStart(spread=1.0), start, 500)
    assert torch.equal(mean["head.weight"][0], mean["head.weight"][1])
    aligned = start.canonicalizer(members.params)["head.weight"]
    ratio = drawn["head.weight"].std(0) / aligned.std(0)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)


def test_members_with_other_numbers_of_classes_are_refused():
    model = net(outputs=3)
    members = TrainingMembers(draw(DefaultStart(), Start(model), 1), examples=tasks_of([[0, 1, 2]]))
    with pytest.raises(ValueError, match="of 2 classes are wanted"):
        draw(NearestStart(), Start(model, members=members, condition=tasks_of([[3, 4]])))


# learned over tasks


class Pairs:
    """Tasks of two of the ten digits."""

    def draw(self, n, *, generator=None):
        orders = [torch.randperm(10, generator=generator)[:2].tolist() for _ in range(n)]
        return Episodes(tasks_of(orders), tasks_of(orders, first=40))


def test_a_start_learned_over_tasks_is_ahead_of_the_default_after_a_few_steps():
    model = net(outputs=2)
    members = TrainingMembers(draw(DefaultStart(), Start(model), 1), tasks=Pairs())
    start = Start(model, members=members)
    learned = draw(ReptileStart(iterations=10, tasks=4, steps=4), start, 1)
    own = draw(DefaultStart(), start, 1)
    one = ReptileStart(tasks=8, steps=2)
    episode = Pairs().draw(8, generator=rng(9)).query.flat()

    def after_two_steps(phi):
        tuned = one._tuned(start, phi, None, generator=rng(9))
        told = [call(model, t, x) for t, x in zip(unstack(tuned), episode[0], strict=True)]
        return float((torch.stack(told).argmax(2) == episode[1]).float().mean())

    assert after_two_steps(learned) > after_two_steps(own) + 0.02


# adapters


def test_an_adapter_begins_with_the_function_of_its_base():
    weight, inputs = torch.randn(6, 9, generator=rng()), torch.randn(30, 9, generator=rng(1))
    for made in (pissa(weight, 3), eva(weight, inputs, 3), lora(weight, 3, generator=rng(2))):
        torch.testing.assert_close(made.base + made.b @ made.a, weight, rtol=0, atol=1e-5)
        assert made.a.shape == (3, 9)
        assert made.b.shape == (6, 3)


def test_pissa_takes_the_principal_part_out_of_the_base():
    weight = torch.randn(6, 9, generator=rng())
    made = pissa(weight, 2)
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close(torch.linalg.svdvals(made.b @ made.a)[:2], values[:2])
    torch.testing.assert_close(torch.linalg.svdvals(made.base)[:4], values[2:])
    torch.testing.assert_close(torch.linalg.svdvals(made.a)[:2], values[:2].sqrt())


def test_eva_finds_the_directions_that_the_inputs_vary_in():
    directions = torch.linalg.qr(torch.randn(9, 2, generator=rng()))[0]
    inputs = torch.randn(50, 2, generator=rng(1)) @ directions.T
    a = eva(torch.randn(4, 9, generator=rng(2)), inputs, 2).a
    torch.testing.assert_close(a @ a.T, torch.eye(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(a.T @ a, directions @ directions.T, rtol=0, atol=1e-5)


def test_eva_gives_rank_to_the_layers_whose_inputs_need_it():
    flat = torch.randn(200, 8, generator=rng())
    narrow = torch.randn(200, 1, generator=rng(1)) @ torch.randn(1, 8, generator=rng(2))
    ranks = eva_ranks({"narrow": narrow, "flat": flat}, 2)
    assert ranks == {"narrow": 1, "flat": 3}
    assert eva_ranks({"narrow": narrow, "flat": flat}, 2, most=2) == {"narrow": 2, "flat": 2}


def test_a_rank_that_a_matrix_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"rank is 7, but a weight of shape \(6, 9\)"):
        pissa(torch.randn(6, 9), 7)
    with pytest.raises(ValueError, match=r"inputs of shape \(2, 9\), but at least 3 rows of 9"):
        eva(torch.randn(6, 9), torch.randn(2, 9), 3)


# the table


def test_every_start_of_the_table_is_a_frozen_value():
    for kind in INITIALIZERS.values():
        made = kind()
        assert made == dataclasses.replace(made)
        assert kind.__doc__
