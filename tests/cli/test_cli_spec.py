"""`wsl spec` as a user meets it, and checkpoints of wrapped networks in the verbs that read two of
them.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from wsl import params
from wsl.cli import main
from wsl.symmetry import PermutationSpec, symmetry_spec, verify
from wsl.zoo import read_checkpoint, write_checkpoint

NETS = """
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.a, self.b = nn.Embedding(11, 7), nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x, words, mask=None):
        h = self.a(x) + self.words(words)
        return self.b((h if mask is None else h * mask[:, None]).relu())


class Branch(nn.Linear):
    def forward(self, x):
        return super().forward(x) if float(x.sum()) > -1e9 else x


class Heads:
    @staticmethod
    def one():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 11, batch_first=True)
        return nn.Sequential(nn.Linear(5, 8), layer, nn.Linear(8, 3))


class Aux(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
        self.aux = nn.Linear(7, 2)

    def forward(self, x):
        h = self[1](self[0](x))
        return (self[2](h), self.aux(h)) if self.training else self[2](h)


def net(hidden=7, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, hidden, bias), nn.ReLU(), nn.Linear(hidden, 3, bias))


def mixed():
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3, device="cpu"))


def wrong():
    raise KeyError("no such preset")


instance = net()
two, aux = Two, Aux
branch = lambda: Branch(5, 5)
nothing = lambda: 3
"""
GOLDEN = "h1 = 7\n0.weight: h1 5\n0.bias: h1\n2.weight: 3 h1\n2.bias: 3\n"
WRONG = "h1 = 3\n0.weight: 7 5\n0.bias: 7\n2.weight: h1 7\n2.bias: h1\n"
SHAPE = ["--input-shape", "4,5"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "cli_spec_nets", raising=False)
    Path("cli_spec_nets.py").write_text(NETS)
    Path("wrong.spec").write_text(WRONG)
    Path("right.spec").write_text(GOLDEN)
    Path("damaged.json").write_text('{"format": "wsl.PermutationSpec", "version": 1, "groups": 3}')
    Path("kept").write_text("earlier")
    yield tmp_path
    sys.modules.pop("cli_spec_nets", None)


def spec(model, *words):
    return main(["spec", f"cli_spec_nets:{model}", *words])


def test_what_is_printed_is_the_text_its_size_and_its_proof(here, capsys):
    assert (
        spec(
            "net",
            *SHAPE,
            "--verify",
            "--pinned",
            "--controls",
            "--unions",
            "--gradients",
            "--training",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert out.startswith(GOLDEN + "\n1 group, log10 of the group's order 3.7\n")
    assert "95.5% of the weights lie on movable axes" in out
    assert "0.weight axis 1: input" in out
    assert "preserves the function" in out
    assert "ties: 3 of 3 are needed" in out
    assert "fixed axes: 3 of 3 have to stand still" in out
    assert "other conditions: 2 of 2 preserve it" in out


def test_what_the_units_allow_is_printed_and_proved(here, capsys):
    assert spec("net", *SHAPE, "--units", "--verify") == 0
    printed = capsys.readouterr().out
    assert "scale h1: 0.weight[0] 0.bias[0] / 2.weight[1]" in printed
    assert "unit symmetries: preserves the function" in printed


@pytest.mark.parametrize("meta", [[], ["--meta"]])
def test_the_proof_that_is_printed_is_the_report_of_verify(here, capsys, meta):
    assert spec("net", *SHAPE, "--units", "--verify", *meta) == 0
    printed = capsys.readouterr().out
    model = importlib.import_module("cli_spec_nets").net()
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    report = str(verify(symmetry_spec(model, x), model, x))
    assert "scale h1: 0.weight[0]" in report
    if meta:  # the weights are other ones, and so is the rounding
        printed, report = (re.sub(r"\d\.\de-1[5-9]|0\.0e\+00", "~", t) for t in (printed, report))
    assert f"\n{report}\n" in printed


def test_weights_that_the_call_does_not_use_are_named(here, capsys):
    assert spec("aux", *SHAPE) == 0
    printed = capsys.readouterr()
    assert (
        "note: aux.weight, aux.bias (19.5% of the weights) are not used by this call" in printed.err
    )
    assert "aux.weight: 2 7" in printed.out
    assert spec("net", *SHAPE) == 0
    assert "not used" not in capsys.readouterr().err


def test_a_wrong_unit_symmetry_is_refused(here, capsys):
    Path("wrong.txt").write_text(
        "h = 7\n0.weight: h 5\n0.bias: h\n2.weight: 3 h\n2.bias: 3\nsign h: 0.weight[0] 0.bias[0] "
        "2.weight[1]"
    )
    assert spec("net", *SHAPE, "--spec", "wrong.txt") == 2
    assert "wrong.txt does not preserve the function" in capsys.readouterr().err


def test_members_of_families_are_counted(here, capsys):
    assert spec("Heads.one", "--input-shape", "2,6,5") == 0
    assert (
        "5 groups, 7 permutations with every member of a family, log10" in capsys.readouterr().out
    )


def test_arguments_of_the_callable_are_json(here, capsys):
    assert spec("net", *SHAPE, "--kwargs", '{"hidden": 9, "bias": false}') == 0
    assert capsys.readouterr().out.startswith("h1 = 9\n0.weight: h1 5\n2.weight: 3 h1\n\n")
    assert spec("instance", *SHAPE) == 0


def test_several_inputs_of_several_types(here, capsys):
    shapes = ["--input-shape", "4,5", "--input-shape", "int:4:11", "--input-shape", "mask=bool:4"]
    assert spec("two", *shapes, "--verify") == 0
    out = capsys.readouterr().out
    assert "words.weight: 11 h1" in out
    assert "preserves the function" in out


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_any_type_of_weights(here, capsys, dtype):
    assert spec("net", *SHAPE, "--dtype", dtype, "--verify") == 0
    assert capsys.readouterr().out.startswith(GOLDEN)


def test_the_meta_device_needs_no_memory_and_can_be_proved_all_the_same(here, capsys):
    assert spec("net", *SHAPE, "--meta") == 0
    assert spec("net", *SHAPE, "--meta", "--verify") == 0
    assert capsys.readouterr().out.count(GOLDEN) == 2


def test_a_written_specification_is_read_back(here, capsys):
    assert (
        spec(
            "net",
            *SHAPE,
            "-o",
            "out/net.spec",
            "--json",
            "out/net.json",
            "--axes-to-perm",
            "out/net.perm.json",
        )
        == 0
    )
    assert "wrote out/net.json" in capsys.readouterr().out
    assert Path("out/net.spec").read_text() == GOLDEN
    found = PermutationSpec.from_json(Path("out/net.json").read_text())
    assert found.pinned["0.weight axis 1"] == "input"
    mapping = json.loads(Path("out/net.perm.json").read_text())
    assert (
        PermutationSpec.from_axes_to_perm(mapping, found.shapes)
        == found
        == PermutationSpec.parse(GOLDEN)
    )
    for file in ("out/net.spec", "out/net.json"):
        assert spec("net", *SHAPE, "--spec", file) == 0
        assert "preserves the function" in capsys.readouterr().out


def test_a_path_that_depends_on_data_is_noted(here, capsys):
    assert spec("branch", *SHAPE) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("note: Branch: torch.export cannot read it")
    assert "cli_spec_nets.py" in lines[0]


def checkpoint(path, names="{}", **changes):
    theta = {
        names.format(name): t
        for name, t in params.from_module(sys.modules["cli_spec_nets"].net()).items()
    }
    write_checkpoint(path, {**theta, **changes}, {})


def test_a_checkpoint_is_compared(here, capsys):
    assert spec("net", *SHAPE) == 0
    checkpoint("plain.safetensors")
    checkpoint("wrapped.safetensors", "module._orig_mod.{}")
    assert spec("net", *SHAPE, "--checkpoint", "plain.safetensors") == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("plain.safetensors: all 4 tensors fit\n")
    assert captured.err == ""
    assert spec("net", *SHAPE, "--checkpoint", "wrapped.safetensors") == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("wrapped.safetensors: all 4 tensors fit\n")
    note = "note: wrapped.safetensors: 4 names carry a wrapper's prefix and are read without it, "
    assert captured.err.splitlines() == [note + "module._orig_mod.0.weight as 0.weight"]


def test_a_checkpoint_is_compared_by_entry_and_prefix(here, capsys):
    """The prefix is removed from every name of the entry that is chosen."""
    assert spec("net", *SHAPE) == 0
    capsys.readouterr()
    checkpoint("plain.safetensors")
    theta = dict(read_checkpoint("plain.safetensors")[0])
    net = {f"body.net.{name}": tensor for name, tensor in theta.items()}
    torch.save({"generator": net, "critic": {"w": torch.ones(2, 2)}}, "two.pt")
    words = ["net", *SHAPE, "--checkpoint", "two.pt"]
    assert spec(*words, "--prefix", "body.net.") == 2
    assert "several sets of weights" in capsys.readouterr().err
    assert spec(*words, "--entry", "generator", "--prefix", "body.net.") == 0
    said = capsys.readouterr()
    assert f"all {len(theta)} tensors fit" in said.out
    assert "generator is read, critic not" in said.err
    assert spec(*words, "--entry", "generator") == 2


def test_a_checkpoint_that_does_not_fit_is_said_name_by_name(here, capsys):
    assert spec("net", *SHAPE) == 0
    checkpoint("model.safetensors", "model.{}", extra=torch.zeros(2))
    assert spec("net", *SHAPE, "--checkpoint", "model.safetensors", "-o", "kept") == 2
    captured = capsys.readouterr()
    assert "missing in model.safetensors: 2.bias\nunknown in model.safetensors: " in captured.out
    assert "unknown in model.safetensors: extra\n" in captured.out
    assert len(captured.err.splitlines()) == 1
    assert "'model.' stands before every name of the weights; remove it" in captured.err
    assert Path("kept").read_text() == "earlier"


BAD = {
    "no colon": (["spec", "cli_spec_nets", *SHAPE], "is not module:callable"),
    "no module": (["spec", "nothing_here:net", *SHAPE], "nothing_here"),
    "no callable": (["spec", "cli_spec_nets:nett", *SHAPE], "nett"),
    "no network": (
        ["spec", "cli_spec_nets:nothing", *SHAPE],
        "gives a int, but an nn.Module is needed",
    ),
    "raises": (["spec", "cli_spec_nets:wrong", *SHAPE], "no such preset"),
    "no shape": (["spec", "cli_spec_nets:net"], "--input-shape is needed"),
    "bad shape": (
        ["spec", "cli_spec_nets:net", "--input-shape", "2,x"],
        "positive numbers with commas",
    ),
    "zero": (["spec", "cli_spec_nets:net", "--input-shape", "2,0"], "positive numbers with commas"),
    "bad bound": (
        ["spec", "cli_spec_nets:net", "--input-shape", "int:2,5:0"],
        "positive numbers with commas",
    ),
    "bound of floats": (
        ["spec", "cli_spec_nets:net", "--input-shape", "2,5:7"],
        "positive numbers with commas",
    ),
    "wrong shape": (
        ["spec", "cli_spec_nets:net", "--input-shape", "4,6"],
        "fails when it is called with these inputs",
    ),
    "wrong name": (
        ["spec", "cli_spec_nets:net", "--input-shape", "x=4,5"],
        "fails when it is called with these inputs",
    ),
    "kwargs no JSON": (
        ["spec", "cli_spec_nets:net", *SHAPE, "--kwargs", "{hidden: 3}"],
        "--kwargs: ",
    ),
    "kwargs no object": (
        ["spec", "cli_spec_nets:net", *SHAPE, "--kwargs", "[3]"],
        "must be a JSON object",
    ),
    "kwargs unknown": (["spec", "cli_spec_nets:net", *SHAPE, "--kwargs", '{"hiden": 3}'], "hiden"),
    "meta in part": (
        ["spec", "cli_spec_nets:mixed", *SHAPE, "--meta"],
        "puts 2.weight on a real device; leave --meta out",
    ),
    "wrong spec": (
        ["spec", "cli_spec_nets:net", *SHAPE, "--spec", "wrong.spec"],
        "wrong.spec does not preserve the function",
    ),
    "spec of another": (
        ["spec", "cli_spec_nets:two", *SHAPE, "--spec", "right.spec"],
        "right.spec does not fit the network",
    ),
    "wrong inputs": (
        ["spec", "cli_spec_nets:net", "--input-shape", "4,6", "--spec", "right.spec"],
        "cannot be verified",
    ),
    "no spec": (["spec", "cli_spec_nets:net", *SHAPE, "--spec", "gone.spec"], "gone.spec"),
    "damaged spec": (
        ["spec", "cli_spec_nets:net", *SHAPE, "--spec", "damaged.json"],
        "damaged.json: JSON: groups must be",
    ),
    "no text": (["spec", "cli_spec_nets:net", *SHAPE, "--spec", "bytes.spec"], "bytes.spec: "),
    "no checkpoint": (
        ["spec", "cli_spec_nets:net", *SHAPE, "--checkpoint", "gone.pt"],
        "gone.pt: no such file",
    ),
    "one file twice": (
        ["spec", "cli_spec_nets:net", *SHAPE, "--json", "kept"],
        "kept would be written twice",
    ),
    "no folder": (["spec", "cli_spec_nets:net", *SHAPE, "--json", "kept/net.json"], "kept"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD.keys())
def test_wrong_input_is_one_clear_line_and_loses_nothing(here, capsys, words, message):
    Path("bytes.spec").write_bytes(b"\xff\xfe\x00")
    before = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    assert main([*words, *([] if "kept/net.json" in words else ["-o", "kept"])]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


def planted(path, names):
    """Weights that are a permutation of the network's own, under a wrapper's names."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    theta = params.from_module(model)
    moved = {
        **theta,
        "0.weight": theta["0.weight"][order],
        "0.bias": theta["0.bias"][order],
        "2.weight": theta["2.weight"][:, order],
    }
    torch.save({names.format(name): t for name, t in moved.items()}, path)
    return theta


def test_checkpoints_of_wrapped_networks_are_matched_and_merged(here, capsys):
    theta = planted("b.pt", "module.{}")
    write_checkpoint("a.safetensors", theta, {})
    assert (
        main(
            ["match", "a.safetensors", "b.pt", "--spec", "right.spec", "-o", "aligned.safetensors"]
        )
        == 0
    )
    assert len(capsys.readouterr().err.splitlines()) == 1
    aligned, _ = read_checkpoint("aligned.safetensors")
    assert all(torch.equal(aligned[name], theta[name]) for name in theta)
    model = ["--model", "cli_spec_nets:net", "--kwargs", '{"hidden": 7}', *SHAPE]
    assert main(["merge", "b.pt", "a.safetensors", *model, "-o", "merged.safetensors"]) == 0
    assert "note: b.pt: 4 names carry a wrapper's prefix" in capsys.readouterr().err
    assert list(read_checkpoint("merged.safetensors")[0]) == list(theta)
