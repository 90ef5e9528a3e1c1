"""Whatever operations a network is put together from, what discovery finds preserves its
function.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsl.symmetry import SpecError, permutation_spec, verify


class Step(NamedTuple):
    """What an operation is made from: the features so far (batch, time, feature), new parameters,
    random choices.
    """

    h: torch.Tensor
    weight: Callable[..., torch.Tensor]
    rng: random.Random

    def divisor(self):
        return self.rng.choice([k for k in (2, 3, 4) if self.h.shape[-1] % k == 0])


def blocks(s):
    """Something done between two factors of the feature axis."""
    h = s.h.unflatten(-1, (s.divisor(), -1))
    for _ in range(s.rng.randint(1, 3)):
        step = s.rng.choice(
            [
                lambda h: h * s.weight(h.shape[-1]),
                lambda h: h * s.weight(h.shape[-2], 1),
                lambda h: h.softmax(-2),
                lambda h: h.softmax(-1),
                lambda h: h.mT,
                lambda h: h - h.mean(-2, keepdim=True),
                lambda h: h.sin(),
                lambda h: h - h.mean(-1, keepdim=True),
                lambda h: F.linear(h, s.weight(h.shape[-1], h.shape[-1])),
            ]
        )
        h = step(h)
    return s.rng.choice(
        [lambda: h.flatten(-2), lambda: torch.cat(h.unbind(-2), -1), lambda: h.select(-2, 1)]
    )()


def overwrite(s):
    y = torch.zeros(s.h.shape)
    y[..., 1:] = s.h[..., 1:]
    y += s.h
    return y


def heads(s):
    q = s.h.unflatten(-1, (s.divisor(), -1)).transpose(1, 2)
    return (
        F.scaled_dot_product_attention(q, q, q.tanh(), is_causal=s.rng.random() < 0.5)
        .transpose(1, 2)
        .flatten(2)
    )


def from_constant(s):
    return F.scaled_dot_product_attention(
        torch.ones(1, 4, s.h.shape[-1]), s.h, s.h, is_causal=s.rng.random() < 0.5
    )


def recur(s):
    weights = [s.weight(15, s.h.shape[-1]), s.weight(15, 5)]
    steps = torch.ones(s.h.shape) if s.rng.random() < 0.5 else s.h
    return torch.gru(steps, torch.zeros(1, 3, 5), weights, False, 1, 0.0, False, False, True)[
        0
    ] + s.h.mean((1, 2), keepdim=True)


def overwrite_rows(s):
    y = s.rng.choice([torch.zeros, torch.ones])(3, 6, s.h.shape[-1])
    rows = torch.tensor([4, 0, 1, 5])
    return s.rng.choice(
        [
            lambda: y.index_copy(1, rows, s.h),
            lambda: y.index_add(1, rows, s.h),
            lambda: y.scatter(1, s.h.argsort(1), s.h.sin()),
            lambda: y.index_put((torch.tensor([0, 2, 2]), torch.tensor([5, 3, 1])), s.h[:, 1]),
        ]
    )()[:, :4]


def mask(s):
    y = s.h + 0
    y[y > 1] = 0.5
    return y


def orders(s):
    dim = s.rng.choice([1, -1])
    return s.rng.choice(
        [
            lambda: s.h.sort(dim).values,
            lambda: s.h.argsort(dim) * s.h,
            lambda: s.h.roll(s.rng.randint(-3, 3), dim),
            lambda: s.h.flip(dim),
            lambda: s.h.cumsum(dim),
            lambda: s.h * s.h.max(dim, keepdim=True).values,
            lambda: s.h.gather(dim, s.h.argsort(dim)),
            lambda: s.h.gather(1, s.h.argsort(1)),
            lambda: s.h.topk(4, dim).values,
            lambda: s.h[:, torch.tensor([1, 1, 0, 3])],
            lambda: s.h[..., torch.tensor([1, 1, 0, 3])],
            lambda: s.h * F.one_hot(s.h.argmax(-1), s.h.shape[-1]),
        ]
    )()


def windows(s):
    return s.rng.choice(
        [
            lambda: s.h.unfold(-1, 2, 2).flatten(-2),
            lambda: s.h.unfold(-1, 2, 1).sum(-1),
            lambda: s.h.unfold(1, 1, 1)[..., 0],
            lambda: F.conv1d(s.h, s.weight(4, 4, 1)),
            lambda: F.conv1d(s.h, s.weight(4, 2, 1), groups=2),
            lambda: F.unfold(s.h.mT[..., None], (2, 1), padding=(1, 0))[..., :4].mT,
            lambda: torch.cdist(s.h, s.h.tanh()) @ s.h,
            lambda: F.adaptive_avg_pool1d(s.h.mT, 1).mT * s.h,
            lambda: torch.fft.fft(s.h, dim=s.rng.choice([1, -1])).imag,
        ]
    )()


STEPS = [
    lambda s: F.linear(s.h, s.weight(s.rng.choice([4, 6, 8, 12]), s.h.shape[-1])),
    lambda s: s.h.tanh() + s.h,
    lambda s: s.h * s.weight(s.h.shape[-1]),
    lambda s: torch.cat([s.h, F.linear(s.h, s.weight(3, s.h.shape[-1]))], -1),
    lambda s: s.h[..., s.rng.randint(0, 2) : s.rng.choice([None, -1])],
    lambda s: s.h[..., ::2],
    lambda s: F.layer_norm(s.h, s.h.shape[-1:], s.weight(s.h.shape[-1])),
    lambda s: F.group_norm(s.h.mT, s.divisor(), s.weight(s.h.shape[-1])).mT,
    lambda s: F.glu(s.h, -1),
    lambda s: F.pad(s.h, (s.rng.randint(0, 2), s.rng.randint(0, 2))),
    lambda s: s.h.repeat_interleave(2, -1),
    lambda s: s.h.repeat(1, 1, 2),
    lambda s: torch.stack([s.h, s.h.sin()], s.rng.choice([-1, -2])).flatten(-2),
    lambda s: (s.h @ s.h.mT).softmax(-1) @ s.h,
    lambda s: torch.cat([s.weight(1, 1, s.h.shape[-1]).expand(3, 1, s.h.shape[-1]), s.h], 1),
    lambda s: F.conv1d(s.h.mT, s.weight(s.h.shape[-1], s.h.shape[-1] // 2, 1), groups=2).mT,
    lambda s: s.h.cumsum(-1) if s.rng.random() < 0.3 else s.h.cos(),
    blocks,
    blocks,
    overwrite,
    heads,
    from_constant,
    recur,
    overwrite_rows,
    mask,
    orders,
    orders,
    windows,
    windows,
]


class Random(nn.Module):
    """A chain of random operations; parameters are made on the first call."""

    def __init__(self, seed):
        super().__init__()
        self.seed, self.weights = seed, nn.ParameterList()
        self.made = iter(())

    def weight(self, *shape):
        kept = next(self.made, None)
        if kept is None:
            kept = nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)
            self.weights.append(kept)
        return kept

    def forward(self, x):
        rng, self.made = random.Random(self.seed), iter(list(self.weights))
        h = F.linear(x, self.weight(rng.choice([4, 6, 8, 12]), 5))
        for _ in range(rng.randint(3, 8)):
            h = rng.choice(STEPS)(Step(h, self.weight, rng))
        return F.linear(h, self.weight(2, h.shape[-1]))


def network(seed):
    """The first network from this seed on whose shapes fit."""
    while True:
        torch.manual_seed(seed)
        model, x = Random(seed), torch.randn(3, 4, 5)
        try:
            model(x)
        except (RuntimeError, ValueError, IndexError):
            seed += 1000
        else:
            return model, x


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_keep_their_function(seed):
    model, x = network(seed)
    spec = permutation_spec(model, x)
    try:
        proof = verify(spec, model, x)
    except SpecError as error:
        pytest.skip(str(error))
    assert proof.ok, f"{spec}\n{proof}"


def test_random_networks_have_groups_and_families():
    specs = [permutation_spec(*network(seed)) for seed in range(30)]
    assert sum(bool(spec.groups) for spec in specs) > 15
    assert sum(any(group.per for group in spec.declared) for spec in specs) > 2
