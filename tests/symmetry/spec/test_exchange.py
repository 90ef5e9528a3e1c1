"""Specifications as JSON and as Git Re-Basin's dictionary: both read back to what was written, and
refuse the rest.
"""

import json
import random

import pytest
import torch
from networks import NETWORKS

from wsl.symmetry import PermutationSpec, SpecError, parse_axes, permutation_spec, symmetry_spec

CONV = PermutationSpec.parse(
    "c1 = 4, h = 5\nconv.weight: c1 2 3 3\nconv.steps:\nfc.weight: h (c1 9)\nout.weight: 3 h"
)
PLAIN = {
    "conv.weight": ["c1", None, None, None],
    "conv.steps": [],
    "fc.weight": ["h", "(c1 9)"],
    "out.weight": [None, "h"],
}


def random_spec(seed):
    """Groups and families of random sizes on axes of random products and concatenations."""
    draw = random.Random(seed)
    sizes = {f"g{i}": draw.randint(1, 5) for i in range(draw.randint(1, 4))}
    families = {f"f{i}": draw.choice(list(sizes)) for i in range(draw.randint(0, 2))}
    sizes |= {name: draw.randint(1, 4) for name in families}

    def factor(name):
        return f"({families[name]} {name})" if name in families else name

    def segment():
        kind = draw.randint(0, 3)
        first = factor(draw.choice(list(sizes)))
        return [
            str(draw.randint(1, 6)),
            first,
            f"({first} {draw.randint(2, 4)})",
            f"({draw.randint(2, 4)} {first})",
        ][kind]

    def axis():
        return "+".join(segment() for _ in range(draw.randint(1, 3)))

    lines = [
        f"layers.{i}.weight: {' '.join(axis() for _ in range(draw.randint(0, 3)))}"
        for i in range(draw.randint(1, 5))
    ]
    lines.append("last: " + " ".join(factor(name) for name in sizes))
    head = [
        f"{name} = {size}" + (f" per {families[name]}" if name in families else "")
        for name, size in sizes.items()
    ]
    return PermutationSpec.parse("\n".join([", ".join(head), *lines]))


@pytest.mark.parametrize("spec", [*(n.spec for n in NETWORKS), *map(random_spec, range(40))])
def test_every_form_reads_back_to_the_value(spec):
    assert PermutationSpec.from_json(spec.to_json()) == spec
    assert (
        PermutationSpec.from_axes_to_perm(spec.to_axes_to_perm(), spec.shapes, sizes=spec.groups)
        == spec
    )
    assert PermutationSpec.parse(str(spec)) == spec
    assert json.loads(json.dumps(spec.to_axes_to_perm())) == spec.to_axes_to_perm()


def test_random_specifications_have_families_products_and_sums():
    text = "\n".join(str(random_spec(seed)) for seed in range(40))
    assert " per " in text
    assert ")+" in text
    assert "(2 " in text


@pytest.mark.parametrize(
    "network", [n for n in NETWORKS if n.name != "attention"], ids=lambda n: n.name
)
def test_sizes_follow_from_the_shapes_alone(network):
    assert (
        PermutationSpec.from_axes_to_perm(network.spec.to_axes_to_perm(), network.spec.shapes)
        == network.spec
    )


def test_a_dictionary_has_one_name_or_none_for_each_axis():
    assert CONV.to_axes_to_perm() == PLAIN
    attention = next(n.spec for n in NETWORKS if n.name == "attention").to_axes_to_perm()
    assert attention["out.weight"] == ["h1", "(head1 dv1 per head1)"]


def test_strict_refuses_what_a_plain_dictionary_cannot_say():
    with pytest.raises(
        SpecError,
        match=r"fc\.weight: axis 1 is '\(c1 9\)', and a plain axes_to_perm has one name per axis",
    ):
        CONV.to_axes_to_perm(strict=True)
    mlp = NETWORKS[0].spec
    assert mlp.to_axes_to_perm(strict=True) == mlp.to_axes_to_perm()


def test_pinned_reasons_survive_json():
    network = NETWORKS[0]
    spec = permutation_spec(network.make(), network.inputs())
    assert spec.pinned
    assert PermutationSpec.from_json(spec.to_json()).pinned == spec.pinned


def test_tensors_that_a_dictionary_leaves_out_are_fixed():
    spec = PermutationSpec.from_axes_to_perm({"a": ["P", None]}, {"a": (3, 2), "b": (3, 4)})
    assert str(spec) == "P = 3\na: P 2\nb: 3 4"


def test_a_square_of_one_group_and_a_gate_are_solved_for_it():
    spec = PermutationSpec.from_axes_to_perm(
        {"a": ["(g g)"], "b": ["(4 k)+k"]}, {"a": (49,), "b": (15,)}
    )
    assert spec.groups == {"g": 7, "k": 3}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"conv.weigt": []},
            r"conv\.weigt: is not among the tensors \(did you mean 'conv\.weight'\?\)",
        ),
        (
            {"fc.weight": ["h"]},
            r"fc\.weight: has 2 axes, so it needs a list of 2 names or None, got \['h'\]",
        ),
        ({"fc.weight": "h c"}, r"fc\.weight: has 2 axes, so it needs a list"),
        ({"fc.weight": ["h", 9]}, r"fc\.weight: axis 1: 9 is neither a name nor None"),
        (
            {"fc.weight": ["h", "a b"]},
            r"fc\.weight: axis 1: 'a b' describes 2 axes; write one, with parentheses",
        ),
        ({"fc.weight": ["h", "P-1"]}, r"fc\.weight: axis 1: 'P-1': cannot read '-1'"),
        (
            {"fc.weight": ["h", "(c 5)"]},
            r"fc\.weight: no size of a group makes '\(c 5\)' as long as 36",
        ),
        (
            {"fc.weight": ["h", "(c d)"]},
            r"fc\.weight: '\(c d\)' of size 36 leaves a choice for c, d; give their sizes",
        ),
        ({"fc.weight": ["h", "h"]}, r"fc\.weight: axis 1 has size 36, but 'h' has size 5"),
        (
            {"fc.weight": ["h", None], "out.weight": ["h", None]},
            r"out\.weight: axis 0 has size 3, but 'h' has size 5 \(from fc",
        ),
        ({"fc.weight": ["h", "35"]}, r"fc\.weight: axis 1 has size 36, but '35' has size 35"),
        (
            {"fc.weight": ["(a b per a)", "(h b per h)"]},
            r"axis 1: 'b' is per 'h' here and per 'a' elsewhere",
        ),
    ],
)
def test_a_wrong_dictionary_is_one_clear_error(mapping, message):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.from_axes_to_perm(mapping, CONV.shapes)


