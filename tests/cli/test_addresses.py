"""Networks by address: the definitions of well-known packages, and folders that say what they
hold.
"""

import importlib.util
import json
import warnings

import pytest
import torch
from foreign import TINY
from paths import SCRIPTS

import wsl
from wsl.cli.addresses import address_of, is_address, resolve
from wsl.cli.targets import ConfigError


@pytest.fixture
def transformers(monkeypatch):
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    if importlib.util.find_spec("torchvision") is not None:
        importlib.import_module("coverage_networks").torchvision()
    return importlib.import_module("transformers")


def test_a_folder_says_what_it_is_of(tmp_path):
    assert address_of(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert address_of(tmp_path) == f"hf:{tmp_path}"
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    assert address_of(tmp_path) == f"diffusers:{tmp_path}"
    assert is_address("timm:resnet18")
    assert not is_address("my_networks:resnet18")


def test_a_zoo_file_names_its_architecture(tmp_path):
    from wsl.populations import architectures

    net = architectures.mlp([4, 3, 2])
    spec = wsl.permutation_spec(net, torch.randn(2, 4))
    about = {"_target_": "wsl.zoo.architectures.mlp", "widths": [4, 3, 2]}
    how = {"spec": spec, "metadata": {}, "architecture": about}
    zoo = wsl.Zoo.from_models(tmp_path / "z.h5", [net, net], **how)
    found = resolve(f"zoo:{zoo.path}", meta=True)
    assert {name: t.shape for name, t in found.model.state_dict().items()} == spec.shapes
    assert all(t.is_meta for t in found.model.parameters())


def test_wrong_addresses_are_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="is no address"):
        resolve("nowhere:x")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        resolve(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "NoSuchModel"}))
    with pytest.raises(ConfigError, match="is no model of diffusers"):
        resolve(f"diffusers:{tmp_path}")
    with pytest.raises(ConfigError, match="says itself how it is built"):
        resolve(f"hf:{tmp_path}", arguments={"num_labels": 3})


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_transformers_folder_needs_no_other_word(transformers, tmp_path, name):
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind(kind.config_class(**TINY[name])).save_pretrained(tmp_path)
        found = resolve(str(address_of(tmp_path)), meta=True)
        args, kwargs = found.inputs
        spec = wsl.permutation_spec(found.model, *args, **kwargs)
        real = resolve(str(address_of(tmp_path)))
        report = wsl.verify(spec, real.model, *args, kwargs=kwargs)
    assert spec.movable > 0.8
    assert report.ok, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["torchvision:resnet18", "timm:resnet18"])
def test_definitions_of_vision_packages_bring_their_inputs(transformers, address):
    if importlib.util.find_spec(address.partition(":")[0]) is None:
        pytest.skip("the package is not installed")
    found = resolve(address, meta=True)
    assert len(wsl.permutation_spec(found.model, *found.inputs[0]).groups) == 12


@pytest.mark.slow
@pytest.mark.parametrize("address", ["torchvision:resnet18", "timm:resnet18"])
def test_definitions_take_arguments(transformers, address):
    if importlib.util.find_spec(address.partition(":")[0]) is None:
        pytest.skip("the package is not installed")
    found = resolve(address, meta=True, arguments={"num_classes": 7})
    assert found.model.fc.out_features == 7
    with pytest.raises(ConfigError, match="no_such_word"):
        resolve(address, meta=True, arguments={"no_such_word": 7})
