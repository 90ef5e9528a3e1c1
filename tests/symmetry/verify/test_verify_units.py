"""`verify` proves scales, signs, phases and linear maps in the same report as permutations."""

import dataclasses

import pytest
import torch
from networks import BY_NAME, NETWORKS
from torch import nn

from wsl.symmetry import (
    PermutationSpec,
    UnitVerification,
    Verification,
    symmetry_spec,
    verify,
    verify_units,
)
from wsl.symmetry.verify import Checks

RIGHT = {
    "mlp": [
        "scale h1: 0.weight[0] 0.bias[0] / 2.weight[1]",
        "scale h2: 2.weight[0] 2.bias[0] / 4.weight[1]",
    ],
    "mlp_without_bias": ["sign h1: 0.weight[0] 2.weight[1]"],
    "siren": [
        "sign h1: layers.0.weight[0] layers.0.bias[0] layers.1.weight[1]",
        "phase h1 omega 30: layers.0.bias[0] / layers.1.weight[1]",
    ],
    "attention": [
        "scale h1: norm.weight[0] norm.bias[0] / qkv.weight[1]",
        "linear dv1: qkv.weight[0,2,1] qkv.bias[0,2,1] / out.weight[1,0,1]",
    ],
}
WRONG = {
    "scale without its bias": ("mlp", 0, "scale h1: 0.weight[0] / 2.weight[1]"),
    "scale with the wrong power": ("mlp", 1, "scale h2: 2.weight[0] 2.bias[0] / 4.weight[1]^2"),
    "sign through relu": ("mlp", 0, "sign h1: 0.weight[0] 0.bias[0] 2.weight[1]"),
    "sign that stops half way": ("mlp_without_bias", 0, "sign h1: 0.weight[0]"),
    "phase of another frequency": (
        "siren",
        1,
        "phase h1 omega 20: layers.0.bias[0] / layers.1.weight[1]",
    ),
    "phase without its flip": ("siren", 1, "phase h1 omega 30: layers.0.bias[0]"),
    "linear map without its bias": (
        "attention",
        1,
        "linear dv1: qkv.weight[0,2,1] / out.weight[1,0,1]",
    ),
}


def spec_of(name, lines):
    return PermutationSpec.parse("\n".join([BY_NAME[name].golden, *lines]))


def report_of(name, lines, **options):
    return verify(spec_of(name, lines), BY_NAME[name].make(), BY_NAME[name].inputs(), **options)


def broken_lines(report):
    return [line.split(None, 1)[1] for line in str(report).splitlines() if "BROKEN" in line]


@pytest.mark.parametrize("name", RIGHT)
def test_right_unit_lines_are_proved_beside_the_groups(name):
    report = report_of(name, RIGHT[name])
    assert report.ok
    assert report.units.ok
    assert [str(unit) for unit, _ in report.units.units] == RIGHT[name]
    assert report.units.worst < 1e-11
    assert set(report.groups) == set(BY_NAME[name].spec.groups)
    text = str(report)
    assert text.startswith("preserves the function")
    assert "BROKEN" not in text
    assert "groups alone" in text
    assert all(f"  {line}" in text for line in RIGHT[name])


@pytest.mark.parametrize(("name", "position", "line"), WRONG.values(), ids=WRONG.keys())
def test_exactly_the_wrong_line_is_named(name, position, line):
    lines = [*RIGHT[name]]
    lines[position] = line
    report = report_of(name, lines)
    assert not report.ok
    assert report.broken == ()
    assert report.whole < 1e-13
    assert [str(unit) for unit in report.units.broken] == [line]
    assert broken_lines(report) == [f"{line}  BROKEN"]
    assert str(report).startswith("DOES NOT preserve the function")


