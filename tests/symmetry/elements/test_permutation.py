"""Group laws, bit for bit, and the spec grammar's round trip."""

import copy
import pickle

import pytest
import torch

from wsl.symmetry import Permutation, PermutationSpec, SpecError

CONV = """c1 = 4, c2 = 6, h = 5
conv1.weight: c1 1 3 3
bn1.running_var: c1
conv2.weight: c2 c1 3 3
fc1.weight: h (c2 49)
fc2.weight: 10 h
fc2.temperature:"""
DENSE = "c1 = 2, c2 = 3, c3 = 4\ncat.weight: 7 c1+c2+c3 1 1\ncat.norm: (c1 4)+(c2 4)"
LSTM = "h = 5\nlstm.weight_hh_l0: (4 h) h\nlstm.bias_hh_l0: (4 h)"
ATTENTION = """d = 6, head = 3, dk = 4 per head, dv = 2 per head
attn.qk_weight: (2 head dk) d
attn.v_weight: (head dv) d
attn.out_weight: d (head dv)"""
SPECS = {"conv": CONV, "dense": DENSE, "lstm": LSTM, "attention": ATTENTION}


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def spec(request):
    return PermutationSpec.parse(request.param)


def weights(spec, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn((*batch, *shape), generator=generator)
        for name, shape in spec.shapes.items()
    }


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_text_is_the_value(spec):
    assert PermutationSpec.parse(str(spec)) == spec
    assert hash(PermutationSpec.parse(str(spec))) == hash(spec)
    assert str(spec) in SPECS.values()


def test_a_specification_survives_copying_and_pickling(spec):
    assert copy.deepcopy(spec) == spec == pickle.loads(pickle.dumps(spec))  # noqa: S301


def test_product_acts_as_composition_bit_for_bit(spec):
    rng = torch.Generator().manual_seed(1)
    g, h, k = (Permutation.random(spec, rng) for _ in range(3))
    theta = weights(spec)
    assert equal((g @ h)(theta), g(h(theta)))
    assert (g @ h) @ k == g @ (h @ k)
    assert not equal(g(theta), theta)


def test_inverse_and_identity(spec):
    g = Permutation.random(spec, torch.Generator().manual_seed(2))
    identity = Permutation.identity(spec)
    theta = weights(spec)
    assert equal((~g)(g(theta)), theta)
    assert equal(identity(theta), theta)
    assert g @ ~g == identity == ~g @ g
    assert g @ identity == g
    assert g != identity


def test_leading_axes_are_batch(spec):
    g = Permutation.random(spec, torch.Generator().manual_seed(3))
    theta = weights(spec, 2, 3)
    moved = g(theta)
    assert equal({n: t[1, 2] for n, t in moved.items()}, g({n: t[1, 2] for n, t in theta.items()}))


def test_flatten_moves_pixels_with_their_channel():
    spec = PermutationSpec.parse("c = 3\nw: 1 (c 2)")
    g = Permutation(spec, {"c": torch.tensor([2, 0, 1])})
    assert g({"w": torch.arange(6).reshape(1, 6)})["w"].tolist() == [[4, 5, 0, 1, 2, 3]]


def test_a_family_permutes_each_block_by_its_own_element():
    spec = PermutationSpec.parse("a = 2, j = 2 per a\nw: (a j)")
    g = Permutation(spec, {"a": torch.tensor([1, 0]), "j": torch.tensor([[1, 0], [0, 1]])})
    assert g({"w": torch.tensor([0, 1, 10, 11])})["w"].tolist() == [11, 10, 0, 1]


def test_saved_permutation_reads_back_equal(spec, tmp_path):
    g = Permutation.random(spec, torch.Generator().manual_seed(4))
    g.save(tmp_path / "g.json")
    assert Permutation.load(tmp_path / "g.json") == g


def test_damaged_permutation_file_is_refused(tmp_path):
    (tmp_path / "g.json").write_text('{"format": "wsl.Permutation"')
    with pytest.raises(SpecError, match=r"g\.json: not a saved permutation"):
        Permutation.load(tmp_path / "g.json")


def test_indices_must_be_a_permutation():
    spec = PermutationSpec.parse("h = 3\nw: h")
    with pytest.raises(SpecError, match=r"group 'h': the indices are not a permutation of 0\.\.2"):
        Permutation(spec, {"h": torch.tensor([0, 0, 1])})


def test_normal_form_distributes_products_and_merges_fixed_factors():
    texts = {
        "((c1+c2) 4)": "(c1 4)+(c2 4)",
        "(2 (c1+c2))": "c1+c2+c1+c2",
        "(2 3 c1)": "(6 c1)",
        "(1 c1)": "c1",
        "3+4": "7",
    }
    for text, normal in texts.items():
        spec = PermutationSpec.parse(f"c1 = 2, c2 = 3\nw: {text}\nv: c1 c2")
        assert str(spec).splitlines()[1] == f"w: {normal}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w: h", "group 'h' has no size; add 'h = SIZE'"),
        ("h = 3\nw: 3", "group 'h' is declared but acts on no tensor"),
        ("h = 3\nw: (h 2", "line 2, 'w: \\(h 2'"),
        ("h = 3\nw: h) 2", "unexpected '\\)'"),
        ("h = 3\nw: h ? 2", "cannot read '\\? 2'"),
        ("h = three\nw: h", "neither 'name = size'"),
        ("h = 3\nw: h\nw: h", "declared twice"),
        ("a = 2, j = 2 per a\nw: j", "'j' is per 'a', which must stand before it"),
        ("h = 0\nw: h", "group 'h' has size 0"),
        ("a = 2, b = 3\nw: (2000000000 (a+b))", "stands for 2000000000 copies"),
    ],
)
def test_wrong_text_is_one_clear_error(text, message):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.parse(text)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"0.weight": (8, 3), "2.weight": (4, 9)},
            "2.weight: axis 1 has size 9, but group 'h1' has size 8 \\(from 0.weight\\)",
        ),
        (
            {"0.weight": (8, 2), "2.weight": (4, 8)},
            "0.weight: axis 1 has size 2, but it must have size 3",
        ),
        ({"0.weight": (8, 3)}, "missing: 2.weight"),
        ({"0.weight": (8, 3), "2.weight": (4, 8), "x": (1,)}, "unknown: x"),
        (
            {"0.weight": (8,), "2.weight": (4, 8)},
            "0.weight: has 1 axes, but 'h1 3' needs at least 2",
        ),
        ({"0.weight": (5, 8, 3), "2.weight": (6, 4, 8)}, "leading \\(batch\\) axes \\(6,\\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(params, message):
    spec = PermutationSpec.parse("h1 = 8\n0.weight: h1 3\n2.weight: 4 h1")
    with pytest.raises(SpecError, match=message):
        spec.validate({name: torch.zeros(shape) for name, shape in params.items()})


def test_order_counts_every_element():
    spec = PermutationSpec.parse("a = 3, j = 4 per a\nw: (a j)")
    assert 10**spec.log10_order == pytest.approx(6 * 24**3)
