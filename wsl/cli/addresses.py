"""A network named by an address, with the inputs that come with it.

    my_networks:resnet20      any code: module:callable
    timm:resnet18             a definition of timm, without pretrained weights
    torchvision:vgg16         a definition of torchvision
    hf:FOLDER                 a transformers model, built from the folder's config.json
    diffusers:FOLDER          a diffusers model, built from the folder's config.json
    zoo:FILE                  the architecture of a zoo file's members

Networks are built on the meta device where only their structure is needed. Definitions come from
the installed packages alone: code that a folder brings along is never run, nothing is fetched.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsl.cli.targets import ConfigError
from wsl.params import Params, from_module
from wsl.populations import build_architecture
from wsl.zoo import Zoo

BATCH, LENGTH = 2, 8
"""Rows and tokens of example inputs: what discovery follows does not depend on them."""

BYPRODUCTS = ("encoder_last_hidden_state", "past_key_values", "mems")
"""What transformers models return beside their answer; as outputs they would fix the units that
they are of.
"""


class Addressed(NamedTuple):
    """A network, and inputs for one call: positional ones and those given by name, or None where
    the address does not know them.
    """

    model: nn.Module
    inputs: tuple[tuple[Tensor, ...], dict[str, Tensor]] | None


def is_address(text: str) -> bool:
    """Whether ``text`` names a network by one of the schemes here, and not by module:callable."""
    return text.partition(":")[0] in SCHEMES


def address_of(path: str | Path) -> str | None:
    """The address of the network whose weights lie in the folder ``path``, if its config.json
    says.
    """
    config = Path(path) / "config.json"
    if not config.is_file():
        return None
    about = _config(Path(path))
    if "_class_name" in about:
        return f"diffusers:{path}"
    return f"hf:{path}" if "model_type" in about or "architectures" in about else None


def resolve(
    address: str, *, meta: bool = False, arguments: Mapping[str, Any] | None = None
) -> Addressed:
    """The network at ``address``; with ``meta`` its weights take no memory.

    arguments: of the definition, such as its number of classes: for timm and torchvision, since
    what a folder or a file holds is told by its own configuration.

    Raises `ConfigError` for an unknown scheme or name, a missing package, arguments that the
    definition does not take, or a folder whose config.json does not say what it is of.
    """
    scheme, _, rest = address.partition(":")
    if scheme not in SCHEMES or not rest:
        known = ", ".join(SCHEMES)
        raise ConfigError(f"'{address}' is no address; they are {known} or module:callable")
    if arguments and scheme not in DEFINITIONS:
        raise ConfigError(
            f"{address}: what lies there says itself how it is built; --kwargs are for "
            f"{', '.join(DEFINITIONS)} and module:callable"
        )
    place = torch.device("meta") if meta else contextlib.nullcontext()
    with place:
        model = (
            DEFINITIONS[scheme](rest, arguments or {})
            if scheme in DEFINITIONS
            else FOLDERS[scheme](rest)
        )
    return Addressed(model.eval(), _inputs(scheme, rest, model))


def converted(address: str | None, folder: str | Path) -> Params | None:
    """The weights in ``folder`` as transformers' own loader names them, or None where the address
    is none of its models.

    Versions of the package rename tensors while they load older files; only it knows how.
    """
    if address is None or not address.startswith("hf:") or not Path(folder).is_dir():
        return None
    kind: Any = type(resolve(address, meta=True).model)
    loaded = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return from_module(loaded)


def saved_by_package(address: str, params: Params, folder: Path) -> bool:
    """Whether transformers has written ``params`` into ``folder``, under the names of its files."""
    if not address.startswith("hf:"):
        return False
    model: Any = resolve(address).model
    model.load_state_dict(params)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = _hf_config(address.partition(":")[2]).use_cache
    model.save_pretrained(folder)
    return True


def _timm(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    timm = _package("timm", "timm")
    try:
        return timm.create_model(name, **{**arguments, "pretrained": False})
    except _REFUSED as error:
        raise ConfigError(f"timm:{name}: {_first_line(error)}") from None


def _torchvision(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    models = _package("torchvision", "torchvision").models
    try:
        without = {"weights": None, **_without_downloads(models, name)}
        return models.get_model(name, **{**arguments, **without})
    except _REFUSED as error:
        raise ConfigError(f"torchvision:{name}: {_first_line(error)}") from None


def _without_downloads(models: Any, name: str) -> dict[str, None]:
    """Detection and segmentation models would fetch a pretrained backbone unasked."""
    folders = ("detection.", "segmentation.")
    builder = models.get_model_builder(name)
    inside = any(folder in f"{builder.__module__}." for folder in folders)
    return {"weights_backbone": None} if inside else {}


def _hf(folder: str) -> nn.Module:
    about = _config(Path(folder))
    transformers = _package("transformers", "transformers")
    config = _hf_config(folder)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # keys and values of past tokens are outputs that move with heads
    kind = _hf_class(transformers, folder, about)
    make = kind.from_config if hasattr(kind, "from_config") else kind._from_config
    model = make(config)
    model.register_forward_hook(_answer)
    return model


def _hf_class(transformers: Any, folder: str, about: Mapping[str, Any]) -> Any:
    """The class that config.json names; raises `ConfigError` for one that the folder defines."""
    named = str(next(iter(about.get("architectures") or []), None))
    if "auto_map" in about and not hasattr(transformers, named):
        raise ConfigError(
            f"hf:{folder}: {named} is defined by code in the folder, which is never run; give the "
            "network as module:callable"
        )
    return getattr(transformers, named, None) or transformers.AutoModel


def _hf_config(folder: str) -> Any:
    try:
        return _package("transformers", "transformers").AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"hf:{folder}: {_first_line(error)}") from None


def _answer(_model: nn.Module, _inputs: Any, output: Any) -> Any:
    """What a model of transformers returns, without `BYPRODUCTS`."""
    if not isinstance(output, dict) or not {*output} - {*BYPRODUCTS}:
        return output
    return type(output)(**{name: v for name, v in output.items() if name not in BYPRODUCTS})


def _diffusers(folder: str) -> nn.Module:
    name = _config(Path(folder)).get("_class_name", "")
    try:
        kind: Any = getattr(importlib.import_module("diffusers"), str(name))
    except (AttributeError, RuntimeError, ImportError):
        raise ConfigError(f"diffusers:{folder}: '{name}' is no model of diffusers") from None
    if not issubclass(kind, nn.Module):
        raise ConfigError(f"diffusers:{folder}: {name} is a pipeline; name one of its folders")
    made: Any = kind
    return made.from_config(made.load_config(folder))


def _zoo(file: str) -> nn.Module:
    zoo = Zoo(file)
    if zoo.architecture is None:
        raise ConfigError(f"zoo:{file}: the file does not say how its networks are built")
    return build_architecture(zoo.architecture)


_REFUSED = (RuntimeError, ValueError, LookupError, TypeError, AssertionError)
"""What a definition raises at a name or arguments that it does not know."""

DEFINITIONS: Mapping[str, Callable[[str, Mapping[str, Any]], nn.Module]] = {
    "timm": _timm,
    "torchvision": _torchvision,
}
"""Schemes whose networks are built by name, with arguments."""

FOLDERS: Mapping[str, Callable[[str], nn.Module]] = {
    "hf": _hf,
    "diffusers": _diffusers,
    "zoo": _zoo,
}
"""Schemes whose networks are built as what lies there says."""

SCHEMES = (*DEFINITIONS, *FOLDERS)


def _inputs(
    scheme: str, rest: str, model: nn.Module
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]] | None:
    if scheme == "timm":
        return (_floats(*getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))),), {}
    if scheme == "torchvision":
        return _torchvision_inputs(model)
    if scheme == "hf":
        return _hf_inputs(model)
    if scheme == "zoo":
        shape = Zoo(rest).provenance.get("input_shape")
        return None if shape is None else ((_floats(*shape),), {})
    return _diffusers_inputs(model)


def _torchvision_inputs(model: nn.Module) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    module = type(model).__module__
    if ".video" in module:
        return (_floats(3, 16, 112, 112),), {}
    size = 299 if "inception" in module else getattr(model, "image_size", 224)
    return (_floats(3, size, size),), {}


def _hf_inputs(model: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]] | None:
    """One tensor for each kind of input that the configuration tells the size of."""
    config = model.config
    both = all(getattr(config, part, None) is not None for part in ("text_config", "vision_config"))
    wanted = ["input_ids", "pixel_values"] if both else [model.main_input_name]
    if not all(name in _HF_INPUTS for name in wanted):
        return None
    inputs = {name: _HF_INPUTS[name](config) for name in wanted}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _tokens(config)
    return (), inputs


def _diffusers_inputs(model: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]] | None:
    config = model.config
    sample = _size(config.get("sample_size") or 32)
    x = _floats(config.get("in_channels", 3), *sample)
    if "timestep" not in type(model).forward.__code__.co_varnames:
        return (x,), {}
    more = {}
    if (width := config.get("cross_attention_dim")) is not None:
        more["encoder_hidden_states"] = _floats(LENGTH, width)
    return (x, torch.tensor(1)), more


def _tokens(config: Any) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    with torch.device("cpu"):
        return torch.randint(config.vocab_size, (BATCH, LENGTH), generator=draw)


def _pixels(config: Any) -> Tensor:
    return _floats(getattr(config, "num_channels", 3), *_size(config.image_size))


_HF_INPUTS: Mapping[str, Callable[[Any], Tensor]] = {
    "input_ids": lambda config: _tokens(getattr(config, "text_config", None) or config),
    "pixel_values": lambda config: _pixels(getattr(config, "vision_config", None) or config),
    "input_values": lambda _: _floats(4000),
    "input_features": lambda config: _floats(config.num_mel_bins, 2 * config.max_source_positions),
}
"""Inputs of transformers models by their name, from the configuration."""


def _floats(*shape: int) -> Tensor:
    with torch.device("cpu"):
        return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def _size(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}/config.json cannot be read ({_first_line(error)})") from None
    return content if isinstance(content, dict) else {}


def _package(name: str, scheme: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"{scheme}: needs the package {name} ({_first_line(error)}); pip install {name}"
        ) from None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
