"""Checkpoints that anyone saved: one set of weights is read and named, and nothing is dropped in
silence.
"""

import argparse
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsl.symmetry import PermutationSpec
from wsl.zoo import ZooError
from wsl.zoo.reading.fit import Expected, fit
from wsl.zoo.reading.read import open_checkpoint, read_checkpoint

SPEC = PermutationSpec.parse("h = 3\na.weight: h 2\na.bias: h\nb.weight: 4 h")


def weights(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=draw) for name, shape in SPEC.shapes.items()}


def saved(tmp_path, content, name="x.pt"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


NESTS = {
    "bare": (lambda w: w, ""),
    "lightning": (lambda w: {"epoch": 3, "state_dict": w, "optimizer_states": []}, "state_dict"),
    "trainer": (lambda w: {"step": 3, "model_state": w, "optimizer_state": {}}, "model_state"),
    "net": (lambda w: {"net": w, "acc": 91.0}, "net"),
    "deepspeed": (lambda w: {"module": w, "ds_version": "0.14"}, "module"),
    "averaged": (lambda w: {"params_ema": weights(9), "params": w}, "params"),
    "ema beside": (lambda w: {"model_ema": weights(9), "model": w}, "model"),
    "only ema": (lambda w: {"state_dict_ema": w}, "state_dict_ema"),
    "pair": (lambda w: (w, {"state": {}, "param_groups": []}), "0"),
    "deep": (lambda w: {"checkpoint": {"model": w}}, "checkpoint/model"),
}


@pytest.mark.parametrize("nest", NESTS)
def test_the_obvious_set_of_weights_is_found(tmp_path, nest):
    wrap, where = NESTS[nest]
    path = saved(tmp_path, wrap(weights()))
    params, _ = read_checkpoint(path)
    assert list(params) == list(SPEC.axes)
    assert all(torch.equal(params[name], tensor) for name, tensor in weights().items())
    named, _ = read_checkpoint(path, entry=where)
    assert all(torch.equal(named[name], params[name]) for name in params)


def test_an_average_beside_the_weights_is_named_and_can_be_chosen(tmp_path):
    path = saved(tmp_path, {"model": weights(0), "model_ema": weights(1)})
    _, notes = open_checkpoint(path).choose()
    assert any("model_ema" in note and "--entry" in note for note in notes)
    chosen, notes = open_checkpoint(path).choose("model_ema")
    assert torch.equal(chosen["a.bias"], weights(1)["a.bias"])
    assert any("model not" in note for note in notes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"generator": weights(0), "discriminator": weights(1)}, "generator .*discriminator"),
        ([weights(0), weights(1), weights(2)], "list of 3"),
        ({"optimizer": {"state": {}, "param_groups": [1]}}, "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({}, "holds no weights"),
        (torch.zeros(3), "holds no weights"),
    ],
)
def test_a_choice_that_is_open_lists_what_there_is(tmp_path, content, words):
    with pytest.raises(ZooError, match=words):
        read_checkpoint(saved(tmp_path, content))


def test_an_entry_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    path = saved(tmp_path, {"generator": weights(0), "discriminator": weights(1)})
    with pytest.raises(ZooError, match="did you mean 'generator'"):
        read_checkpoint(path, entry="generater")


def test_plain_values_beside_weights_are_metadata(tmp_path):
    nest = {"epoch": 3, "lr": torch.tensor(0.5), "note": "first", "state_dict": weights()}
    nest |= {"hyper_parameters": {"width": 8, "act": "relu", "deep": {"er": True}}}
    _, about = read_checkpoint(saved(tmp_path, nest))
    assert about == {
        "epoch": 3,
        "lr": 0.5,
        "note": "first",
        "hyper_parameters.width": 8,
        "hyper_parameters.act": "relu",
        "hyper_parameters.deep.er": True,
    }


def test_an_extra_state_is_left_out_with_a_note(tmp_path):
    path = saved(tmp_path, {**weights(), "_extra_state": {"calibrated": True}})
    params, notes = open_checkpoint(path).choose()
    assert list(params) == list(SPEC.axes)
    assert any("_extra_state" in note for note in notes)


