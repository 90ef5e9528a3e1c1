"""Transformers: as many groups as theory gives, under the names of the field, however attention is
written.
"""

import importlib
import importlib.util
import re

import pytest
import torch
from paths import SCRIPTS
from test_discover import Net, found, lines, weight
from torch import nn
from torch.nn import functional as F

from wsl.symmetry import permutation_spec, verify

THEORY = {"residual": 1, "ffn": 12, "head": 12, "dk": 144, "dv": 144}
"""Groups of BERT-base, GPT-2 small and ViT-B/16, counting one for every copy of a family: 313."""


def softly(q, k, v, mask=None):
    """Attention by two products of four axes."""
    scores = q @ k.mT / 2
    return (scores if mask is None else scores.masked_fill(mask, -30.0)).softmax(-1) @ v


def merged(q, k, v, mask=None):
    """Attention by products of three axes, the heads inside the batch."""
    n, h = q.shape[:2]
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    scores = torch.bmm(q, k.mT)
    scores = (
        scores
        if mask is None
        else (scores.view(n, h, *mask.shape[-2:]).masked_fill(mask, -30.0)).view_as(scores)
    )
    return torch.bmm(F.dropout(scores.softmax(-1), 0.1, False), v).view(n, h, q.shape[1], -1)


def summed(q, k, v, mask=None):
    """Attention by Einstein sums."""
    scores = torch.einsum("bhid,bhjd->bhij", q, k)
    scores = scores if mask is None else torch.where(mask, -30.0, scores)
    return torch.einsum("bhij,bhje->bhie", scores.float().softmax(-1).type_as(q), v)


def added(q, k, v, mask=None):
    """Attention by a product with a mask to start from."""
    heads = q.shape[:2]
    bias = torch.zeros(1, 1, 1) if mask is None else -30.0 * mask
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    scores = torch.baddbmm(bias.to(q), q, k.mT, alpha=0.5)
    return torch.bmm(scores.softmax(-1), v).unflatten(0, heads)


def fused(q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, None if mask is None else ~mask)


WAYS = [softly, merged, summed, added, fused]


class Layer(nn.Module):
    """One pre-norm layer with separate projections."""

    def __init__(self, d, heads, hidden, attend, causal, bias=True):
        super().__init__()
        self.ln1, self.ln2, self.heads, self.attend, self.causal = (
            nn.LayerNorm(d),
            nn.LayerNorm(d),
            heads,
            attend,
            causal,
        )
        self.q, self.k, self.v, self.o = (
            nn.Linear(d, d),
            nn.Linear(d, d, bias=bias),
            nn.Linear(d, d),
            nn.Linear(d, d),
        )
        self.up, self.down = nn.Linear(d, hidden), nn.Linear(hidden, d)

    def forward(self, x):
        t = self.ln1(x)
        q, k, v = (
            f(t).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        mask = x.new_ones(x.shape[1], x.shape[1]).triu(1) > 0 if self.causal else None
        x = x + self.o(self.attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Language(nn.Module):
    """Token and place embeddings, layers, and a head tied to the token embedding; with a transform
    before it, as in BERT.
    """

    def __init__(
        self,
        vocabulary,
        places,
        d,
        layers,
        *,
        heads,
        hidden,
        attend,
        causal,
        transform=False,
        bias=True,
    ):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, d), nn.Embedding(places, d)
        self.layers = nn.Sequential(
            *[Layer(d, heads, hidden, attend, causal, bias) for _ in range(layers)]
        )
        self.ln = nn.LayerNorm(d)
        self.transform = nn.Linear(d, d) if transform else None
        self.head = nn.Linear(d, vocabulary, bias=transform)
        self.head.weight = self.token.weight

    def forward(self, ids):
        x = self.ln(
            self.layers(self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device)))
        )
        return self.head(x if self.transform is None else F.gelu(self.transform(x)))


def base(**options):
    with torch.device("meta"):
        return Language(30522, 512, 768, 12, heads=12, hidden=3072, **options)


