"""Names: renaming and restricting keep what the group does, and weights of a wrapped module find
their tensors.
"""

import dataclasses

import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn

from wsl import params
from wsl.symmetry import (
    Permutation,
    PermutationSpec,
    SpecError,
    permutation_spec,
    symmetry_spec,
    verify,
    verify_units,
)

SPEC = PermutationSpec.parse("""c1 = 4, head = 2, dk = 3 per head, h = 5
encoder.conv.weight: c1 2 3 3
encoder.attn.weight: (head dk) c1
encoder.attn.bias: (head dk)
decoder.weight: h (head dk)
decoder2.weight: 3 h""")


def tensors(spec):
    return {name: torch.arange(shape.numel()).reshape(shape) for name, shape in spec.shapes.items()}


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_renaming_is_undone_by_renaming_back(network):
    spec = permutation_spec(network.make(), network.inputs())
    there = spec.rename(lambda name: f"net.{name}").rename_groups(str.upper)
    back = there.rename(lambda name: name.removeprefix("net.")).rename_groups(
        {name.upper(): name for name in spec.groups}
    )
    assert back == spec
    assert back.pinned == spec.pinned
    assert there != spec
    assert all(name.startswith("net.") for name in there.pinned)


def test_a_module_is_renamed_with_all_its_tensors_and_the_longest_key_wins():
    new = SPEC.rename({"encoder": "enc", "encoder.attn": "attention", "decoder.weight": "out"})
    assert list(new.axes) == [
        "enc.conv.weight",
        "attention.weight",
        "attention.bias",
        "out",
        "decoder2.weight",
    ]


def test_an_empty_new_name_removes_a_module():
    assert next(iter(SPEC.rename({"encoder": ""}).axes)) == "conv.weight"


def test_a_renamed_group_takes_its_family_along():
    new = SPEC.rename_groups({"head": "H", "dk": "d"})
    assert str(new).splitlines()[0] == "c1 = 4, H = 2, d = 3 per H, h = 5"
    assert new.axes["decoder.weight"] == ((("h",),), (("H", "d"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.rename({"encoder": "x", "decoder": "x.conv"}),
            r"'encoder\.conv\.weight' and 'decoder\.weight' would",
        ),
        (lambda s: s.rename({"encodr": "x"}), "no tensor is or lies in 'encodr'"),
        (lambda s: s.rename(lambda _: "same"), "would both be called 'same'"),
        (lambda s: s.rename(lambda name: f"{name}#"), "cannot name a tensor"),
        (lambda s: s.rename_groups({"c1": "h"}), "groups 'c1' and 'h' would both be called 'h'"),
        (lambda s: s.rename_groups({"c": "x"}), r"there is no group 'c' \(did you mean 'c1'\?\)"),
        (lambda s: s.rename_groups({"c1": "1c"}), "'1c' cannot name a group"),
        (lambda s: s.restrict("encode"), "no tensor lies in 'encode'"),
        (
            lambda s: s.restrict(["decoder.wait"]),
            r"no tensor 'decoder\.wait' \(did you mean 'decoder\.weight'\?\)",
        ),
    ],
)
def test_a_wrong_name_is_one_clear_error(change, message):
    with pytest.raises(SpecError, match=message):
        change(SPEC)


def test_a_part_has_the_names_and_groups_of_its_module():
    part = SPEC.restrict("encoder")
    assert (
        str(part)
        == "c1 = 4, head = 2, dk = 3 per head\nconv.weight: c1 2 3 3\nattn.weight: (head dk) "
        "c1\nattn.bias: (head dk)"
    )
    assert SPEC.restrict("encoder.") == part
    assert list(SPEC.restrict("encoder", keep_prefix=True).axes) == [
        f"encoder.{name}" for name in part.axes
    ]
    assert list(SPEC.restrict("decoder").axes) == ["weight"]
    assert SPEC.restrict(["decoder2.weight"]).groups == {"h": 5}
    assert SPEC.restrict(SPEC.axes) == SPEC


