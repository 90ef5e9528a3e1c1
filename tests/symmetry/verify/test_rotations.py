"""Rotations of rotary embeddings are found and proved; the wrong pairing and lone ends are not."""

import dataclasses

import pytest
import torch
from attention_networks import GPT2, GPTJ, LLAMA, Transformer, inputs

from wsl.symmetry import (
    SpecError,
    permutation_spec,
    symmetry_spec,
    verify,
    verify_units,
    with_rotations,
)

SHAPES = {
    "grouped queries": (LLAMA, "rotation head1 half:"),
    "interleaved": (GPTJ, "rotation head1 interleaved:"),
    "one head of keys": (dataclasses.replace(LLAMA, kv=1), "rotation half:"),
}
LIMITED = {"depth": 1, "vocabulary": 7}


def found(shape):
    torch.manual_seed(0)
    model, x = Transformer(dataclasses.replace(shape, **LIMITED)), inputs(shape) % 7
    return with_rotations(symmetry_spec(model, x), model, x), model, x


@pytest.mark.parametrize(("shape", "head"), SHAPES.values(), ids=SHAPES.keys())
def test_rotations_are_found_proved_and_needed_at_every_place(shape, head):
    spec, model, x = found(shape)
    (unit,) = [unit for unit in spec.units if unit.kind == "rotation"]
    assert str(unit).startswith(head)
    assert [place.tensor.split(".", 2)[2] for place in unit.places] == [
        "attention.q.weight",
        "attention.q.bias",
        "attention.k.weight",
        "attention.k.bias",
    ]
    alone = dataclasses.replace(spec, units=(unit,))
    report = verify_units(alone, model, x, controls=True)
    assert report.ok
    assert not report.loose
    other = {"half": "interleaved", "interleaved": "half"}[unit.form]
    wrong = dataclasses.replace(alone, units=(dataclasses.replace(unit, form=other),))
    assert verify_units(wrong, model, x).broken == wrong.units
    assert with_rotations(spec, model, x) == spec


def test_the_whole_report_has_a_line_for_the_rotation():
    spec, model, x = found(LLAMA)
    assert "rotation head1 half" in str(verify(spec, model, x))


def test_nothing_is_found_without_rotary_positions():
    model, x = Transformer(dataclasses.replace(GPT2, depth=1)), inputs(GPT2)
    spec = symmetry_spec(model, x)
    assert with_rotations(spec, model, x) == spec
    plain = permutation_spec(model, x)
    assert with_rotations(plain, model, x) == plain


def test_sequences_of_one_position_cannot_tell_the_pairing():
    model = Transformer(dataclasses.replace(LLAMA, depth=1))
    spec = symmetry_spec(model, inputs(LLAMA))
    with pytest.raises(SpecError, match="pass a sequence of at least three positions"):
        with_rotations(spec, model, torch.zeros(2, 1, dtype=torch.long))
