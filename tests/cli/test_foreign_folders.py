"""Checkpoints as other packages write them, from `wsl spec` to `wsl merge` with no other word than
where they lie or which definition they are of.
"""

import importlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from foreign import TINY
from paths import SCRIPTS
from safetensors.torch import save_file

import wsl
from wsl.cli import main
from wsl.cli.addresses import resolve
from wsl.params import from_module

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NOISE = 1e-3
EXACT = 1e-5
VISION = {
    "timm": ("resnet10t", "vit_tiny_patch16_224", "convnext_atto"),
    "torchvision": ("resnet18", "mobilenet_v3_small"),
}
ADDRESSES = [f"{package}:{name}" for package, names in VISION.items() for name in names]


@pytest.fixture
def packages(monkeypatch):
    """The packages of model definitions, where they are installed."""
    for name in ("torchvision", "timm", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    importlib.import_module("coverage_networks").torchvision()


def permuted(theta, found):
    """Weights that compute almost the same as ``theta``, in another order of the units."""
    spec = wsl.permutation_spec(found.model, *found.inputs[0], **found.inputs[1])
    theta = wsl.Permutation.random(spec, torch.Generator().manual_seed(1))(theta)
    draw = torch.Generator().manual_seed(2)
    return {
        name: t + NOISE * t.abs().mean() * torch.randn(t.shape, generator=draw)
        if t.is_floating_point() and not name.endswith("running_var")
        else t
        for name, t in theta.items()
    }


def relative(model, other, call):
    """How far the answers of two networks to one call are apart."""
    args, kwargs = call
    with torch.no_grad():
        found = [net.eval()(*args, **kwargs) for net in (model, other)]
    a, b = (out if isinstance(out, torch.Tensor) else out.logits for out in found)
    return float((a - b).norm() / b.norm())


def transformers_folders(folder, name):
    """Two folders of one architecture, B a permuted and noisy copy of A."""
    kind = getattr(importlib.import_module("transformers"), name)
    torch.manual_seed(0)
    a, b = (kind(kind.config_class(**TINY[name])) for _ in range(2))
    a.save_pretrained(folder / "A")
    found = resolve(f"hf:{folder / 'A'}")
    b.load_state_dict(permuted(from_module(a), found))
    b.tie_weights()
    b.save_pretrained(folder / "B")
    return kind, found.inputs, b


@pytest.mark.parametrize("name", TINY)
def test_folders_of_transformers_go_in_and_out_of_every_verb(packages, tmp_path, capsys, name):
    kind, call, b = transformers_folders(tmp_path, name)
    one, two, out, mean = (str(tmp_path / part) for part in ("A", "B", "out", "mean"))
    assert main(["spec", one, "--verify"]) == 0
    told = capsys.readouterr().out
    assert "preserves the function" in told
    assert float(told.partition("% of the weights lie")[0].splitlines()[-1]) > 99
    assert main(["spec", f"hf:{one}"]) == 0
    assert main(["match", one, two, "-o", out]) == 0
    assert main(["merge", one, two, "-o", mean]) == 0
    matched = json.loads(Path(out, "wsl.result.json").read_text())
    assert matched["distance_after"] < 0.1 * matched["distance_before"]
    assert relative(kind.from_pretrained(out), b, call) < EXACT
    assert relative(kind.from_pretrained(mean), kind.from_pretrained(one), call) < 0.1
    assert Path(out, "config.json").read_text() == Path(two, "config.json").read_text()


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_two_seeds_of_a_transformers_model_are_matched_without_loss(packages, tmp_path, name):
    kind = getattr(importlib.import_module("transformers"), name)
    for seed in (0, 1):
        torch.manual_seed(seed)
        kind(kind.config_class(**TINY[name])).save_pretrained(tmp_path / str(seed))
    one, two, out = (str(tmp_path / part) for part in ("0", "1", "out"))
    assert main(["match", one, two, "-o", out]) == 0
    call = resolve(f"hf:{one}").inputs
    assert relative(kind.from_pretrained(out), kind.from_pretrained(two), call) < EXACT
    told = json.loads(Path(out, "wsl.result.json").read_text())
    assert told["distance_after"] < told["distance_before"]


def vision_files(folder, address):
    """A checkpoint as a training script writes it, and one of safetensors."""
    torch.manual_seed(0)
    found = resolve(address)
    # Fresh batch norms are all alike, and tell no unit from another.
    draw = torch.Generator().manual_seed(0)
    for parameter in found.model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=draw)
    a = from_module(found.model)
    b = permuted(a, found)
    torch.save({"epoch": 3, "state_dict": a}, folder / "A.pth.tar")
    save_file({name: t.contiguous() for name, t in b.items()}, folder / "B.safetensors")
    return found, b


@pytest.mark.parametrize("address", ADDRESSES)
def test_files_of_vision_packages_need_one_word(packages, tmp_path, address):
    found, theta = vision_files(tmp_path, address)
    one, two = str(tmp_path / "A.pth.tar"), str(tmp_path / "B.safetensors")
    out, mean = str(tmp_path / "out.safetensors"), str(tmp_path / "mean.safetensors")
    assert main(["spec", address, "--verify"]) == 0
    assert main(["match", one, two, "-o", out, "--model", address]) == 0
    assert main(["merge", one, two, "-o", mean, "--model", address]) == 0
    told = json.loads(Path(tmp_path, "out.result.json").read_text())
    assert told["distance_after"] < 0.1 * told["distance_before"]
    aligned, b, merged = resolve(address).model, resolve(address).model, resolve(address).model
    aligned.load_state_dict(wsl.zoo.read_checkpoint(out)[0])
    merged.load_state_dict(wsl.zoo.read_checkpoint(mean)[0])
    b.load_state_dict(theta)
    assert relative(aligned, b, found.inputs) < EXACT
    assert relative(merged, found.model, found.inputs) < 0.1