FOREIGN = {
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
    "page.pt": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "model.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "model.gguf": (b"GGUF\x03", "GGUF"),
    "model.pt.gz": (b"\x1f\x8b\x08", "gzip"),
    "graph.onnx": (b"\x08\x07\x12\x07pytorch", "ONNX"),
    "empty.pt": (b"", "is empty"),
    "noise.pt": (b"nothing that anyone knows", "not a readable"),
    "noise.safetensors": (b"nothing that anyone knows", "header is damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_checkpoint_is_told_in_one_sentence(tmp_path, name):
    content, words = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ZooError, match=words):
        read_checkpoint(tmp_path / name)


def test_programs_and_whole_models_are_refused_without_advice_to_run_them(tmp_path):
    torch.save(nn.Linear(2, 3), tmp_path / "whole.pt")
    torch.save({"model": weights(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "args.pt")
    torch.save({"model": weights(), "best": np.float64(0.5)}, tmp_path / "scalar.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/__torch__.py", b"")
    said = {}
    for name in ("whole", "args", "scalar", "script"):
        with pytest.raises(ZooError) as caught:
            read_checkpoint(tmp_path / f"{name}.pt")
        said[name] = str(caught.value)
    assert "a whole model, torch.nn.modules.linear.Linear" in said["whole"]
    assert "argparse.Namespace" in said["args"]
    assert "TorchScript" in said["script"]
    assert not any("safe_globals" in text or "weights_only" in text for text in said.values())


def test_names_say_nothing_of_the_kind(tmp_path):
    for name in ("model_best.pth.tar", "weights", "pytorch_model.bin"):
        torch.save({"state_dict": weights()}, tmp_path / name)
        assert list(read_checkpoint(tmp_path / name)[0]) == list(SPEC.axes)
    save_file(weights(), tmp_path / "renamed.pt")
    assert set(read_checkpoint(tmp_path / "renamed.pt")[0]) == set(SPEC.axes)
    np.savez(tmp_path / "arrays.npz", **{k: t.numpy() for k, t in weights().items()})
    assert set(read_checkpoint(tmp_path / "arrays.npz")[0]) == set(SPEC.axes)


def sharded(folder, first, second, where):
    folder.mkdir(exist_ok=True)
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    save_file(first, folder / names[0])
    save_file(second, folder / names[1])
    index = {"weight_map": {name: names[i] for name, i in where.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


WHERE = {"a.weight": 0, "a.bias": 0, "b.weight": 1}


def test_the_index_says_which_copy_of_a_tensor_counts(tmp_path):
    good, stale = weights(0), weights(9)
    first = {name: good[name] for name in ("a.weight", "a.bias")}
    second = {"b.weight": good["b.weight"], "a.weight": stale["a.weight"]}
    folder = sharded(tmp_path / "hub", first, second, WHERE)
    for path in (folder, folder / "model.safetensors.index.json"):
        params, notes = open_checkpoint(path).choose()
        assert torch.equal(params["a.weight"], good["a.weight"])
        assert any("a.weight" in note and "several shards" in note for note in notes)


def test_what_shards_lack_or_have_too_much_is_named(tmp_path):
    good = weights(0)
    first, second = {k: good[k] for k in ("a.weight", "a.bias")}, {"b.weight": good["b.weight"]}
    folder = sharded(tmp_path / "missing", first, {"c": torch.zeros(1)}, WHERE)
    with pytest.raises(ZooError, match=r"b\.weight: is in no shard"):
        open_checkpoint(folder)
    folder = sharded(tmp_path / "more", first, {**second, "c": torch.zeros(1)}, WHERE)
    with pytest.raises(ZooError, match="c: is in a shard but not in the index"):
        open_checkpoint(folder)
    folder = sharded(tmp_path / "shards", first, second, WHERE)
    save_file({"z": torch.zeros(1)}, folder / "model-00003-of-00003.safetensors")
    assert any("00003-of-00003" in note for note in open_checkpoint(folder).notes)
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ZooError, match=r"model-00001-of-00002\.safetensors: no such file"):
        open_checkpoint(folder)


def test_a_folder_with_one_checkpoint_is_that_checkpoint(tmp_path):
    saved(tmp_path, weights(), "last.ckpt")
    (tmp_path / "._last.ckpt").write_bytes(b"copy")
    assert list(read_checkpoint(tmp_path)[0]) == list(SPEC.axes)
    saved(tmp_path, weights(), "best.ckpt")
    with pytest.raises(ZooError, match="has 2 checkpoints"):
        read_checkpoint(tmp_path)


def test_a_link_is_followed_and_said(tmp_path):
    saved(tmp_path, weights(), "epoch-2.pt")
    (tmp_path / "last.pt").symlink_to("epoch-2.pt")
    assert any("is a link to" in note for note in open_checkpoint(tmp_path / "last.pt").notes)
    (tmp_path / "gone.pt").symlink_to("nowhere.pt")
    with pytest.raises(ZooError, match="link to a file that is gone"):
        open_checkpoint(tmp_path / "gone.pt")


def fitted(theta, spec=SPEC, model=None, **how):
    return fit(theta, Expected.of(spec, model), "x.pt", **how)


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.module.", "net.encoder."])
def test_prefixes_of_wrappers_are_removed_and_added(prefix):
    renamed = {prefix + name: tensor for name, tensor in weights().items()}
    found = fitted(renamed)
    assert list(found.params) == list(SPEC.axes)
    assert found.notes
    wrapped = SPEC.rename(lambda name: "body." + name)
    assert list(fitted(weights(), wrapped).params) == list(wrapped.axes)
    assert list(fitted(renamed, prefix=prefix).params) == list(SPEC.axes)


def test_a_prefix_that_only_some_names_have_is_refused():
    theta = weights()
    theta["model.b.weight"] = theta.pop("b.weight")
    with pytest.raises(ZooError, match="--prefix is for all names or none"):
        fitted(theta, prefix="model.")


def test_counters_and_tied_weights_that_are_missing_are_filled_in():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    lines = ["h = 3", "0.weight: h 2", "0.bias: h", "1.weight: h", "1.bias: h"]
    lines += ["1.running_mean: h", "1.running_var: h", "1.num_batches_tracked:"]
    spec = PermutationSpec.parse("\n".join(lines))
    theta = {k: t for k, t in net.state_dict().items() if "num_batches" not in k}
    found = fitted(theta, spec)
    assert int(found.params["1.num_batches_tracked"]) == 0
    assert any("counters" in note for note in found.notes)
    tied = nn.ModuleDict({"emb": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    tied["head"].weight = tied["emb"].weight
    spec = PermutationSpec.parse("h = 3\nemb.weight: 5 h\nhead.weight: 5 h")
    theta = {"emb.weight": torch.randn(5, 3)}
    found = fitted(theta, spec, tied)
    assert torch.equal(found.params["head.weight"], theta["emb.weight"])
    with pytest.raises(ZooError, match=r"missing: head\.weight.*tied"):
        fitted(theta, spec)


def test_tensors_that_the_network_lacks_are_named_or_refused():
    theta = {**weights(), "total_ops": torch.zeros(1), "position_ids": torch.arange(7)[None]}
    found = fitted(theta)
    assert "total_ops, position_ids" in found.notes[0]
    theta = {**weights(), "c.weight": torch.zeros(3, 3)}
    with pytest.raises(ZooError, match=r"c\.weight.*--drop c\.weight"):
        fitted(theta)
    assert list(fitted(theta, drop=["c"]).params) == list(SPEC.axes)
    with pytest.raises(ZooError, match="--drop d: no tensor"):
        fitted(theta, drop=["d"])


def test_both_shapes_are_shown_where_they_differ():
    theta = {**weights(), "b.weight": torch.zeros(4, 3, 1, 1)}
    with pytest.raises(ZooError, match=r"b\.weight: has shape \(4, 3, 1, 1\).*\(4, 3\)"):
        fitted(theta)


def test_float8_is_read_as_float32():
    theta = {name: t.to(torch.float8_e4m3fn) for name, t in weights().items()}
    found = fitted(theta)
    assert {t.dtype for t in found.params.values()} == {torch.float32}
    assert "float8_e4m3fn" in found.notes[0]


def test_a_header_of_128_bytes_makes_no_pickle(tmp_path):
    """Its length is written as the byte that pickles begin with."""
    for length in range(1, 128):
        save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors", {"note": "x" * length})
        if (tmp_path / "x.safetensors").read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no header of 128 bytes was made")
    assert torch.equal(read_checkpoint(tmp_path / "x.safetensors")[0]["w"], torch.ones(2))


def test_nests_that_hold_themselves_or_one_part_everywhere_are_read(tmp_path):
    circle = {"state_dict": weights(), "epoch": 3}
    circle["self"] = [circle]
    box = [weights(1)]
    for _ in range(40):
        box = [box] * 40
    for content in (circle, {"state_dict": weights(), "epoch": 3, "many": box}):
        found = open_checkpoint(saved(tmp_path, content))
        params, notes = found.choose()
        assert torch.equal(params["a.bias"], weights()["a.bias"])
        assert found.metadata == {"epoch": 3}
        assert any("beside the weights: not read" in note for note in notes)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: t.to_sparse(), r"a\.weight: is sparse"),
        (
            lambda t: torch.empty_like(t, device="meta"),
            r"a\.weight: is a tensor on the meta device",
        ),
    ],
)
def test_tensors_without_plain_values_are_refused_by_name(make, words):
    with pytest.raises(ZooError, match=words):
        fitted({**weights(), "a.weight": make(weights()["a.weight"])})


def test_tensors_beside_the_weights_are_named(tmp_path):
    nest = {"state_dict": weights(), "mean": torch.zeros(3), "queue": {"x": {"y": weights(1)}}}
    nest |= {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}}
    path = saved(tmp_path, {**nest, "queue": torch.ones(4, 2)})
    (note,) = open_checkpoint(path).choose()[1]
    assert note == f"{path}: mean, queue beside the weights: not read"


def test_values_of_one_name_in_two_places_are_both_kept(tmp_path):
    nest = {"epoch": 3, "model": {"epoch": 7, "state_dict": weights()}, 1: "a", "1": "b"}
    about = open_checkpoint(saved(tmp_path, nest)).metadata
    assert about == {"epoch": 3, "model.epoch": 7, "1": "a", "1_str": "b"}


def test_a_checkpoint_called_so_is_no_copy(tmp_path):
    saved(tmp_path, weights(), "best-checkpoint.pt")
    assert list(read_checkpoint(tmp_path)[0]) == list(SPEC.axes)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_the_state_of_an_optimiser_is_no_checkpoint_and_is_called_what_it_is(tmp_path, optimizer):
    net = torch.nn.Linear(3, 2)
    made = optimizer(net.parameters(), lr=0.1)
    net(torch.ones(1, 3)).sum().backward()
    made.step()
    torch.save(made.state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(ZooError, match=r"optimizer\.pt: holds the state of an optimiser and no"):
        open_checkpoint(tmp_path / "optimizer.pt").choose()
