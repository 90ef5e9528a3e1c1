"""Codecs: golden bits, exact round trips, errors that are those of the theory, damage refused."""

import math

import numpy as np
import pytest
import torch

from wsl.params import shapes
from wsl.zoo import codecs
from wsl.zoo.codecs import ComPEFT, LowRankResidual, coded, expected_bits, golomb_bits


def residual(seed=0, **more):
    rng = torch.Generator().manual_seed(seed)
    sizes = {"w": (40, 30), "conv": (8, 4, 3, 3), "b": (40,), **more}
    return {name: torch.randn(size, generator=rng) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("density", "bits", "entropy"), [(0.05, 0.339, 0.336), (0.5, 1.5, 1.5)], ids=["5 %", "50 %"]
)
def test_bits_for_a_weight_are_golden_near_the_entropy_and_measured(density, bits, entropy):
    assert expected_bits(density) == pytest.approx(bits, abs=5e-4)
    found = -density * math.log2(density) - (1 - density) * math.log2(1 - density) + density
    assert found == pytest.approx(entropy, abs=5e-4)
    assert expected_bits(density) >= found
    data = ComPEFT(density).encode({"w": torch.randn(400, 500)})
    assert 8 * len(data) / 200_000 == pytest.approx(bits, rel=0.01)


@pytest.mark.parametrize(("alpha", "size"), [(1.0, 2.926), (2.0, 5.852)])
def test_the_golden_vector_becomes_ternary_with_the_deviation_of_all_of_it(alpha, size):
    tau = {"w": torch.tensor([4.0, -3, 1, -0.5])}
    codec = ComPEFT(density=0.5, alpha=alpha)
    found = codec.decode(codec.encode(tau), shapes(tau))["w"]
    assert found.tolist() == pytest.approx([size, -size, 0, 0], abs=1e-3)


