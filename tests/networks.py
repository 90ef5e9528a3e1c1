"""The market of tiny networks: every behaviour is tested on all of them. Sizes are distinct, so
that equality never helps.

Each case: a module, its inputs (batch is not 1), and its golden specification as text. Cases whose
operations the discovery does not yet cover carry a hand-written specification all the same: layers
and matchers run on them.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.symmetry import PermutationSpec


@dataclasses.dataclass(frozen=True)
class Network:
    """A tiny architecture with its golden specification."""

    name: str
    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    text: str

    @property
    def spec(self) -> PermutationSpec:
        return PermutationSpec.parse(self.text)

    @property
    def golden(self) -> str:
        return textwrap.dedent(self.text).strip()

    def inputs(self, batch: int = 3, seed: int = 0) -> Tensor:
        return torch.randn(batch, *self.input_shape, generator=torch.Generator().manual_seed(seed))

    def weights(
        self, *batch: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> dict[str, Tensor]:
        """Random weights with leading batch axes; running variances are positive, counters are
        integers.
        """
        rng = torch.Generator().manual_seed(seed)
        own = self.make().state_dict()
        random = {
            name: torch.randn((*batch, *t.shape), generator=rng, dtype=dtype)
            for name, t in own.items()
        }
        random = {name: t.abs() + 0.5 if "running_var" in name else t for name, t in random.items()}
        return {
            name: t if own[name].is_floating_point() else torch.ones_like(t).long()
            for name, t in random.items()
        }


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4))


def mlp_without_bias() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), nn.Linear(7, 4, bias=False))


class CNN(nn.Module):
    """Convolutions, pooling, flatten, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 7, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(7 * 4, 11), nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.avg_pool2d(self.conv2(x).relu(), 2, stride=1)
        return self.fc2(self.fc1(x.flatten(1)).relu())


class Residual(nn.Module):
    """A residual stream with batch norm and global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (
            nn.Conv2d(2, 5, 3, padding=1),
            nn.Conv2d(5, 7, 3, padding=1),
            nn.Conv2d(7, 5, 1),
        )
        self.bn1, self.bn2 = nn.BatchNorm2d(7), nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.bn2(self.outer(self.bn1(self.inner(x)).relu()))
        return self.head(x.relu().mean((2, 3)))


class LayerNormMLP(nn.Module):
    """Layer norm between linear layers, with a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(5, 7), nn.LayerNorm(7)
        self.up, self.down, self.head = nn.Linear(7, 11), nn.Linear(11, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        return self.head(x)


class Siren(nn.Module):
    """sin(omega W x + b) layers, output shifted by one half."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 7), nn.Linear(7, 6), nn.Linear(6, 1)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.sin(30.0 * layer(x))
        return self.layers[-1](x) + 0.5


class Depthwise(nn.Module):
    """A depthwise convolution ties its outputs to its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project = (
            nn.Conv2d(2, 5, 1),
            nn.Conv2d(5, 5, 3, groups=5),
            nn.Conv2d(5, 7, 1),
        )
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depthwise(self.expand(x).relu()))
        return self.head(F.adaptive_avg_pool2d(self.project(x).relu(), 1).flatten(1))


class Dense(nn.Module):
    """DenseNet's concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 5, 1), nn.Conv2d(5, 7, 1), nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        c = self.c(torch.cat([a, self.b(a).relu()], 1)).relu()
        return self.head(c.mean((2, 3)))


class Attention(nn.Module):
    """One pre-norm block of multi-head attention, in-projection stacked as in
    `nn.MultiheadAttention`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
        self.qkv, self.out, self.head = nn.Linear(8, 3 * 2 * 4), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        return self.head(x + self.out(y))


class TiedAutoencoder(nn.Module):
    """One matrix used twice, and a square matrix with both axes on one permutation."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.mix = nn.Linear(5, 7, bias=False), nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        z = self.code(x).tanh()
        return F.linear((z + self.mix(z)).tanh(), self.code.weight.T)


class Recurrent(nn.Module):
    """A GRU whose last state is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


