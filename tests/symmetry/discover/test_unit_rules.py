"""Every operation has a row with both of its rules; what unit rules allow is found and proved."""

import pytest
import torch
from test_units import Net
from torch import nn
from torch.nn import functional as F

from wsl.symmetry import symmetry_spec, verify_units
from wsl.symmetry.discover.exponents import UnitRule
from wsl.symmetry.discover.rules import FAMILIES, NAMED, RULES, row


@pytest.mark.parametrize("known", [*RULES.items(), *NAMED.items()], ids=lambda row: str(row[0]))
def test_every_operation_has_an_axes_rule_and_a_unit_rule(known):
    _, rules = known
    assert callable(rules.axes)
    assert isinstance(rules.units, UnitRule)


def test_an_operation_stands_in_one_row_only():
    assert sum(map(len, FAMILIES)) == len(RULES)


def test_a_row_cannot_leave_out_its_unit_rule():
    with pytest.raises(TypeError, match="units"):
        row("relu", lambda **_: ())


SCALE, SIGN, LINEAR = "scale", "sign", "linear"
ALL = {SCALE, SIGN, LINEAR}


def between(op):
    """Seven units on (batch, time, 7), an operation along time, and a layer that reads them."""
    return Net(
        lambda m, x: m.c(op(m.a(x))),
        a=nn.Linear(5, 7, bias=False),
        c=nn.Linear(7, 4),
    )


def ones(h, shape=(2, 3, 7)):
    return torch.zeros(shape, dtype=torch.int64, device=h.device)


