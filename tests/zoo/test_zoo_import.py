"""Checkpoints of any origin become a zoo: what is there is read exactly, what is refused is said,
and nothing is run.
"""

import csv
import gzip
import json
import os
import sys
import types
import warnings

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from networks import BY_NAME
from torch import nn

from wsl.cli import main
from wsl.params import call, stack
from wsl.symmetry import PermutationSpec, permutation_spec
from wsl.zoo import Zoo, ZooError, ZooWriter, export, import_checkpoints, sources

NETWORK = BY_NAME["residual"]
SPEC = PermutationSpec.parse("h = 4\n0.weight: h 2\n0.bias: h\n2.weight: 3 h\n2.bias: 3")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))


def state(seed=0):
    return {name: tensor.clone() for name, tensor in network(seed).state_dict().items()}


def equal(a, b):
    return list(a) == list(b) and all(
        torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


def test_a_folder_of_state_dicts_becomes_a_zoo_in_natural_order(tmp_path):
    contents = [state(0), {"state_dict": state(1), "lr": 0.5}, {"model": {"state_dict": state(2)}}]
    for i, content in zip((1, 2, 10), contents, strict=True):
        (tmp_path / "in" / f"run{i}").mkdir(parents=True)
        torch.save(content, tmp_path / "in" / f"run{i}" / "model.pt")
    result = import_checkpoints(sources.folder(tmp_path / "in"), tmp_path / "z.h5", spec=SPEC)
    assert [equal(result.zoo[i][0], state(i)) for i in range(3)] == [True] * 3
    assert result.zoo.table["member"].tolist() == [0, 1, 2]
    assert result.zoo.table["lr"][1] == 0.5
    assert np.isnan(result.zoo.table["lr"][[0, 2]]).all()
    assert result.zoo.spec == SPEC
    assert sorted(os.listdir(tmp_path)) == ["in", "z.h5"]


def test_member_epoch_and_columns_are_read_from_names_only_on_request(tmp_path):
    for m in (3, 7):
        for e in (0, 10):
            torch.save(state(m + e), tmp_path / f"seed{m}_ep{e}_lr0.1.pth")
    plain = import_checkpoints(sources.folder(tmp_path), tmp_path / "a.h5", spec=SPEC).zoo
    assert [tuple(row) for row in plain.table[["member", "epoch"]].tolist()] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
    ]
    pattern = r"seed(?P<member>\d+)_ep(?P<epoch>\d+)_lr(?P<lr>[\d.]+)\.pth"
    zoo = import_checkpoints(
        sources.folder(tmp_path, pattern=pattern), tmp_path / "b.h5", spec=SPEC
    ).zoo
    assert zoo.table[["member", "epoch", "lr"]].tolist() == [
        (3, 0, 0.1),
        (3, 10, 0.1),
        (7, 0, 0.1),
        (7, 10, 0.1),
    ]
    assert equal(zoo[3][0], state(17))
    for wrong, message in (
        ("x(?P<member>", "is no regular expression"),
        ("run", "does not match the pattern 'run'"),
    ):
        with pytest.raises(ZooError, match=message):
            import_checkpoints(
                sources.folder(tmp_path, pattern=wrong), tmp_path / "c.h5", spec=SPEC
            )


