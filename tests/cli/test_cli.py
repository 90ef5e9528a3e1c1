"""The command line as a user meets it: verbs on small data, wrong inputs, repeated and interrupted
runs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wsl import params
from wsl.cli import VERBS, main
from wsl.symmetry import PermutationSpec
from wsl.zoo import Zoo, read_checkpoint, write_checkpoint

TINY = [
    "population.members=30",
    "population.steps=4",
    "population.snapshots=[2,4]",
    "population.architecture.channels=[2,3,3]",
]
TRAIN = ["models=statnet", "datasets=digits_cnn", "settings.epochs=2", "zoo=zoo.h5"]
TOLD = ["datasets=digits_cnn", "settings.epochs=1", "zoo=kinds.h5"]
KINDS = "+population.activation=[{}]"
"""Several activations in one population."""

GENERATE = [
    "models=weight_diffusion",
    "datasets=digits_cnn",
    "zoo=zoo.h5",
    "samples=3",
    "generator.latent=4",
]
GENERATE += ["fit.code_steps=5", "fit.steps=5", "trial.steps=2"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with a tiny zoo of CNNs, and two checkpoints from it."""
    folder = tmp_path_factory.mktemp("workspace")
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["zoo", "build", "datasets=digits_cnn", "output=zoo.h5", *TINY]) == 0
        assert (
            main(
                [
                    "zoo",
                    "build",
                    "datasets=digits_cnn",
                    "output=kinds.h5",
                    *TINY,
                    KINDS.format("relu,tanh"),
                ]
            )
            == 0
        )
        assert main(["zoo", "export", "zoo.h5", "--rows", "1", "3", "-o", "checkpoints"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def inside(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def checkpoints():
    return sorted(str(path) for path in Path("checkpoints").glob("*.safetensors"))


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def run_elsewhere(words, hash_seed):
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "wsl", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_verbs_are_these():
    assert list(VERBS) == [
        "zoo",
        "train",
        "evaluate",
        "spec",
        "check",
        "match",
        "connect",
        "merge",
        "generate",
        "init-compare",
        "env",
        "completion",
    ]


def test_zoo_info_and_verify_describe_the_file(inside, capsys):
    assert main(["zoo", "info", "zoo.h5"]) == 0
    assert "60 checkpoints of 30 members" in capsys.readouterr().out
    assert main(["zoo", "verify", "zoo.h5"]) == 0
    assert "every checksum holds" in capsys.readouterr().out


def test_output_that_nobody_reads_is_no_error(inside):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "wsl", "zoo", "info", "zoo.h5"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_train_writes_its_results_and_does_not_train_twice(inside, capsys):
    assert main(["train", *TRAIN, "output=run"]) == 0
    done = json.loads(Path("run/result.json").read_text())
    assert set(done["test"]) == {"kendall_tau", "r2", "mean_absolute_error"}
    assert done["inputs"]["zoo"]["file"] == "zoo.h5"
    before = content("run")
    assert {str(name) for name in before} == {
        "history.csv",
        "predictions.csv",
        "predictions.png",
        "network.safetensors",
        "result.json",
    }
    stamp = Path("run/result.json").stat().st_mtime_ns
    assert main(["train", *TRAIN, "output=run"]) == 0
    assert Path("run/result.json").stat().st_mtime_ns == stamp
    assert capsys.readouterr().out.count("kendall_tau") == 2


FUNCTIONALS = {
    "nfn": ["network.hidden=3"],
    "nft": ["network.hidden=4", "network.heads=2"],
    "probenet": ["network.probes=3"],
    "graph_metanetwork": ["network.hidden=4", "network.layers=1"],
    "weight_tokens": ["network.hidden=4", "network.heads=1"],
    "stat_boost": ["network.iterations=3"],
}


@pytest.mark.parametrize("model", FUNCTIONALS)
def test_every_functional_trains_from_its_recipe(inside, model):
    words = [
        f"models={model}",
        *TRAIN[1:],
        "settings.epochs=1",
        f"output={model}",
        *FUNCTIONALS[model],
    ]
    assert main(["train", *words]) == 0
    assert set(json.loads(Path(model, "result.json").read_text())["test"]) == {
        "kendall_tau",
        "r2",
        "mean_absolute_error",
    }


@pytest.mark.parametrize(
    ("model", "small"), [("probenet", "network.probes=3"), ("stat_boost", "network.iterations=3")]
)
def test_functionals_that_run_networks_or_grow_trees_are_scored_again_from_their_folder(
    inside, model, small
):
    main(["train", f"models={model}", *TRAIN[1:], small, "output=kept"])
    assert main(["evaluate", "kept", "--zoo", "zoo.h5"]) == 0
    scores = json.loads(Path("kept/evaluation-test.json").read_text())["scores"]
    assert scores == pytest.approx(json.loads(Path("kept/result.json").read_text())["test"])


def test_evaluate_repeats_the_score_of_training(inside):
    main(["train", *TRAIN, "output=scored"])
    assert main(["evaluate", "scored", "--zoo", "zoo.h5"]) == 0
    scores = json.loads(Path("scored/evaluation-test.json").read_text())["scores"]
    assert scores == pytest.approx(json.loads(Path("scored/result.json").read_text())["test"])


@pytest.mark.parametrize("model", ["statnet", "probenet", "unf", "stat_boost"])
def test_functionals_are_told_columns_and_remember_what_they_know(inside, model):
    words = [f"models={model}", *TOLD, "columns=[activation,lr]", f"output=told-{model}"]
    assert main(["train", *words]) == 0
    done = json.loads(Path(f"told-{model}/result.json").read_text())
    assert done["config"]["columns"] == ["activation", "lr"]
    assert done["columns"][0]["known"] == ["relu", "tanh"]
    assert main(["evaluate", f"told-{model}", "--zoo", "kinds.h5"]) == 0
    scores = json.loads(Path(f"told-{model}/evaluation-test.json").read_text())["scores"]
    assert scores == pytest.approx(done["test"])


def test_values_that_training_did_not_know_are_named_at_evaluation(inside, capsys):
    assert main(["train", "models=statnet", *TOLD, "columns=[activation]", "output=told"]) == 0
    assert (
        main(
            [
                "zoo",
                "build",
                "datasets=digits_cnn",
                "output=others.h5",
                *TINY,
                KINDS.format("relu,gelu"),
            ]
        )
        == 0
    )
    assert main(["evaluate", "told", "--zoo", "others.h5"]) == 2
    assert (
        "column 'activation' holds 'gelu', which no training member has; known are relu, tanh"
        in capsys.readouterr().err
    )
    assert main(["evaluate", "told", "--zoo", "zoo.h5"]) == 2
    assert "there is no column 'activation'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["train", *TRAIN], ["connect", "A", "B", "--points", "3"], ["generate", *GENERATE]],
    ids=lambda w: w[0],
)
def test_two_runs_with_other_hash_seeds_give_equal_bytes(inside, words):
    words = [checkpoints()["AB".index(word)] if word in ("A", "B") else word for word in words]
    for seed in (1, 2):
        folder = f"{words[0]}-{seed}"
        run_elsewhere(
            [*words, *(["-o", folder] if words[0] == "connect" else [f"output={folder}"])], seed
        )
    assert content(f"{words[0]}-1") == content(f"{words[0]}-2")
    assert content(f"{words[0]}-1")


def test_a_zoo_is_built_twice_to_equal_bytes(inside):
    for seed in (1, 2):
        run_elsewhere(
            ["zoo", "build", "datasets=digits_cnn", f"output=again-{seed}.h5", *TINY], seed
        )
    assert Path("again-1.h5").read_bytes() == Path("again-2.h5").read_bytes()


def test_an_interrupted_training_goes_on_to_the_same_result(inside, monkeypatch):
    assert main(["train", *TRAIN, "output=whole", "settings.epochs=3"]) == 0
    run = sys.modules["wsl.training.loop.run"].Run
    record, epochs = run.record, []

    def stop(self, *values):
        record(self, *values)
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "record", stop)
        with pytest.raises(KeyboardInterrupt):
            main(["train", *TRAIN, "output=parts", "settings.epochs=3"])
    assert not Path("parts/result.json").exists()
    assert main(["train", *TRAIN, "output=parts", "settings.epochs=3"]) == 0
    assert content("whole") == content("parts")


def test_an_interrupted_training_is_not_continued_with_another_network(inside, monkeypatch, capsys):
    def stop(self, *values):
        record(self, *values)
        raise KeyboardInterrupt

    run = sys.modules["wsl.training.loop.run"].Run
    record = run.record
    with monkeypatch.context() as patch:
        patch.setattr(run, "record", stop)
        with pytest.raises(KeyboardInterrupt):
            main(["train", *TRAIN, "output=other"])
    before = content("other")
    assert main(["train", *TRAIN, "output=other", "network.hidden=9"]) == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert content("other") == before


def test_match_connect_and_merge_on_exported_checkpoints(inside, capsys):
    a, b = checkpoints()
    assert main(["match", a, b, "-o", "matched.safetensors"]) == 0
    evidence = json.loads(Path("matched.result.json").read_text())
    assert evidence["distance_after"] <= evidence["distance_before"]
    assert main(["connect", a, b, "-o", "path", "--points", "5"]) == 0
    assert len(Path("path/path.csv").read_text().splitlines()) == 11
    assert main(["merge", a, b, "-o", "merged.safetensors"]) == 0
    merged, about = read_checkpoint("merged.safetensors")
    assert json.loads(about["wsl_merge"])["inputs"]["a"]["file"] == Path(a).name
    aligned, _ = read_checkpoint("matched.safetensors")
    mean = {name: (tensor + aligned[name]) / 2 for name, tensor in read_checkpoint(a)[0].items()}
    assert all(torch.allclose(merged[name], mean[name]) for name in mean)


def test_spec_prints_the_symmetry_and_its_proof(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), "
        "nn.Linear(5, 2))\n"
    )
    assert main(["spec", "nets:net", "--input-shape", "2,3", "--verify", "--pinned"]) == 0
    out = capsys.readouterr().out
    assert "h1 = 5\n0.weight: h1 3\n0.bias: h1\n2.weight: 2 h1\n2.bias: 2\n" in out
    assert "preserves the function" in out
    assert "0.weight axis 1: input" in out