@pytest.mark.parametrize("density", [0.001, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_decoding_gives_the_ternary_residual_exactly(density):
    tau = residual()
    vector = torch.cat([t.flatten() for t in tau.values()])
    count = max(1, round(density * len(vector)))
    edge = vector.abs().sort().values[-count]
    golden = torch.where(vector.abs() >= edge, vector.sign() * vector.std(), 0.0)
    codec = ComPEFT(density)
    found = codec.decode(codec.encode(tau), shapes(tau))
    assert {n: t.shape for n, t in found.items()} == shapes(tau)
    torch.testing.assert_close(torch.cat([t.flatten() for t in found.values()]), golden)


def test_the_code_of_positions_is_the_slow_reference_bit_for_bit():
    tau = residual(1)
    vector = torch.cat([t.flatten() for t in tau.values()])
    density = 0.07
    data = ComPEFT(density).encode(tau)
    kept = vector.abs().sort().indices[-round(density * len(vector)) :].sort().values.tolist()
    low, streams, last = golomb_bits(density), ("", "", ""), -1
    unary, rest, signs = streams
    for place in kept:
        gap, last = place - last - 1, place
        unary += "1" * (gap >> low) + "0"
        rest += "".join(str(gap >> k & 1) for k in range(low))
        signs += str(int(vector[place] < 0))
    golden = b"".join(
        np.packbits(np.array(list(map(int, each)), dtype=np.uint8)).tobytes()
        for each in (unary, rest, signs)
    )
    assert data[-len(golden) :] == golden


def test_residuals_of_zeros_and_of_one_entry_are_coded():
    for tau in ({"w": torch.zeros(3, 4)}, {"w": torch.tensor([2.0])}):
        codec = ComPEFT(0.5)
        assert torch.equal(codec.decode(codec.encode(tau), shapes(tau))["w"], tau["w"])
        low = LowRankResidual(4.0, dtype="float32")
        torch.testing.assert_close(low.decode(low.encode(tau), shapes(tau))["w"], tau["w"])


def test_full_rank_is_exact_and_the_error_is_what_was_dropped():
    tau = residual()
    whole = LowRankResidual(ratio=3.0, dtype="float32")
    found = whole.decode(whole.encode(tau), shapes(tau))
    torch.testing.assert_close(found, tau, rtol=1e-4, atol=1e-5)
    part = LowRankResidual(ratio=0.4, dtype="float32")
    data = part.encode(tau)
    found = part.decode(data, shapes(tau))
    ranks = np.frombuffer(data[:8], "<u4").tolist()
    assert 0 < ranks[0] < 30
    for name, rank in zip(("w", "conv"), ranks, strict=True):
        dropped = torch.linalg.svdvals(tau[name].flatten(1).double())[rank:].square().sum()
        lost = (tau[name] - found[name]).double().square().sum()
        assert float(lost) == pytest.approx(float(dropped), rel=1e-3)
    assert torch.equal(found["b"], tau["b"])
    assert len(data) <= 0.4 * 4 * sum(t.numel() for t in tau.values())


def test_ranks_are_the_best_for_their_bytes():
    """No other ranks of the same or fewer bytes have a smaller error, but for the last triple."""
    tau = {"flat": torch.randn(10, 10), "steep": torch.zeros(10, 10)}
    tau["steep"][:2, :2] = 30 * torch.eye(2)
    codec = LowRankResidual(ratio=0.75, dtype="float32")
    ranks = np.frombuffer(codec.encode(tau)[:8], "<u4").tolist()
    assert ranks[1] == 2
    s = {n: torch.linalg.svdvals(t.double()).square() for n, t in tau.items()}
    error = sum(float(s[n][r:].sum()) for n, r in zip(tau, ranks, strict=True))
    for other in range(sum(ranks) + 1):
        rest = sum(ranks) - other
        if max(other, rest) <= 10:
            assert error <= float(s["flat"][other:].sum() + s["steep"][rest:].sum()) + 1e-6


@pytest.mark.parametrize("codec", [ComPEFT(0.1), LowRankResidual(0.3)], ids=codecs.CODECS)
def test_a_checkpoint_comes_back_near_and_what_is_not_learned_exactly(codec):
    base = {**residual(0), "bn.running_mean": torch.zeros(3), "steps": torch.tensor(3)}
    tuned = {
        n: t + 0.1 * torch.randn(t.shape) if t.is_floating_point() else t + 4
        for n, t in base.items()
    }
    tuned["w"] = tuned["w"].bfloat16().float()
    code = coded(tuned, base, codec)
    found = code.decode(base)
    assert [*found] == [*base]
    assert torch.equal(found["steps"], tuned["steps"])
    assert torch.equal(found["bn.running_mean"], tuned["bn.running_mean"])
    names = ("w", "conv", "b")
    lost = sum(float((found[n] - tuned[n]).square().sum()) for n in names) ** 0.5
    size = sum(float((base[n] - tuned[n]).square().sum()) for n in names) ** 0.5
    assert code.error == pytest.approx(lost / size, rel=1e-3)
    assert 0.1 < code.error < 1
    assert code.bits_per_weight == 8 * len(code.data) / code.weights
    assert code.bits_per_weight < 10
    assert codec.encode({n: tuned[n] - base[n] for n in names}) == code.data


@pytest.mark.parametrize("codec", [ComPEFT(0.1), LowRankResidual(0.3)], ids=codecs.CODECS)
def test_damage_and_other_shapes_are_refused(codec):
    tau = residual()
    data = codec.encode(tau)
    for cut in (data[:-1], data[:30], b""):
        with pytest.raises(ValueError, match="damaged"):
            codec.decode(cut, shapes(tau))
    with pytest.raises(ValueError, match=r"entries|damaged"):
        codec.decode(data, shapes(residual(b=(41,))))


def test_settings_and_checkpoints_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="density is 0"):
        ComPEFT(0)
    with pytest.raises(ValueError, match="ratio is -1"):
        LowRankResidual(-1)
    with pytest.raises(ValueError, match="w: "):
        coded({"w": torch.ones(2)}, {"w": torch.ones(3)}, ComPEFT())
    with pytest.raises(ValueError, match="w: is complex"):
        coded({"w": torch.ones(2) * 1j}, {"w": torch.ones(2) * 1j}, ComPEFT())
    with pytest.raises(ValueError, match="no learned tensor"):
        coded({"n": torch.tensor(1)}, {"n": torch.tensor(1)}, ComPEFT())