def assert_theory(spec):
    """49 declared groups, 313 with their copies, under the names of the field."""
    kinds = [re.sub(r"\d+$", "", group.name) for group in spec.declared]
    copies = [spec.groups[group.per] if group.per else 1 for group in spec.declared]
    count = {
        kind: sum(n for k, n in zip(kinds, copies, strict=True) if k == kind) for kind in set(kinds)
    }
    assert count == {"h": 13, "head": 12, "dk": 144, "dv": 144} or count == {
        "c": 1,
        "h": 12,
        "head": 12,
        "dk": 144,
        "dv": 144,
    }
    assert len(spec.declared) == 49
    assert spec.copies == sum(THEORY.values()) == 313
    assert sorted({group.size for group in spec.declared}) == [12, 64, 768, 3072]
    assert spec.log10_order == pytest.approx(140226.4, abs=0.06)


@pytest.mark.parametrize("attend", [softly, fused])
def test_a_masked_language_model_of_the_size_of_bert_has_as_many_groups_as_theory_gives(attend):
    assert_theory(
        permutation_spec(
            base(attend=attend, causal=False, transform=True), torch.zeros(2, 7, dtype=torch.long)
        )
    )


def test_a_causal_language_model_of_the_size_of_gpt2_has_as_many_groups_as_theory_gives():
    assert_theory(
        permutation_spec(base(attend=softly, causal=True), torch.zeros(2, 7, dtype=torch.long))
    )


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("attend", WAYS)
def test_heads_have_the_same_groups_however_attention_is_written(attend, causal):
    model = Language(11, 5, 6, 1, heads=2, hidden=7, attend=attend, causal=causal, bias=False)
    spec = permutation_spec(model, torch.arange(10).view(2, 5))
    assert verify(spec, model, torch.arange(10).view(2, 5))
    assert lines(spec)[0] == "h1 = 6, head1 = 2, dk1 = 3 per head1, dv1 = 3 per head1, h2 = 7"
    assert lines(spec)[1] == "token.weight: 11 h1"
    assert lines(spec)[-1] == "head.weight: 11 h1"
    assert [line for line in lines(spec) if ".q." in line] == [
        "layers.0.q.weight: (head1 dk1) h1",
        "layers.0.q.bias: (head1 dk1)",
    ]
    assert "layers.0.o.weight: h1 (head1 dv1)" in lines(spec)


def test_a_softmax_that_is_no_attention_names_nothing():
    model = Net(
        lambda m, x: m.b(m.a(x).softmax(-1) @ m.w),
        a=nn.Linear(5, 7),
        b=nn.Linear(3, 2),
        w=weight(7, 3),
    )
    assert set(found(model, torch.randn(4, 5)).groups) == {"h1", "h2"}


def test_experts_move_inside_and_the_router_stands_still():
    def forward(m, x):
        x = m.embed(x)
        experts = torch.topk(m.router(x).softmax(-1), 1).indices[:, 0]
        order = experts.argsort()
        offs = torch.histc(experts.float(), 3, 0, 2).cumsum(0).to(torch.int32)
        up, down = m.up.bfloat16(), m.down.bfloat16()
        y = F.grouped_mm(F.grouped_mm(x[order].bfloat16(), up, offs=offs).relu(), down, offs=offs)
        return m.head(x + torch.zeros_like(x).index_copy(0, order, y.float()))

    model = Net(
        forward,
        embed=nn.Linear(5, 8),
        router=nn.Linear(8, 3),
        up=weight(3, 8, 16),
        down=weight(3, 16, 8),
        head=nn.Linear(8, 2),
    )
    spec = permutation_spec(model, torch.randn(6, 5))
    assert verify(spec, model, torch.randn(6, 5))
    assert lines(spec)[:3] == ["c1 = 8, c2 = 16", "up: 3 c1 c2", "down: 3 c2 c1"]
    assert spec.pinned["up axis 0"] == "rows of aten._grouped_mm"
    assert spec.pinned["router.weight axis 0"].startswith("order of aten.topk")


def turned(heads):
    """Attention of which a part of every head is turned by its place, and cut off before that is
    known.
    """

    def turn(t):
        angle = torch.arange(6.0)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        part = t[..., :4]
        return torch.cat(
            [
                part * angle.cos() + torch.cat([-part[..., 2:], part[..., :2]], -1) * angle.sin(),
                t[..., 4:],
            ],
            -1,
        )

    def forward(m, x):
        q, k, v = (f(x).unflatten(-1, (heads, -1)).transpose(1, 2) for f in (m.q, m.k, m.v))
        return m.o(F.scaled_dot_product_attention(turn(q), turn(k), v).transpose(1, 2).flatten(2))

    return Net(
        forward,
        q=nn.Linear(5, 6 * heads, bias=False),
        k=nn.Linear(5, 6 * heads, bias=False),
        v=nn.Linear(5, 3 * heads, bias=False),
        o=nn.Linear(3 * heads, 2),
    )


