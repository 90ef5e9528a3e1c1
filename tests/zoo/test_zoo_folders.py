"""Folders as people have them: links, copies, tables from Excel, cut files; nothing goes unsaid."""

import json

import h5py
import pytest
import safetensors.torch
import torch
from torch import nn

from wsl.symmetry import PermutationSpec
from wsl.zoo import ZooError, import_checkpoints, read_checkpoint, sources

SPEC = PermutationSpec.parse("h = 4\n0.weight: h 2\n0.bias: h\n2.weight: 3 h\n2.bias: 3")
TABLE = "file,member,epoch,score\n" + "".join(
    f"n{i}.pt,{i // 2},{i % 2},0.{i + 1}\n" for i in range(4)
)


def state(seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def write(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        torch.save(state(seed), folder / name)


def imported(root, tmp_path, reader=None, **options):
    reader = reader or sources.detect(root)
    return import_checkpoints(reader(root), tmp_path / "z.h5", spec=SPEC, **options)


def places(result):
    return [tuple(row) for row in result.zoo.table[["member", "epoch"]].tolist()]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(TABLE, "utf-8"), (TABLE, "utf-8-sig"), (TABLE.replace(",", ";"), "utf-8-sig")],
)
def test_a_table_is_read_as_excel_writes_it(tmp_path, text, encoding):
    write(tmp_path / "in", [f"n{i}.pt" for i in range(4)])
    (tmp_path / "in" / "table.csv").write_text(text, encoding=encoding)
    result = imported(tmp_path / "in", tmp_path)
    assert places(result) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert result.zoo.table["score"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert result.skipped == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            TABLE.replace("n2.pt", "N2.pt"),
            "1 of its lines are of no checkpoint here, such as 'N2.pt' (did you mean 'n2.pt'?)",
        ),
        (TABLE.replace("file", "name"), "has no column 'file', so that it is not used"),
    ],
)
def test_what_of_a_table_is_not_used_is_said(tmp_path, text, message):
    write(tmp_path / "in", [f"n{i}.pt" for i in range(4)])
    (tmp_path / "in" / "table.csv").write_text(text)
    (note,) = imported(tmp_path / "in", tmp_path).skipped
    assert note.reason == f"{tmp_path / 'in' / 'table.csv'}: {message}"


