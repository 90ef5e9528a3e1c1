"""The cut of tensors at the seams of concatenations: pieces cover a tensor, and name its axes."""

import itertools

import pytest
import torch
from networks import NETWORKS

from wsl.symmetry import Occurrence, PermutationSpec, factor_of, pieces, window_of

QKV = PermutationSpec.parse(
    "d = 6, head = 3, dk = 4 per head, dv = 2 per head\nqkv.weight: (2 head dk)+(head dv) d\nout: d"
)


def joined(spec, params):
    """Tensors put together again from their pieces, each at its window."""
    whole = {name: torch.full(shape, float("nan")) for name, shape in spec.shapes.items()}
    for piece in pieces(spec):
        at = tuple(slice(start, start + length) for start, length in piece.window)
        shape = tuple(length for _, length in piece.window)
        assert whole[piece.tensor][at].isnan().all()
        whole[piece.tensor][at] = piece.cut(params, torch.zeros(())).reshape(shape)
    return whole


@pytest.mark.parametrize("spec", [QKV, *(n.spec for n in NETWORKS)])
def test_pieces_cover_every_tensor_exactly_once(spec):
    params = {name: torch.randn(shape) for name, shape in spec.shapes.items()}
    for name, tensor in joined(spec, params).items():
        assert torch.equal(tensor, params[name])


def test_a_piece_has_an_axis_per_atom_and_knows_the_parents_of_families():
    keys, values, out = pieces(QKV)
    assert keys.window == ((0, 24), (0, 6))
    assert values.window == ((24, 6), (0, 6))
    assert (keys.atoms, keys.shape) == ((2, "head", "dk", "d"), (2, 3, 4, 6))
    assert (values.atoms, values.shape) == (("head", "dv", "d"), (3, 2, 6))
    assert (keys.parents, values.parents) == ((None, None, 1, None), (None, 0, None))
    assert out.atoms == ("d",)


def test_chosen_tensors_come_in_the_order_asked_for_and_are_cut_once():
    asked = pieces(QKV, ("out", "qkv.weight"))
    assert [piece.tensor for piece in asked] == ["out", "qkv.weight", "qkv.weight"]
    again = PermutationSpec.parse(str(QKV))
    assert pieces(again) is pieces(QKV)


def test_pieces_of_a_tensor_are_row_major_over_the_seams():
    spec = PermutationSpec.parse("a = 2, b = 3\nw: a+b b+4+a")
    starts = [tuple(start for start, _ in piece.window) for piece in pieces(spec)]
    assert starts == list(itertools.product([0, 2], [0, 3, 7]))


def test_the_factor_of_an_occurrence_varies_in_the_middle():
    place = next(iter(QKV.occurrences("dv")))
    assert place == Occurrence("qkv.weight", 0, 1, 1)
    factor = factor_of(QKV, place)
    assert (factor.start, factor.outer, factor.size, factor.inner) == (24, 3, 2, 1)
    assert factor.length == window_of(QKV, place).length == 6
    head = factor_of(QKV, Occurrence("qkv.weight", 0, 0, 1))
    assert (head.start, head.outer, head.size, head.inner) == (0, 2, 3, 4)
