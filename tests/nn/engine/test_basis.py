"""The dimension of the space of equivariant maps: closed form, plan, brute-force orbits and
published numbers agree.
"""

import math

import pytest
import torch
from networks import BY_NAME, NETWORKS

from wsl.nn import layer_dimension
from wsl.nn.engine.basis import GroupAxis, bell, blocks, dimension, join, partitions
from wsl.nn.engine.encode import encoded
from wsl.nn.engine.layout import BlockLayout
from wsl.nn.engine.plan import compile_plan
from wsl.symmetry import Permutation, PermutationSpec, SpecError


def mlp_spec(*widths, io=False):
    """Weights and biases of an MLP; with ``io`` the first and last widths are groups too."""
    names = [f"h{i}" if io or 0 < i < len(widths) - 1 else str(n) for i, n in enumerate(widths)]
    sizes = ", ".join(
        f"{name} = {n}" for name, n in zip(names, widths, strict=True) if name.startswith("h")
    )
    lines = [
        f"{i}.weight: {names[i + 1]} {names[i]}\n{i}.bias: {names[i + 1]}"
        for i in range(len(widths) - 1)
    ]
    return PermutationSpec.parse("\n".join([sizes, *lines]))


def planned(spec):
    layout = BlockLayout(spec)
    return compile_plan(layout.spaces, layout.spaces).count(layout.widths(1), layout.widths(1))


def orbits(spec):
    """Orbits of the group on pairs of weights and on weights, by joining along generators: the
    dimension by definition.
    """
    shapes = spec.shapes
    count = sum(math.prod(shape) for shape in shapes.values())
    flat = torch.arange(count).split([math.prod(shape) for shape in shapes.values()])
    theta = {
        name: part.view(shape) for part, (name, shape) in zip(flat, shapes.items(), strict=True)
    }
    moves = [torch.cat([t.flatten() for t in g(theta).values()]) for g in generators(spec)]
    return components(moves, count, 2), components(moves, count, 1)


def generators(spec):
    for group in spec.declared:
        for member in range(spec.groups[group.per] if group.per else 1):
            for i in range(group.size - 1):
                g = Permutation.identity(spec)
                index = (
                    g.indices[group.name] if group.per is None else g.indices[group.name][member]
                )
                index[[i, i + 1]] = index[[i + 1, i]]
                yield g


def components(moves, count, power):
    labels = torch.arange(count**power).view((count,) * power)
    while True:
        before = labels
        for move in moves:
            labels = torch.minimum(labels, labels[move] if power == 1 else labels[move][:, move])
        if torch.equal(labels, before):
            return labels.unique().numel()


TINY = {
    "mlp of two layers": "h = 3\na: h 2\nb: h\nc: 3 h\nd: 3",
    "mlp of four layers": str(mlp_spec(2, 3, 2, 3, 2)),
    "tied": "h = 4\nw: h h\nb: h",
    "tied, three": "h = 3\nw: h h",
    "tied, two": "h = 2\nw: h h\nb: h",
    "third order": "h = 3\nw: h h h",
    "gru": "h = 3\nw: (3 h) h\nb: (3 h)\nv: 2 h",
    "concatenation": "a = 2, b = 3\nw: b a+b\nv: a+b\nu: 2+a",
    "flatten": "c = 3, h = 2\nw: h (c 2)\nb: h\nk: c 1 2",
    "attention": "d = 3, head = 2, dk = 2 per head\nqk: (2 head dk) d\no: d (head dk)\nb: (head "
    "dk)",
    "three heads": "head = 3, dk = 2 per head, dv = 3 per head\nq: (head dk)\nv: (head dv)\ntied: "
    "(head dk) (head dk)",
    "one head": "head = 1, dk = 3 per head\nq: (head dk) 2\nb: head",
    "heads of one": "head = 3, dk = 1 per head\nq: (head dk) head",
    "unit groups": "a = 1, h = 2\nw: h a\nv: a",
}


@pytest.mark.parametrize("text", TINY.values(), ids=TINY.keys())
def test_closed_form_and_plan_count_the_orbits_of_the_group(text):
    spec = PermutationSpec.parse(text)
    assert layer_dimension(spec) == orbits(spec)
    assert planned(spec) == orbits(spec)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_plan_has_as_many_weights_as_the_closed_form(network):
    for spec in (network.spec, encoded(network.spec)):
        assert planned(spec) == layer_dimension(spec)


@pytest.mark.parametrize(
    ("widths", "linear", "bias"),
    [
        ((2, 32, 32, 1), 75, 7),
        ((2, 32, 32, 3), 163, 11),
        ((2, 32, 32, 32, 32, 3), 287, 15),
        ((784, 128, 128, 10), 1_269_190, 807),
    ],
)
def test_hidden_permutations_give_the_published_counts(widths, linear, bias):
    assert planned(mlp_spec(*widths)) == layer_dimension(mlp_spec(*widths)) == (linear, bias)


@pytest.mark.parametrize("layers", [2, 3, 4, 5, 6])
def test_permutable_inputs_and_outputs_give_the_published_counts(layers):
    spec = mlp_spec(*[4] * (layers + 1), io=True)
    assert planned(spec) == layer_dimension(spec) == (4 * layers**2 + 10 * layers - 4, 2 * layers)


def test_width_one_outputs_reduce_the_count():
    assert planned(mlp_spec(2, 32, 32, 1, io=True))[0] == 57


def test_bell_numbers():
    assert [bell(k, 9) for k in range(8)] == [1, 1, 2, 5, 15, 52, 203, 877]
    assert [bell(4, n) for n in (1, 2, 3, 4)] == [1, 8, 14, 15]


def test_tied_matrix_has_fifteen_maps_to_matrices_five_to_vectors_two_to_scalars():
    a = GroupAxis("h", 9)
    assert [dimension((a, a), target) for target in ((a, a), (a,), ())] == [15, 5, 2]


def test_partitions_of_a_family_nest():
    space = (GroupAxis("head", 4), GroupAxis("dk", 4, 0))
    found = set(partitions(join(space, space)))
    assert found == {((0, 2), (1, 3)), ((0, 2), (1,), (3,)), ((0,), (1,), (2,), (3,))}


def test_plan_does_not_grow_with_the_square_of_depth():
    lanes, ports = [], []
    for depth in (8, 16):
        layout = BlockLayout(mlp_spec(*[4] * (depth + 1)))
        plan = compile_plan(layout.spaces, layout.spaces)
        lanes.append(len(plan.lanes))
        ports.append(sum(len(lane.inputs) + len(lane.outputs) for lane in plan.lanes))
    assert lanes == [14, 30]
    assert ports[1] <= 2.2 * ports[0]


def test_blocks_cut_concatenations_and_unfold_products():
    dense = [b for b in blocks(BY_NAME["dense"].spec) if b.piece.tensor == "c.weight"]
    assert [(b.piece.window[1], b.fixed) for b in dense] == [((0, 5), 1), ((5, 7), 1)]
    flat = next(b for b in blocks(BY_NAME["cnn"].spec) if b.piece.tensor == "fc1.weight")
    assert [axis.group for axis in flat.space] == ["h1", "c2"]
    assert flat.fixed == 4


def test_a_family_of_a_family_is_refused():
    spec = PermutationSpec.parse("a = 2, b = 2 per a, c = 2 per b\nw: (a b c)")
    with pytest.raises(SpecError, match="w: 'c' is a family per 'b', itself a family"):
        blocks(spec)