def test_a_table_beside_the_files_gives_their_metadata(tmp_path):
    for i in range(3):
        safetensors.torch.save_file(state(i), tmp_path / f"m{i}.safetensors")
    with (tmp_path / "table.csv").open("w", newline="") as file:
        lines = [
            "file,accuracy,member,note,split",
            "m0.safetensors,0.5,9,a,test",
            "m1.safetensors,1,8,7,val",
        ]
        file.write("\n".join([*lines, "m2.safetensors,,7,c,train"]))
    zoo = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", spec=SPEC).zoo
    assert zoo.table["member"].tolist() == [7, 8, 9]
    assert zoo.table["split"].tolist() == ["train", "val", "test"]
    assert zoo.table["note"].tolist() == ["c", "7", "a"]
    np.testing.assert_array_equal(zoo.table["accuracy"], [np.nan, 1, 0.5])


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_refusals_are_fatal_or_reported_and_code_does_not_run(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    torch.save(state(0), source / "a.pt")
    torch.save({"w": Malicious(tmp_path / "ran")}, source / "b.pt")
    (source / "c.pt").write_bytes(b"nothing")
    torch.save({**state(1), "2.bias": torch.zeros(4)}, source / "d.pt")
    torch.save({**state(1), "2.bias": torch.tensor([0.0, torch.nan, 0.0])}, source / "e.pt")
    torch.save(state(5), source / "f.pt")
    with pytest.raises(
        ZooError,
        match=r"b\.pt: refused .* would run code.*to leave such checkpoints out and report them: "
        r"skip",
    ):
        import_checkpoints(sources.folder(source), tmp_path / "z.h5", spec=SPEC)
    assert sorted(os.listdir(tmp_path)) == ["in"]
    result = import_checkpoints(sources.folder(source), tmp_path / "z.h5", spec=SPEC, skip=True)
    assert [r.origin for r in result.refused] == ["b.pt", "c.pt", "d.pt", "e.pt"]
    reasons = [
        "would run code",
        "c.pt: ",
        "d.pt: 2.bias: has shape",
        "e.pt: member 4, epoch 0: 2.bias holds nan",
    ]
    assert all(reason in r.reason for r, reason in zip(result.refused, reasons, strict=True))
    assert result.zoo.table["member"].tolist() == [0, 5]
    assert result.zoo.provenance["import"]["refused"] == 4
    assert not (tmp_path / "ran").exists()


def test_nothing_readable_is_an_error_that_tells_the_first_reason(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nothing")
    with pytest.raises(
        ZooError, match=r"no checkpoint could be imported; the first of 1 refusals: .*a\.pt"
    ):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", skip=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match=r"has no checkpoints; files ending in \.pt"):
        import_checkpoints(sources.folder(tmp_path / "empty"), tmp_path / "z.h5")
    with pytest.raises(ZooError, match="no such file or folder"):
        sources.detect(tmp_path / "none")


def test_the_same_checkpoint_twice_is_named(tmp_path):
    for name in "ab":
        torch.save({"state_dict": state(), "member": 3}, tmp_path / f"{name}.pt")
    with pytest.raises(ZooError, match=r"b\.pt: member 3, epoch 0 was already given by a\.pt"):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", spec=SPEC)


def test_the_specification_is_given_or_absent_and_the_result_says_which(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    given = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", spec=SPEC)
    assert given.specification == "as given"
    none = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    assert none.specification.startswith("none: every axis is fixed")
    assert none.zoo.spec.groups == {}
    assert none.zoo.provenance["import"]["specification"] == none.specification
    wrong = PermutationSpec.parse("h = 5\n0.weight: h 2\n0.bias: h\n2.weight: 3 h\n2.bias: 3")
    with pytest.raises(ZooError, match=r"spec: 0\.weight: the annotation has shape \(5, 2\)"):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", spec=wrong)


def test_prefix_and_cast_are_done_on_request_only(tmp_path):
    torch.save(
        {f"module.{name}": tensor.double() + 1e-12 for name, tensor in state().items()},
        tmp_path / "a.pt",
    )
    with pytest.raises(ZooError, match=r"holds torch.float64 values that float32 cannot"):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    zoo = import_checkpoints(
        sources.folder(tmp_path), tmp_path / "z.h5", prefix="module.", cast=torch.float32, spec=SPEC
    ).zoo
    assert equal(
        zoo[0][0], {name: (tensor.double() + 1e-12).float() for name, tensor in state().items()}
    )


def test_npz_files_are_read_without_pickle(tmp_path):
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy() for name, tensor in state().items()})
    assert equal(
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", spec=SPEC).zoo[0][0],
        state(),
    )
    np.savez(tmp_path / "a.npz", w=np.array([Malicious(tmp_path / "ran")], dtype=object))
    with pytest.raises(
        ZooError, match=r"a\.npz: is not a readable \.npz of plain arrays|claims shape"
    ):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    assert not (tmp_path / "ran").exists()


def snapshot(folder, seed, shards=False):
    folder.mkdir(parents=True)
    content = state(seed)
    if not shards:
        safetensors.torch.save_file(content, folder / "model.safetensors")
        return
    parts = {
        "model-1-of-2.safetensors": ["0.weight", "0.bias"],
        "model-2-of-2.safetensors": ["2.weight", "2.bias"],
    }
    for file, names in parts.items():
        safetensors.torch.save_file({name: content[name] for name in names}, folder / file)
    index = {
        "metadata": {},
        "weight_map": {name: file for file, names in parts.items() for name in names},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_hub_snapshot_is_read_with_its_shards_steps_and_config(tmp_path):
    root = tmp_path / "hub"
    snapshot(root / "a" / "checkpoint-50", 1, shards=True)
    snapshot(root / "a" / "checkpoint-100", 2)
    snapshot(root / "b", 3)
    (root / "a" / "config.json").write_text(json.dumps({"hidden": 4, "name": "x", "list": [1]}))
    assert sources.detect(root) is sources.hub
    zoo = import_checkpoints(sources.hub(root), tmp_path / "z.h5", spec=SPEC).zoo
    assert [tuple(row) for row in zoo.table[["member", "epoch"]].tolist()] == [
        (0, 50),
        (0, 100),
        (1, 0),
    ]
    assert [equal(zoo[i][0], state(i + 1)) for i in range(3)] == [True] * 3
    assert zoo.table["config.name"].tolist() == ["x", "x", ""]
    np.testing.assert_array_equal(zoo.table["config.hidden"], [4, 4, np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.update({"0.weight": "../../secret.safetensors"}),
            "shards lie beside their index",
        ),
        (lambda w: w.update({"0.weight": "/etc/passwd"}), "shards lie beside their index"),
        (lambda w: w.update({"x": "model-1-of-2.safetensors"}), "x: is in no shard"),
        (lambda w: w.pop("0.bias"), "0.bias: is in a shard but not in the index"),
        (lambda w: w.update({"0.weight": "model-3-of-2.safetensors"}), "no such file"),
        (lambda w: w.clear(), "has no weight_map"),
    ],
)
def test_a_wrong_index_of_shards_is_refused(tmp_path, change, message):
    snapshot(tmp_path / "hub", 0, shards=True)
    index = tmp_path / "hub" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))
    with pytest.raises(ZooError, match=message):
        import_checkpoints(sources.hub(tmp_path / "hub"), tmp_path / "z.h5")