def test_a_wrong_group_and_a_wrong_line_are_named_together_the_worst_line_first():
    text = BY_NAME["mlp"].golden.replace("2.bias: h2", "2.bias: 6")
    lines = ["scale h2: 2.weight[0] / 4.weight[1]^7", "scale h1: 0.weight[0] / 2.weight[1]"]
    spec = PermutationSpec.parse("\n".join([text, *reversed(lines)]))
    report = verify(spec, BY_NAME["mlp"].make(), BY_NAME["mlp"].inputs())
    assert report.broken == ("h2",)
    assert [str(unit) for unit in report.units.broken] == lines
    assert [line.split()[-1] for line in broken_lines(report)] == ["BROKEN"] * 3
    assert str(report).splitlines()[0].endswith(f"{report.units.worst:.1e}, float64")


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_verify_units_is_the_part_of_the_report_about_units(network):
    spec = symmetry_spec(network.make(), network.inputs())
    part = verify_units(spec, network.make(), network.inputs(), seed=3)
    report = verify(spec, network.make(), network.inputs(), seed=3)
    assert isinstance(part, UnitVerification)
    assert part.ok
    assert report.ok
    assert [unit for unit, _ in report.units.units] == [unit for unit, _ in part.units]
    if spec.units:
        assert report.units.whole == pytest.approx(part.whole, abs=1e-12)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_what_is_said_of_permutations_does_not_depend_on_units(network):
    spec = symmetry_spec(network.make(), network.inputs())
    alone = dataclasses.replace(spec, units=())
    first, second = (verify(s, network.make(), network.inputs()) for s in (spec, alone))
    assert second.units == UnitVerification()
    assert "unit symmetries" not in str(second)
    assert first.whole == pytest.approx(second.whole, abs=1e-14)
    assert first.groups.keys() == second.groups.keys()


def test_a_line_that_holds_only_for_one_input_shape_is_broken():
    class Wide(nn.Sequential):
        def forward(self, x):
            h = self[0](x)
            return self[1](h.relu() if len(x) < 5 else h.tanh())

    model = Wide(nn.Linear(5, 7), nn.Linear(7, 3))
    spec = PermutationSpec.parse(
        "h = 7\n0.weight: h 5\n0.bias: h\n1.weight: 3 h\n1.bias: 3\n"
        "scale h: 0.weight[0] 0.bias[0] / 1.weight[1]"
    )
    assert verify(spec, model, torch.randn(3, 5))
    report = verify(spec, model, torch.randn(3, 5), others=[(torch.randn(6, 5),)])
    assert report.broken == ()
    assert report.failed == ()
    assert report.units.broken == spec.units


def test_without_groups_the_lines_are_measured_one_by_one_only_where_it_is_needed():
    right = report_of("mlp", RIGHT["mlp"], groups=False)
    assert right.ok
    assert right.units.units == ()
    assert 0 < right.units.whole < 1e-13
    wrong = report_of("mlp", [WRONG["scale without its bias"][2]], groups=False)
    assert broken_lines(wrong) == [f"{WRONG['scale without its bias'][2]}  BROKEN"]
    linear = report_of("attention", [WRONG["linear map without its bias"][2]], groups=False)
    assert broken_lines(linear) == [f"{WRONG['linear map without its bias'][2]}  BROKEN"]


def test_controls_untie_the_places_of_units_too():
    lines = ["scale dk1: qkv.weight[0,0,1] qkv.bias[0,0,1] / qkv.weight[0,1,1] qkv.bias[0,1,1]"]
    report = report_of("attention", lines, controls=True)
    assert report.ok
    assert [place.tensor for _, place in report.units.loose] == ["qkv.bias"]
    assert "scale dk1: qkv.bias[0,1,1] takes part or not without effect" in str(report)


def test_units_of_a_network_without_weights_are_proved_on_request():
    with torch.device("meta"):
        model = BY_NAME["mlp"].make()
    spec = spec_of("mlp", RIGHT["mlp"])
    assert verify(spec, model, BY_NAME["mlp"].inputs(), materialize=True).units.ok


def test_the_keywords_of_verify_are_the_fields_of_its_checks():
    keywords = verify.__globals__["_Keywords"].__annotations__
    fields = {field.name: field.type for field in dataclasses.fields(Checks)}
    assert {name: getattr(t, "__forward_arg__", t) for name, t in keywords.items()} == fields
    with pytest.raises(TypeError, match="contols"):
        report_of("mlp", [], contols=True)
    assert isinstance(report_of("mlp", []), Verification)
