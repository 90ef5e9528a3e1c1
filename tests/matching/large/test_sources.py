"""Matching where weights lie finds what matching in memory finds; files are read as they are."""

import json

import pytest
import safetensors.torch
import torch
from networks import BY_NAME, NETWORKS

from wsl import params
from wsl.matching import WeightMatching, match, match_sources, open_files
from wsl.matching.large import StreamedWeights
from wsl.matching.large import cuts as streamed
from wsl.symmetry import Permutation, SpecError

each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


def pairs(network):
    a = network.weights(seed=1)
    planted = Permutation.random(network.spec, torch.Generator().manual_seed(5))(a)
    return [(a, network.weights(seed=2)), (a, planted)]


@each_network
@pytest.mark.parametrize("anchored", [True, False])
def test_the_element_is_that_of_matching_in_memory_to_the_bit(network, anchored):
    matcher = WeightMatching(anchored=anchored)
    for a, b in pairs(network):
        here, there = (
            match(network.spec, a, b, matcher),
            match_sources(network.spec, a, b, matcher=matcher),
        )
        assert there.permutation == here.permutation
        assert (there.sweeps, there.converged) == (here.sweeps, here.converged)
        assert there.objective == pytest.approx(here.objective, rel=1e-6)


@each_network
def test_pieces_that_are_read_in_parts_give_the_same_element(network, monkeypatch):
    monkeypatch.setattr(streamed, "PART", 3)
    monkeypatch.setattr(StreamedWeights, "most_kept", 0)
    for a, b in pairs(network):
        here, there = match(network.spec, a, b), match_sources(network.spec, a, b)
        assert there.permutation == here.permutation
        assert there.objective == pytest.approx(here.objective, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_files_are_matched_as_what_they_hold(dtype, tmp_path):
    network = BY_NAME["attention"]
    a, b = (
        {n: t.to(dtype) if t.is_floating_point() else t for n, t in network.weights(seed=s).items()}
        for s in (1, 2)
    )
    for name, theta in (("a", a), ("b", b)):
        safetensors.torch.save_file(theta, tmp_path / f"{name}.safetensors")
    found = match_sources(
        network.spec,
        open_files(tmp_path / "a.safetensors").tensors,
        open_files(tmp_path / "b.safetensors").tensors,
    )
    assert found.permutation == match(network.spec, a, b).permutation


def test_a_folder_of_shards_is_one_checkpoint_and_slices_are_rows(tmp_path):
    theta = BY_NAME["cnn"].weights(seed=1)
    shards = [dict(list(theta.items())[::2]), dict(list(theta.items())[1::2])]
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, shard in zip(names, shards, strict=True):
        safetensors.torch.save_file(shard, tmp_path / name)
    index = {n: name for name, shard in zip(names, shards, strict=True) for n in shard}
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    found = open_files(tmp_path).tensors
    assert set(found) == set(theta)
    for name, tensor in theta.items():
        assert torch.equal(found[name][...], tensor)
        if tensor.dim():
            assert torch.equal(found[name][1:3], tensor[1:3])
    file.write_text(json.dumps({"weight_map": {**index, "new": names[0]}}))
    with pytest.raises(ValueError, match="new: is in no shard; model-00001-of-00002"):
        open_files(tmp_path)
    index.pop(next(iter(shards[0])))
    file.write_text(json.dumps({"weight_map": index}))
    with pytest.raises(ValueError, match=r"is in model-00001-of-00002.safetensors but not in the"):
        open_files(tmp_path)
    file.write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map of tensor names to files"):
        open_files(tmp_path)


def test_damaged_files_are_named(tmp_path):
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.ones(100)}, file)
    whole = file.read_bytes()
    for cut, message in ((50, "is not a readable safetensors"), (len(whole) - 8, "is cut")):
        file.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=message):
            open_files(file)
    with pytest.raises(ValueError, match="is no safetensors file and no folder with"):
        open_files(tmp_path / "missing")


def test_what_cannot_be_matched_out_of_core_is_refused_by_name():
    network = BY_NAME["mlp"]
    spec, a, bad = network.spec, network.weights(), network.weights()
    bad["2.weight"][1, 2] = float("nan")
    with pytest.raises(ValueError, match=r"2\.weight: 1 values in 'b' are NaN or infinite"):
        match_sources(spec, a, bad)
    with pytest.raises(SpecError, match=r"0\.weight: axis 1 has size 4"):
        match_sources(spec, a, a | {"0.weight": torch.zeros(7, 4)})
    with pytest.raises(ValueError, match=r"b: has batch axes \(2,\), but one checkpoint is taken"):
        match_sources(spec, a, params.stack([a, a]))
    with pytest.raises(ValueError, match="only weight matching without odd groups is done"):
        match_sources(spec, a, a, matcher=WeightMatching(odd=("h1",)))
