"""Whatever happens to a build, to the disk, or to a file, no committed row is lost and no wrong one
is read as right.
"""

import errno
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

import wsl
from wsl.base.atomic import locked, replacing
from wsl.params import stack
from wsl.symmetry import PermutationSpec
from wsl.zoo import Zoo, ZooError, ZooWriter, import_checkpoints, save, sources

SPEC = PermutationSpec.parse("h = 16\n0.weight: h 12\n0.bias: h")
LIKE = {name: torch.zeros(shape) for name, shape in SPEC.shapes.items()}


def writer(path, **options):
    return ZooWriter(path, spec=SPEC, like=LIKE, columns={"loss": float}, **options)


def task(number, rows=4):
    draw = np.random.default_rng(number)
    params = stack(
        [
            {n: torch.from_numpy(draw.normal(size=s).astype("f4")) for n, s in SPEC.shapes.items()}
            for _ in range(rows)
        ]
    )
    return params, {
        "member": range(number * rows, (number + 1) * rows),
        "epoch": 0,
        "metadata": {"loss": 0.5},
    }


def append(target, number):
    params, about = task(number)
    target.append(f"t{number}", params, **about)


def whole(path, tasks):
    target = writer(path)
    for number in tasks:
        append(target, number)
    return target.finalize().read_bytes()


def work(path, numbers):
    target = writer(path)
    for number in numbers:
        append(target, number)


def test_shards_of_many_processes_make_the_file_of_one(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "z.h5"
    workers = [
        context.Process(target=work, args=(path, range(i, i + 6))) for i in (0, 3, 6)
    ]  # tasks overlap on purpose
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0, 0, 0]
    assert writer(path).finalize().read_bytes() == whole(tmp_path / "one.h5", range(12))
    assert sorted(os.listdir(tmp_path)) == ["one.h5", "z.h5"]


