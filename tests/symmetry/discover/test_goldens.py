"""Known architectures: as many groups and as large an order as theory gives; and published
specifications that are wrong.

Group counts and orders by hand: log10 |G| = sum of log10 n!. Forms are written out at full size on
the meta device; networks of torchvision itself are read in a slow test, where it is installed.
"""

import importlib.util
import itertools
import math
import re
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wsl.symmetry import PermutationSpec, permutation_spec, verify


def norm(channels, kind=nn.BatchNorm2d):
    return kind(channels) if kind is nn.BatchNorm2d else nn.GroupNorm(1, channels)


class Block(nn.Module):
    """A residual block, basic or with a bottleneck; a shortcut where the shape changes, or on
    request.
    """

    def __init__(
        self, inside, width, out, *, stride=1, bottleneck=False, shortcut=False, kind=nn.BatchNorm2d
    ):
        super().__init__()
        sizes = (
            [(inside, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
            if bottleneck
            else [(inside, width, 3, stride), (width, out, 3, 1)]
        )
        layers = []
        for n, m, kernel, step in sizes:
            layers += [
                nn.Conv2d(n, m, kernel, step, kernel // 2, bias=False),
                norm(m, kind),
                nn.ReLU(),
            ]
        self.body, self.shortcut = nn.Sequential(*layers[:-1]), nn.Identity()
        if stride != 1 or inside != out or shortcut:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, out, 1, stride, bias=False), norm(out, kind)
            )

    def forward(self, x):
        return (self.body(x) + self.shortcut(x)).relu()


def resnet(
    counts,
    widths=(64, 128, 256, 512),
    *,
    bottleneck=False,
    first_shortcut=False,
    kind=nn.BatchNorm2d,
):
    inside, layers = (
        widths[0],
        [
            nn.Conv2d(3, widths[0], 7, 2, 3, bias=False),
            norm(widths[0], kind),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ],
    )
    for i, (count, width) in enumerate(zip(counts, widths, strict=True)):
        out = 4 * width if bottleneck else width
        for j in range(count):
            options = {
                "stride": 2 if i and not j else 1,
                "shortcut": first_shortcut and i == j == 0,
            }
            layers.append(Block(inside, width, out, bottleneck=bottleneck, kind=kind, **options))
            inside = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10))


VGG = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


def vgg(depth, width=64, hidden=4096, classes=1000):
    layers, inside = [], 3
    for count, multiple in zip(VGG[depth], (1, 2, 4, 8, 8), strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(inside, multiple * width, 3, padding=1), nn.ReLU()]
            inside = multiple * width
        layers.append(nn.MaxPool2d(2))
    head = [
        nn.Linear(inside * 49, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(),
    ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head, nn.Linear(hidden, classes)
    )


class EncoderBlock(nn.Module):
    def __init__(self, d, heads, hidden):
        super().__init__()
        self.ln1, self.attention = (
            nn.LayerNorm(d),
            nn.MultiheadAttention(d, heads, batch_first=True),
        )
        self.ln2, self.mlp = (
            nn.LayerNorm(d),
            nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, d)),
        )

    def forward(self, x):
        y = self.ln1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class ViT(nn.Module):
    """A vision transformer with a class token and learned positions, pre-norm."""

    def __init__(
        self, d=768, heads=12, hidden=3072, depth=12, *, patch=16, places=197, classes=1000
    ):
        super().__init__()
        self.patches = nn.Conv2d(3, d, patch, patch)
        self.token, self.place = (
            nn.Parameter(torch.zeros(1, 1, d)),
            nn.Parameter(torch.zeros(1, places, d)),
        )
        self.blocks = nn.Sequential(*[EncoderBlock(d, heads, hidden) for _ in range(depth)])
        self.ln, self.head = nn.LayerNorm(d), nn.Linear(d, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.ln(self.blocks(x))[:, 0])


