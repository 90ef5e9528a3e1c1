"""Two processes train as one with the same batches, write one set of files, and end together."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from networks import BY_NAME
from safetensors.torch import load_file

from wsl.nn import StatBoost, StatNet
from wsl.training import (
    Hardware,
    RandomRows,
    Ranks,
    ScoreRegression,
    Settings,
    alongside,
    fit,
    is_first,
)
from wsl.zoo import Zoo

NETWORK = BY_NAME["mlp"]
MEMBERS = 63  # 50 train: batches of 8 end with one of two, batches of 7 with one of one
RECIPE = ["models=dwsnet", "datasets=digits_mlp", "network.hidden=4", "network.layers=1"]
FILES = ["history.csv", "network.safetensors", "predictions.csv", "predictions.png", "result.json"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    models = [
        {k: t[i] for k, t in NETWORK.weights(MEMBERS, seed=1).items()} for i in range(MEMBERS)
    ]
    scores = torch.rand(MEMBERS, generator=torch.Generator().manual_seed(0)).tolist()
    path = tmp_path_factory.mktemp("a zoo") / "mlp.h5"
    return Zoo.from_models(path, models, spec=NETWORK.spec, metadata={"test_accuracy": scores}).path


def command(zoo, folder, *words):
    """``wsl train`` on a small zoo, from a folder with a space in its name."""
    given = [f"zoo='{zoo}'", f"output='{folder}'", "settings.accelerator=cpu", *words]
    return [sys.executable, "-m", "wsl", "train", *RECIPE, "network.dropout=0", *given]


def train(zoo, folder, *words):
    run = subprocess.run(
        command(zoo, folder, *words),
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run


def history(folder):
    with (folder / "history.csv").open() as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "words",
    [
        ["settings.batch_size=8"],
        ["settings.batch_size=7", "variety.mixup=direct", "variety.noise=0.1"],
    ],
    ids=["plain", "mixed"],
)
def test_two_processes_train_as_one(zoo, tmp_path, words):
    words = [*words, "settings.epochs=2"]
    alone, both = tmp_path / "alone", tmp_path / "both of them"
    train(zoo, alone, *words)
    run = train(zoo, both, *words, "settings.devices=2")
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""
    assert sorted(path.name for path in both.iterdir()) == FILES
    assert history(both) == pytest.approx(history(alone), abs=1e-4)
    one, two = (load_file(folder / "network.safetensors") for folder in (alone, both))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-3)
    one, two = (json.loads((folder / "result.json").read_text()) for folder in (alone, both))
    assert two["test"]["mean_absolute_error"] == pytest.approx(
        one["test"]["mean_absolute_error"], abs=1e-3
    )
    assert (alone / "predictions.csv").read_text().count("\n") == (
        both / "predictions.csv"
    ).read_text().count("\n")


def started(zoo, folder):
    """A long training in two processes that has saved an epoch, and the second one's number."""
    words = ["settings.devices=2", "settings.epochs=60", "settings.batch_size=8"]
    saved, before = folder / "last.pt", written(folder / "last.pt")
    run = subprocess.Popen(
        command(zoo, folder, *words), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    until(lambda: written(saved) != before or run.poll() is not None)
    return run, second(run.pid)


def second(first):
    """The process that another has spawned to train beside it."""
    listed = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    (found,) = (
        int(pid) for pid in listed if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return found


def until(reached, seconds=240):
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit
        time.sleep(0.05)


def written(path):
    return path.stat().st_mtime_ns if path.exists() else 0


def running(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_process_ends_the_other_and_the_run_goes_on_when_started_again(zoo, tmp_path):
    run, other = started(zoo, tmp_path)
    os.kill(other, signal.SIGKILL)
    _, told = run.communicate(timeout=90)
    assert run.returncode == 2
    assert told.startswith("wsl train: process 1 of 2 was ended by SIGKILL: ")
    assert "run the same command again" in told
    assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    before = torch.load(tmp_path / "last.pt", weights_only=True)["history"]
    run, other = started(zoo, tmp_path)
    run.kill()
    until(lambda: not running(other), 90)
    run.communicate(timeout=90)
    more = torch.load(tmp_path / "last.pt", weights_only=True)["history"]
    assert more[: len(before)] == before
    train(zoo, tmp_path, "settings.devices=2", "settings.epochs=60", "settings.batch_size=8")
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert history(tmp_path)[: len(more)] == [row["train_loss"] for row in more]


def test_what_several_processes_cannot_do_is_refused_before_anything_is_done(zoo, tmp_path):
    spec, objective = NETWORK.spec, ScoreRegression()
    for how in ({"compile": True}, {"capture": True}):
        settings = Settings(devices=2, accelerator="cpu", **how)
        with pytest.raises(ValueError, match="compiled and captured steps are for one process"):
            fit(StatNet(spec), Zoo(zoo), objective, settings=settings, folder=tmp_path)
    settings = Settings(devices=2, accelerator="cpu")
    with pytest.raises(ValueError, match="StatBoost is for one process"):
        fit(StatBoost(spec), Zoo(zoo), objective, settings=settings, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_several_machines_need_an_address_to_meet_at(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    beside = alongside(Hardware("cpu", nodes=2), print, [])
    with pytest.raises(ValueError, match=r"settings.nodes=2: start the command .* by torchrun"):
        beside.__enter__()


def test_torchrun_says_how_many_processes_there_are(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "6")
    found = Hardware("cpu", devices=2, nodes=3)
    assert Hardware("cpu").resolved() == found.resolved() == found
    with pytest.raises(ValueError, match="devices=2 and nodes=1, but torchrun started 2 of 6"):
        Hardware("cpu", devices=2).resolved()


def test_shares_are_in_order_and_complete():
    for count in (1, 2, 3, 7):
        for size in (0, 1, 2, 6, 7, 20):
            parts = [range(size)[Ranks(rank, count).share(size)] for rank in range(count)]
            assert [i for part in parts for i in part] == list(range(size))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            assert Ranks(0, count).splits(size) == (count > 1 and all(map(len, parts)))


def test_the_first_process_is_told_by_its_environment(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    many = Hardware("cpu", devices=2)
    assert is_first(many)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert is_first(many)
    monkeypatch.setenv("NODE_RANK", "1")
    assert not is_first(many)
    assert is_first(Hardware("cpu"))  # one of many that a scheduler has started side by side


def test_a_module_that_draws_its_own_rows_trains_in_one_process():
    module = torch.nn.Linear(2, 2)
    rows = RandomRows(hardware=Hardware("cpu", devices=2))
    descent = rows.descent(module, torch.optim.SGD(module.parameters()), None)
    with pytest.raises(ValueError, match="Linear trains in one process; set both to 1"):
        descent.__enter__()