def bad_inputs():
    """Command, what the one line must say."""
    a, b = "A", "B"
    return {
        "no verb of that name": (["trian"], "'trian' is not a verb"),
        "missing zoo": (["zoo", "info", "nowhere.h5"], "nowhere.h5"),
        "truncated zoo": (["zoo", "verify", "truncated.h5"], "truncated.h5"),
        "not a zoo": (["zoo", "info", "text.h5"], "text.h5"),
        "flipped byte": (["zoo", "verify", "flipped.h5"], "row 7"),
        "unknown recipe": (
            ["train", "models=statnett", "datasets=digits_cnn"],
            "did you mean 'statnet'",
        ),
        "row that is not there": (
            ["zoo", "export", "zoo.h5", "-o", "out", "--rows", "60"],
            "row 60 does not exist; the zoo has 60 rows",
        ),
        "row beyond all numbers": (
            ["zoo", "export", "zoo.h5", "-o", "out", "--rows", "9" * 20],
            "rows must be a sequence of integers",
        ),
        "no samples": (["generate", *GENERATE, "samples=0"], "samples is 0"),
        "no steps": (["generate", *GENERATE, "fit.steps=0"], "fit.steps is 0"),
        "no rates": (["generate", *GENERATE, "trial.lrs=[]"], "trial.lrs is empty"),
        "no quantile": (["generate", *GENERATE, "fit.quantile=3"], "fit.quantile is 3"),
        "no token": (
            ["train", "models=weight_tokens", *TRAIN[1:], "network.token=0"],
            "network.token=0: a size must be at least 1",
        ),
        "no width": (
            ["train", "models=unf", *TRAIN[1:], "network.hidden=0"],
            "network.hidden=0: the network's",
        ),
        "unknown key": (["train", *TRAIN, "settings.epoch=2"], "did you mean 'settings.epochs'"),
        "wrong type": (
            ["train", *TRAIN, "settings.epochs=many"],
            "settings.epochs must be a number",
        ),
        "wrong purpose": (
            ["train", "models=weight_diffusion", "datasets=digits_cnn"],
            "is for wsl generate",
        ),
        "weights as outputs": (
            ["train", *TRAIN, "+edit._target_=wsl.training.ImageEdit"],
            "StatNet and ImageEdit do not fit",
        ),
        "no images": (["train", "models=equivariant_net", *TRAIN[1:]], "there is nothing to edit"),
        "an unknown base network": (
            ["train", "models=probenet", "datasets=digits_cnn", "zoo=bare.h5"],
            "how to build its net",
        ),
        "no target": (["train", *TRAIN, "objective.column=nothing"], "no numeric column 'nothing'"),
        "no such column": (
            ["train", *TRAIN, "columns=[weight_deca]"],
            "no column 'weight_deca' (did you mean 'weight_decay'?)",
        ),
        "a column that leaks": (
            ["train", *TRAIN, "columns=[train_loss]"],
            "'train_loss' is measured on the checkpoint",
        ),
        "no list": (
            ["train", *TRAIN, "columns=lr"],
            "it must be a list of different names, such as columns=[activation]",
        ),
        "columns twice": (
            ["train", *TRAIN, "columns=[lr,lr]"],
            "it must be a list of different names",
        ),
        "columns for edits": (
            ["train", "models=equivariant_net", *TRAIN[1:], "columns=[lr]"],
            "gives weights, and columns are",
        ),
        "missing checkpoint": (
            ["match", a, "gone.safetensors", "-o", "kept.safetensors"],
            "gone.safetensors",
        ),
        "NaN weights": (
            ["match", a, "nan.safetensors", "-o", "kept.safetensors"],
            "NaN or infinity",
        ),
        "another architecture": (
            ["match", a, "other.safetensors", "-o", "kept.safetensors"],
            "other.safetensors does not fit",
        ),
        "no specification": (
            ["match", "other.safetensors", b, "-o", "kept.safetensors"],
            "carries no specification",
        ),
        "another shape": (
            ["merge", a, "shape.safetensors", "-o", "kept.safetensors"],
            "convs.0.weight",
        ),
        "pickle": (["match", a, "evil.pt", "-o", "kept.safetensors"], "evil.pt"),
        "bad spec": (["match", a, b, "--spec", "bad.spec", "-o", "kept.safetensors"], "line 1"),
        "bad weight": (["merge", a, b, "-t", "1.5", "-o", "kept.safetensors"], "[0, 1]"),
        "no run": (["evaluate", "nowhere"], "no result.json"),
        "no module": (["spec", "nothing_here:net", "--input-shape", "1,2"], "nothing_here"),
    }