def mlp(width=512):
    sizes = [784, width, width, width, 10]
    layers = [layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


RESNET20 = {"counts": (3, 3, 3), "widths": (16, 32, 64)}

COUNTS = {
    "mlp 3 x 512": (mlp, (784,), 3, 3499.6),
    "resnet20, three streams": (lambda: resnet(**RESNET20), (3, 32, 32), 3 + 9, None),
    "resnet20, channel norm": (
        lambda: resnet(**RESNET20, kind=nn.GroupNorm),
        (3, 32, 32),
        3 + 9,
        None,
    ),
    "resnet20, shortcut in the first block": (
        lambda: resnet(**RESNET20, first_shortcut=True),
        (3, 32, 32),
        4 + 9,
        None,
    ),
    "resnet18": (lambda: resnet((2, 2, 2, 2)), (3, 64, 64), 4 + 8, 5934.5),
    "resnet34": (lambda: resnet((3, 4, 6, 3)), (3, 64, 64), 4 + 16, None),
    "resnet50": (lambda: resnet((3, 4, 6, 3), bottleneck=True), (3, 64, 64), 5 + 32, 25638.3),
    "vgg11": (lambda: vgg(11), (3, 224, 224), 8 + 2, None),
    "vgg16": (lambda: vgg(16), (3, 224, 224), 13 + 2, 35168.5),
    "vit-b/16": (ViT, (3, 224, 224), 1 + 4 * 12, 140226.4),
}


@pytest.mark.parametrize(("make", "shape", "groups", "order"), COUNTS.values(), ids=COUNTS.keys())
def test_architectures_have_as_many_groups_as_theory_gives(make, shape, groups, order):
    with torch.device("meta"):
        model = make()
    spec = permutation_spec(model, torch.randn(2, *shape))
    assert len(spec.groups) == groups
    assert spec.copies == (1 + 12 + 12 + 144 + 144 if "head1" in spec.groups else groups)
    if order is not None:
        assert spec.log10_order == pytest.approx(order, abs=0.06)


def test_a_vision_transformer_in_full():
    model = ViT(6, 2, 7, depth=1, patch=2, places=5, classes=4)
    spec = permutation_spec(model, torch.randn(3, 3, 4, 4))
    assert verify(spec, model, torch.randn(3, 3, 4, 4))
    assert str(spec) == text("""
        c1 = 6, head1 = 2, dk1 = 3 per head1, dv1 = 3 per head1, h1 = 7
        token: 1 1 c1
        place: 1 5 c1
        patches.weight: c1 3 2 2
        patches.bias: c1
        blocks.0.ln1.weight: c1
        blocks.0.ln1.bias: c1
        blocks.0.attention.in_proj_weight: (head1 dk1)+(head1 dk1)+(head1 dv1) c1
        blocks.0.attention.in_proj_bias: (head1 dk1)+(head1 dk1)+(head1 dv1)
        blocks.0.attention.out_proj.weight: c1 (head1 dv1)
        blocks.0.attention.out_proj.bias: c1
        blocks.0.ln2.weight: c1
        blocks.0.ln2.bias: c1
        blocks.0.mlp.0.weight: h1 c1
        blocks.0.mlp.0.bias: h1
        blocks.0.mlp.2.weight: c1 h1
        blocks.0.mlp.2.bias: c1
        ln.weight: c1
        ln.bias: c1
        head.weight: 4 c1
        head.bias: 4""")


TORCHVISION = [
    ("resnet18", 12, 12, 5934.5),
    ("resnet34", 20, 20, None),
    ("resnet50", 37, 37, 25638.3),
    ("vgg11", 10, 10, None),
    ("vgg16", 15, 15, 35168.5),
    ("vit_b_16", 49, 313, 140226.4),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "groups", "copies", "order"), TORCHVISION)