def trial(folder, config, lines, checkpoints):
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"training_iter'
    )
    for name, file, content in checkpoints:
        (folder / name).mkdir()
        torch.save(content, folder / name / file)
        (folder / name / ".tune_metadata").write_bytes(b"\x80\x04N.")


def test_ray_tune_trees_of_both_ages_are_read_with_the_epochs_that_their_files_state(tmp_path):
    root = tmp_path / "zoo"
    old = [
        {"training_iteration": i, "test_acc": i / 10, "config": {"lr": 9}, "pid": 5}
        for i in range(4)
    ]
    trial(
        root / "NN_tune_2",
        {"lr": 0.1, "model": {"act": "tanh"}},
        old,
        [("checkpoint_000003", "checkpoints", state(3)), ("checkpoint_1", "checkpoints", state(1))],
    )
    new = [
        {"training_iteration": 5, "test_acc": 0.5, "checkpoint_dir_name": "checkpoint_000000"},
        {"training_iteration": 9, "test_acc": 0.9, "checkpoint_dir_name": "checkpoint_000001"},
    ]
    trial(
        root / "NN_tune_10",
        {"lr": 0.2, "model": {"act": "relu"}},
        new,
        [
            ("checkpoint_000000", "model.pt", {"state_dict": state(5)}),
            ("checkpoint_000001", "model.pt", (state(9), {"lr": 1})),
            ("checkpoint_000007", "model.pt", state(7)),
        ],
    )
    assert sources.detect(root) is sources.ray_tune
    zoo = import_checkpoints(sources.ray_tune(root), tmp_path / "z.h5", spec=SPEC).zoo
    assert [tuple(row) for row in zoo.table[["member", "epoch"]].tolist()] == [
        (0, 1),
        (0, 3),
        (1, 5),
        (1, 7),
        (1, 9),
    ]
    assert [equal(zoo[i][0], state(epoch)) for i, epoch in enumerate((1, 3, 5, 7, 9))] == [True] * 5
    np.testing.assert_array_equal(zoo.table["test_acc"], [0.1, 0.3, 0.5, np.nan, 0.9])
    assert zoo.table["config.lr"].tolist() == [0.1, 0.1, 0.2, 0.2, 0.2]
    assert zoo.table["config.model.act"].tolist() == ["tanh", "tanh", "relu", "relu", "relu"]
    assert "pid" not in zoo.columns