ALONG_TIME = {
    "flip": (lambda h: h.flip(1), ALL),
    "roll": (lambda h: h.roll(1, 1), ALL),
    "cumsum": (lambda h: h.cumsum(1), ALL),
    "cumprod": (lambda h: h.cumprod(1), set()),
    "logcumsumexp": (lambda h: h.logcumsumexp(1), set()),
    "cummax": (lambda h: h.cummax(1).values, {SCALE}),
    "sort": (lambda h: h.sort(1).values, {SCALE}),
    "topk": (lambda h: h.topk(2, 1).values, {SCALE}),
    "median": (lambda h: h.median(1).values, {SCALE}),
    "kthvalue": (lambda h: h.kthvalue(2, 1).values, {SCALE}),
    "max": (lambda h: h.max(1).values, {SCALE}),
    "amin": (lambda h: h.amin(1), {SCALE}),
    "aminmax": (lambda h: sum(torch.aminmax(h, dim=1)), {SCALE}),
    "gather at its largest": (lambda h: h.gather(1, h.argmax(1, keepdim=True)), {SCALE}),
    "sorted by hand": (lambda h: h.gather(1, h.argsort(1)), {SCALE}),
    "tril": (
        lambda h: (
            h[..., None, :].expand(2, 3, 3, 7).permute(0, 3, 1, 2).tril().sum(-1).transpose(1, 2)
        ),
        ALL,
    ),
    "masked fill": (lambda h: h.masked_fill(torch.arange(3)[:, None] > 1, 0.0), ALL),
    "masked fill with a number": (
        lambda h: h.masked_fill(torch.arange(3)[:, None] > 1, 2.0),
        set(),
    ),
    "where": (lambda h: torch.where(torch.arange(3)[:, None] > 1, h, 0.0), ALL),
    "where, by the units themselves": (lambda h: torch.where(h > 0, h, 0.0), {SCALE}),
    "index": (lambda h: h[:, torch.tensor([2, 0, 0])], ALL),
    "index_select": (lambda h: h.index_select(1, torch.tensor([2, 0])), ALL),
    "take_along_dim": (lambda h: h.take_along_dim(torch.tensor([[[2], [0]]]), 1), ALL),
    "index_add": (lambda h: torch.zeros_like(h).index_add(1, torch.tensor([2, 0, 0]), h), ALL),
    "index_add onto a constant": (
        lambda h: torch.ones_like(h).index_add(1, torch.tensor([2, 0, 0]), h),
        set(),
    ),
    "index_copy": (lambda h: h.index_copy(1, torch.tensor([1]), h[:, :1]), ALL),
    "index_fill": (lambda h: h.index_fill(1, torch.tensor([1]), 0.0), ALL),
    "index_fill with a number": (lambda h: h.index_fill(1, torch.tensor([1]), 2.0), set()),
    "index_put": (lambda h: h.index_put((torch.arange(2), torch.tensor([1, 0])), h[:, 2]), ALL),
    "scatter": (lambda h: h.scatter(1, ones(h), h), ALL),
    "scatter of a number": (lambda h: h.scatter(1, ones(h), 2.0), set()),
    "scatter_add": (lambda h: h.scatter_add(1, ones(h), h), ALL),
    "scatter, multiplied": (lambda h: h.scatter(1, ones(h), 2.0, reduce="multiply"), set()),
    "pad": (lambda h: F.pad(h, (0, 0, 1, 1)), ALL),
    "pad with a number": (lambda h: F.pad(h, (0, 0, 1, 1), value=1.0), set()),
    "reflect": (lambda h: F.pad(h.transpose(1, 2), (1, 1), mode="reflect").transpose(1, 2), ALL),
    "stack": (lambda h: torch.stack([h, -h], 1).sum(1), ALL),
    "cat": (lambda h: torch.cat([h, h.flip(1)], 1), ALL),
    "repeat": (lambda h: h.repeat(1, 2, 1), ALL),
    "repeat_interleave": (lambda h: h.repeat_interleave(2, 1), ALL),
    "diagonal": (lambda h: (h[:, :, None] + h[:, None]).diagonal(0, 1, 2).transpose(1, 2), ALL),
    "prod": (lambda h: h.prod(1), {SCALE, SIGN}),
    "prod of two": (lambda h: h[:, :2].prod(1), {SCALE, SIGN}),
    "nansum": (lambda h: h.nansum(1), {SCALE, SIGN}),
    "logsumexp": (lambda h: h.logsumexp(1), set()),
    "var_mean": (lambda h: torch.var_mean(h, 1)[0], {SCALE, SIGN}),
    "var and mean together": (lambda h: sum(torch.var_mean(h, 1)), set()),
    "std_mean": (lambda h: torch.std_mean(h, 1)[0], {SCALE, SIGN}),
    "any": (lambda h: (h > 0).any(1) * h.mean(1), {SCALE}),
    "count_nonzero": (lambda h: h.count_nonzero(1) * h.mean(1), {SCALE, SIGN}),
    "fft": (lambda h: torch.fft.rfft(h, dim=1).real, ALL),
    "round": (lambda h: h.round(), {SIGN}),
    "floor": (lambda h: h.floor(), set()),
    "frac": (lambda h: h.frac(), {SIGN}),
    "nan_to_num": (lambda h: h.nan_to_num(), {SIGN}),
    "atan2": (lambda h: torch.atan2(h, h.flip(1)), {SCALE}),
    "copysign": (lambda h: h.copysign(h.flip(1)), {SCALE, SIGN}),
    "fmod": (lambda h: h.fmod(2.0), {SIGN}),
    "fmod by itself": (lambda h: h.fmod(h.flip(1)), {SCALE, SIGN}),
    "remainder": (lambda h: h.remainder(h.flip(1)), {SCALE, SIGN}),
    "xlogy": (lambda h: torch.xlogy(h, torch.full((7,), 3.0)), ALL),
    "ldexp": (lambda h: torch.ldexp(h, torch.full((7,), 3)), ALL),
    "isnan": (lambda h: h * ~h.isnan(), {SCALE, SIGN}),
    "logical_and": (lambda h: h * torch.logical_and(h, h.flip(1)), {SCALE, SIGN}),
    "linalg_cross": (lambda h: torch.linalg.cross(h, h.flip(1), dim=1), {SCALE, SIGN}),
    "polar": (lambda h: torch.polar(h, torch.full((7,), 0.3)).real, ALL),
    "complex": (lambda h: torch.complex(h, h.flip(1)).imag, ALL),
    "angle": (lambda h: torch.complex(h, h.flip(1)).angle() * h, {SCALE}),
    "grid_sample": (
        lambda h: (
            F.grid_sample(
                h.permute(0, 2, 1)[..., None], torch.full((2, 1, 3, 2), 0.1), align_corners=True
            )
            .flatten(2)
            .transpose(1, 2)
        ),
        ALL,
    ),
    "dropout that is on": (lambda h: F.dropout(h, 0.0, training=True), set()),
}


