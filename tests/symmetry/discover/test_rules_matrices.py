"""Rules for matrices, losses, packed sequences and the like: what moves and scales is written in
full, what cannot says why, and all of it is proved.
"""

import contextlib

import pytest
import torch
from test_units import Net, lines
from torch import nn
from torch.nn import functional as F

import wsl
from wsl.symmetry import SpecWarning, permutation_spec, symmetry_spec, verify_units


def weight(*shape):
    return nn.Parameter(torch.randn(shape))


def cond(m, x):
    h = m.a(x)
    return m.c(torch.cond(x.sum() > 0, lambda h: h.relu(), lambda h: h * 0.5, (h,)))


def packed(m, x):
    p = nn.utils.rnn.pack_padded_sequence(m.a(x), torch.tensor([3, 2]), batch_first=True)
    o, _ = m.r(p)
    o, _ = nn.utils.rnn.pad_packed_sequence(o, batch_first=True)
    return m.c(o)


def packed_lstm(m, x):
    p = nn.utils.rnn.pack_padded_sequence(m.a(x), torch.tensor([3, 2]), batch_first=True)
    _, (h, _) = m.r(p)
    return m.c(h[-1])


PLACES = torch.tensor([0, 1, 1])[None, :, None].expand(2, 3, 7)

NETWORKS = {
    "scatter_reduce sum": lambda: Net(
        lambda m, x: m.c(torch.zeros(2, 2, 7).scatter_reduce(1, PLACES, m.a(x), "sum")),
        a=nn.Linear(5, 7),
        c=nn.Linear(7, 4),
    ),
    "scatter_reduce amax": lambda: Net(
        lambda m, x: m.c(
            torch.zeros(2, 2, 7).scatter_reduce(1, PLACES, m.a(x), "amax", include_self=False)
        ),
        a=nn.Linear(5, 7),
        c=nn.Linear(7, 4),
    ),
    "tensordot": lambda: Net(
        lambda m, x: torch.tensordot(m.a(x), m.w, dims=([2], [0])),
        a=nn.Linear(5, 7),
        w=weight(7, 4),
    ),
    "kron": lambda: Net(
        lambda m, x: F.linear(m.b(F.linear(m.a(x).relu(), torch.kron(m.u, m.v))), m.q),
        a=nn.Linear(5, 6),
        u=weight(2, 2),
        v=weight(4, 3),
        b=nn.Linear(8, 3),
        q=weight(2, 3),
    ),
    "lokr": lambda: Net(
        lambda m, x: m.b(F.linear(m.a(x), m.w + torch.kron(m.u, m.v)).relu()),
        a=nn.Linear(5, 6),
        w=weight(8, 6),
        u=weight(2, 2),
        v=weight(4, 3),
        b=nn.Linear(8, 3),
    ),
    "dora": lambda: Net(
        lambda m, x: m.b(
            F.linear(m.a(x).relu(), m.g * m.w / torch.linalg.norm(m.w, dim=1, keepdim=True)).relu()
        ),
        a=nn.Linear(5, 6),
        w=weight(8, 6),
        g=weight(8, 1),
        b=nn.Linear(8, 3),
    ),
    "hra": lambda: Net(
        lambda m, x: m.b(
            F.linear(m.a(x).relu(), torch.eye(6) - 2 * torch.outer(m.w, m.w) / m.w.square().sum())
        ),
        a=nn.Linear(5, 6),
        w=weight(6),
        b=nn.Linear(6, 3),
    ),
    "matrix norm": lambda: Net(
        lambda m, x: m.b(m.a(x).relu()) * torch.linalg.matrix_norm(m.w),
        a=nn.Linear(5, 6),
        w=weight(8, 6),
        b=nn.Linear(6, 3),
    ),
    "fftshift": lambda: Net(
        lambda m, x: m.c(torch.fft.fftshift(m.a(x), dim=1)), a=nn.Linear(5, 7), c=nn.Linear(7, 4)
    ),
    "ifft2": lambda: Net(
        lambda m, x: m.c(torch.fft.ifft2(torch.fft.fft2(m.a(x), dim=(0, 1)), dim=(0, 1)).real),
        a=nn.Linear(5, 7),
        c=nn.Linear(7, 4),
    ),
    "and": lambda: Net(
        lambda m, x: m.c(m.a(x) * ((m.a(x) > 0) & (m.b(x) > 0))),
        a=nn.Linear(5, 7),
        b=nn.Linear(5, 7),
        c=nn.Linear(7, 4),
    ),
    "broadcast_tensors": lambda: Net(
        lambda m, x: m.c(torch.mul(*torch.broadcast_tensors(m.a(x), m.w))),
        a=nn.Linear(5, 7),
        w=weight(7),
        c=nn.Linear(7, 4),
    ),
    "packed rnn": lambda: Net(
        packed, a=nn.Linear(5, 6), r=nn.RNN(6, 7, batch_first=True), c=nn.Linear(7, 4)
    ),
    "packed lstm": lambda: Net(
        packed_lstm,
        a=nn.Linear(5, 6),
        r=nn.LSTM(6, 7, 2, batch_first=True, bidirectional=True),
        c=nn.Linear(7, 4),
    ),
    "lstm": lambda: Net(
        lambda m, x: m.c(m.r(m.a(x))[0]),
        a=nn.Linear(5, 6),
        r=nn.LSTM(6, 7, 2, batch_first=True, bidirectional=True),
        c=nn.Linear(14, 4),
    ),
    "narrow": lambda: Net(
        lambda m, x: m.c(m.a(x).narrow(2, 0, 3) * m.a(x).narrow(-1, 4, 3)),
        a=nn.Linear(5, 7),
        c=nn.Linear(3, 4),
    ),
    "hstack": lambda: Net(
        lambda m, x: m.c(torch.hstack([m.a(x), m.b(x)])),
        a=nn.Linear(5, 7),
        b=nn.Linear(5, 7),
        c=nn.Linear(7, 4),
    ),
    "vstack": lambda: Net(
        lambda m, x: x @ torch.vstack([m.u, m.v]) @ m.w, u=weight(7), v=weight(4, 7), w=weight(7, 3)
    ),
    "vstack rows": lambda: Net(
        lambda m, x: x @ torch.vstack([m.u, m.v]) @ m.w,
        u=weight(1, 7),
        v=weight(4, 7),
        w=weight(7, 3),
    ),
    "embedding_bag": lambda: Net(
        lambda m, x: m.c(m.e(torch.tensor([[0, 1], [2, 1]])).relu()) + x.sum(),
        e=nn.EmbeddingBag(4, 7),
        c=nn.Linear(7, 4),
    ),
    "embedding_bag max": lambda: Net(
        lambda m, x: m.c(m.e(torch.tensor([[0, 1], [2, 1]])).relu()) + x.sum(),
        e=nn.EmbeddingBag(4, 7, mode="max"),
        c=nn.Linear(7, 4),
    ),
    "fill_diagonal": lambda: Net(
        lambda m, x: m.b(m.a(x).relu() @ (m.w * 1).fill_diagonal_(0.0)),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "cross_entropy": lambda: Net(
        lambda m, x: F.cross_entropy(
            m.b(m.a(x).relu()).flatten(0, 1), torch.zeros(6, dtype=torch.long)
        ),
        a=nn.Linear(5, 6),
        b=nn.Linear(6, 3),
    ),
    "cross_entropy soft": lambda: Net(
        lambda m, x: F.cross_entropy(m.b(m.a(x).relu()).flatten(0, 1), m.t.softmax(-1)),
        a=nn.Linear(5, 6),
        b=nn.Linear(6, 7),
        t=weight(6, 7),
    ),
    "mse": lambda: Net(
        lambda m, x: F.mse_loss(m.b(m.a(x).relu()), m.t),
        a=nn.Linear(5, 6),
        b=nn.Linear(6, 7),
        t=weight(2, 3, 7),
    ),
    "slogdet": lambda: Net(
        lambda m, x: m.b(m.a(x).relu()) + torch.linalg.slogdet(m.w)[1],
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "det": lambda: Net(
        lambda m, x: m.b(m.a(x).relu()) + torch.det(m.w),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "solve": lambda: Net(
        lambda m, x: m.b(torch.linalg.solve(m.w, m.a(x).transpose(1, 2).relu()).transpose(1, 2)),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "solve right": lambda: Net(
        lambda m, x: m.b(torch.linalg.solve(m.w, m.a(x).relu(), left=False)),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "inverse": lambda: Net(
        lambda m, x: m.b(m.a(x).relu() @ torch.linalg.inv(m.w)),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "trace": lambda: Net(
        lambda m, x: m.b(m.a(x).relu()) + torch.trace(m.w),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "matrix_exp": lambda: Net(
        lambda m, x: m.b(m.a(x).relu() @ torch.matrix_exp(m.w)),
        a=nn.Linear(5, 6),
        w=weight(6, 6),
        b=nn.Linear(6, 3),
    ),
    "mask": lambda: Net(
        lambda m, x: m.c(m.a(x)[torch.tensor([[True, False, True], [True, True, False]])]),
        a=nn.Linear(5, 7),
        c=nn.Linear(7, 4),
    ),
    "cond": lambda: Net(cond, a=nn.Linear(5, 7), c=nn.Linear(7, 4)),
}

GOLDEN = {
    "scatter_reduce sum": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / c.weight[1]
        sign h1: a.weight[0] a.bias[0] c.weight[1]
        linear h1: a.weight[0] a.bias[0] / c.weight[1]
        """,
    "scatter_reduce amax": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / c.weight[1]
        """,
    "tensordot": """
        h1 = 7
        w: h1 4
        a.weight: h1 5
        a.bias: h1
        scale h1: a.weight[0] a.bias[0] / w[0]
        sign h1: w[0] a.weight[0] a.bias[0]
        linear h1: a.weight[0] a.bias[0] / w[0]
        """,
    "kron": """
        h1 = 2, h2 = 2, h3 = 4, h4 = 3, h5 = 3
        u: h1 h2
        v: h3 h4
        q: 2 h5
        a.weight: (h2 h4) 5
        a.bias: (h2 h4)
        b.weight: h5 (h1 h3)
        b.bias: h5
        scale h1: u[0] / b.weight[1]
        sign h1: u[0] b.weight[1]
        linear h1: u[0] / b.weight[1]
        scale h2: a.weight[0] a.bias[0] / u[1]
        scale h3: v[0] / b.weight[1,0,1]
        sign h3: v[0] b.weight[1,0,1]
        linear h3: v[0] / b.weight[1,0,1]
        scale h4: a.weight[0,0,1] a.bias[0,0,1] / v[1]
        scale h5: b.weight[0] b.bias[0] / q[1]
        sign h5: q[1] b.weight[0] b.bias[0]
        linear h5: b.weight[0] b.bias[0] / q[1]
        """,
    "lokr": """
        h1 = 2, h2 = 4, h3 = 2, h4 = 3
        w: (h1 h2) (h3 h4)
        u: h1 h3
        v: h2 h4
        a.weight: (h3 h4) 5
        a.bias: (h3 h4)
        b.weight: 3 (h1 h2)
        b.bias: 3
        scale h1: w[0] u[0] / b.weight[1]
        scale h2: w[0,0,1] v[0] / b.weight[1,0,1]
        scale h3: a.weight[0] a.bias[0] / w[1] u[1]
        sign h3: w[1] u[1] a.weight[0] a.bias[0]
        linear h3: a.weight[0] a.bias[0] / w[1] u[1]
        scale h4: a.weight[0,0,1] a.bias[0,0,1] / w[1,0,1] v[1]
        sign h4: w[1,0,1] v[1] a.weight[0,0,1] a.bias[0,0,1]
        linear h4: a.weight[0,0,1] a.bias[0,0,1] / w[1,0,1] v[1]
        """,
    "dora": """
        h1 = 8, h2 = 6
        w: h1 h2
        g: h1 1
        a.weight: h2 5
        a.bias: h2
        b.weight: 3 h1
        b.bias: 3
        scale h1: g[0] / b.weight[1]
        scale h1: w[0]
        sign h1: w[0] g[0]
        """,
    "hra": """
        h1 = 6
        w: h1
        a.weight: h1 5
        a.bias: h1
        b.weight: 3 h1
        b.bias: 3
        """,
    "matrix norm": """
        h1 = 8, h2 = 6, h3 = 6
        w: h1 h2
        a.weight: h3 5
        a.bias: h3
        b.weight: 3 h3
        b.bias: 3
        sign h1: w[0]
        sign h2: w[1]
        scale h3: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "fftshift": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / c.weight[1]
        sign h1: a.weight[0] a.bias[0] c.weight[1]
        linear h1: a.weight[0] a.bias[0] / c.weight[1]
        """,
    "ifft2": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / c.weight[1]
        sign h1: a.weight[0] a.bias[0] c.weight[1]
        linear h1: a.weight[0] a.bias[0] / c.weight[1]
        """,
    "and": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        b.weight: h1 5
        b.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / c.weight[1]
        scale h1: b.weight[0] b.bias[0]
        """,
    "broadcast_tensors": """
        h1 = 7
        w: h1
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / w[0]
        scale h1: w[0] / c.weight[1]
        sign h1: w[0] a.weight[0] a.bias[0]
        sign h1: w[0] c.weight[1]
        """,
    "packed rnn": """
        h1 = 6, h2 = 7
        a.weight: h1 5
        a.bias: h1
        r.weight_ih_l0: h2 h1
        r.weight_hh_l0: h2 h2
        r.bias_ih_l0: h2
        r.bias_hh_l0: h2
        c.weight: 4 h2
        c.bias: 4
        """,
    "packed lstm": """
        h1 = 6, h2 = 7, h3 = 7, h4 = 7, h5 = 7
        a.weight: h1 5
        a.bias: h1
        r.weight_ih_l0: (4 h2) h1
        r.weight_hh_l0: (4 h2) h2
        r.bias_ih_l0: (4 h2)
        r.bias_hh_l0: (4 h2)
        r.weight_ih_l0_reverse: (4 h3) h1
        r.weight_hh_l0_reverse: (4 h3) h3
        r.bias_ih_l0_reverse: (4 h3)
        r.bias_hh_l0_reverse: (4 h3)
        r.weight_ih_l1: (4 h4) h2+h3
        r.weight_hh_l1: (4 h4) h4
        r.bias_ih_l1: (4 h4)
        r.bias_hh_l1: (4 h4)
        r.weight_ih_l1_reverse: (4 h5) h2+h3
        r.weight_hh_l1_reverse: (4 h5) h5
        r.bias_ih_l1_reverse: (4 h5)
        r.bias_hh_l1_reverse: (4 h5)
        c.weight: 4 h5
        c.bias: 4
        """,
    "lstm": """
        h1 = 6, h2 = 7, h3 = 7, h4 = 7, h5 = 7
        a.weight: h1 5
        a.bias: h1
        r.weight_ih_l0: (4 h2) h1
        r.weight_hh_l0: (4 h2) h2
        r.bias_ih_l0: (4 h2)
        r.bias_hh_l0: (4 h2)
        r.weight_ih_l0_reverse: (4 h3) h1
        r.weight_hh_l0_reverse: (4 h3) h3
        r.bias_ih_l0_reverse: (4 h3)
        r.bias_hh_l0_reverse: (4 h3)
        r.weight_ih_l1: (4 h4) h2+h3
        r.weight_hh_l1: (4 h4) h4
        r.bias_ih_l1: (4 h4)
        r.bias_hh_l1: (4 h4)
        r.weight_ih_l1_reverse: (4 h5) h2+h3
        r.weight_hh_l1_reverse: (4 h5) h5
        r.bias_ih_l1_reverse: (4 h5)
        r.bias_hh_l1_reverse: (4 h5)
        c.weight: 4 h4+h5
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / r.weight_ih_l0[1] r.weight_ih_l0_reverse[1]
        sign h1: a.weight[0] a.bias[0] r.weight_ih_l0[1] r.weight_ih_l0_reverse[1]
        linear h1: a.weight[0] a.bias[0] / r.weight_ih_l0[1] r.weight_ih_l0_reverse[1]
        """,
    "narrow": """
        h1 = 3
        a.weight: h1+1+h1 5
        a.bias: h1+1+h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / a.weight[0,2,0] a.bias[0,2,0]
        scale h1: a.weight[0,2,0] a.bias[0,2,0] / c.weight[1]
        sign h1: a.weight[0] a.weight[0,2,0] a.bias[0] a.bias[0,2,0]
        sign h1: a.weight[0,2,0] a.bias[0,2,0] c.weight[1]
        """,
    "hstack": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        b.weight: h1 5
        b.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] b.weight[0] b.bias[0] / c.weight[1]
        sign h1: a.weight[0] a.bias[0] b.weight[0] b.bias[0] c.weight[1]
        linear h1: a.weight[0] a.bias[0] b.weight[0] b.bias[0] / c.weight[1]
        """,
    "vstack": """
        u: 7
        v: 4 7
        w: 7 3
        """,
    "vstack rows": """
        h1 = 7
        u: 1 h1
        v: 4 h1
        w: h1 3
        scale h1: u[1] v[1] / w[0]
        sign h1: u[1] v[1] w[0]
        linear h1: u[1] v[1] / w[0]
        """,
    "embedding_bag": """
        h1 = 7
        e.weight: 4 h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: e.weight[1] / c.weight[1]
        """,
    "embedding_bag max": """
        h1 = 7
        e.weight: 4 h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: e.weight[1] / c.weight[1]
        """,
    "fill_diagonal": """
        h1 = 6
        w: h1 h1
        a.weight: h1 5
        a.bias: h1
        b.weight: 3 h1
        b.bias: 3
        """,
    "cross_entropy": """
        h1 = 6
        a.weight: h1 5
        a.bias: h1
        b.weight: 3 h1
        b.bias: 3
        scale h1: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "cross_entropy soft": """
        h1 = 7, h2 = 6
        t: 6 h1
        a.weight: h2 5
        a.bias: h2
        b.weight: h1 h2
        b.bias: h1
        scale h2: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "mse": """
        c1 = 7, h1 = 6
        t: 2 3 c1
        a.weight: h1 5
        a.bias: h1
        b.weight: c1 h1
        b.bias: c1
        scale h1: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "slogdet": """
        h1 = 6, h2 = 6, h3 = 6
        w: h1 h2
        a.weight: h3 5
        a.bias: h3
        b.weight: 3 h3
        b.bias: 3
        scale h3: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "det": """
        h1 = 6, h2 = 6
        w: h1 h1
        a.weight: h2 5
        a.bias: h2
        b.weight: 3 h2
        b.bias: 3
        scale h2: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "solve": """
        h1 = 6, h2 = 6
        w: h1 h2
        a.weight: h1 5
        a.bias: h1
        b.weight: 3 h2
        b.bias: 3
        scale h1: w[0] a.weight[0] a.bias[0]
        scale h2: w[1] b.weight[1]
        sign h2: w[1] b.weight[1]
        """,
    "solve right": """
        h1 = 6, h2 = 6
        w: h1 h2
        a.weight: h2 5
        a.bias: h2
        b.weight: 3 h1
        b.bias: 3
        scale h1: w[0] b.weight[1]
        sign h1: w[0] b.weight[1]
        scale h2: w[1] a.weight[0] a.bias[0]
        """,
    "inverse": """
        h1 = 6, h2 = 6
        w: h1 h2
        a.weight: h2 5
        a.bias: h2
        b.weight: 3 h1
        b.bias: 3
        scale h1: w[0] b.weight[1]
        sign h1: w[0] b.weight[1]
        scale h2: w[1] a.weight[0] a.bias[0]
        """,
    "trace": """
        h1 = 6, h2 = 6
        w: h1 h1
        a.weight: h2 5
        a.bias: h2
        b.weight: 3 h2
        b.bias: 3
        scale h1: w[0] / w[1]
        sign h1: w[0] w[1]
        scale h2: a.weight[0] a.bias[0] / b.weight[1]
        """,
    "matrix_exp": """
        h1 = 6
        w: h1 h1
        a.weight: h1 5
        a.bias: h1
        b.weight: 3 h1
        b.bias: 3
        """,
    "mask": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        """,
    "cond": """
        h1 = 7
        a.weight: h1 5
        a.bias: h1
        c.weight: 4 h1
        c.bias: 4
        scale h1: a.weight[0] a.bias[0] / c.weight[1]
        """,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_moves_and_scales_is_found_and_proved(name):
    model, x = NETWORKS[name](), torch.randn(2, 3, 5)
    reads = name in ("packed rnn", "packed lstm", "mask")
    with pytest.warns(SpecWarning) if reads else contextlib.nullcontext():
        spec = symmetry_spec(model, x)
    assert lines(str(spec)) == lines(GOLDEN[name])
    proof = wsl.verify(spec.without_units(), model, x)
    assert proof, str(proof)
    proved = verify_units(spec, model, x)
    assert proved.ok, str(proved)


POSITIONS = {
    "kthvalue": lambda p: torch.kthvalue(p, 3),
    "mode": torch.mode,
    "max": lambda p: p.max(0),
    "min": lambda p: p.min(0),
    "median": lambda p: p.median(0),
    "nanmedian": lambda p: p.nanmedian(0),
    "argmax": lambda p: (1.0, p.argmax()),
    "argmin of all": lambda p: (1.0, p[:, None].argmin()),
    "sort": lambda p: [t[0] for t in p.sort()],
    "topk": lambda p: [t[0] for t in p.topk(2)],
    "argsort": lambda p: (1.0, p.argsort()[0]),
    "cummax": lambda p: [t[-1] for t in p.cummax(0)],
    "searchsorted": lambda p: (1.0, torch.searchsorted(p, p[:1] * 0)[0]),
}


@pytest.mark.parametrize("op", POSITIONS.values(), ids=POSITIONS.keys())
def test_a_position_that_leaves_the_graph_as_a_number_pins_its_units(op):
    def function(m, x):
        value, index = op(m.p)
        return m.out(x) * value + index

    spec = permutation_spec(Net(function, p=weight(7), out=nn.Linear(5, 3)), torch.randn(2, 5))
    assert str(spec).splitlines()[0] == "p: 7"
    assert "p axis 0" in spec.pinned


@pytest.mark.parametrize("op", [lambda p: p.kthvalue(3), torch.mode], ids=["kthvalue", "mode"])
def test_a_value_without_its_position_leaves_its_units_free(op):
    model = Net(lambda m, x: m.out(x) * op(m.p).values, p=weight(7), out=nn.Linear(5, 3))
    spec, x = permutation_spec(model, torch.randn(2, 5)), torch.randn(2, 5)
    assert spec.groups == {"h1": 7}
    assert wsl.verify(spec, model, x)


def test_a_row_of_vectors_and_matrices_is_pinned_and_says_why():
    model = Net(lambda m, x: x @ torch.vstack([m.u, m.v]), u=weight(7), v=weight(4, 7))
    spec = permutation_spec(model, torch.randn(3, 5))
    assert spec.pinned["v axis 0"] == "aten.vstack.default has no rule"


def test_parameters_that_a_call_does_not_use_are_listed_with_their_share():
    model = Net(lambda m, x: m.a(x), a=nn.Linear(5, 3), b=nn.Linear(5, 3), c=nn.Linear(6, 6))
    spec = permutation_spec(model, torch.randn(2, 5))
    shares = {"b.weight": 15, "b.bias": 3, "c.weight": 36, "c.bias": 6}
    assert spec.unused == {name: entries / 78 for name, entries in shares.items()}
    assert permutation_spec(model.a, torch.randn(2, 5)).unused == {}