def changed(**keys):
    return json.dumps({**json.loads(CONV.to_json()), **keys})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSON: Expecting value"),
        ("[" * 200_000, "JSON: nested too deeply"),
        ('{"a":' * 200_000, "JSON: nested too deeply"),
        ("[]", "not a specification of format"),
        (changed(version=2), "version 1"),
        (changed(more=1), "unknown key 'more'"),
        ('{"format": "wsl.PermutationSpec", "version": 1}', "groups must be list, got NoneType"),
        (changed(groups={}), "groups must be list, got dict"),
        (changed(groups=[3]), "each of groups must be dict, got int"),
        (changed(groups=[{"name": "c1", "size": True}]), "group 'c1': size must be int, got bool"),
        (changed(groups=[{"name": "c1", "size": 4.0}]), "group 'c1': size must be int, got float"),
        (changed(groups=[{"name": "c1", "size": 4, "color": 1}]), "a group has name, size and per"),
        (changed(groups=[{"name": "c 1", "size": 4}]), "'c 1' cannot name a group"),
        (
            changed(groups=[{"name": "c1", "size": 4}, {"name": "h", "size": 10**40}]),
            "more than 2\\*\\*62 entries",
        ),
        (
            changed(groups=[{"name": "c1", "size": -4}, {"name": "h", "size": 5}]),
            "group 'c1' has size 0",
        ),
        (CONV.to_json().replace('"size": 4', '"size": ' + "9" * 5000), "JSON: Exceeds the limit"),
        (
            CONV.to_json().replace('"size": 4', '"size": NaN'),
            "NaN is not a number that a specification holds",
        ),
        (CONV.to_json().replace('"conv.steps"', '"fc.weight"'), "'fc.weight' is given twice"),
        (changed(tensors={"a": 3}), "a: JSON: the axes of 'a' must be str, got int"),
        (changed(tensors={"a#b": "c1 h"}), "'a#b' cannot name a tensor"),
        (changed(tensors={"a\nb": "c1 h"}), "cannot name a tensor"),
        (changed(tensors={"a": "(" * 100_000}), "a: parentheses are nested more than 64 deep"),
        (changed(pinned={"conv.weight axis 9": "input"}), "pinned place 'conv.weight axis 9'"),
        (
            changed(pinned={"conv.weight axis 1": 3}),
            "the reason of 'conv.weight axis 1' must be str",
        ),
    ],
)
def test_hostile_json_is_refused_with_a_reason(text, message):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.from_json(text)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("9" * 5000, "a size of 5000 digits"),
        ("(" * 5000 + "1" + ")" * 5000, "nested more than 64 deep"),
        ("(4096 (4096 (4096 (a+b))))", "stands for more than 65536 terms"),
        ("(2 0)", "an axis cannot have size 0"),
    ],
)
def test_hostile_axes_are_refused_with_a_reason(axes, message):
    with pytest.raises(SpecError, match=message):
        parse_axes(axes)


def test_a_long_concatenation_is_read():
    axis = "+".join(["a", "b"] * 20_000)
    assert len(parse_axes(axis)[0]) == 40_000
    with pytest.raises(SpecError, match="neither 'name = size'"):
        PermutationSpec.parse("h = " + "9" * 5000)


def test_shapes_may_be_any_sequence():
    assert PermutationSpec.from_axes_to_perm(
        {"w": ["h", None]}, {"w": torch.zeros(3, 2).shape}
    ).groups == {"h": 3}
    assert PermutationSpec.from_axes_to_perm({"w": ["h", None]}, {"w": [3, 2]}).shapes["w"] == (
        3,
        2,
    )


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_unit_symmetries_survive_json(network):
    spec = symmetry_spec(network.make(), network.inputs())
    assert PermutationSpec.from_json(spec.to_json()) == spec
    assert ("units" in json.loads(spec.to_json())) == bool(spec.units)


def test_unit_symmetries_are_no_permutations():
    spec = symmetry_spec(NETWORKS[0].make(), NETWORKS[0].inputs())
    with pytest.raises(
        SpecError,
        match=r"scale h1: a plain axes_to_perm holds permutations only; use without_units\(\)",
    ):
        spec.to_axes_to_perm(strict=True)
    assert spec.to_axes_to_perm() == spec.without_units().to_axes_to_perm(strict=True)
    with pytest.raises(SpecError, match="expected 'KIND GROUP: places'"):
        PermutationSpec.from_json(
            json.dumps({**json.loads(spec.to_json()), "units": ["shrink h1: 0.weight[0]"]})
        )