@pytest.mark.parametrize(("op", "kinds"), ALONG_TIME.values(), ids=ALONG_TIME.keys())
def test_an_operation_along_another_axis_passes_what_its_unit_rule_says(op, kinds):
    model, x = between(op), torch.randn(2, 3, 5)
    spec = symmetry_spec(model, x)
    proof = verify_units(spec, model, x)
    assert proof.ok, str(proof)
    assert {unit.kind for unit in spec.units if unit.group == "h1"} == kinds
    if kinds:
        assert {unit.group for unit in spec.units} == {"h1"}


def weight(*shape):
    return nn.Parameter(torch.randn(shape))


def read(function, *shape):
    """A weight whose rows are units, changed before all else, and a layer that reads them."""
    return Net(lambda m, x: m.c(x @ function(m.w)), w=weight(*shape), c=nn.Linear(shape[-1], 4))


ORIGINS = {
    "a number": (lambda w: w + 1.0, True),
    "a border": (lambda w: F.pad(w, (0, 0, 1, 1))[:5] + 1.0, False),
    "running sums": (lambda w: w.cumsum(0) + 1.0, False),
    "a triangle": (lambda w: w.T[:, None].expand(7, 5, 5).tril().sum(-1).T + 1.0, False),
    "flipped": (lambda w: w.flip(0) + 1.0, True),
    "imaginary": (lambda w: torch.view_as_complex(torch.stack([w, w], -1)).imag + 1.0, False),
}


@pytest.mark.parametrize(("function", "moves"), ORIGINS.values(), ids=ORIGINS.keys())
def test_a_number_moves_the_origin_of_a_weight_only_where_entries_are_as_they_were(function, moves):
    model, x = read(function, 5, 7), torch.randn(3, 5)
    spec = symmetry_spec(model, x)
    assert verify_units(spec, model, x).ok
    assert [place.offset for unit in spec.units for place in unit.places if place.offset] == (
        [1.0, 1.0] if moves else []
    )


CHOOSING = {
    "where": lambda h, w: torch.where(w > 0, h, 0.0),
    "masked_fill": lambda h, w: h.masked_fill(w > 0, 0.0),
    "gather": lambda h, w: h.gather(1, (w > 0).long().expand(2, 1, 7)),
}


@pytest.mark.parametrize("op", CHOOSING.values(), ids=CHOOSING.keys())
def test_where_each_unit_is_chosen_by_itself_no_matrix_acts_on_all_of_them(op):
    model = Net(
        lambda m, x: m.c(op(m.a(x), m.w)), a=nn.Linear(5, 7), c=nn.Linear(7, 4), w=weight(7)
    )
    spec = symmetry_spec(model, torch.randn(2, 3, 5))
    assert verify_units(spec, model, torch.randn(2, 3, 5)).ok
    assert "linear" not in {unit.kind for unit in spec.units}


CELLS = {
    "rnn tanh": (lambda: nn.RNNCell(5, 7), {SIGN}),
    "rnn relu": (lambda: nn.RNNCell(5, 7, nonlinearity="relu"), {SCALE}),
    "gru": (lambda: nn.GRUCell(5, 7), set()),
}


@pytest.mark.parametrize(("cell", "kinds"), CELLS.values(), ids=CELLS.keys())
def test_a_recurrent_cell_scales_its_state_as_its_activation_allows(cell, kinds):
    def function(m, x):
        h = m.cell(m.a(x))
        return m.c(m.cell(m.a(x), h))

    model = Net(function, a=nn.Linear(4, 5), cell=cell(), c=nn.Linear(7, 3))
    x = torch.randn(2, 4)
    spec = symmetry_spec(model, x)
    assert verify_units(spec, model, x).ok
    assert {unit.kind for unit in spec.units if "c.weight" in str(unit)} == kinds
    assert {unit.kind for unit in spec.units if "a.weight" in str(unit)} == ALL
