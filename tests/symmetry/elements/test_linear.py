"""Linear maps, rotations and orthogonal maps: their text, their laws, and what is refused."""

import dataclasses

import pytest
import torch

from wsl.symmetry import (
    LinearMaps,
    Permutation,
    PermutationSpec,
    Rescaling,
    SpecError,
    SymmetryElement,
)

ATTENTION = """\
h = 6, head = 2, group = 3 per head, dv = 3 per head
q.weight: (head group 4) h
q.bias: (head group 4)
k.weight: (head 4) h
v.weight: (head dv)+(head 2) h
v.bias: (head dv)+(head 2)
o.weight: h (head group dv)
"""
ROTATION = "rotation head half: q.weight[0,0,2] q.bias[0,0,2] / k.weight[0,0,1]"
LINEAR = "linear dv: v.weight[0,0,1] v.bias[0,0,1] / o.weight[1,0,2]"
SCALES = """\
scale head: q.weight[0] q.bias[0] / k.weight[0]
scale dv: v.weight[0,0,1] v.bias[0,0,1] / o.weight[1,0,2]
sign dv: v.weight[0,0,1] v.bias[0,0,1] o.weight[1,0,2]
"""
STREAM = "orthogonal h: q.weight[1] k.weight[1] v.weight[1] o.weight[0]"
SPEC = PermutationSpec.parse(ATTENTION + SCALES + LINEAR + "\n" + ROTATION + "\n" + STREAM)
SPECS = {
    "all": SPEC,
    "interleaved": PermutationSpec.parse(
        ATTENTION + SCALES + ROTATION.replace("half", "interleaved")
    ),
    "centred": PermutationSpec.parse(ATTENTION + STREAM.replace("h:", "h centred:")),
    "one number for all heads": PermutationSpec.parse(
        ATTENTION + ROTATION.replace("head half", "half")
    ),
}
by_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def weights(spec, *lead):
    rng = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(*lead, *shape, generator=rng, dtype=torch.float64)
        for name, shape in spec.shapes.items()
    }


def close(a, b):
    return all(torch.allclose(a[name], b[name], atol=1e-10) for name in b)


@by_spec
def test_a_text_reads_back(spec):
    assert PermutationSpec.parse(str(spec)) == spec
    assert PermutationSpec.from_json(spec.to_json()) == spec
    assert spec.rename_groups({"head": "n"}).rename_groups({"n": "head"}) == spec
    alone = spec.restrict(["q.weight", "k.weight"])
    assert PermutationSpec.parse(str(alone)) == alone


@by_spec
def test_elements_with_maps_form_a_group_that_acts(spec):
    generator = torch.Generator().manual_seed(1)
    g, h, k = (SymmetryElement.random(spec, generator, maps=True) for _ in range(3))
    theta = weights(spec)
    assert close((g @ h)(theta), g(h(theta)))
    assert close(((g @ h) @ k)(theta), (g @ (h @ k))(theta))
    assert close((~g @ g)(theta), theta)
    assert close((g @ ~g)(theta), theta)
    plain = SymmetryElement.random(spec, generator)
    assert close((g @ plain)(theta), g(plain(theta)))
    assert close((plain @ g)(theta), plain(g(theta)))
    assert not close(g(theta), theta)


@by_spec
def test_maps_alone_multiply_invert_and_are_carried(spec):
    generator = torch.Generator().manual_seed(2)
    m, n = LinearMaps.random(spec, generator), LinearMaps.random(spec, generator)
    p, r = Permutation.random(spec, generator), Rescaling.random(spec, generator)
    theta = weights(spec)
    assert close((m @ n)(theta), m(n(theta)))
    assert close((~m @ m)(theta), theta)
    assert close(LinearMaps.identity(spec)(theta), theta)
    assert close(p(m(theta)), m.permuted(p)(p(theta)))
    assert close(r(m(theta)), m.rescaled(r)(r(theta)))


def test_leading_axes_are_batch_and_half_precision_is_kept():
    g = SymmetryElement.random(SPEC, torch.Generator().manual_seed(3), maps=True)
    theta = weights(SPEC, 2, 3)
    single = g({name: tensor[1, 2] for name, tensor in theta.items()})
    assert close({name: tensor[1, 2] for name, tensor in g(theta).items()}, single)
    half = g({name: tensor.bfloat16() for name, tensor in theta.items()})
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    for name, tensor in half.items():
        assert torch.allclose(tensor.double(), g(theta)[name], atol=0.15, rtol=0.05)