NETWORKS = [
    Network(
        "mlp",
        mlp,
        (5,),
        """
        h1 = 7, h2 = 6
        0.weight: h1 5
        0.bias: h1
        2.weight: h2 h1
        2.bias: h2
        4.weight: 4 h2
        4.bias: 4""",
    ),
    Network(
        "mlp_without_bias",
        mlp_without_bias,
        (5,),
        """
        h1 = 7
        0.weight: h1 5
        2.weight: 4 h1""",
    ),
    Network(
        "cnn",
        CNN,
        (2, 6, 6),
        """
        c1 = 5, c2 = 7, h1 = 11
        conv1.weight: c1 2 3 3
        conv1.bias: c1
        conv2.weight: c2 c1 3 3
        conv2.bias: c2
        fc1.weight: h1 (c2 4)
        fc1.bias: h1
        fc2.weight: 3 h1
        fc2.bias: 3""",
    ),
    Network(
        "residual",
        Residual,
        (2, 6, 6),
        """
        c1 = 5, c2 = 7
        stem.weight: c1 2 3 3
        stem.bias: c1
        inner.weight: c2 c1 3 3
        inner.bias: c2
        outer.weight: c1 c2 1 1
        outer.bias: c1
        bn1.weight: c2
        bn1.bias: c2
        bn1.running_mean: c2
        bn1.running_var: c2
        bn1.num_batches_tracked:
        bn2.weight: c1
        bn2.bias: c1
        bn2.running_mean: c1
        bn2.running_var: c1
        bn2.num_batches_tracked:
        head.weight: 3 c1
        head.bias: 3""",
    ),
    Network(
        "layer_norm",
        LayerNormMLP,
        (5,),
        """
        h1 = 7, h2 = 11
        embed.weight: h1 5
        embed.bias: h1
        norm.weight: h1
        norm.bias: h1
        up.weight: h2 h1
        up.bias: h2
        down.weight: h1 h2
        down.bias: h1
        head.weight: 3 h1
        head.bias: 3""",
    ),
    Network(
        "siren",
        Siren,
        (2,),
        """
        h1 = 7, h2 = 6
        layers.0.weight: h1 2
        layers.0.bias: h1
        layers.1.weight: h2 h1
        layers.1.bias: h2
        layers.2.weight: 1 h2
        layers.2.bias: 1""",
    ),
    Network(
        "depthwise",
        Depthwise,
        (2, 6, 6),
        """
        c1 = 5, c2 = 7
        expand.weight: c1 2 1 1
        expand.bias: c1
        depthwise.weight: c1 1 3 3
        depthwise.bias: c1
        project.weight: c2 c1 1 1
        project.bias: c2
        head.weight: 3 c2
        head.bias: 3""",
    ),
    Network(
        "dense",
        Dense,
        (2, 4, 4),
        """
        c1 = 5, c2 = 7, c3 = 6
        a.weight: c1 2 1 1
        a.bias: c1
        b.weight: c2 c1 1 1
        b.bias: c2
        c.weight: c3 c1+c2 1 1
        c.bias: c3
        head.weight: 3 c3
        head.bias: 3""",
    ),
    Network(
        "attention",
        Attention,
        (6, 5),
        """
        h1 = 8, head1 = 2, dk1 = 4 per head1, dv1 = 4 per head1
        embed.weight: h1 5
        embed.bias: h1
        norm.weight: h1
        norm.bias: h1
        qkv.weight: (head1 dk1)+(head1 dk1)+(head1 dv1) h1
        qkv.bias: (head1 dk1)+(head1 dk1)+(head1 dv1)
        out.weight: h1 (head1 dv1)
        out.bias: h1
        head.weight: 3 h1
        head.bias: 3""",
    ),
    Network(
        "tied",
        TiedAutoencoder,
        (5,),
        """
        h1 = 7
        code.weight: h1 5
        mix.weight: h1 h1
        mix.bias: h1""",
    ),
    Network(
        "gru",
        Recurrent,
        (6, 5),
        """
        h1 = 7
        rnn.weight_ih_l0: (3 h1) 5
        rnn.weight_hh_l0: (3 h1) h1
        rnn.bias_ih_l0: (3 h1)
        rnn.bias_hh_l0: (3 h1)
        head.weight: 3 h1
        head.bias: 3""",
    ),
]


