"""A merge as mergekit's YAML says it, checked: unknown keys are refused, not skipped.

    merge_method: ties
    base_model: base
    models:
      - model: a
        parameters: {density: 0.5, weight: [0, 0.5, 1]}
    parameters:
      normalize: true
    dtype: bfloat16

A parameter is a value, a list that is interpolated over depth, or a list of ``{filter, value}`` of
which the first counts whose filter is part of a tensor's name. The nearest one counts: of a slice's
source, of the slice, of a model, of the whole merge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from wsl.base import did_you_mean

_TOP = (
    "merge_method",
    "base_model",
    "models",
    "slices",
    "parameters",
    "dtype",
    "out_dtype",
    "name",
)
_IGNORED = ("tokenizer", "tokenizer_source", "chat_template")
"""Keys about text, which has no weights; they are named in ``notes``."""
_PARAMETERS = (
    "weight",
    "density",
    "gamma",
    "epsilon",
    "t",
    "normalize",
    "lambda",
    "rescale",
    "int8_mask",
    "select_topk",
    "filter_wise",
    "nuslerp_flatten",
    "nuslerp_row_wise",
    "eps",
    "max_iter",
    "tol",
    "scale",
    "normalize_weights",
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A model in a slice; ``layers`` is the half-open range that it gives, all unless told."""

    model: str
    parameters: Mapping[str, Any]
    layers: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Slice:
    """Layers of the result that come from the same sources."""

    sources: tuple[Source, ...]
    parameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class MergekitConfig:
    """What to merge and how.

    ``models`` are those that are merged, in order and without the base where it only starts them.
    ``notes`` say what of the text has no effect here.
    """

    method: str
    base: str | None
    slices: tuple[Slice, ...]
    parameters: Mapping[str, Any]
    dtype: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that is read besides the base."""
        named = (source.model for part in self.slices for source in part.sources)
        return tuple(dict.fromkeys(model for model in named if model != self.base))


def parse(text: str) -> MergekitConfig:
    """Read a configuration; raises ValueError naming a key that is unknown or missing."""
    told = _mapping(text)
    base = told.get("base_model")
    return MergekitConfig(
        told["merge_method"],
        None if base is None else _name(base),
        _slices(told),
        _parameters(told.get("parameters"), "the merge"),
        told.get("out_dtype") or told.get("dtype"),
        tuple(
            f"{key} is about text and has no effect on weights" for key in _IGNORED if key in told
        ),
    )


def _mapping(text: str) -> Mapping[str, Any]:
    """The keys of the merge, all of them known and none that it needs missing."""
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"the merge is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(told, Mapping):
        raise ValueError("the merge must be a mapping with merge_method and models or slices")
    _known(told, (*_TOP, *_IGNORED), "the merge")
    if not isinstance(told.get("merge_method"), str):
        raise ValueError("the merge has no merge_method")
    if ("models" in told) == ("slices" in told):
        raise ValueError("the merge needs models or slices, one of the two")
    return told


def _slices(told: Mapping[str, Any]) -> tuple[Slice, ...]:
    if "models" in told:
        sources = tuple(_source(one, f"models[{i}]") for i, one in enumerate(told["models"]))
        return (Slice(sources, {}),)
    return tuple(_slice(one, f"slices[{i}]") for i, one in enumerate(told["slices"]))


def _slice(told: Mapping[str, Any], where: str) -> Slice:
    _known(told, ("sources", "parameters"), where)
    sources = (
        _source(each, f"{where}.sources[{k}]", ("layer_range",))
        for k, each in enumerate(told.get("sources", ()))
    )
    return Slice(tuple(sources), _parameters(told.get("parameters"), where))


def _source(told: Mapping[str, Any], where: str, more: Sequence[str] = ()) -> Source:
    _known(told, ("model", "parameters", *more), where)
    if "model" not in told:
        raise ValueError(f"{where}: names no model")
    layers = told.get("layer_range")
    if layers is not None and (len(layers) != 2 or not 0 <= layers[0] < layers[1]):
        raise ValueError(f"{where}: layer_range must be [first, end], got {layers}")
    span = None if layers is None else (int(layers[0]), int(layers[1]))
    return Source(_name(told["model"]), _parameters(told.get("parameters"), where), span)


def _name(model: Any) -> str:
    """A path; a mapping that names a revision or an adapter is refused."""
    if isinstance(model, str):
        return model
    raise ValueError(f"model {model}: a path is needed; adapters are applied to their base first")


def _parameters(told: Mapping[str, Any] | None, where: str) -> Mapping[str, Any]:
    _known(told or {}, _PARAMETERS, f"{where}: parameters")
    for name, value in (told or {}).items():
        for each in value if isinstance(value, list) else ():
            if isinstance(each, Mapping):
                _known(each, ("filter", "value"), f"{where}: {name}")
    return dict(told or {})


def _known(told: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(told, Mapping):
        raise ValueError(f"{where}: a mapping is needed, got {told!r}")
    for key in told:
        if key not in names:
            raise ValueError(f"{where}: key '{key}' is unknown{did_you_mean(str(key), names)}")
