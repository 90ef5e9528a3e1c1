"""Discovery finds all there is: on tiny networks every axis permutation is tried, and the ones that
keep f are its group.

The candidates are all tuples of one permutation for every axis of every tensor, far too many to
list. They are built up axis by
axis: with theta made symmetric along the axes that are not yet chosen, a choice for the first axes
must already keep f. So no tuple that keeps f is lost, and what is left at the end was tested with
theta itself.
"""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsl import params
from wsl.symmetry import Permutation, permutation_spec

CHUNK = 4096


class Net(nn.Module):
    """Named submodules and a function of them."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            self.register_parameter(name, module) if isinstance(
                module, nn.Parameter
            ) else self.add_module(name, module)
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


def weight(*shape):
    return nn.Parameter(torch.ones(shape))


def random_weights(model):
    rng = torch.Generator().manual_seed(0)
    own = model.state_dict(keep_vars=True)
    first = {id(t): name for name, t in reversed(own.items())}
    drawn = {
        name: torch.randn(t.shape, generator=rng, dtype=torch.float64) for name, t in own.items()
    }
    drawn = {name: t.abs() + 0.5 if "running_var" in name else t for name, t in drawn.items()}
    return {
        name: drawn[first[id(t)]] if t.is_floating_point() else t for name, t in own.items()
    }, set(first.values())


def axes_of(theta, names):
    return [
        (name, i, n)
        for name in theta
        if name in names and theta[name].is_floating_point()
        for i, n in enumerate(theta[name].shape)
        if n > 1
    ]


def symmetric(theta, axes):
    """Constant along some axes."""
    theta = dict(theta)
    for name, i, n in axes:
        theta[name] = theta[name].mean(i, keepdim=True).repeat_interleave(n, i)
    return theta


def keep(model, x, theta, axes, choices):
    """Those among the choices, one permutation for each of the first axes, that keep f."""
    reference = params.call(model, tied(model, theta), x)
    kept = []
    for start in range(0, len(choices), CHUNK):
        part = choices[start : start + CHUNK]
        moved = {name: t.expand(len(part), *t.shape) for name, t in theta.items()}
        for k, (name, i, _) in enumerate(axes):
            index = torch.tensor([choice[k] for choice in part])
            shape = [len(part), *[1] * i, -1, *[1] * (theta[name].dim() - i - 1)]
            moved[name] = moved[name].gather(i + 1, index.view(shape).expand_as(moved[name]))
        outputs = params.call(model, tied(model, moved), x)
        errors = (outputs - reference).flatten(1).norm(dim=1) / reference.norm()
        kept += [
            choice for choice, error in zip(part, errors.tolist(), strict=True) if error < 1e-9
        ]
    return kept


def tied(model, theta):
    """Tied names read the tensor of the first."""
    own = model.state_dict(keep_vars=True)
    first = {id(t): name for name, t in reversed(own.items())}
    return {name: theta[first[id(t)]] for name, t in own.items()}


def stabiliser(model, x):
    """All tuples of permutations, one for each axis, that keep f."""
    theta, names = random_weights(model)
    axes = axes_of(theta, names)
    choices = [()]
    for k, (_, _, n) in enumerate(axes, 1):
        longer = [
            (*choice, index) for choice in choices for index in itertools.permutations(range(n))
        ]
        choices = keep(model, x, symmetric(theta, axes[k:]), axes[:k], longer)
    return set(choices), axes


def elements(spec, axes):
    """The group of a specification in the same form."""

    def indices(group):
        rows = [torch.tensor(row) for row in itertools.permutations(range(group.size))]
        if group.per is None:
            return rows
        return [
            torch.stack(family) for family in itertools.product(rows, repeat=spec.groups[group.per])
        ]

    names = list(spec.groups)
    for choice in itertools.product(*map(indices, spec.declared)):
        g = Permutation(spec, dict(zip(names, choice, strict=True)))
        found = [g.axis_index(spec.axes[name][i]) for name, i, _ in axes]
        yield tuple(
            tuple(range(n)) if index is None else tuple(index.tolist())
            for index, (_, _, n) in zip(found, axes, strict=True)
        )


def linear(*sizes, bias=False):
    return nn.Linear(*sizes, bias=bias)


def mlp():
    return nn.Sequential(linear(2, 4, bias=True), nn.Tanh(), linear(4, 2, bias=True))


def deep():
    return nn.Sequential(
        linear(2, 3, bias=True), nn.ReLU(), linear(3, 4, bias=True), nn.GELU(), linear(4, 2)
    )


def residual():
    def forward(m, x):
        x = m.embed(x)
        return m.head(x + m.down(m.up(x).tanh()))

    return Net(
        forward,
        embed=linear(2, 4),
        up=linear(4, 3, bias=True),
        down=linear(3, 4),
        head=linear(4, 2),
    )


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 2, 2), nn.Sigmoid(), nn.Flatten(), linear(4, 3), nn.Tanh(), linear(3, 2)
    )


def pooled():
    return nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Conv1d(3, 2, 2), nn.AdaptiveAvgPool1d(1))


def batch_norm():
    return nn.Sequential(linear(2, 3), nn.BatchNorm1d(3), nn.Sigmoid(), linear(3, 2)).eval()


def layer_norm():
    return nn.Sequential(linear(2, 4), nn.LayerNorm(4), nn.Tanh(), linear(4, 2))


def group_norm():
    return nn.Sequential(linear(2, 4, bias=True), nn.GroupNorm(2, 4), nn.Tanh(), linear(4, 2))


def tied_embedding():
    def forward(m, x):
        h = m.table(x)
        return m.unembed(h + m.mix(h).tanh())

    model = Net(forward, table=nn.Embedding(4, 3), mix=linear(3, 3), unembed=linear(3, 4))
    model.unembed.weight = model.table.weight
    return model


def autoencoder():
    return Net(lambda m, x: F.linear(m.code(x).tanh(), m.code.weight.T), code=linear(2, 4))


def cell(kind, units):
    def forward(m, x):
        h = x.new_zeros(len(x), units)
        for t in range(3):
            h = m.cell(x[:, t], h)
        return m.head(h)

    return Net(forward, cell=kind(2, units), head=linear(units, 2))


def attention(heads, dk, dv, residual=False):
    def forward(m, x):
        x = m.embed(x) if residual else x
        q, k, v = (part(x).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (m.q, m.k, m.v))
        y = m.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
        return m.head(x + y) if residual else y

    d = 3 if residual else 2
    extra = {"embed": linear(2, d), "head": linear(d, 2)} if residual else {}
    return Net(
        forward,
        q=linear(d, heads * dk),
        k=linear(d, heads * dk),
        v=linear(d, heads * dv),
        out=linear(heads * dv, d),
        **extra,
    )


def shared_keys():
    def forward(m, x):
        q = m.q(x).unflatten(-1, (2, 2)).transpose(1, 2)
        y = (q @ m.k(x)[:, None].mT).softmax(-1) @ m.v(x)[:, None]
        return m.out(y.transpose(1, 2).flatten(2))

    return Net(forward, q=linear(2, 4), k=linear(2, 2), v=linear(2, 2), out=linear(4, 2))


def depthwise(multiplier=1):
    channels = 3 if multiplier == 1 else 2
    inner = nn.Conv1d(channels, channels * multiplier, 2, groups=channels)
    return nn.Sequential(
        nn.Conv1d(2, channels, 1),
        nn.Tanh(),
        inner,
        nn.Tanh(),
        nn.Conv1d(channels * multiplier, 2, 2),
    )


def grouped():
    return nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.Tanh(), nn.Conv1d(4, 4, 1, groups=2), nn.Tanh(), nn.Conv1d(4, 2, 2)
    )


def concatenation():
    return Net(
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1).tanh()),
        a=linear(2, 2, bias=True),
        b=linear(2, 3),
        c=linear(5, 2),
    )


def dense():
    def forward(m, x):
        a = m.a(x).tanh()
        return m.c(torch.cat([a, m.b(a).tanh()], 1))

    return Net(forward, a=linear(2, 2), b=linear(2, 3), c=linear(5, 2))


def glu(gate):
    def forward(m, x):
        value, control = m.a(x).chunk(2, -1)
        return m.b(value * gate(control))

    return Net(forward, a=linear(2, 4, bias=True), b=linear(2, 2))


def half():
    return Net(
        lambda m, x: m.b(m.a(x).tanh()[:, :2]) + m.c(m.a(x)),
        a=linear(2, 4),
        b=linear(2, 2),
        c=linear(4, 2),
    )


def layer_scale():
    def forward(m, x):
        x = m.a(x)
        return m.head(x + m.scale * m.b(x.tanh()))

    return Net(forward, a=linear(2, 3), b=linear(3, 3), scale=weight(3), head=linear(3, 2))


def excite():
    def forward(m, x):
        y = m.a(x)
        return m.b(y * m.up(m.down(y.mean(-1, keepdim=True)).relu()).sigmoid())

    conv = lambda *sizes: nn.Conv1d(*sizes, 1, bias=False)  # noqa: E731
    return Net(forward, a=conv(2, 3), down=conv(3, 2), up=conv(2, 3), b=conv(3, 2))


def experts():
    def forward(m, x):
        h = torch.einsum("bi,eih->beh", x, m.w).tanh()
        return (torch.einsum("beh,eho->beo", h, m.v) * m.router(x).softmax(-1)[..., None]).sum(1)

    return Net(forward, router=linear(2, 3), w=weight(3, 2, 2), v=weight(3, 2, 2))


def positions():
    def forward(m, x):
        x = m.embed(x) + m.place
        return m.out((m.q(x) @ m.k(x).mT).softmax(-1) @ m.v(x))

    return Net(
        forward,
        embed=linear(2, 3),
        place=weight(3, 3),
        q=linear(3, 2),
        k=linear(3, 2),
        v=linear(3, 2),
        out=linear(2, 2),
    )


def pieces(reduce):
    return Net(
        lambda m, x: m.b(reduce(m.a(x).unflatten(-1, (2, 2)))), a=linear(2, 4), b=linear(2, 2)
    )


def reordered(order):
    return Net(lambda m, x: m.b(order(m.a(x).tanh())), a=linear(2, 3), b=linear(3, 2))


def key_bias():
    def forward(m, x):
        return m.out((m.q(x) @ m.k(x).mT).softmax(-1) @ m.v(x))

    return Net(
        forward,
        q=linear(2, 2, bias=True),
        k=linear(2, 2, bias=True),
        v=linear(2, 2),
        out=linear(2, 2),
    )


def normalized_bias():
    return nn.Sequential(
        nn.Conv1d(2, 3, 1), nn.InstanceNorm1d(3), nn.Tanh(), nn.Conv1d(3, 2, 1, bias=False)
    )


CASES = {
    "mlp": (mlp, (5, 2), 24),
    "deep": (deep, (5, 2), 6 * 24),
    "residual": (residual, (5, 2), 24 * 6),
    "conv flatten": (conv, (3, 2, 2, 3), 2 * 6),
    "conv pool": (pooled, (3, 2, 4), 6),
    "batch norm": (batch_norm, (5, 2), 6),
    "layer norm": (layer_norm, (5, 2), 24),
    "group norm": (group_norm, (5, 2), 2 * 2**2),
    "tied embedding": (tied_embedding, "tokens", 6),
    "autoencoder": (autoencoder, (5, 2), 24),
    "rnn cell": (lambda: cell(nn.RNNCell, 3), (3, 3, 2), 6),
    "gru cell": (lambda: cell(nn.GRUCell, 2), (3, 3, 2), 2),
    "one head": (lambda: attention(1, 3, 2), (2, 3, 2), 6 * 2),
    "two heads": (lambda: attention(2, 2, 2), (2, 3, 2), 2 * 2**2 * 2**2),
    "two heads, residual": (lambda: attention(2, 2, 1, residual=True), (2, 3, 2), 6 * 2 * 2**2),
    "shared keys": (shared_keys, (2, 3, 2), 2 * 2 * 2),
    "depthwise": (depthwise, (3, 2, 4), 6),
    "depthwise with a multiplier": (lambda: depthwise(2), (3, 2, 4), 2 * 2**2),
    "grouped": (grouped, (3, 2, 3), 2 * 2 * 2**2),
    "concatenation": (concatenation, (5, 2), 2 * 6),
    "dense": (dense, (5, 2), 2 * 6),
    "glu": (lambda: glu(torch.sigmoid), (5, 2), 2),
    "swiglu": (lambda: glu(F.silu), (5, 2), 2),
    "half": (half, (5, 2), 2 * 2),
    "layer scale": (layer_scale, (5, 2), 6),
    "squeeze and excite": (excite, (2, 2, 3), 6 * 2),
    "mixture of experts": (experts, (5, 2), 6 * 2),
    "position embedding": (positions, (2, 3, 2), 6 * 2 * 2),
    "sorted": (lambda: reordered(lambda h: h.sort(-1).values), (5, 2), 6),
    "largest of pieces": (lambda: pieces(lambda h: h.amax(-1)), (5, 2), 2 * 2**2),
}


def measured(make, shape):
    """The group that discovery finds, and all that keeps f, as sets of tuples of permutations."""
    model = make().double()
    rng = torch.Generator().manual_seed(1)
    x = (
        torch.tensor([[0, 1, 2], [3, 0, 1]])
        if shape == "tokens"
        else torch.randn(shape, generator=rng, dtype=torch.float64)
    )
    spec = permutation_spec(model, x)
    found, axes = stabiliser(model, x)
    group = list(elements(spec, axes))
    assert len(group) == len(set(group)) == round(10**spec.log10_order), str(spec)
    return set(group), found


@pytest.mark.filterwarnings(
    "ignore:There is a performance drop because we have not yet implemented the batching rule"
)
@pytest.mark.parametrize(("make", "shape", "order"), CASES.values(), ids=CASES.keys())
def test_the_group_is_the_whole_stabiliser(make, shape, order):
    group, found = measured(make, shape)
    assert len(found) == order
    assert found == group


MISSED = {
    "the halves of a product may be exchanged": (lambda: glu(lambda h: h), (5, 2), 2, 2 * 2**2),
    "a family whose parent is the inner factor": (
        lambda: pieces(lambda h: h.mean(-2)),
        (5, 2),
        2 * 2,
        2 * 2**2,
    ),
    "a fixed reordering in between": (lambda: reordered(lambda h: h.flip(-1)), (5, 2), 1, 6),
    "a bias that has no effect": (normalized_bias, (2, 2, 3), 6, 6 * 6),
    "a bias of keys has no effect": (key_bias, (2, 3, 2), 2 * 2, 2 * 2 * 2),
}


@pytest.mark.parametrize(
    ("make", "shape", "order", "all_of_them"), MISSED.values(), ids=MISSED.keys()
)
def test_what_is_known_to_be_missing(make, shape, order, all_of_them):
    group, found = measured(make, shape)
    assert (len(group), len(found)) == (order, all_of_them)
    assert group < found