def test_heads_that_are_turned_in_part_move_and_their_inside_stands_still():
    spec = found(turned(3), torch.randn(2, 6, 5))
    assert lines(spec)[:3] == [
        "head1 = 3, dv1 = 3 per head1",
        "q.weight: (head1 6) 5",
        "k.weight: (head1 6) 5",
    ]
    assert "o.weight: 2 (head1 dv1)" in lines(spec)


def test_of_blocks_and_their_inside_the_larger_group_is_kept():
    def network(blocks, inside):
        def forward(m, x):
            h = m.a(x).unflatten(-1, (blocks, 2 * inside))
            return m.b((h[..., :inside] * h[..., inside:].tanh()).flatten(1))

        return Net(
            forward,
            a=nn.Linear(5, 2 * blocks * inside, bias=False),
            b=nn.Linear(blocks * inside, 2, bias=False),
        )

    inside, blocks = (found(network(*sizes), torch.randn(4, 5)) for sizes in ((2, 5), (5, 2)))
    assert str(inside) == "h1 = 5\na.weight: h1+h1+h1+h1 5\nb.weight: 2 (2 h1)"
    assert str(blocks) == "h1 = 5\na.weight: (h1 4) 5\nb.weight: 2 (h1 2)"


def test_windows_of_one_entry_let_their_axis_move():
    def network(*options):
        return Net(
            lambda m, x: m.b(F.avg_pool2d(m.a(x).relu()[:, None], *options)[:, 0]),
            a=nn.Linear(5, 7),
            b=nn.Linear(7, 2),
        )

    assert found(network((2, 1)), torch.randn(3, 4, 5)).groups == {"h1": 7}
    assert found(network((3, 1), (1, 1), (1, 0)), torch.randn(3, 4, 5)).groups == {"h1": 7}
    assert permutation_spec(network((2, 3), (2, 1), (0, 1)), torch.randn(3, 4, 5)).pinned[
        "a.weight axis 0"
    ] == ("space of aten.avg_pool2d")


def test_positions_of_largest_entries_pin_both_axes_of_their_window():
    def forward(m, x):
        return m.b(
            F.max_pool2d(m.a(x).relu()[:, None], (2, 1), return_indices=True)[1][:, 0].float()
        )

    model = Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2))
    assert not permutation_spec(model, torch.randn(3, 4, 5)).groups


def test_axes_that_are_added_and_removed_in_place_change_nothing():
    def forward(m, x):
        h = m.a(x).relu() + 0
        h.unsqueeze_(1)
        h.transpose_(1, 2)
        h.squeeze_(2)
        return m.b(h)

    assert found(Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 2)), torch.randn(3, 5)).groups == {
        "h1": 7
    }


@pytest.fixture
def hugging_face(monkeypatch):
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    if importlib.util.find_spec("torchvision") is not None:
        importlib.import_module("coverage_networks").torchvision()
    return importlib.import_module("transformers")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_networks_of_the_hub_have_as_many_groups_as_theory_gives(hugging_face, attention):
    hf = hugging_face
    ids, image = torch.zeros(2, 7, dtype=torch.long), torch.zeros(2, 3, 224, 224)
    with torch.device("meta"):
        bert = hf.BertForMaskedLM(hf.BertConfig(attn_implementation=attention))
        gpt2 = hf.GPT2LMHeadModel(hf.GPT2Config(attn_implementation=attention, use_cache=False))
        vit = hf.ViTForImageClassification(hf.ViTConfig(attn_implementation=attention))
        classifier = hf.BertForSequenceClassification(hf.BertConfig(attn_implementation=attention))
    assert_theory(permutation_spec(bert, ids))
    assert_theory(permutation_spec(gpt2, ids))
    assert_theory(permutation_spec(vit, image))
    assert permutation_spec(classifier, ids).copies == 313 + 1