def test_two_finalizers_make_one_file(tmp_path):
    path, failures = tmp_path / "z.h5", []

    def finalize():
        try:
            writer(path).finalize()
        except ZooError as error:
            failures.append(error)

    work(path, range(8))
    threads = [threading.Thread(target=finalize) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert path.read_bytes() == whole(tmp_path / "one.h5", range(8))
    assert sorted(os.listdir(tmp_path)) == ["one.h5", "z.h5"]


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    make, gone = Path.mkdir, [FileExistsError(17, "File exists")]

    def once_in_vain(self, *args, **kwargs):
        if gone:
            raise gone.pop()
        return make(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", once_in_vain)
    with locked(tmp_path / "shards"):
        assert (tmp_path / "shards").is_dir()
    assert not gone


def test_a_file_in_the_place_of_a_folder_is_no_folder_to_hold(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("file", "nowhere"):
        with pytest.raises(FileExistsError), locked(tmp_path / name):
            pass


def test_what_is_missing_inside_is_said_and_not_tried_again(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "shards"):
        (tmp_path / "missing").read_text()


def test_an_append_waits_for_a_finalizer_and_its_row_is_not_swept_away(tmp_path):
    path = tmp_path / "z.h5"
    work(path, range(3))
    late = threading.Thread(target=work, args=(path, [3]))
    with locked(writer(path).shards):
        late.start()
        late.join(0.3)
        assert late.is_alive()
        assert not writer(path).has("t3")
    late.join()
    assert writer(path).has("t3")


def test_a_finished_file_is_not_replaced_by_one_that_lacks_its_rows(tmp_path):
    path = tmp_path / "z.h5"
    before = whole(path, range(3))
    work(path, [7])
    with pytest.raises(
        ZooError,
        match=r"z\.h5: is finished and holds checkpoints that the shards lack, such as member 0, "
        r"epoch 0",
    ):
        writer(path).finalize()
    assert path.read_bytes() == before
    assert writer(path).has("t7")
    work(path, range(3))
    assert writer(path).finalize().read_bytes() == whole(tmp_path / "b.h5", [0, 1, 2, 7])


def test_a_task_done_again_after_the_end_changes_nothing(tmp_path):
    path = tmp_path / "z.h5"
    before = whole(path, range(3))
    work(path, [1])
    assert writer(path).finalize().read_bytes() == before
    assert os.listdir(tmp_path) == ["z.h5"]


def test_notes_of_the_end_of_a_build_join_the_provenance_and_do_not_change_which_build_it_is(
    tmp_path,
):
    path = tmp_path / "z.h5"
    target = writer(path, provenance={"seed": 1})
    append(target, 0)
    target.finalize(
        notes=lambda members: {"missing": sorted(set(range(6)) - set(members.tolist()))}
    )
    assert Zoo(path).provenance == {"seed": 1, "missing": [4, 5], "notes": ["missing"]}
    assert writer(path, provenance={"seed": 1}).complete
    assert not writer(path, provenance={"seed": 2}).complete
    assert not writer(path).complete


def limited(size, do):
    """Run ``do`` in a child that can write no file beyond ``size`` bytes; what it said, or None if
    it went well.
    """
    read, tell = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            do()
            os._exit(0)
        except ZooError as error:
            os.write(tell, str(error).encode())
            os._exit(3)
        finally:
            os._exit(9)
    os.close(tell)
    with os.fdopen(read, "rb") as said:
        text = said.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 3), code
    return text if code else None


@pytest.mark.parametrize("archive", [False, True])
def test_wherever_the_disk_is_full_the_old_file_and_the_shards_stay(tmp_path, archive):
    path = tmp_path / "z.h5"
    old = Zoo.from_models(path, [LIKE], spec=SPEC, metadata={}).path.read_bytes()
    work(path, range(6))
    source = Zoo(writer(tmp_path / "b.h5").path) if (tmp_path / "b.h5").exists() else None
    if archive:
        source = Zoo(save(Zoo(path), tmp_path / "b.h5").path)
    refused = 0
    for size in (0, 500, 2000, 4096, 5000, 7000, 9000, 12000, 20000, 24000, 30000):
        said = limited(
            size, (lambda: save(source, path, archive=True)) if archive else writer(path).finalize
        )
        if said is None:
            break
        refused += 1
        assert re.search(
            r"z\.h5: cannot be written: .*nothing that was there is lost\. Free space", said
        ), said
        assert path.read_bytes() == old
        assert len(list(writer(path).shards.glob("*.npz"))) == 6
        assert not list(tmp_path.glob("*.tmp"))
    assert refused >= 5
    if not archive:
        assert writer(path).finalize().read_bytes() == whole(tmp_path / "one.h5", range(6))


def test_a_full_disk_at_append_loses_no_other_task(tmp_path):
    path = tmp_path / "z.h5"
    work(path, range(2))
    for size in (0, 100, 1000, 3000):
        said = limited(size, lambda: work(path, [2]))
        assert "t2.npz: cannot be written: File too large" in said
        assert sorted(p.name for p in writer(path).shards.iterdir()) == ["t0.npz", "t1.npz"]
    work(path, [2])
    assert writer(path).finalize().read_bytes() == whole(tmp_path / "one.h5", range(3))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_what_the_system_refuses_is_said_in_its_words(tmp_path, monkeypatch, code, name):
    path = tmp_path / "z.h5"
    work(path, range(2))

    def refuse(*args):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        item = sources.Checkpoint(0, 0, LIKE, {}, "a")
        for do in (
            lambda: append(writer(path), 2),
            writer(path).finalize,
            lambda: Zoo.from_models(tmp_path / "m.h5", [LIKE], spec=SPEC, metadata={}),
            lambda: import_checkpoints([item], tmp_path / "i.h5", spec=SPEC),
        ):
            with pytest.raises(
                ZooError,
                match=f"cannot be written: {re.escape(os.strerror(code))}; nothing that was there "
                "is lost",
            ):
                do()
    assert sorted(os.listdir(tmp_path)) == ["z.h5.shards"]
    append(writer(path), 2)
    assert writer(path).finalize().read_bytes() == whole(tmp_path / "one.h5", range(3))


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    target = writer(tmp_path / "file" / "z.h5")
    with pytest.raises(
        ZooError, match=r"t0\.npz: cannot be written: (Not a directory|File exists)"
    ):
        append(target, 0)


@pytest.mark.parametrize(
    "script", [["crash_zoo.py", "--kills", "6"], ["fuzz_zoo.py", "--files", "100"]]
)
def test_a_short_run_of_the_script_finds_no_defect(script, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / script[0]), *script[1:]]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("none lost, none damaged|refused [0-9]+", done.stdout)
    assert os.listdir(tmp_path) == []


def test_a_new_file_may_be_read_by_whom_the_system_lets_and_an_old_one_keeps_its_rights(tmp_path):
    plain, made = tmp_path / "plain", tmp_path / "made"
    plain.write_text("")
    for _ in range(2):
        with replacing(made) as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        assert made.stat().st_mode == plain.stat().st_mode
        made.chmod(0o640)
        plain.chmod(0o640)


def test_a_zoo_does_not_take_the_place_of_a_file_that_is_none(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((3, 2)))
    before = path.read_bytes()
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    spec, theta = wsl.permutation_spec(net, torch.zeros(1, 3)), wsl.params.from_module(net)
    for write in (
        lambda: Zoo.from_models(path, [net], spec=spec),
        lambda: ZooWriter(path, spec=spec, like=theta, columns={}),
    ):
        with pytest.raises(ZooError, match=r"data\.npz: is there and is no zoo; name another file"):
            write()
    assert path.read_bytes() == before
    path.write_bytes(b"")
    assert len(Zoo.from_models(path, [net], spec=spec)) == 1
    assert len(Zoo.from_models(path, [net, net], spec=spec)) == 2