class SmallCNN(nn.Module):
    """The architecture of the Small CNN Zoo, in PyTorch."""

    def __init__(self):
        super().__init__()
        self.conv2d = nn.Conv2d(1, 16, 3, stride=2)
        self.conv2d_1 = nn.Conv2d(16, 16, 3, stride=2)
        self.conv2d_2 = nn.Conv2d(16, 16, 3, stride=2)
        self.dense = nn.Linear(16, 10)

    def forward(self, x):
        for layer in (self.conv2d, self.conv2d_1, self.conv2d_2):
            x = layer(x).relu()
        return self.dense(x.mean((2, 3)))


SHAPES = [
    ("conv2d", (3, 3, 1, 16)),
    ("conv2d_1", (3, 3, 16, 16)),
    ("conv2d_2", (3, 3, 16, 16)),
    ("dense", (16, 10)),
]


def small_cnn_zoo(folder, rows=6, compress=True):
    folder.mkdir()
    weights = np.random.default_rng(0).normal(size=(rows, 4970)).astype(np.float32)
    np.save(folder / "weights.npy", weights)
    layout, start = [["varname", "start_idx", "end_idx", "size", "shape"]], 0
    for name, shape in SHAPES:
        for kind, size in (("bias", shape[-1:]), ("kernel", shape)):
            count = int(np.prod(size))
            layout.append(
                [f"sequential/{name}/{kind}:0", start, start + count, count, str(tuple(size))]
            )
            start += count
    with (folder / "layout.csv").open("w", newline="") as file:
        csv.writer(file).writerows(layout)
    lines = [["", "config.activation", "config.learning_rate", "modeldir", "step", "test_accuracy"]]
    lines += [
        [i, "relu", 0.01 * (i // 3 + 1), f"/dir/{i // 3}", (0, 20, 86)[i % 3], i / 10]
        for i in range(rows)
    ]
    with (
        gzip.open(folder / "metrics.csv.gz", "wt")
        if compress
        else (folder / "metrics.csv").open("w") as file
    ):
        csv.writer(file).writerows(lines)
    return weights


def forward_in_tensorflow_order(row, x):
    """The same network computed from the flat row, kernels (h, w, in, out), without PyTorch's
    layouts.
    """
    parts, start = {}, 0
    for name, shape in SHAPES:
        for kind, size in (("bias", shape[-1:]), ("kernel", shape)):
            parts[name, kind] = row[start : start + int(np.prod(size))].reshape(size)
            start += int(np.prod(size))
    for name in ("conv2d", "conv2d_1", "conv2d_2"):
        steps = range(0, x.shape[1] - 2, 2)
        kernel = parts[name, "kernel"]
        x = np.stack(
            [
                np.stack(
                    [np.einsum("bhwi,hwio->bo", x[:, i : i + 3, j : j + 3], kernel) for j in steps],
                    1,
                )
                for i in steps
            ],
            1,
        )
        x = np.maximum(x + parts[name, "bias"], 0)
    return x.mean((1, 2)) @ parts["dense", "kernel"] + parts["dense", "bias"]


@pytest.mark.parametrize("compress", [True, False])
def test_the_small_cnn_zoo_is_read_into_networks_that_compute_the_same(tmp_path, compress):
    weights = small_cnn_zoo(tmp_path / "mnist", compress=compress)
    assert sources.detect(tmp_path / "mnist") is sources.small_cnn_zoo
    model = SmallCNN()
    zoo = import_checkpoints(
        sources.small_cnn_zoo(tmp_path / "mnist"),
        tmp_path / "z.h5",
        spec=permutation_spec(model, torch.randn(2, 1, 28, 28)),
    ).zoo
    assert [tuple(row) for row in zoo.table[["member", "epoch"]].tolist()] == [
        (m, e) for m in (0, 1) for e in (0, 20, 86)
    ]
    assert zoo.table["test_accuracy"].tolist() == [i / 10 for i in range(6)]
    assert zoo.columns["config.activation"] == "string"
    assert sorted(zoo.spec.groups.values()) == [16, 16, 16]
    x = np.random.default_rng(1).normal(size=(2, 28, 28, 1)).astype(np.float32)
    ours = call(model, zoo[4][0], torch.from_numpy(x).permute(0, 3, 1, 2))
    torch.testing.assert_close(
        ours, torch.from_numpy(forward_in_tensorflow_order(weights[4], x)), rtol=2e-4, atol=2e-4
    )


HEAD = "varname,shape,start_idx,end_idx\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: np.save(d / "weights.npy", np.zeros((6, 4969), np.float32)),
            r"weights\.npy is .*\(6, 4969\)",
        ),
        (
            lambda d: np.save(d / "weights.npy", np.zeros((7, 4970), np.float32)),
            "has 7 rows, but the metrics 6 lines",
        ),
        (
            lambda d: np.save(d / "weights.npy", np.zeros((5, 4970), np.float32)),
            "more lines than the 5 rows",
        ),
        (lambda d: (d / "weights.npy").write_bytes(b"x"), "is not a readable array"),
        (lambda d: (d / "metrics.csv").unlink(), "has no metrics"),
        (lambda d: (d / "metrics.csv").write_text("a,b\n1,2\n"), "has no column 'modeldir'"),
        (
            lambda d: (d / "layout.csv").write_text(HEAD + "x/kernel:0,__import__('os'),0,3\n"),
            "is not a layout",
        ),
        (
            lambda d: (d / "layout.csv").write_text(HEAD + 'x/kernel:0,"(4,)",0,3\n'),
            "follow each other",
        ),
    ],
)
def test_a_small_cnn_zoo_that_does_not_fit_together_is_refused(tmp_path, change, message):
    small_cnn_zoo(tmp_path / "mnist", compress=False)
    change(tmp_path / "mnist")
    with pytest.raises(ZooError, match=message):
        import_checkpoints(sources.small_cnn_zoo(tmp_path / "mnist"), tmp_path / "z.h5")