class ResNet20(nn.Module):
    """Three stages of three basic blocks and a shortcut convolution between stages: ResNet-20,
    narrow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = (
            nn.Conv2d(2, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.Linear(5, 6),
        )
        for s, b, a, c in resnet20_blocks():
            stride = 2 if a != c else 1
            self.add_module(f"conv{s}{b}a", nn.Conv2d(a, c, 3, stride, padding=1, bias=False))
            self.add_module(f"norm{s}{b}a", nn.BatchNorm2d(c))
            self.add_module(f"conv{s}{b}b", nn.Conv2d(c, c, 3, padding=1, bias=False))
            self.add_module(f"norm{s}{b}b", nn.BatchNorm2d(c))
            if a != c:
                self.add_module(f"short{s}", nn.Conv2d(a, c, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        part = self.get_submodule
        x = self.norm(self.stem(x)).relu()
        for s, b, a, c in resnet20_blocks():
            y = part(f"norm{s}{b}a")(part(f"conv{s}{b}a")(x)).relu()
            y = part(f"norm{s}{b}b")(part(f"conv{s}{b}b")(y))
            x = (y + (x if a == c else part(f"short{s}")(x))).relu()
        return self.head(x.mean((2, 3)))


def resnet20_blocks() -> list[tuple[int, int, int, int]]:
    """Stage, block, widths in and out."""
    return [
        (s, b, s + 1 if b == 1 and s > 1 else s + 2, s + 2) for s in (1, 2, 3) for b in (1, 2, 3)
    ]


def resnet20_text() -> str:
    lines = [
        "stem.weight: s1 2 3 3",
        *norm_lines("norm", "s1"),
        "head.weight: 6 s3",
        "head.bias: 6",
    ]
    groups = {"s1": 3, "s2": 4, "s3": 5}
    for s, b, a, c in resnet20_blocks():
        enter, inner = f"s{s - (a != c)}", f"i{s}{b}"
        groups[inner] = c
        lines += [f"conv{s}{b}a.weight: {inner} {enter} 3 3", *norm_lines(f"norm{s}{b}a", inner)]
        lines += [f"conv{s}{b}b.weight: s{s} {inner} 3 3", *norm_lines(f"norm{s}{b}b", f"s{s}")]
        lines += [f"short{s}.weight: s{s} {enter} 1 1"] if a != c else []
    return "\n".join([", ".join(f"{name} = {size}" for name, size in groups.items()), *lines])


def norm_lines(name: str, group: str) -> list[str]:
    tensors = ("weight", "bias", "running_mean", "running_var")
    return [*(f"{name}.{tensor}: {group}" for tensor in tensors), f"{name}.num_batches_tracked:"]


class Transformer(nn.Module):
    """Two pre-norm blocks of two heads; attention is written out, so that vmap can run it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 6), nn.Linear(6, 3)
        self.place = nn.Parameter(torch.randn(4, 6))
        for i in (1, 2):
            self.add_module(f"norm{i}a", nn.LayerNorm(6))
            self.add_module(f"qkv{i}", nn.Linear(6, 3 * 2 * 3))
            self.add_module(f"out{i}", nn.Linear(6, 6))
            self.add_module(f"norm{i}b", nn.LayerNorm(6))
            self.add_module(f"up{i}", nn.Linear(6, 7))
            self.add_module(f"down{i}", nn.Linear(7, 6))

    def forward(self, x: Tensor) -> Tensor:
        part = self.get_submodule
        x = self.embed(x) + self.place
        for i in (1, 2):
            q, k, v = (
                part(f"qkv{i}")(part(f"norm{i}a")(x))
                .unflatten(-1, (3, 2, 3))
                .permute(2, 0, 3, 1, 4)
                .unbind(0)
            )
            y = (q @ k.transpose(-1, -2) / 3**0.5).softmax(-1) @ v
            x = x + part(f"out{i}")(y.transpose(1, 2).flatten(-2))
            x = x + part(f"down{i}")(F.gelu(part(f"up{i}")(part(f"norm{i}b")(x))))
        return self.head(x.mean(1))


def transformer_text() -> str:
    sizes = [
        "d = 6",
        *(f"head{i} = 2, dk{i} = 3 per head{i}, dv{i} = 3 per head{i}, m{i} = 7" for i in (1, 2)),
    ]
    lines = ["place: 4 d", "embed.weight: d 5", "embed.bias: d", "head.weight: 3 d", "head.bias: 3"]
    for i in (1, 2):
        stacked = f"(head{i} dk{i})+(head{i} dk{i})+(head{i} dv{i})"
        lines += [
            f"norm{i}a.weight: d",
            f"norm{i}a.bias: d",
            f"qkv{i}.weight: {stacked} d",
            f"qkv{i}.bias: {stacked}",
        ]
        lines += [
            f"out{i}.weight: d (head{i} dv{i})",
            f"out{i}.bias: d",
            f"norm{i}b.weight: d",
            f"norm{i}b.bias: d",
        ]
        lines += [
            f"up{i}.weight: m{i} d",
            f"up{i}.bias: m{i}",
            f"down{i}.weight: d m{i}",
            f"down{i}.bias: d",
        ]
    return "\n".join([", ".join(sizes), *lines])


DEEP = [
    Network("resnet20", ResNet20, (2, 8, 8), resnet20_text()),
    Network("transformer", Transformer, (4, 5), transformer_text()),
]

BY_NAME = {network.name: network for network in [*NETWORKS, *DEEP]}
