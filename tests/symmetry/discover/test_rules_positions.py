"""Rules of operations that know positions: what moves is written in full, what cannot says why, and
all of it is proved.
"""

import inspect

import pytest
import torch
from test_discover import Net, found, lines, weight
from torch import nn
from torch.nn import functional as F

from wsl.symmetry import permutation_spec
from wsl.symmetry.discover.rules import RULES


def between(op, *, out):
    """A layer of 11 units, an operation on (batch, time, 7), and a layer that reads the result."""
    return Net(
        lambda m, x: m.c(op(m.b(m.a(x).relu()))),
        a=nn.Linear(5, 11),
        b=nn.Linear(11, 7),
        c=nn.Linear(out, 3),
    )


def units(op, out=7):
    """How the 7 units move before the operation and after it, or why they cannot."""
    spec = found(between(op, out=out), torch.randn(2, 3, 5))
    assert spec.groups["h1"] == 11
    before, after = (
        line.split(": ")[1] for line in lines(spec) if line.startswith(("b.bias", "c.weight"))
    )
    return before, after.removeprefix("3 "), spec.pinned.get("b.weight axis 0")


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (lambda h: h.cumsum(-1), "order of aten.cumsum"),
        (lambda h: h.cummax(-1).values, "order of aten.cummax"),
        (lambda h: h.flip(-1), "order of aten.flip"),
        (lambda h: h.argsort(-1).to(h), "order of aten.argsort"),
        (
            lambda h: h.gather(-1, h.argmax(-1, keepdim=True)).expand(-1, -1, 7) + h,
            "position of aten.argmax",
        ),
        (lambda h: h.gather(-1, h.topk(7, -1).indices), "order of aten.topk"),
        (lambda h: h + h.max(-1, keepdim=True).indices, "position of aten.max"),
        (lambda h: h @ torch.ones(7, 7).tril(), "triangle of aten.tril"),
        (lambda h: (h[..., None] * h[..., None, :]).triu().sum(-1), "triangle of aten.triu"),
        (lambda h: torch.fft.fft(h).real, "frequencies of aten.fft_fft"),
        (lambda h: h.roll(2), "order of aten.roll"),
        (lambda h: h[..., torch.tensor([3, 1, 4, 1, 5, 2, 6])], "index of aten.index"),
    ],
)
def test_an_operation_along_the_units_that_knows_their_order_pins_them(op, reason):
    assert units(op) == ("7", "7", reason)


@pytest.mark.parametrize(
    "op",
    [
        lambda h: h.cumsum(1),
        lambda h: h.cummax(1).values,
        lambda h: h.flip(1),
        lambda h: h.sort(1).values,
        lambda h: h.gather(1, h.argsort(1)),
        lambda h: h.topk(2, 1).values,
        lambda h: h + h.topk(3, 1).indices,
        lambda h: h.max(1, keepdim=True).values,
        lambda h: h + h.max(1, keepdim=True).indices,
        lambda h: h + h.argmax(1, keepdim=True),
        lambda h: h.median(1).values,
        lambda h: h.roll(1, 1),
        lambda h: h.permute(2, 0, 1).tril().permute(1, 2, 0),
        lambda h: torch.fft.fft(h, dim=1).abs(),
        lambda h: torch.fft.rfftn(h, dim=(0, 1)).abs(),
        lambda h: torch.view_as_real(torch.view_as_complex(torch.stack([h, h.sin()], -1)) ** 2).sum(
            -1
        ),
        lambda h: torch.complex(h, h.sin()).angle(),
        lambda h: h[:, torch.tensor([2, 0])],
        lambda h: h[torch.tensor([1, 0]), torch.tensor([2, 2])],
        lambda h: h.index_select(1, torch.tensor([2, 0])),
        lambda h: h.index_add(1, torch.tensor([2, 0]), h[:, :2].sin()),
        lambda h: h.index_fill(1, torch.tensor([2]), 0.5),
        lambda h: h.index_put(
            (torch.tensor([1, 0]), torch.tensor([2, 1])), h[0, :2].sin(), accumulate=True
        ),
        lambda h: h.scatter(1, torch.tensor([1, 0, 2]).view(1, 3, 1).expand(2, 3, 7), h.sin()),
        lambda h: h.scatter_add(1, h.argsort(1), h),
        lambda h: torch.take_along_dim(h, torch.tensor([1, 0]).view(1, 2, 1), 1),
        lambda h: h.unfold(1, 2, 1).sum(-1),
        lambda h: torch.var_mean(h, 1)[0] + torch.std_mean(h, 1)[1] + h.aminmax(dim=1).max,
        lambda h: torch.cosine_similarity(h, h.sin(), 1),
        lambda h: h * F.one_hot((h > 0).long(), 2)[..., 0],
        lambda h: h.diagonal(0, 0, 1).mT * torch.ones(1),
        lambda h: torch.cdist(h, h.cos()) @ h,
        lambda h: h * torch.meshgrid(torch.arange(3.0), torch.ones(7), indexing="ij")[0],
        lambda h: F.conv1d(h, weight(4, 3, 1)),
        lambda h: h + h[..., 9::2].sum(-1, keepdim=True),
        lambda h: F.adaptive_avg_pool1d(h.mT, 1).mT,
    ],
)
def test_an_operation_along_another_axis_lets_the_units_move(op):
    assert units(op)[:2] == ("h2", "h2")


