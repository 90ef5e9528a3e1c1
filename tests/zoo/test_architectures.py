"""Folders that hold several architectures and kinds: sorted, chosen or refused with a list, and
every file has one outcome.
"""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsl.cli import main
from wsl.zoo import Zoo, ZooError, import_architectures, import_checkpoints, sources


def state(width, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 3))
    return {name: tensor.clone().to(dtype) for name, tensor in network.state_dict().items()}


@pytest.fixture
def both(tmp_path):
    """Three narrow networks in one folder, two wide ones in another."""
    for width, name, count in ((4, "narrow", 3), (8, "wide", 2)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for seed in range(count):
            torch.save(state(width, seed), tmp_path / "in" / name / f"seed{seed}.pt")
    return tmp_path / "in"


def test_each_architecture_becomes_a_zoo_named_after_its_files(both, tmp_path):
    made = import_architectures(sources.folder(both), tmp_path / "out")
    assert [result.zoo.path.name for result in made] == ["narrow.h5", "wide.h5"]
    assert [len(result.zoo) for result in made] == [3, 2]
    for width, result in zip((4, 8), made, strict=True):
        for seed in range(len(result.zoo)):
            theta = result.zoo[seed][0]
            assert all(torch.equal(theta[n], t) for n, t in state(width, seed).items())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["narrow.h5", "wide.h5"]


def test_one_file_for_several_architectures_is_an_error_that_lists_them(both, tmp_path):
    said = (
        r"architectures: 1 narrow \(3 checkpoints of 4 tensors, 27 values, float32; "
        r"narrow/seed0\.pt\); 2 wide \(2 checkpoints of 4 tensors, 51 values, float32; "
        r"wide/seed0\.pt\); give a folder \(-o FOLDER/\).*--architecture NAME or NUMBER"
    )
    with pytest.raises(ZooError, match=said):
        import_checkpoints(sources.folder(both), tmp_path / "z.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("only", ["wide", 2, "2"])
def test_one_architecture_can_be_chosen_and_the_others_are_named(both, tmp_path, only):
    result = import_checkpoints(sources.folder(both), tmp_path / "z.h5", only=only)
    assert next(iter(result.zoo.shapes.values())) == (8, 2)
    assert len(result.zoo) == 2
    assert [item.reason for item in result.skipped] == [
        f"narrow/seed{i}.pt: is of another architecture, narrow, not of wide" for i in range(3)
    ]


def test_an_architecture_that_is_not_there_is_refused_with_the_nearest(both, tmp_path):
    with pytest.raises(ZooError, match=r"is called 'wild' \(did you mean 'wide'\?\); there are: 1"):
        import_checkpoints(sources.folder(both), tmp_path / "z.h5", only="wild")


def test_with_skip_the_most_frequent_architecture_is_taken(both, tmp_path):
    result = import_checkpoints(sources.folder(both), tmp_path / "z.h5", skip=True)
    assert len(result.zoo) == 3
    assert [item.origin for item in result.refused] == ["wide/seed0.pt", "wide/seed1.pt"]
    about = result.zoo.provenance["import"]
    assert (about["refused"], about["architectures"]) == (2, 2)


def test_types_tell_architectures_apart_and_a_cast_makes_them_one(tmp_path):
    torch.save(state(4, 0), tmp_path / "a.pt")
    torch.save(state(4, 1, torch.float16), tmp_path / "b.pt")
    with pytest.raises(ZooError, match=r"27 values, float32; a\.pt\); 2 .* 27 values, float16; b"):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    cast = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", cast=torch.float32)
    assert len(cast.zoo) == 2


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "model.module."])
def test_a_wrapper_makes_no_other_architecture(tmp_path, prefix):
    torch.save(state(4, 0), tmp_path / "a.pt")
    torch.save({prefix + name: t for name, t in state(4, 1).items()}, tmp_path / "b.pt")
    result = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    assert all(torch.equal(result.zoo[1][0][name], t) for name, t in state(4, 1).items())
    said = (
        f"1 checkpoints: names differ by a wrapper's prefix, {prefix}0.weight is read as 0.weight"
    )
    assert result.notes == (said,)


def test_two_parts_of_one_name_are_not_taken_for_wrappers(tmp_path):
    for part in ("encoder", "decoder"):
        theta = {f"{part}.{name}": t for name, t in state(4).items()}
        torch.save(theta, tmp_path / f"{part}.pt")
    with pytest.raises(ZooError, match=r"1 decoder .* 2 encoder"):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")


def test_the_source_and_its_hash_are_columns(tmp_path):
    (tmp_path / "in" / "run").mkdir(parents=True)
    about = {"epoch": 3, "loss": torch.tensor(0.5), "source": "theirs", "history": [1, 2.5]}
    about |= {"hyper_parameters": {"lr": 0.1, "act": "tanh"}}
    torch.save({"state_dict": state(4), **about}, tmp_path / "in" / "run" / "a b.ckpt")
    zoo = import_checkpoints(sources.folder(tmp_path / "in"), tmp_path / "z.h5").zoo
    row = zoo[0][1]
    data = (tmp_path / "in" / "run" / "a b.ckpt").read_bytes()
    assert row["source"] == "run/a b.ckpt"
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert (row["epoch"], row["loss"], row["source_source"]) == (3, 0.5, "theirs")
    assert (row["hyper_parameters.lr"], row["hyper_parameters.act"]) == (0.1, "tanh")
    assert row["history"] == "[1, 2.5]"