def nef_shard(path, count, seed):
    layout = [
        ["dense_0.kernel", [2, 4]],
        ["dense_0.bias", [4]],
        ["dense_1.kernel", [4, 3]],
        ["dense_1.bias", [3]],
    ]
    values = np.random.default_rng(seed).normal(size=(count, 27)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["params"] = values
        file.create_dataset("param_config", data=[json.dumps(layout)], dtype=h5py.string_dtype())
        file["psnr"] = np.arange(count, dtype=np.float64)
    return values


def test_hdf5_shards_of_flat_parameters_are_read_in_order(tmp_path):
    (tmp_path / "nef").mkdir()
    parts = [
        nef_shard(tmp_path / "nef" / f"siren_{a}-{b}.hdf5", 3, a)
        for a, b in ((0, 3), (3, 6), (10, 13))
    ]
    assert sources.detect(tmp_path / "nef") is sources.flat_hdf5
    zoo = import_checkpoints(sources.flat_hdf5(tmp_path / "nef"), tmp_path / "z.h5").zoo
    assert zoo.table["psnr"].tolist() == [0, 1, 2] * 3
    assert list(zoo.shapes) == ["dense_0.weight", "dense_0.bias", "dense_1.weight", "dense_1.bias"]
    x = torch.randn(5, 2)
    for i, row in enumerate(np.concatenate(parts)):
        theta = zoo[i][0]
        ours = nn.functional.linear(x, theta["dense_0.weight"], theta["dense_0.bias"])
        torch.testing.assert_close(
            ours, x @ torch.from_numpy(row[:8].reshape(2, 4)) + torch.from_numpy(row[8:12])
        )


@pytest.mark.parametrize("damage", ["link", "external", "layout", "text"])
def test_hdf5_sets_that_lead_elsewhere_or_lie_are_refused(tmp_path, damage):
    path = tmp_path / "a.hdf5"
    nef_shard(path, 3, 0)
    with h5py.File(path, "r+") as file:
        if damage == "layout":
            del file["param_config"]
            file.create_dataset("param_config", data=['[["w", [5]]]'], dtype=h5py.string_dtype())
        elif damage == "text":
            del file["param_config"]
            file.create_dataset("param_config", data=["[" * 9999], dtype=h5py.string_dtype())
        else:
            del file["params"]
            if damage == "link":
                file["params"] = h5py.ExternalLink("/etc/passwd", "/x")
            else:
                file.create_dataset(
                    "params", (3, 27), "f4", external=[("/etc/passwd", 0, 3 * 27 * 4)]
                )
    message = {"layout": "describes rows of 5", "text": "is not JSON of names and shapes"}.get(
        damage, "has no array 'params' of its own"
    )
    with pytest.raises(ZooError, match=message):
        import_checkpoints(sources.flat_hdf5(path), tmp_path / "z.h5")


@pytest.mark.parametrize("provenance", [{"task": {"_target_": "y"}}, {}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_exported_zoo_imported_again_is_the_same_file(tmp_path, dtype, provenance):
    columns = {
        "accuracy": float,
        "whole": float,
        "seed": int,
        "converged": bool,
        "optimizer": str,
        "config.lr": float,
    }
    writer = ZooWriter(
        tmp_path / "a.h5",
        spec=NETWORK.spec,
        like=NETWORK.weights(),
        columns=columns,
        dtype=dtype,
        architecture={"_target_": "x"},
        provenance=provenance,
    )
    for epoch in (0, 7):
        params = stack([NETWORK.weights(seed=m + epoch) for m in range(5)])
        about = {
            "accuracy": [0.1, float("nan"), 1 / 3, 1e-300, 1.0],
            "whole": 1.0,
            "seed": range(5),
            "config.lr": 2.0,
            "converged": [True, False] * 2 + [True],
            "optimizer": ["1", "", "True", 'Å,\n"', "nan"],
        }
        writer.append(f"e{epoch}", params, member=[0, 2, 4, 6, 99999], epoch=epoch, metadata=about)
    zoo = Zoo(writer.finalize())
    export(zoo, range(len(zoo)), tmp_path / "out")
    result = import_checkpoints(sources.folder(tmp_path / "out"), tmp_path / "b.h5")
    assert result.specification == "from the files"
    assert np.array_equal(
        result.zoo.table[["member", "epoch", "split"]], zoo.table[["member", "epoch", "split"]]
    )
    assert all(equal(result.zoo[i][0], zoo[i][0]) for i in range(len(zoo)))
    assert (tmp_path / "b.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        assert [line["file"] for line in csv.DictReader(file)] == [
            p.name for p in sorted((tmp_path / "out").glob("*.safetensors"))
        ]


def test_a_file_that_only_claims_to_be_exported_is_refused(tmp_path):
    good = {"record": '{"member": 0, "epoch": 0}', "columns": "{}"}
    for change, message in [
        ({"record": "[]"}, "its note 'record' is not a JSON object"),
        ({"record": '{"member": -1}'}, "member is -1; a whole number"),
        ({"columns": "[]"}, "note 'columns' has the wrong form"),
        ({"dtype": "object"}, "note 'dtype' is 'object'"),
        ({"spec": "w: " + "(" * 10_000}, "is not in the normal form"),
        ({"buffers": "{}"}, "note 'buffers' has the wrong form"),
        ({"provenance": "[" * 100_000}, "provenance: is not readable JSON"),
    ]:
        safetensors.torch.save_file(state(), tmp_path / "a.safetensors", {**good, **change})
        with pytest.raises(ZooError, match=message):
            import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")


def test_metadata_of_any_kind_find_a_column_or_are_reported(tmp_path):
    metadata = [
        {
            "a": 1,
            "b": True,
            "c": "x",
            "d": 1,
            "e": 2**70,
            "f": None,
            "row": 3,
            "two words": 1,
            "h": "y" * 5000,
        },
        {"a": 2.5, "b": False, "c": 3, "d": 2, "e": 1, "f": 1.5, "row": 4, "two words": 2, "h": ""},
    ]
    items = [
        sources.Checkpoint(i, 0, state(i), sources.checkpoint.flatten(about), str(i))
        for i, about in enumerate(metadata)
    ]
    result = import_checkpoints(iter(items), tmp_path / "z.h5", spec=SPEC)
    assert result.zoo.columns == {
        "a": "float64",
        "b": "bool",
        "c": "string",
        "d": "int64",
        "f": "float64",
        "source_row": "int64",
        "two_words": "int64",
    }
    assert result.zoo.table["c"].tolist() == ["x", "3"]
    assert result.left_out == {
        "e": "holds an integer of more than 64 bits",
        "h": "holds text with a NUL character, or of more than 4096 bytes",
    }


def test_a_member_on_two_sides_of_the_split_is_refused(tmp_path):
    items = [
        sources.Checkpoint(0, e, state(e), {"split": split}, str(e))
        for e, split in ((0, "train"), (1, "test"))
    ]
    with pytest.raises(
        ZooError, match="member 0: has checkpoints in test and in train; splits are by member"
    ):
        import_checkpoints(iter(items), tmp_path / "z.h5", spec=SPEC)


def test_an_interrupted_import_leaves_the_old_file(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    before = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5").zoo.path.read_bytes()

    def broken():
        yield from sources.folder(tmp_path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_checkpoints(broken(), tmp_path / "z.h5", spec=SPEC)
    assert (tmp_path / "z.h5").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "z.h5"]


def test_the_command_line_imports_converts_and_selects(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for i in range(4):
        torch.save({"state_dict": state(i), "accuracy": i / 4}, tmp_path / "in" / f"{i}.pt")
    (tmp_path / "in" / "9.pt").write_bytes(b"nothing")
    assert main(["zoo", "import", "in", "-o", "z.h5"]) == 2
    assert "9.pt" in capsys.readouterr().err
    assert main(["zoo", "import", "in", "-o", "z.h5", "--skip"]) == 0
    said = capsys.readouterr()
    assert "4 checkpoints of 4 members from in (folder); 1 left out" in said.out
    assert "specification: none: every axis is fixed" in said.out
    assert "left out: " in said.err
    (tmp_path / "spec.txt").write_text(str(SPEC))
    assert main(["zoo", "import", "in", "-o", "z.h5", "--skip", "--spec", "spec.txt"]) == 0
    assert "specification: as given" in capsys.readouterr().out
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\nmake = lambda: "
        "nn.Sequential(nn.Linear(2,4),nn.ReLU(),nn.Linear(4,3))\n"
    )
    words = ["--skip", "--model", "my_networks:make", "--input-shape", "2,2"]
    assert main(["zoo", "import", "in", "-o", "z.h5", *words]) == 0
    assert "specification: discovered" in capsys.readouterr().out
    assert main(["zoo", "import", "in", "-o", "z.h5", *words, "--spec", "spec.txt"]) == 2
    assert "choose one" in capsys.readouterr().err
    assert (
        main(
            [
                "zoo",
                "convert",
                "z.h5",
                "-o",
                "small.h5",
                "--archive",
                "--dtype",
                "bfloat16",
                "--where",
                "accuracy > 0.3",
            ]
        )
        == 0
    )
    assert main(["zoo", "verify", "z.h5", "small.h5"]) == 0
    assert capsys.readouterr().out.count("every checksum holds") == 2
    assert Zoo("small.h5").table["member"].tolist() == [2, 3]
    assert main(["zoo", "info", "z.h5", "--where", "acuracy > 0"]) == 2
    assert "did you mean 'accuracy'?" in capsys.readouterr().err


def test_damaged_sources_are_read_or_refused_and_never_crash(tmp_path):
    source, random = tmp_path / "in", np.random.default_rng(0)
    snapshot(source / "a", 0, shards=True)
    nef_shard(tmp_path / "nef.hdf5", 3, 0)
    np.savez(tmp_path / "m.npz", **{name: tensor.numpy() for name, tensor in state().items()})
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, reader in [
            (tmp_path / "nef.hdf5", sources.flat_hdf5),
            (tmp_path / "m.npz", sources.folder),
            (source / "a" / "model.safetensors.index.json", lambda _: sources.hub(source)),
        ]:
            whole = path.read_bytes()
            for _ in range(60):
                data = bytearray(whole)
                for place in random.integers(len(data), size=4):
                    data[place] = random.integers(256)
                path.write_bytes(
                    data if random.random() < 0.8 else data[: random.integers(len(data))]
                )
                try:
                    import_checkpoints(reader(path), tmp_path / "z.h5", allow_nonfinite=True)
                except ZooError:
                    refused += 1
            path.write_bytes(whole)
    assert refused > 40


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    """The hub's package, whose repositories are folders; what it was asked for."""
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        if not (tmp_path / name).is_dir():
            raise OSError(f"404: {name} is not there\nand more lines of it")
        return str(tmp_path / name)

    package = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    return asked


def test_a_repository_of_the_hub_is_fetched_and_imported(tmp_path, fake_hub):
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    params = state(3)
    safetensors.torch.save_file(params, folder / "model.safetensors")
    assert sources.detect("hub:owner/name@v1") is sources.hub
    found = sources.hub("hub:owner/name@v1")
    zoo = import_checkpoints(found, tmp_path / "z.h5", spec=SPEC).zoo
    assert zoo[0][0].keys() == params.keys()
    assert all(torch.equal(zoo[0][0][name], params[name]) for name in params)
    ((name, revision, patterns),) = fake_hub
    assert (name, revision) == ("owner/name", "v1")
    assert not any(pattern.endswith(("*", ".py")) for pattern in patterns)


def test_a_repository_that_is_not_there_is_one_sentence(fake_hub):
    expected = r"hub:no/such: cannot be fetched \(404: no/such is not there\); check the name"
    with pytest.raises(ZooError, match=expected):
        sources.snapshot("no/such")
    assert fake_hub[0][1] is None


def test_without_the_package_of_the_hub_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ZooError, match=r"pip install weight-space-learning\[hub\]"):
        sources.snapshot("owner/name")