def test_networks_of_torchvision_have_as_many_groups_as_theory_gives(name, groups, copies, order):
    found = importlib.util.find_spec("torchvision")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("torchvision is not installed")
    library = declare_operators(Path(found.submodule_search_locations[0]))
    models = importlib.import_module("torchvision").models
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    spec = permutation_spec(model, torch.randn(2, 3, 224, 224))
    assert (len(spec.groups), spec.copies) == (groups, copies)
    if order is not None:
        assert spec.log10_order == pytest.approx(order, abs=0.06)
    assert library is not None


def declare_operators(folder):
    """The names of torchvision's compiled operators, so that its models can be imported where those
    do not load.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    source = (folder / "_meta_registrations.py").read_text()
    for name in sorted({*re.findall(r'register_meta\("([a-z_0-9]+)"\)', source), "nms", "qnms"}):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor a, *, int b=0) -> Tensor")
    return library


class Net(nn.Module):
    """Named submodules and a function of them."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def text(string):
    return textwrap.dedent(string).strip()


def depthwise():
    def forward(m, x):
        return m.project(m.depthwise(m.expand(x).relu()).relu()).mean((2, 3))

    return Net(
        forward,
        expand=nn.Conv2d(2, 6, 1),
        depthwise=nn.Conv2d(6, 6, 3, groups=6),
        project=nn.Conv2d(6, 4, 1),
    )


def attention(rotary):
    def turn(t):
        angle = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        return (
            t * angle.cos() + torch.cat([-t[..., 2:], t[..., :2]], -1) * angle.sin()
            if rotary
            else t
        )

    def forward(m, x):
        q, k, v = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (m.q, m.k, m.v))
        return m.out(F.scaled_dot_product_attention(turn(q), turn(k), v).transpose(1, 2).flatten(2))

    sizes = {name: nn.Linear(5, 8, bias=False) for name in "qkv"}
    return Net(forward, **sizes, out=nn.Linear(8, 3))


def lstm():
    return Net(
        lambda m, x: m.head(m.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(5, 7, batch_first=True),
        head=nn.Linear(7, 3),
    )


def batch_norm():
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))


def group_norm():
    return nn.Sequential(nn.Conv2d(2, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 4, 1))


def square():
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 4, 3, bias=False))


# The published mistake; the network and its input; the wrong specification; the groups that are
# wrong; a line of the right one.
WRONG = {
    "depthwise outputs without inputs": (
        depthwise,
        (2, 5, 5),
        """
        c1 = 6, c2 = 6
        expand.weight: c1 2 1 1
        expand.bias: c1
        depthwise.weight: c2 1 3 3
        depthwise.bias: c2
        project.weight: 4 c2 1 1
        project.bias: 4""",
        ["c1", "c2"],
        "depthwise.weight: c1 1 3 3",
    ),
    "channels of a group norm as free": (
        group_norm,
        (2, 4, 4),
        """
        c = 6
        0.weight: c 2 1 1
        0.bias: c
        1.weight: c
        1.bias: c
        3.weight: 4 c 1 1
        3.bias: 4""",
        ["c"],
        "1.weight: (c1 c2)",
    ),
    "queries and keys across heads": (
        lambda: attention(rotary=False),
        (5, 5),
        """
        qk = 8, head = 2, dv = 4 per head
        q.weight: qk 5
        k.weight: qk 5
        v.weight: (head dv) 5
        out.weight: 3 (head dv)
        out.bias: 3""",
        ["head", "qk"],
        "q.weight: (head1 dk1) 5",
    ),
    "values across heads": (
        lambda: attention(rotary=False),
        (5, 5),
        """
        head = 2, dk = 4 per head, v = 8
        q.weight: (head dk) 5
        k.weight: (head dk) 5
        v.weight: v 5
        out.weight: 3 v
        out.bias: 3""",
        ["head", "v"],
        "v.weight: (head1 dv1) 5",
    ),
    "rotary queries and keys permuted": (
        lambda: attention(rotary=True),
        (5, 5),
        """
        head = 2, dk = 4 per head, dv = 4 per head
        q.weight: (head dk) 5
        k.weight: (head dk) 5
        v.weight: (head dv) 5
        out.weight: 3 (head dv)
        out.bias: 3""",
        ["dk"],
        "q.weight: (head1 4) 5",
    ),
    "gates of an LSTM permuted differently": (
        lstm,
        (4, 5),
        """
        i = 7, f = 7, g = 7, h = 7
        rnn.weight_ih_l0: i+f+g+h 5
        rnn.weight_hh_l0: i+f+g+h h
        rnn.bias_ih_l0: i+f+g+h
        rnn.bias_hh_l0: i+f+g+h
        head.weight: 3 h
        head.bias: 3""",
        ["f", "g", "h", "i"],
        "rnn.weight_hh_l0: (4 h1) h1",
    ),
    "batch norm without running statistics": (
        batch_norm,
        (2, 5, 5),
        """
        c = 6
        0.weight: c 2 3 3
        0.bias: c
        1.weight: c
        1.bias: c
        1.running_mean: 6
        1.running_var: 6
        1.num_batches_tracked:
        3.weight: 4 c 1 1
        3.bias: 4""",
        ["c"],
        "1.running_var: c1",
    ),
    "the kernel's height tied to the input channels": (
        square,
        (2, 6, 6),
        """
        c = 3
        0.weight: c 2 3 3
        2.weight: 4 c c 3""",
        ["c"],
        "2.weight: 4 c1 3 3",
    ),
}


