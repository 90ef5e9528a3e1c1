"""Laws of adapters: exact algebra by factors, every key used or named, nothing silent."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from wsl.merging import TIES, TaskArithmetic
from wsl.merging.adapters import (
    Adapter,
    CompressThenMerge,
    CoreSpace,
    KnOTS,
    LowRank,
    combine,
    cosines,
    merge_adapters,
)
from wsl.merging.adapters.spaces import evened

SHAPES = {"up.weight": (6, 4), "down.weight": (4, 6), "conv.weight": (5, 2, 3, 3)}


def rng(seed):
    return torch.Generator().manual_seed(seed)


def low(seed, shape=(6, 4), rank=2, scale=1.5):
    random = rng(seed)
    rest = math.prod(shape[1:])
    b = torch.randn(shape[0], rank, generator=random, dtype=torch.float64)
    return LowRank(b, torch.randn(rank, rest, generator=random, dtype=torch.float64), scale, shape)


def adapter(seed, rank=2):
    return Adapter({n: low(seed + i, s, rank) for i, (n, s) in enumerate(SHAPES.items())})


def base():
    return {n: torch.randn(s, generator=rng(9)) for n, s in SHAPES.items()} | {
        "norm.weight": torch.ones(3)
    }


def near(a, b, tol=1e-9):
    torch.testing.assert_close(a, b, rtol=0, atol=tol)


def test_the_algebra_of_factors_is_that_of_matrices():
    one, two = low(1), low(2, rank=3, scale=-0.5)
    near((one + two).dense(), one.dense() + two.dense())
    near((2.0 * one).dense(), 2 * one.dense())
    near((one * -1.0).dense(), -one.dense())
    assert one.inner(two) == pytest.approx(float((one.dense() * two.dense()).sum()))
    assert one.norm() == pytest.approx(float(one.dense().norm()))
    kernel = low(3, (5, 2, 3, 3))
    assert kernel.dense().shape == (5, 2, 3, 3)
    assert kernel.norm() == pytest.approx(float(kernel.dense().norm()))


def test_the_golden_canonical_form():
    b = torch.tensor([[1.0, 0], [0, 2], [2, 1]]).double()
    a = torch.tensor([[3.0, 0, 4], [0, 1, 0]]).double()
    r = torch.tensor([[2.0, 1], [1, 1]]).double()
    for change in (
        LowRank(b, a, 1.0, (3, 3)),
        LowRank(b @ r, torch.linalg.inv(r) @ a, 1.0, (3, 3)),
    ):
        u, s, v = change.canonical()
        near(s, torch.tensor([11.2173, 2.0426]).double(), 1e-4)
        near(u[:, 0], torch.tensor([0.4442, 0.0147, 0.8958]).double(), 1e-4)
        near(u[:, 1], torch.tensor([-0.2019, 0.9758, 0.0841]).double(), 1e-4)
        near(v[:, 0], torch.tensor([0.5980, 0.0825, 0.7973]).double(), 1e-4)
        near(v[:, 1], torch.tensor([-0.0495, 0.9966, -0.0660]).double(), 1e-4)
        assert change.norm() ** 2 == pytest.approx(130)


def test_a_cut_of_the_rank_is_the_best_and_knows_its_error():
    change = low(1, rank=4)
    u, s, vh = torch.linalg.svd(change.dense())
    for rank in (1, 2, 4, 9):
        cut, lost = change.compress(rank)
        kept = min(rank, 4)
        near(cut.dense(), u[:, :kept] * s[:kept] @ vh[:kept])
        assert lost == pytest.approx(float((cut.dense() - change.dense()).norm()), abs=1e-9)
    with pytest.raises(ValueError, match="rank is 0"):
        change.compress(0)


def test_one_adapter_with_weight_one_is_itself_of_every_kind():
    plain = adapter(1)
    with_magnitude = Adapter(plain.changes, magnitudes={"up.weight": torch.ones(6)}, kind="DoRA")
    with_bias = Adapter(plain.changes, biases={"up.bias": torch.ones(6)})
    with_tensor = Adapter(plain.changes, tensors={"norm.weight": torch.zeros(3)})
    for one in (plain, with_magnitude, with_bias, with_tensor):
        assert combine([one], [1]) is one
    for one, named in ((with_magnitude, "up.weight"), (with_tensor, "norm.weight")):
        with pytest.raises(ValueError, match=named):
            combine([one, plain])


def test_weighted_sums_are_exact_where_sums_of_factors_are_not():
    eye = torch.eye(2)
    one, two = (Adapter({"w": LowRank(eye[:, [i]], eye[[i]], 1.0, (2, 2))}) for i in range(2))
    near(combine([one, two], [0.5, 0.5]).changes["w"].dense(), eye / 2)
    near(combine([one, two], [1, -1]).changes["w"].dense(), torch.diag(torch.tensor([1.0, -1])))
    a, b = adapter(1), adapter(7)
    moved = (0.25 * a + -2.0 * b).apply(base()).params
    for name, shape in SHAPES.items():
        expected = base()[name] + (
            0.25 * a.changes[name].dense() - 2 * b.changes[name].dense()
        ).view(shape)
        near(moved[name], expected.float(), 1e-5)


def test_inner_products_and_cosines_form_no_large_matrix():
    adapters = [adapter(seed) for seed in (0, 10, 20)]
    dense = torch.stack(
        [torch.cat([c.dense().flatten() for c in a.changes.values()]) for a in adapters]
    )
    unit = dense / dense.norm(dim=1, keepdim=True)
    near(cosines(adapters), unit @ unit.T)
    huge = LowRank(torch.randn(200_000, 2), torch.randn(2, 200_000), 1.0, (200_000, 200_000))
    assert huge.norm() > 0
    assert len(huge.canonical()[1]) == 2


def test_applying_is_done_in_float32_and_its_cast_is_told():
    found = adapter(1).apply({n: t.bfloat16() for n, t in base().items()})
    assert {t.dtype for t in found.params.values()} == {torch.bfloat16}
    assert 1e-5 < found.cast_error < 1e-2
    assert adapter(1).apply(base()).cast_error < 1e-6
    assert torch.equal(found.params["norm.weight"], torch.ones(3).bfloat16())


def test_an_adapter_that_changes_nothing_is_refused():
    nothing = 0.0 * adapter(1)
    with pytest.raises(ValueError, match="the result equals the base"):
        nothing.apply(base())
    with pytest.raises(ValueError, match=r"up\.weight: the adapter changes it, but the base has"):
        adapter(1).apply({"other.weight": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"has shape \(6, 5\), but the adapter changes one"):
        adapter(1).apply(base() | {"up.weight": torch.ones(6, 5)})


def test_magnitudes_are_of_the_rows():
    one = Adapter({"up.weight": low(1)}, magnitudes={"up.weight": torch.arange(1.0, 7)})
    moved = one.apply(base()).params["up.weight"]
    near(moved.norm(dim=1), torch.arange(1.0, 7), 1e-5)
    direction = base()["up.weight"] + low(1).dense().float()
    near(moved / moved.norm(dim=1, keepdim=True), direction / direction.norm(dim=1)[:, None], 1e-5)


def folder(path, config, tensors):
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | config))
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def factors(module, rank=4, shape=(6, 4), prefix="base_model.model."):
    change = low(3, shape, rank)
    stem = prefix + module
    return {
        f"{stem}.lora_A.weight": change.a.float(),
        f"{stem}.lora_B.weight": change.b.float(),
    }, (change.b @ change.a).float()


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 4, "lora_alpha": 8}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"up": 2}}, 0.5),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"layers.0.down": 2}}, 2.0),
    ],
)
def test_scales_of_peft_folders(tmp_path, config, scale):
    tensors, product = factors("layers.0.up")
    found = Adapter.load(folder(tmp_path / "a", config, tensors))
    assert list(found.changes) == ["layers.0.up.weight"]
    near(found.changes["layers.0.up.weight"].dense(), scale * product, 1e-5)
    assert found.kind == ("rsLoRA" if config.get("use_rslora") else "LoRA")


@pytest.mark.parametrize(
    ("down", "up", "alpha", "scale"),
    [
        ("unet.mid.to_q.lora_A.weight", "unet.mid.to_q.lora_B.weight", None, 1.0),
        ("unet.mid.to_q.lora.down.weight", "unet.mid.to_q.lora.up.weight", None, 1.0),
        (
            "mid.to_q.lora_linear_layer.down.weight",
            "mid.to_q.lora_linear_layer.up.weight",
            None,
            1.0,
        ),
        (
            "diffusion_model.mid.to_q.lora_A.weight",
            "diffusion_model.mid.to_q.lora_B.weight",
            "diffusion_model.mid.to_q.alpha",
            0.25,
        ),
        (
            "lora_unet_mid_to_q.lora_down.weight",
            "lora_unet_mid_to_q.lora_up.weight",
            "lora_unet_mid_to_q.alpha",
            0.25,
        ),
    ],
)
def test_foreign_key_styles_find_their_weight(tmp_path, down, up, alpha, scale):
    tensors, product = factors("x")
    a, b = tensors.values()
    content = {down: a, up: b} | ({alpha: torch.tensor(1.0)} if alpha else {})
    save_file(content, tmp_path / "foreign.safetensors")
    found = Adapter.load(tmp_path / "foreign.safetensors")
    weights = {"mid.to_q.weight": torch.zeros(6, 4), "mid.to_q.bias": torch.zeros(6)}
    near(found.apply(weights).params["mid.to_q.weight"], scale * product, 1e-5)


def test_embeddings_convolutions_transposed_weights_and_biases(tmp_path):
    embedding = {
        "base_model.model.emb.lora_embedding_A": torch.randn(2, 7, generator=rng(0)),
        "base_model.model.emb.lora_embedding_B": torch.randn(3, 2, generator=rng(1)),
    }
    found = Adapter.load(folder(tmp_path / "e", {"r": 2, "lora_alpha": 2}, embedding))
    a, b = embedding.values()
    near(found.changes["emb.weight"].dense(), (b @ a).T, 1e-5)
    kernels = {
        "base_model.model.conv.lora_A.weight": torch.randn(2, 3, 3, 3, generator=rng(0)),
        "base_model.model.conv.lora_B.weight": torch.randn(5, 2, 1, 1, generator=rng(1)),
        "base_model.model.conv.lora_B.bias": torch.ones(5),
    }
    found = Adapter.load(folder(tmp_path / "c", {"r": 2, "lora_alpha": 4}, kernels))
    a, b, _ = kernels.values()
    near(
        found.changes["conv.weight"].dense(),
        2 * torch.einsum("or,rikl->oikl", b[..., 0, 0], a),
        1e-5,
    )
    assert found.biases["conv.bias"].tolist() == [2.0] * 5
    tensors, product = factors("c_attn")
    config = {"r": 4, "lora_alpha": 4, "fan_in_fan_out": True}
    found = Adapter.load(folder(tmp_path / "t", config, tensors))
    near(found.changes["c_attn.weight"].dense(), product.T, 1e-5)


def test_pissa_needs_its_start_and_is_the_difference_to_it(tmp_path):
    tensors, product = factors("up")
    config = {"r": 4, "lora_alpha": 4, "init_lora_weights": "pissa_niter_4"}
    trained = folder(tmp_path / "trained", config, tensors)
    with pytest.raises(ValueError, match="PiSSA begins at singular vectors of the base"):
        Adapter.load(trained)
    start = {name: 0.5 * tensor for name, tensor in tensors.items()}
    found = Adapter.load(trained, initial=folder(tmp_path / "start", config, start))
    near(found.changes["up.weight"].dense(), 0.75 * product, 1e-5)


def test_no_key_is_dropped(tmp_path):
    tensors, _ = factors("up")
    config = {"r": 4, "lora_alpha": 4}
    extra = tensors | {"base_model.model.head.weight": torch.ones(2)}
    with pytest.raises(ValueError, match=r"key base_model\.model\.head\.weight is no part"):
        Adapter.load(folder(tmp_path / "a", config, extra))
    found = Adapter.load(folder(tmp_path / "b", config | {"modules_to_save": ["head"]}, extra))
    assert found.tensors["head.weight"].tolist() == [1, 1]
    half = dict(list(tensors.items())[:1])
    with pytest.raises(ValueError, match="up: has one of the two factors"):
        Adapter.load(folder(tmp_path / "c", config, half))
    other = tensors | {"base_model.model.up.hada_w1_a": torch.ones(2, 2)}
    with pytest.raises(ValueError, match="is of an adapter that is no LoRA"):
        Adapter.load(folder(tmp_path / "d", config, other))
    with pytest.raises(ValueError, match="of kind IA3"):
        Adapter.load(folder(tmp_path / "e", config | {"peft_type": "IA3"}, tensors))
    save_file({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="none of its 1 keys names a low-rank factor"):
        Adapter.load(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="does not exist"):
        Adapter.load(tmp_path / "nowhere")


def test_what_is_written_is_read_back(tmp_path):
    one = adapter(1)
    one.save(tmp_path / "out")
    found = Adapter.load(tmp_path / "out")
    for name, change in one.changes.items():
        near(found.changes[name].dense(), change.dense(), 1e-9)
    dora = Adapter({"up.weight": low(1)}, magnitudes={"up.weight": torch.ones(6)})
    dora.save(tmp_path / "dora")
    assert Adapter.load(tmp_path / "dora").kind == "DoRA"
    with pytest.raises(ValueError, match="is no low-rank change, and only those are written"):
        Adapter({"up.weight": low(1)}, biases={"up.bias": torch.ones(6)}).save(tmp_path / "no")


def test_core_space_is_lossless_for_linear_methods():
    adapters = [adapter(seed) for seed in (0, 10, 20)]
    merged = merge_adapters(adapters, TaskArithmetic(0.3, weights=[1, 2, -1]))
    exact = combine(adapters, [0.3, 0.6, -0.3])
    for name in SHAPES:
        near(merged.changes[name].dense(), exact.changes[name].dense())


def test_core_space_and_knots_keep_a_single_adapter():
    for space in (CoreSpace(), KnOTS(), CompressThenMerge(2)):
        merged = merge_adapters([adapter(1)], TaskArithmetic(), space=space)
        for name in SHAPES:
            near(merged.changes[name].dense(), adapter(1).changes[name].dense())


def test_knots_is_lossless_for_sums_and_differs_for_ties():
    adapters = [adapter(seed) for seed in (0, 10)]
    total = merge_adapters(adapters, TaskArithmetic(), space=KnOTS())
    for name in SHAPES:
        near(total.changes[name].dense(), (adapters[0] + adapters[1]).changes[name].dense())
    trimmed = merge_adapters(adapters, TIES(0.3), space=KnOTS())
    assert trimmed.norm() < total.norm()


def test_the_basis_of_core_space_matters_for_methods_that_look_at_entries():
    one = [{"w": torch.diag(torch.tensor(d))} for d in ([4.0, 0.0], [0.0, 4.0])]
    zeros = {"w": torch.zeros(2, 2)}
    near(TIES(0.25).solve(one, base=zeros)["w"], 4 * torch.eye(2))
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turned = [{"w": torch.tensor([[c, -s], [s, c]]).T @ m["w"]} for m in one]
    found = torch.tensor([[c, -s], [s, c]]) @ TIES(0.25).solve(turned, base=zeros)["w"]
    assert not torch.allclose(found, 4 * torch.eye(2), atol=1e-3)


def test_compress_then_merge_has_its_rank_and_evens_lengths():
    near(evened(torch.tensor([3.0, 1.0]), 0.25), torch.tensor([2.25, 1.75]))
    near(evened(torch.tensor([3.0, 1.0]), 0.0), torch.tensor([2.0, 2.0]))
    near(evened(torch.tensor([3.0, 1.0]), 1.0), torch.tensor([3.0, 1.0]))
    adapters = [adapter(seed) for seed in (0, 10, 20)]
    merged = merge_adapters(adapters, TaskArithmetic(0.5), space=CompressThenMerge(3))
    assert {change.rank for change in merged.changes.values()} == {3}
    full = merge_adapters(adapters, TaskArithmetic(0.5), space=CompressThenMerge(6))
    exact = combine(adapters, [0.5] * 3)
    for name in ("up.weight", "down.weight"):
        near(full.changes[name].dense(), exact.changes[name].dense())


def test_weights_that_one_adapter_leaves_alone_are_zero_there():
    one, two = Adapter({"up.weight": low(1)}), Adapter({"down.weight": low(2, (4, 6))})
    both = merge_adapters([one, two], TaskArithmetic())
    assert list((one + two).changes) == list(both.changes) == ["up.weight", "down.weight"]
    near(both.changes["up.weight"].dense(), low(1).dense())