def test_sorted_values_do_not_move_and_their_source_does():
    assert units(lambda h: h.sort(-1).values) == ("h2", "7", None)
    assert units(lambda h: h.topk(2, -1).values, 2) == ("h2", "2", None)
    assert units(lambda h: h.max(-1, keepdim=True).values, 1) == ("h2", "1", None)
    assert units(lambda h: h.median(-1, keepdim=True).values, 1) == ("h2", "1", None)


def test_a_rotation_of_the_units_exchanges_two_groups():
    spec = found(between(lambda h: h.roll(2, -1), out=7), torch.randn(2, 3, 5))
    assert lines(spec)[:1] + lines(spec)[4:6] == [
        "h1 = 11, h2 = 5, h3 = 2",
        "b.bias: h2+h3",
        "c.weight: 3 h3+h2",
    ]


def test_an_order_among_blocks_forbids_a_family():
    model = Net(
        lambda m, x: m.b(m.a(x).unflatten(-1, (2, 3)).sort(1).values.flatten(1)),
        a=nn.Linear(5, 6),
        b=nn.Linear(6, 2),
    )
    assert lines(found(model, torch.randn(4, 5)))[:2] == ["h1 = 2, h2 = 3", "a.weight: (h1 h2) 5"]


def test_one_value_written_through_a_mask_is_elementwise():
    def forward(m, x):
        h = m.a(x).relu() + 0
        h[h > 1] = 0.5
        return m.b(h)

    assert found(Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2)), torch.randn(4, 5)).groups == {
        "h1": 7
    }


def test_positions_written_into_a_constant_make_it_vary():
    def forward(m, x):
        gate = torch.zeros(7, 3).scatter(0, torch.tensor([[1, 2, 3]]), 1.0)
        return m.b(m.a(x).relu() @ gate)

    spec = found(Net(forward, a=nn.Linear(5, 7), b=nn.Linear(3, 2)), torch.randn(4, 5))
    assert not spec.groups


def test_rows_written_into_a_constant_move_with_their_source():
    def forward(m, x):
        return m.b(torch.zeros(4, 7).index_add(0, torch.tensor([2, 0]), m.a(x).relu()))

    assert found(Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2)), torch.randn(2, 5)).groups == {
        "h1": 7
    }


