"""A population as codes against its base: rows are those of the codec, and damage is refused."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsl import Zoo
from wsl.cli import main
from wsl.symmetry import PermutationSpec
from wsl.zoo import CodedZoo, ZooError, is_coded, save, save_coded
from wsl.zoo import open as open_zoo
from wsl.zoo.codecs import ComPEFT, LowRankResidual, coded

SPEC = PermutationSpec.parse(
    "h = 12\n0.weight: h 9\n0.bias: h\nbn.running_mean: h\nbn.steps:\n2.weight: 4 h"
)
CODECS = [ComPEFT(0.1), LowRankResidual(0.5)]


def weights(seed, size=1.0):
    rng = torch.Generator().manual_seed(seed)
    found = {n: size * torch.randn(s, generator=rng) for n, s in SPEC.shapes.items()}
    return {**found, "bn.steps": torch.tensor(seed)}


BASE = weights(0)


def tuned(seed):
    return {n: t + weights(seed, 0.1)[n] if n != "bn.steps" else t + seed for n, t in BASE.items()}


@pytest.fixture
def zoo(tmp_path):
    models = [tuned(seed) for seed in range(1, 9)]
    how = {"score": [0.1 * i for i in range(8)], "name": [f"run {i}" for i in range(8)]}
    return Zoo.from_models(tmp_path / "zoo.h5", models, spec=SPEC, metadata=how)


@pytest.mark.parametrize("codec", CODECS, ids=["compeft", "lowrank"])
def test_rows_are_the_base_and_the_decoded_residual(zoo, tmp_path, codec):
    found = save_coded(zoo, tmp_path / "coded.npz", base=BASE, codec=codec)
    assert is_coded(found.path)
    assert not is_coded(zoo.path)
    assert len(found) == len(zoo)
    assert np.array_equal(found.table, zoo.table)
    costs = []
    for row in (0, 5, 7):
        params, about = found[row]
        whole, golden_about = zoo[row]
        code = coded(whole, BASE, codec)
        golden = code.decode(BASE)
        assert about == golden_about
        for name, tensor in golden.items():
            assert tensor.dtype == params[name].dtype
            torch.testing.assert_close(params[name], tensor, rtol=0, atol=1e-7)
        assert torch.equal(params["bn.running_mean"], whole["bn.running_mean"])
        assert torch.equal(params["bn.steps"], whole["bn.steps"])
        costs.append(code.error)
    assert found.provenance["codec"]["error"] == pytest.approx(np.mean(costs), rel=0.2)
    found.verify()


def test_a_coded_zoo_is_opened_batched_pickled_selected_and_converted_back(zoo, tmp_path):
    path = save_coded(zoo, tmp_path / "coded.npz", base=BASE, codec=CODECS[0]).path
    found = open_zoo(path)
    assert isinstance(found, CodedZoo)
    batch, about = found[[3, 1]]
    assert torch.equal(batch["2.weight"][0], found[3][0]["2.weight"])
    assert about["member"].tolist() == [3, 1]
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert torch.equal(again[2][0]["0.weight"], found[2][0]["0.weight"])
    assert len(found.where("score > 0.45")) == 3
    plain = save(found, tmp_path / "plain.h5")
    assert torch.equal(plain[6][0]["0.weight"], found[6][0]["0.weight"])
    assert plain.provenance["codec"]["name"] == "compeft"
    assert len(open_zoo([path, zoo.path])) == 16


def test_other_bases_types_and_damage_are_refused(zoo, tmp_path):
    path = tmp_path / "coded.npz"
    with pytest.raises(ZooError, match="the base does not fit its rows"):
        save_coded(zoo, path, base={"0.weight": torch.ones(2)}, codec=CODECS[0])
    half = save(zoo, tmp_path / "half.h5", dtype=torch.bfloat16)
    with pytest.raises(ZooError, match="is stored as bfloat16; convert it to float32 first"):
        save_coded(half, path, base=BASE, codec=CODECS[0])
    assert not path.exists()
    save_coded(zoo, path, base=BASE, codec=CODECS[0])
    with pytest.raises(ZooError, match="are float32, not"):
        open_zoo(path, dtype=torch.float16)
    whole = path.read_bytes()
    with np.load(path) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ZooError, match="is no coded zoo, or damaged"):
        CodedZoo(path)
    at = whole.index(content["codes"].tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(ZooError, match="is no coded zoo, or damaged"):
        CodedZoo(path)
    np.savez_compressed(path, **content)
    with pytest.raises(ZooError, match="its arrays are compressed"):
        CodedZoo(path)
    for name, value in (("offsets", content["offsets"][::-1]), ("base", content["base"][1:])):
        np.savez(path, **{**content, name: value})
        with pytest.raises(ZooError, match=name):
            CodedZoo(path)


def test_the_command_writes_reads_and_tells_the_cost(zoo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(BASE, "base.safetensors")
    words = ["zoo", "convert", "zoo.h5", "-o", "coded.npz"]
    assert main([*words, "--codec", "lowrank: {ratio: 0.5}", "--base", "base.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "bits for a weight, relative error 0." in said
    for verb in ("info", "verify"):
        assert main(["zoo", verb, "coded.npz"]) == 0
        assert "8 checkpoints" in capsys.readouterr().out
    assert main([*words, "--codec", "lowrank"]) == 2
    assert "--codec and --base go together" in capsys.readouterr().err
    assert main([*words, "--codec", "lowrankk", "--base", "base.safetensors"]) == 2
    assert "did you mean 'lowrank'" in capsys.readouterr().err