@pytest.mark.parametrize(
    ("make", "shape", "wrong", "broken", "line"), WRONG.values(), ids=WRONG.keys()
)
def test_published_mistakes_are_refused_and_what_is_discovered_is_accepted(
    make, shape, wrong, broken, line
):
    model, x = make(), torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    result = verify(PermutationSpec.parse(wrong), model, x)
    assert not result
    assert sorted(result.broken) == broken
    assert min(result.groups[name] for name in broken) > 1e-3
    assert all(error < 1e-13 for name, error in result.groups.items() if name not in broken)

    spec = permutation_spec(model, x)
    assert line in str(spec).splitlines()
    assert verify(spec, model, x).whole < 1e-13
    assert spec.log10_order > 0


REASONS = {
    "logits": (
        depthwise,
        (2, 5, 5),
        {"project.bias axis 0": "output", "expand.weight axis 1": "input"},
    ),
    "kernel": (
        square,
        (2, 6, 6),
        {"2.weight axis 2": "kernel of aten.conv2d", "2.weight axis 3": "kernel of aten.conv2d"},
    ),
}


@pytest.mark.parametrize(("make", "shape", "reasons"), REASONS.values(), ids=REASONS.keys())
def test_what_stands_still_says_why(make, shape, reasons):
    spec = permutation_spec(make(), torch.randn(3, *shape))
    assert reasons.items() <= dict(spec.pinned).items()


def test_permuted_logits_of_vgg16_are_refused():
    model, x = vgg(16, width=4, hidden=24, classes=10), torch.randn(2, 3, 32, 32)
    spec = permutation_spec(model, x)
    last = list(spec.axes)[-2:]
    assert [spec.pinned[f"{name} axis 0"] for name in last] == ["output", "output"]
    assert len(spec.groups) == 15
    assert verify(spec, model, x, groups=False).whole < 1e-13

    wrong = str(spec).replace("c1 = 4", "logits = 10, c1 = 4", 1)
    for name in last:
        wrong = wrong.replace(f"{name}: 10", f"{name}: logits")
    result = verify(PermutationSpec.parse(wrong), model, x)
    assert result.broken == ("logits",)
    assert result.groups["logits"] > 1e-3


def test_copies_count_each_member_of_a_family():
    spec = PermutationSpec.parse("head = 3, dk = 4 per head, h = 5\nw: (head dk) h")
    assert spec.copies == 1 + 3 + 1
    assert spec.log10_order == pytest.approx(math.log10(6 * 24**3 * 120))