def test_linked_folders_are_entered_once_and_circles_end(tmp_path):
    write(tmp_path / "elsewhere", ["net.pt"])
    write(tmp_path / "in" / "run0", ["net.pt"])
    (tmp_path / "in" / "run1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "run2").symlink_to(tmp_path / "in" / "run0")
    (tmp_path / "in" / "run0" / "back").symlink_to(tmp_path / "in")
    result = imported(tmp_path / "in", tmp_path)
    assert len(result.zoo) == 2
    assert result.skipped == ()


def test_a_link_to_a_file_that_is_read_is_no_second_member(tmp_path):
    write(tmp_path / "in", ["a.ckpt", "b.ckpt"])
    (tmp_path / "in" / "last.ckpt").symlink_to("b.ckpt")
    result = imported(tmp_path / "in", tmp_path)
    assert places(result) == [(0, 0), (1, 0)]
    assert [note.reason for note in result.skipped] == [
        "last.ckpt: is a link to b.ckpt, which is read"
    ]


def test_a_link_to_a_file_elsewhere_is_read(tmp_path):
    write(tmp_path / "elsewhere", ["b.pt"])
    write(tmp_path / "in", ["a.pt"])
    (tmp_path / "in" / "b.pt").symlink_to(tmp_path / "elsewhere" / "b.pt")
    assert len(imported(tmp_path / "in", tmp_path).zoo) == 2


def test_hidden_copies_are_left_out_and_named(tmp_path):
    write(tmp_path / "in", ["a.pt"])
    write(tmp_path / "in" / ".ipynb_checkpoints", ["a-checkpoint.pt"])
    (tmp_path / "in" / "._a.pt").write_bytes(b"\0\5\x16\7")
    result = imported(tmp_path / "in", tmp_path)
    assert len(result.zoo) == 1
    assert {note.reason for note in result.skipped} == {
        "._a.pt: is a hidden copy",
        ".ipynb_checkpoints/a-checkpoint.pt: is a hidden copy",
    }


def test_other_files_do_not_decide_what_a_folder_is(tmp_path):
    write(tmp_path / "in", ["checkpoint_10.pt", "checkpoint_20.pt"])
    (tmp_path / "in" / "params.json").write_text('{"dim": 8}')
    with h5py.File(tmp_path / "in" / "features.h5", "w") as file:
        file["x"] = 1
    assert sources.detect(tmp_path / "in") is sources.folder
    result = imported(tmp_path / "in", tmp_path)
    assert len(result.zoo) == 2
    assert [note.reason for note in result.skipped] == [
        "features.h5: is HDF5; it is read with --kind flat-hdf5"
    ]


def test_epochs_of_a_run_named_by_a_pattern_are_one_member(tmp_path):
    for run in ("x", "y"):
        write(tmp_path / "in" / run, [f"model_{i}.pth" for i in range(3)])
    reader = lambda path: sources.folder(path, pattern=r"model_(?P<epoch>\d+)")  # noqa: E731
    result = imported(tmp_path / "in", tmp_path, reader)
    assert places(result) == [(member, epoch) for member in (0, 1) for epoch in range(3)]


def test_the_final_model_of_the_trainer_has_the_step_that_it_noted(tmp_path):
    root = tmp_path / "out"
    for seed, folder in enumerate((root / "checkpoint-500", root)):
        folder.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(state(seed), folder / "model.safetensors")
    with pytest.raises(ZooError, match=r"lies beside checkpoints, but no trainer_state\.json says"):
        imported(root, tmp_path)
    (root / "trainer_state.json").write_text(json.dumps({"global_step": 1500}))
    result = imported(root, tmp_path)
    assert places(result) == [(0, 500), (0, 1500)]
    torch.testing.assert_close(result.zoo[1][0]["0.weight"], state(1)["0.weight"])


def test_a_trial_whose_settings_are_cut_short_can_be_left_out(tmp_path):
    root = tmp_path / "tune"
    for trial in range(2):
        (root / f"t{trial}" / "checkpoint_000000").mkdir(parents=True)
        torch.save(state(trial), root / f"t{trial}" / "checkpoint_000000" / "checkpoints")
        (root / f"t{trial}" / "params.json").write_text('{"lr": 0.1}' if trial else '{"lr": 0.')
    with pytest.raises(ZooError, match=r"t0/params\.json: is not readable JSON"):
        imported(root, tmp_path)
    result = imported(root, tmp_path, skip=True)
    assert len(result.zoo) == len(result.refused) == 1
    assert result.zoo.table["config.lr"].tolist() == [0.1]


def test_settings_of_lightning_and_further_nests_and_suffixes_are_read(tmp_path):
    about = {"epoch": 3, "hyper_parameters": {"lr": 0.5, "act": "relu", "layers": [1]}}
    torch.save({**about, "state_dict": state()}, tmp_path / "a.ckpt")
    torch.save({"step": 3, "model_state": state(), "optimizer": {}}, tmp_path / "b.pth.tar")
    params, metadata = read_checkpoint(tmp_path / "a.ckpt")
    assert list(params) == list(state())
    assert metadata == {
        "epoch": 3,
        "hyper_parameters.lr": 0.5,
        "hyper_parameters.act": "relu",
    }
    params, metadata = read_checkpoint(tmp_path / "b.pth.tar")
    assert list(params) == list(state())
    assert metadata == {"step": 3}


def lightning(folder, seed, name, **about):
    torch.save({"state_dict": state(seed), **about}, folder / name)


def test_epochs_that_names_and_files_say_alike_are_one_member(tmp_path):
    for seed, epoch in enumerate((0, 9, 10)):
        name = f"epoch={epoch}-step={epoch * 80}-val_loss={1 / (seed + 1):.2f}.ckpt"
        lightning(tmp_path, seed, name, epoch=epoch)
    lightning(tmp_path, 2, "last.ckpt", epoch=10)
    result = imported(tmp_path, tmp_path)
    assert places(result) == [(0, 0), (0, 9), (0, 10), (3, 10)]
    assert result.notes[0] == (
        "2 checkpoints: are further epochs of a run: their names and the files say the same epoch"
    )
    assert "last.ckpt and epoch=10" in result.notes[1]
    assert "same split" in result.notes[1]
    assert len(set(result.zoo.table["split"].tolist())) == 1


def test_an_epoch_may_end_the_name(tmp_path):
    for epoch in range(3):
        lightning(tmp_path, epoch, f"epoch={epoch}.ckpt", epoch=epoch)
    assert places(imported(tmp_path, tmp_path)) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    "names",
    [
        ("seed=0_epoch=3.pt", "seed=1_epoch=4.pt"),
        ("lr=0.1_epoch=3.pt", "lr=0.2_epoch=4.pt"),
        ("net3.pt", "net4.pt"),
        ("epoch_5.pt", "epoch_6.pt"),
    ],
)
def test_other_names_are_members_of_their_own(tmp_path, names):
    for i, name in enumerate(names):
        lightning(tmp_path, i, name, epoch=3 + i)
    assert places(imported(tmp_path, tmp_path)) == [(0, 3), (1, 4)]


@pytest.mark.parametrize("value", [2.5, -1, "last", 2**40, True, float("nan")])
def test_an_epoch_that_is_no_whole_number_is_a_column(tmp_path, value):
    lightning(tmp_path, 0, "a.pt", epoch=value, member="b", split="validation")
    zoo = imported(tmp_path, tmp_path).zoo
    row = zoo[0][1]
    assert (row["member"], row["epoch"]) == (0, 0)
    assert (row["source_member"], row["source_split"]) == ("b", "validation")
    assert row["source_epoch"] == value or value != value


def test_settings_that_shapes_do_not_show_are_told(tmp_path):
    for i, act in enumerate(("relu", "tanh", "relu")):
        about = {"act": act, "width": 4 + i, "layer_norm_eps": 1e-5}
        lightning(tmp_path, i, f"{i}.ckpt", hyper_parameters=about)
    assert imported(tmp_path, tmp_path).notes == (
        "checkpoints differ in hyper_parameters.act (relu 2, tanh 1), which shapes do not show; "
        "--where selects",
    )