@pytest.fixture
def damaged(inside):
    """Files that are wrong in one way each, and an earlier result that must survive."""
    whole = Path("zoo.h5").read_bytes()
    Path("truncated.h5").write_bytes(whole[: len(whole) // 2])
    place = whole.index(params.ravel(Zoo("zoo.h5")[7][0]).numpy().tobytes())
    Path("flipped.h5").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    Path("text.h5").write_text("this is no zoo")
    members = [params.from_module(torch.nn.Linear(2, 3)) for _ in range(10)]
    spec = PermutationSpec.parse("weight: 3 2\nbias: 3")
    Zoo.from_models("bare.h5", members, spec=spec, metadata={"test_accuracy": [0.5] * 10})
    theta, about = read_checkpoint(checkpoints()[0])
    broken = {**theta, "head.bias": theta["head.bias"].clone().fill_(float("nan"))}
    write_checkpoint("nan.safetensors", broken, about)
    write_checkpoint(
        "shape.safetensors", {**theta, "convs.0.weight": torch.zeros(4, 1, 3, 3)}, about
    )
    write_checkpoint("other.safetensors", params.from_module(torch.nn.Linear(2, 3)), {})
    Path("evil.pt").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    Path("bad.spec").write_text("w: (h")
    Path("kept.safetensors").write_bytes(b"earlier result")
    return inside


@pytest.mark.parametrize("name", bad_inputs())
def test_wrong_input_is_one_clear_line_and_touches_nothing(damaged, capsys, name):
    words, message = bad_inputs()[name]
    words = [checkpoints()["AB".index(word)] if word in ("A", "B") else word for word in words]
    before = content(".")
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert content(".") == before
    assert not Path("ran").exists()


def test_a_zoo_of_one_recipe_is_not_overwritten_by_another(inside, capsys):
    before = Path("zoo.h5").read_bytes()
    assert (
        main(["zoo", "build", "datasets=digits_cnn", "output=zoo.h5", *TINY, "population.seed=1"])
        == 2
    )
    assert "another recipe" in capsys.readouterr().err
    assert Path("zoo.h5").read_bytes() == before
    assert len(Zoo("zoo.h5")) == 60


def test_generate_draws_networks_and_tries_them_beside_baselines(inside, capsys):
    assert main(["generate", *GENERATE, "output=drawn"]) == 0
    done = json.loads(Path("drawn/result.json").read_text())
    arms = {"generated", "default_init", "retrieval", "noise", "gaussian", "mean", "round_trip"}
    arms |= {"noise_small", "noise_at_equal_novelty", "interpolation", "gaussian_codes"}
    arms |= {"wrong_condition", "random_condition", "mean_condition"}
    assert set(done["arms"]) == arms
    assert done["scores"]["networks"] == 3
    theta, _ = read_checkpoint("drawn/sample-02.safetensors")
    assert theta.keys() == Zoo("zoo.h5").shapes.keys()
    assert "accuracy as drawn" in capsys.readouterr().out


@pytest.mark.parametrize("dataset", ["digits_cnn_bn", "digits_resnet"])
def test_networks_with_batch_norm_are_generated_with_their_statistics(inside, dataset):
    small = ["population.members=12", "population.steps=4", "population.snapshots=[4]"]
    small += ["population.chunk=12"]
    file, output = f"{dataset}.h5", f"drawn_{dataset}"
    assert main(["zoo", "build", f"datasets={dataset}", f"output={file}", *small]) == 0
    words = [word for word in GENERATE if not word.startswith(("datasets", "zoo", "samples"))]
    words += [f"datasets={dataset}", f"zoo={file}", "samples=2", f"output={output}"]
    assert main(["generate", *words]) == 0
    theta, _ = read_checkpoint(f"{output}/sample-01.safetensors")
    assert theta.keys() == Zoo(file).shapes.keys()
    variances = [tensor for name, tensor in theta.items() if params.is_running_variance(name)]
    assert variances
    assert all((tensor > 0).all() and tensor.isfinite().all() for tensor in variances)
    counters = [int(theta[name]) for name in theta if name.endswith("num_batches_tracked")]
    assert set(counters) == {4}


@pytest.mark.parametrize(
    "words",
    [
        ["merge", "nothing.yaml", "-o", "merged"],
        ["connect", "a.safetensors", "b.safetensors", "-o", "path", "--plane", "nothing.yaml"],
    ],
)
def test_a_path_that_is_not_there_is_named_in_a_sentence(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        write_checkpoint(name, {"w": torch.ones(2)}, {})
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told == f"wsl {words[0]}: nothing.yaml: no such file or folder; check the path\n"