def test_the_hash_of_shards_is_that_of_the_lines_of_sha256sum(tmp_path):
    parts = {"model-00001-of-00001.safetensors": state(4)}
    for name, part in parts.items():
        save_file(part, tmp_path / name)
    where = {tensor: name for name, part in parts.items() for tensor in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    zoo = import_checkpoints(sources.hub(tmp_path), tmp_path / "z.h5").zoo
    lines = "".join(
        f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in (index.name, *parts)
    )
    assert zoo[0][1]["source"] == "model.safetensors.index.json"
    assert zoo[0][1]["sha256"] == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("wrap", [list, tuple, lambda x: dict(enumerate(x)), lambda x: {"nets": x}])
def test_a_list_of_state_dicts_is_a_member_each(tmp_path, wrap):
    torch.save(state(4, 9), tmp_path / "a.pt")
    torch.save(wrap([state(4, i) for i in range(12)]), tmp_path / "b.pt")
    torch.save(state(4, 10), tmp_path / "c.pt")
    zoo = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5").zoo
    assert zoo.table["member"].tolist() == list(range(14))
    for row, seed in ((0, 9), (1, 0), (3, 2), (12, 11), (13, 10)):
        assert torch.equal(zoo[row][0]["0.bias"], state(4, seed)["0.bias"])
    assert zoo.table["entry"].tolist()[0] == ""
    assert zoo.table["entry"].tolist()[12].endswith("11")


def test_members_of_a_list_have_the_values_beside_them(tmp_path):
    listed = [{"epoch": 3 + i, "acc": i / 4, "state_dict": state(4, i)} for i in range(3)]
    torch.save({"runs": listed, "data": "digits"}, tmp_path / "a.pt")
    zoo = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5").zoo
    assert zoo.table["epoch"].tolist() == [3, 4, 5]
    assert zoo.table["acc"].tolist() == [0, 0.25, 0.5]
    assert zoo.table["data"].tolist() == ["digits"] * 3


def test_an_entry_is_chosen_where_files_hold_several_sets(tmp_path):
    torch.save({"generator": state(4), "discriminator": state(8)}, tmp_path / "a.pt")
    with pytest.raises(ZooError, match=r"several sets of weights, 2: .*choose one with --entry"):
        import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    found = sources.folder(tmp_path, entry="discriminator")
    result = import_checkpoints(found, tmp_path / "z.h5")
    assert next(iter(result.zoo.shapes.values())) == (8, 2)
    assert result.notes == (
        "1 checkpoints: discriminator is read, generator not; --entry NAME reads another",
    )


def test_members_of_equal_weights_stand_in_one_split(tmp_path):
    for seed in range(30):
        torch.save(state(4, seed // 3), tmp_path / f"{seed}.pt")
    result = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5", split=(0.4, 0.3, 0.3))
    splits = result.zoo.table["split"].reshape(10, 3)
    assert (splits == splits[:, :1]).all()
    assert {*splits[:, 0].tolist()} == {"train", "val", "test"}
    (said,) = result.notes
    assert said == (
        "20 checkpoints hold the same weights as another, such as 1.pt and 0.pt; their members "
        "stand in the same split"
    )


def test_splits_that_files_give_are_kept_and_copies_across_them_are_named(tmp_path):
    for name, split in (("a", "train"), ("b", "test")):
        torch.save({"state_dict": state(4), "split": split}, tmp_path / f"{name}.pt")
    result = import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5")
    assert result.zoo.table["split"].tolist() == ["train", "test"]
    assert "1 of them stand in different splits, as the files say" in result.notes[0]


@pytest.fixture
def everything(tmp_path):
    """A folder with a snapshot, a trial, single files of two architectures, and other files."""
    root = tmp_path / "in"
    for name in ("snapshot", "trial/checkpoint_3", "files/.git", "other"):
        (root / name).mkdir(parents=True)
    save_file(state(4, 1), root / "snapshot" / "model.safetensors")
    (root / "snapshot" / "config.json").write_text('{"width": 4}')
    torch.save({"state": {}}, root / "snapshot" / "optimizer.pt")
    torch.save(state(4, 2), root / "snapshot" / "old.pt")
    (root / "trial" / "params.json").write_text('{"lr": 0.1}')
    torch.save(state(4, 3), root / "trial" / "checkpoint_3" / "checkpoints")
    torch.save(state(4, 4), root / "files" / "a.pt")
    torch.save(state(8, 5), root / "files" / "b.PT")
    torch.save(state(8, 6), root / "files" / "c.ckpt")
    (root / "files" / "last.ckpt").symlink_to("c.ckpt")
    (root / "files" / "page.pt").write_text("<!doctype html>")
    (root / "files" / "._a.pt").write_bytes(b"\0\5\x16\7")
    torch.save(state(4), root / "other" / "weights.dat")
    (root / "other" / "graph.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    (root / "other" / "readme.txt").write_text("hello")
    (root / "other" / "data").write_bytes(b"nothing")
    return root


OUTCOMES = {
    "snapshot/model.safetensors": ("imported", ""),
    "snapshot/config.json": ("no weights", "by its name"),
    "snapshot/optimizer.pt": ("left out", "state of a training"),
    "snapshot/old.pt": ("left out", r"lies beside model\.safetensors"),
    "trial/params.json": ("no weights", "by its name"),
    "trial/checkpoint_3/checkpoints": ("imported", ""),
    "files/a.pt": ("imported", ""),
    "files/b.PT": ("imported", ""),
    "files/c.ckpt": ("imported", ""),
    "files/last.ckpt": ("left out", r"is a link to c\.ckpt"),
    "files/page.pt": ("refused", "web page"),
    "files/._a.pt": ("left out", "hidden copy"),
    "other/weights.dat": ("left out", "is a PyTorch file, though its name does not say so"),
    "other/graph.onnx": ("left out", "ONNX"),
    "other/readme.txt": ("no weights", "by its name"),
    "other/data": ("no weights", "first bytes"),
}


def test_kinds_are_told_per_file_and_every_file_has_one_outcome(everything, tmp_path, capsys):
    import re

    assert sources.detect(everything) is sources.mixed
    report = tmp_path / "report.json"
    words = ["zoo", "import", str(everything), "-o", f"{tmp_path}/out/", "--report", str(report)]
    assert main(words) == 2
    assert "page.pt: is a web page" in capsys.readouterr().err
    assert main([*words, "--skip"]) == 0
    said = capsys.readouterr().err
    told = json.loads(report.read_text())
    assert {each["file"] for each in told["files"]} == set(OUTCOMES)
    for each in told["files"]:
        outcome, why = OUTCOMES[each["file"]]
        assert (each["outcome"], bool(re.search(why, each.get("reason", "")))) == (outcome, True)
        if outcome in ("left out", "refused"):
            assert f"left out: {each['file']}: " in said or f"/{each['file']}: " in said
    assert told["counts"] == {"imported": 5, "left out": 6, "no weights": 4, "refused": 1}
    assert "not read: 4 files without weights" in said
    narrow, wide = sorted((Zoo(p) for p in (tmp_path / "out").iterdir()), key=lambda z: -len(z))
    assert narrow.table["source"].tolist() == [
        "trial/checkpoint_3/checkpoints",
        "snapshot/model.safetensors",
        "files/a.pt",
    ]
    assert narrow.table["member"].tolist() == [0, 1, 2]
    assert narrow.table["epoch"].tolist() == [3, 0, 0]
    np.testing.assert_array_equal(narrow.table["config.lr"], [0.1, np.nan, np.nan])
    assert wide.table["source"].tolist() == ["files/b.PT", "files/c.ckpt"]


def test_one_of_several_files_called_model_is_no_snapshot(tmp_path):
    save_file(state(4, 0), tmp_path / "model.safetensors")
    save_file(state(4, 1), tmp_path / "other.safetensors")
    assert sources.detect(tmp_path) is sources.folder
    assert len(import_checkpoints(sources.folder(tmp_path), tmp_path / "z.h5").zoo) == 2


def test_many_files_of_one_reason_are_one_line(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    torch.save(state(4), tmp_path / "in" / "a.pt")
    for i in range(9):
        (tmp_path / "in" / f"{i}.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    assert main(["zoo", "import", str(tmp_path / "in"), "-o", str(tmp_path / "z.h5")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "ONNX" in line]
    assert len(lines) == 1
    assert lines[0].startswith("left out: 9 files, 0.onnx, 1.onnx, 2.onnx and 6 more: is an ONNX")


def test_the_command_line_chooses_an_architecture_and_writes_folders(both, tmp_path, capsys):
    out = tmp_path / "z.h5"
    assert main(["zoo", "import", str(both), "-o", str(out)]) == 2
    assert "1 narrow (3 checkpoints" in capsys.readouterr().err
    assert main(["zoo", "import", str(both), "-o", str(out), "--architecture", "wide"]) == 0
    assert len(Zoo(out)) == 2
    assert "3 left out" in capsys.readouterr().out
    (tmp_path / "zoos").mkdir()
    assert main(["zoo", "import", str(both), "-o", str(tmp_path / "zoos")]) == 0
    assert len(Zoo(tmp_path / "zoos" / "narrow.h5")) == 3


def test_a_zoo_beside_the_checkpoints_is_named_and_the_one_written_is_not(both, capsys):
    words = ["zoo", "import", str(both), "--architecture", "wide", "-o"]
    assert main([*words, str(both / "a.h5")]) == 0
    assert "a.h5" not in capsys.readouterr().err
    assert main([*words, str(both / "b.h5")]) == 0
    assert "left out: a.h5: is a zoo file, and no checkpoint" in capsys.readouterr().err