def test_windows_of_an_image_keep_channels_outside():
    model = Net(
        lambda m, x: m.b(F.fold(F.unfold(m.a(x).relu(), 2) * m.s, (4, 4), 2)),
        a=nn.Conv2d(2, 7, 1),
        b=nn.Conv2d(7, 3, 1),
        s=weight(28, 9),
    )
    assert lines(found(model, torch.randn(2, 2, 4, 4)))[:2] == ["h1 = 7", "s: (h1 4) 9"]


def test_a_vector_product_pins_its_axis():
    model = Net(
        lambda m, x: m.b(torch.linalg.cross(m.a(x).mT, x.sin(), dim=1).mT),
        a=nn.Linear(3, 3),
        b=nn.Linear(3, 2),
    )
    assert (
        permutation_spec(model, torch.randn(2, 3, 3)).pinned["a.weight axis 0"]
        == "order of aten.linalg_cross"
    )


def test_sampling_at_computed_positions_moves_channels():
    def forward(m, x):
        grid = F.affine_grid(m.t(x.mean((2, 3))).view(2, 2, 3), [2, 1, 3, 5], align_corners=False)
        return m.b(F.grid_sample(m.a(x).relu(), grid, align_corners=False))

    model = Net(forward, a=nn.Conv2d(2, 7, 1), b=nn.Conv2d(7, 3, 1), t=nn.Linear(2, 6))
    spec = found(model, torch.randn(2, 2, 4, 4))
    assert spec.groups == {"c1": 7}
    assert spec.pinned["t.weight axis 0"].startswith("coordinates of aten.affine_grid_generator")


def test_one_step_of_a_recurrent_layer_moves_all_gates_alike():
    def lstm(m, x):
        h, c = m.cell(x, m.cell(x))
        return m.b(h + c.tanh())

    assert lines(found(Net(lstm, cell=nn.LSTMCell(5, 7), b=nn.Linear(7, 2)), torch.randn(3, 5)))[
        1:3
    ] == [
        "cell.weight_ih: (4 h1) 5",
        "cell.weight_hh: (4 h1) h1",
    ]
    gru = Net(lambda m, x: m.b(m.cell(x, m.cell(x))), cell=nn.GRUCell(5, 7), b=nn.Linear(7, 2))
    assert lines(found(gru, torch.randn(3, 5)))[2] == "cell.weight_hh: (3 h1) h1"


def test_weight_norm_moves_directions_and_lengths():
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 2)
    )
    assert lines(found(model, torch.randn(3, 5)))[1:4] == [
        "0.bias: h1",
        "0.parametrizations.weight.original0: h1 1",
        "0.parametrizations.weight.original1: h1 5",
    ]


def test_units_move_as_space_under_a_convolution_of_one_position():
    def network(kernel, **steps):
        return Net(
            lambda m, x: F.conv1d(x @ m.a, m.b, **steps).tanh() @ m.c,
            a=weight(5, 7),
            b=weight(3, 4, kernel),
            c=weight(7, 2),
        )

    x = torch.randn(2, 4, 5)
    assert lines(found(network(1), x)) == ["h1 = 7", "a: 5 h1", "b: 3 4 1", "c: h1 2"]
    assert permutation_spec(network(3, padding=1), x).pinned["a axis 1"] == "space of aten.conv1d"


def test_an_index_on_two_axes_apart_puts_positions_in_front():
    def forward(m, x):
        h = m.a(x).relu().unflatten(0, (2, 2))
        return m.b(h.transpose(1, 2)[torch.tensor([1, 0, 1]), :, torch.tensor([1, 1, 0])])

    assert found(Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2)), torch.randn(4, 5)).groups == {
        "h1": 7
    }


@pytest.mark.parametrize("packet", sorted(RULES, key=str), ids=str)
def test_every_rule_takes_the_arguments_of_its_operation(packet):
    parameters = inspect.signature(RULES[packet].axes).parameters.values()
    assert any(p.kind == p.VAR_KEYWORD for p in parameters)
    needed = {p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD} - {
        "at"
    }
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()]
    assert any(needed <= {argument.name for argument in schema.arguments} for schema in schemas)