def test_an_element_acts_on_a_part_as_on_the_whole():
    g = Permutation.random(SPEC, torch.Generator().manual_seed(0))
    theta, part = tensors(SPEC), SPEC.restrict("encoder")
    inside = {
        name.removeprefix("encoder."): t for name, t in theta.items() if name.startswith("encoder.")
    }
    moved = Permutation(part, {name: g.indices[name] for name in part.groups})(inside)
    whole = g(theta)
    assert all(torch.equal(moved[name], whole[f"encoder.{name}"]) for name in inside)
    assert not torch.equal(moved["attn.weight"], inside["attn.weight"])


class Pair(nn.Module):
    """An encoder whose outputs are units, and a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6))
        self.decoder = nn.Linear(6, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x).relu())


def test_parts_of_a_verified_specification_put_together_are_verified():
    model, x = Pair(), torch.randn(3, 5)
    spec = permutation_spec(model, x)
    parts = [
        spec.restrict(module).rename(lambda name, m=module: f"{m}.{name}")
        for module in ("encoder", "decoder")
    ]
    groups = {group.name: group for part in parts for group in part.declared}
    again = PermutationSpec(
        tuple(groups.values()), tuple(pair for part in parts for pair in part.annotations)
    )
    assert verify(again, model, x).ok
    assert again == spec


def test_a_part_is_no_symmetry_of_the_part_alone():
    model, x = Pair(), torch.randn(3, 5)
    assert verify(permutation_spec(model, x).restrict("encoder"), model.encoder, x).broken == (
        "h2",
    )


WRAPPED = {
    "data parallel": "module.{}",
    "compiled": "_orig_mod.{}",
    "compiled and parallel": "module._orig_mod.{}",
    "parallel and compiled": "_orig_mod.module.{}",
    "fsdp": "_fsdp_wrapped_module.{}",
    "fabric": "_forward_module.{}",
}


@pytest.mark.parametrize("pattern", WRAPPED.values(), ids=WRAPPED.keys())
def test_names_of_a_wrapper_are_aligned_both_ways(pattern):
    theta = tensors(SPEC)
    wrapped = {pattern.format(name): tensor for name, tensor in theta.items()}
    aligned = SPEC.align_keys(wrapped)
    assert list(aligned) == list(theta)
    assert all(aligned[name] is theta[name] for name in theta)
    outside = SPEC.rename(pattern.format)
    assert list(outside.align_keys(theta)) == list(wrapped)


def test_a_wrapper_in_the_middle_is_aligned():
    theta = {
        name.replace("attn.", "_orig_mod.attn.module."): t for name, t in tensors(SPEC).items()
    }
    assert list(SPEC.align_keys(theta)) == list(SPEC.axes)


def test_names_that_leave_a_choice_keep_their_own():
    spec = PermutationSpec.parse("module.w: 2\nw: 2\nv: 3")
    weights = {"module.w": 1, "w": 2, "_orig_mod.module.w": 3, "module.v": 4, "_orig_mod.v": 5}
    assert spec.align_keys(weights) == weights
    assert PermutationSpec.parse("module.w: 2").align_keys({"module.w": 1, "w": 2}) == {
        "module.w": 1,
        "w": 2,
    }


def test_a_report_names_what_is_missing_and_unknown():
    report = SPEC.compare(dict.fromkeys(SPEC.axes, 0))
    assert report
    assert str(report) == "the names are the same"
    weights = {name: 0 for name in SPEC.axes if name != "decoder.weight"} | {"decoder.wieght": 0}
    report = SPEC.compare(weights)
    assert not report
    assert (report.missing, report.unknown) == (("decoder.weight",), ("decoder.wieght",))
    assert (
        str(report)
        == "missing: decoder.weight; unknown: decoder.wieght; did you mean 'decoder.wieght'?"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            lambda n: f"module.{n}",
            r"a wrapper added module\. to the names; spec\.align_keys\(params\) aligns them",
        ),
        (
            lambda n: n.replace("encoder", "encoder._orig_mod"),
            r"a wrapper added _orig_mod\. to the names",
        ),
        (lambda n: f"model.{n}", r"'model\.' stands before every name of the weights; remove it"),
        (
            lambda n: n.replace("encoder.attn", "encoder.attm"),
            r"did you mean 'encoder\.attm\.weight'\?",
        ),
    ],
)
def test_validation_says_what_may_help(names, message):
    with pytest.raises(SpecError, match=rf"missing: .*; unknown: .*same architecture; {message}"):
        SPEC.validate({names(name): tensor for name, tensor in tensors(SPEC).items()})


def test_a_missing_prefix_is_named():
    with pytest.raises(
        SpecError, match=r"'net\.' is missing before every name of the weights; add it"
    ):
        SPEC.rename(lambda name: f"net.{name}").validate(tensors(SPEC))


def compiled(module):
    return torch.compile(module, backend="eager")


def with_compiled_encoder():
    model = Pair()
    model.encoder = compiled(model.encoder)
    return model


MLP = BY_NAME["mlp"].make
MODULES = {
    "data parallel": (lambda: nn.DataParallel(MLP()), MLP, "module.0.weight"),
    "compiled": (lambda: compiled(MLP()), MLP, "_orig_mod.0.weight"),
    "both": (lambda: compiled(nn.DataParallel(MLP())), MLP, "_orig_mod.module.0.weight"),
    "a compiled part": (with_compiled_encoder, Pair, "encoder._orig_mod.0.weight"),
    "averaged": (lambda: torch.optim.swa_utils.AveragedModel(MLP()), MLP, "module.0.weight"),
}


@pytest.mark.parametrize(("make", "bare", "name"), MODULES.values(), ids=MODULES.keys())
def test_a_wrapped_module_is_discovered_under_its_own_names(make, bare, name):
    model, x = make(), torch.randn(3, 5)
    spec, inside = permutation_spec(model, x), permutation_spec(bare(), x)
    assert name in spec.axes
    assert list(spec.axes) == list(model.state_dict())
    assert dict(spec.groups) == dict(inside.groups)
    assert set(inside.align_keys(model.state_dict())) - {"n_averaged"} == set(inside.axes)
    assert verify(spec, model, x).ok


def test_weights_of_a_wrapped_module_move_like_those_of_the_bare_one():
    model, x = BY_NAME["mlp"].make(), torch.randn(3, 5)
    spec = permutation_spec(model, x)
    theta = spec.align_keys(nn.DataParallel(model).state_dict())
    moved = Permutation.random(spec, torch.Generator().manual_seed(1))(theta)
    torch.testing.assert_close(params.call(model, moved, x), model(x))


def test_a_report_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.compare({}).missing = ()


class Waves(nn.Module):
    """An encoder whose units may shift by multiples of pi, and a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 7), nn.Linear(7, 3)

    def forward(self, x):
        return self.decoder(torch.sin(self.encoder(x)))


@pytest.mark.parametrize(
    ("model", "x"),
    [(Pair(), torch.randn(3, 5)), (Waves(), torch.randn(3, 2))],
    ids=["relu", "sine"],
)
def test_unit_symmetries_follow_the_names(model, x):
    spec = symmetry_spec(model, x)
    assert spec.units
    there = spec.rename({"encoder": "e"}).rename_groups({"h1": "units"})
    assert len(there.units) == len(spec.units)
    back = there.rename({"e": "encoder"}).rename_groups({"units": "h1"})
    assert back == spec
    assert verify_units(back, model, x).ok


def test_a_phase_without_its_shift_is_a_sign():
    spec = symmetry_spec(Waves(), torch.randn(3, 2))
    assert "phase h1 omega 1: encoder.bias[0] / decoder.weight[1]" in str(spec)
    assert "sign h1: weight[1]" in str(spec.restrict("decoder"))
    assert "phase h1 omega 1: bias[0]" in str(spec.restrict("encoder"))