@pytest.mark.parametrize("form", ["half", "interleaved"])
def test_a_rotation_multiplies_the_pairs_of_its_form(form):
    spec = PermutationSpec.parse(f"q: 4\nk: 4\nrotation {form}: q[0] / k[0]")
    c = torch.tensor([2j, 1 + 1j], dtype=torch.complex128)
    q, k = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 0.0, 1.0])
    moved = LinearMaps(spec, (c,))({"q": q, "k": k})
    order = [0, 2, 1, 3] if form == "half" else [0, 1, 2, 3]
    z = torch.view_as_complex(q[order].view(2, 2)) * c.to(torch.complex64)
    expected = torch.view_as_real(z).flatten()[torch.tensor(order).argsort()]
    torch.testing.assert_close(moved["q"], expected)
    torch.testing.assert_close(moved["q"] @ moved["k"], q @ k)


def test_an_element_with_maps_is_written_and_read(tmp_path):
    g = SymmetryElement.random(SPEC, torch.Generator().manual_seed(5), maps=True)
    g.save(tmp_path / "g.safetensors")
    back, theta = SymmetryElement.load(tmp_path / "g.safetensors"), weights(SPEC)
    assert back.spec == SPEC
    assert back.permutation == g.permutation
    assert all(map(torch.equal, back.rescaling.values, g.rescaling.values))
    assert all(map(torch.equal, back.maps.values, g.maps.values))
    assert close(back(theta), g(theta))
    plain = SymmetryElement.random(SPEC)
    plain.save(tmp_path / "p.safetensors")
    assert SymmetryElement.load(tmp_path / "p.safetensors").maps is None
    (tmp_path / "p.safetensors").write_bytes(b"nothing")
    with pytest.raises(SpecError, match=r"p\.safetensors: not a saved symmetry element"):
        SymmetryElement.load(tmp_path / "p.safetensors")


BAD = {
    "rotation head half: q.weight[0,0,1] / k.weight[0,0,1]": "is group 'group'; a rotation acts on "
    "a fixed factor",
    "rotation head half: q.weight[0,0,2] / k.weight[0,0,4]": "is no place of a tensor",
    "rotation h half: q.weight[0,0,2] / k.weight[0,0,1]": "'h' must stand before",
    "rotation head half: q.weight[0,0,2] / v.weight[0,1,1]": r"factors of sizes \[2, 4\]; they must"
    " be even and equal",
    "rotation group half: q.weight[0,0,2]": "its heads are a family; name 'head'",
    "rotation head: q.weight[0,0,2]": "its form is 'half' or 'interleaved', not ''",
    "scale head half: q.weight[0]": "its form is '', not 'half'",
    "orthogonal h: q.weight[1] / o.weight[0]": r"exponents \[-1, 1\]; it needs places, with "
    r"exponents \[1\]",
    "scale : q.weight[0]": "the group whose units it acts on is missing",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD.keys())
def test_malformed_lines_are_refused(text, message):
    with pytest.raises(SpecError, match=message):
        PermutationSpec.parse(ATTENTION + text)


def test_scales_that_do_not_carry_matrices_are_refused_with_them():
    partial = PermutationSpec.parse(ATTENTION + LINEAR + "\nscale dv: o.weight[1,0,2]^2")
    stretched = PermutationSpec.parse(ATTENTION + STREAM + "\nscale h: q.weight[1]")
    twice = PermutationSpec.parse(ATTENTION + STREAM + "\northogonal h: q.weight[1]")
    for spec, message in (
        (partial, "linear dv: 'scale dv' does not act on all of its places alike"),
        (stretched, "orthogonal h: 'scale h' does not act on all of its places alike"),
        (twice, r"orthogonal h: 'orthogonal h' also acts on 'q\.weight\[1\]'"),
    ):
        SymmetryElement.random(spec)
        with pytest.raises(SpecError, match=message):
            SymmetryElement.random(spec, maps=True)


def test_values_that_are_no_elements_are_refused():
    one = dict(zip(SPEC.units[3:], LinearMaps.identity(SPEC).values, strict=True))
    kinds = {unit.kind: (unit, value) for unit, value in one.items()}

    def build(kind, change):
        unit, value = kinds[kind]
        return LinearMaps(dataclasses.replace(SPEC, units=(unit,)), (change(value),))

    for kind, change, message in (
        ("linear", lambda m: 0 * m, "linear dv: a matrix is singular"),
        ("linear", lambda m: m.float(), r"needs torch\.float64 values of shape \(2, 3, 3\)"),
        ("rotation", lambda c: 0 * c, "the numbers of a rotation must not be 0"),
        ("rotation", lambda c: c / 0, "values are NaN or infinite"),
        ("orthogonal", lambda m: 2 * m, "orthogonal h: a matrix is not orthogonal"),
    ):
        with pytest.raises(SpecError, match=message):
            build(kind, change)
    centred = SPECS["centred"]
    with pytest.raises(SpecError, match="a matrix moves the vector of ones"):
        LinearMaps(centred, (-LinearMaps.identity(centred).values[0],))
    with pytest.raises(SpecError, match="0 values given"):
        LinearMaps(SPEC, ())
