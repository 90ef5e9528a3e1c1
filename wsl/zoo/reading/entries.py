"""Which sets of weights a content holds, where they lie in it, and what lies beside them.

    {"epoch": 5, "state_dict": {...}, "optimizer": {...}}     one set, `state_dict`
    {"params": {...}, "params_ema": {...}}                    two sets: params, and an average of it
    {"generator": {...}, "discriminator": {...}}              two networks: the user has to choose
    [{...}, {...}, {...}]                                     three sets, 0 to 2

A set of weights is a mapping of names to tensors; an optimiser's state is not one. Numbers and text
beside the weights are metadata. Nothing is dropped in silence: what is neither is listed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from wsl.base import did_you_mean
from wsl.params import Params
from wsl.zoo.file import ZooError

_DEPTH = 4
_OPTIMIZER = ("optim", "sched", "scaler", "amp", "ema_optim")
_AVERAGES = ("ema", "averaged", "swa", "shadow", "teacher")
_PREFERRED = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "params",
    "weights",
)
"""Names under which training scripts save the network itself, the most telling first."""
_SETTINGS = ("hyper_parameters", "hparams", "config", "args", "settings")
"""Mappings whose plain values describe the training."""
_EXTRA_STATE = "_extra_state"


@dataclasses.dataclass(frozen=True, eq=False)
class WeightSet:
    """One set of weights in a file. ``name`` is its place, keys joined by ``/``, empty at the top;
    ``extra`` names entries that are no tensors, such as a module's ``_extra_state``.
    """

    name: str
    params: Params
    extra: tuple[str, ...] = ()

    @property
    def is_average(self) -> bool:
        """Whether its name says that it is a moving average of another set."""
        last = self.name.rpartition("/")[2].lower()
        return any(word in last for word in _AVERAGES)


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """All that a file holds: sets of weights, plain values, and the names of everything else.

    ``kind`` is the type of the whole.
    """

    sets: tuple[WeightSet, ...]
    metadata: dict[str, Any]
    others: tuple[str, ...] = ()
    kind: str = "dict"

    def choose(self, where: str, entry: str | None = None) -> tuple[WeightSet, tuple[str, ...]]:
        """The set ``entry``, or the obvious one, and a note for each of what was not read.

        ``where`` names the file in errors. Raises `ZooError` where there is none, or where several
        are equally likely, listing them.
        """
        if not self.sets:
            beside = ", ".join([*self.metadata, *self.others][:5]) if self.kind == "dict" else ""
            of = f" of {beside}" if beside else ""
            raise ZooError(
                f"{where}: holds no weights, it holds a {self.kind}{of}; a non-empty dict of "
                "tensors is required, as state_dict() gives"
            )
        chosen = self._named(where, entry) if entry is not None else self._obvious(where)
        return chosen, tuple(self._notes(where, chosen))

    def _named(self, where: str, entry: str) -> WeightSet:
        for found in self.sets:
            if found.name == entry.strip("/"):
                return found
        names = [found.name or "(top)" for found in self.sets]
        raise ZooError(
            f"{where}: has no entry '{entry}'{did_you_mean(entry, names)}; its sets of weights "
            f"are {', '.join(names)}"
        )

    def _obvious(self, where: str) -> WeightSet:
        """The only set, or the only one that is no average; else the preferred name, if one is."""
        own = [found for found in self.sets if not found.is_average] or list(self.sets)
        if len(own) == 1:
            return own[0]
        names = [found.name for found in own]
        what = "a list of" if all(name.isdigit() for name in names) else "several sets of weights,"
        listed = ", ".join(f"{found.name} ({len(found.params)} tensors)" for found in self.sets)
        raise ZooError(
            f"{where}: holds {what} {len(self.sets)}: {listed}; choose one with --entry NAME"
        )

    def _notes(self, where: str, chosen: WeightSet) -> Iterator[str]:
        if unread := [found.name for found in self.sets if found is not chosen]:
            flag = "; --entry NAME reads another" if unread else ""
            yield f"{where}: {chosen.name or 'the top'} is read, {', '.join(unread)} not{flag}"
        if chosen.extra:
            yield f"{where}: {', '.join(chosen.extra)} left out, since it is no tensor"


def find_sets(content: Any) -> Content:
    """Every set of weights in ``content``, the preferred names first."""
    found = _Sorted([], {}, [])
    found.sort(content, ())
    order = {name: i for i, name in enumerate(_PREFERRED)}
    found.sets.sort(key=lambda each: order.get(each.name.rpartition("/")[2], len(order)))
    kind = "dict" if isinstance(content, Mapping) else type(content).__name__
    return Content(tuple(found.sets), found.metadata, tuple(found.others), kind)


@dataclasses.dataclass(frozen=True)
class _Sorted:
    """What was found so far."""

    sets: list[WeightSet]
    metadata: dict[str, Any]
    others: list[str]

    def sort(self, content: Any, path: tuple[str, ...]) -> None:
        """Sort one level of the nest into weights, plain values, deeper levels and the rest."""
        if isinstance(content, list | tuple) and len(path) < _DEPTH:
            content = {str(i): item for i, item in enumerate(content)}
        if not isinstance(content, Mapping) or len(path) >= _DEPTH:
            self.others.append("/".join(path) or type(content).__name__)
            return
        items = {str(key): value for key, value in content.items()}
        if _is_weights(items):
            self.sets.append(_weight_set("/".join(path), items, self.metadata))
            return
        for key, value in items.items():
            if isinstance(value, Mapping | list | tuple):
                self._nested(key, value, (*path, key))
            else:
                self._plain(key, value, (*path, key))

    def _nested(self, key: str, value: Any, path: tuple[str, ...]) -> None:
        if not len(value):
            return
        if _is_optimizer(key, value):
            self.others.append("/".join(path))
        elif key in _SETTINGS and isinstance(value, Mapping):
            self.metadata.update(_settings(value, key))
        else:
            self.sort(value, path)

    def _plain(self, key: str, value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            self.metadata[key] = value.item()
        elif isinstance(value, bool | int | float | str):
            self.metadata[key] = value
        elif value is not None:
            self.others.append("/".join(path))


def _is_weights(items: Mapping[str, Any]) -> bool:
    """Tensors with axes, and no mapping beside them: a nest with a few tensors is still a nest."""
    tensors = [value for value in items.values() if isinstance(value, Tensor)]
    nested = [
        k for k, v in items.items() if isinstance(v, Mapping) and not k.endswith(_EXTRA_STATE)
    ]
    return bool(tensors) and not nested and any(tensor.dim() for tensor in tensors)


def _weight_set(name: str, items: Mapping[str, Any], metadata: dict[str, Any]) -> WeightSet:
    params, extra = {}, []
    for key, value in items.items():
        if isinstance(value, Tensor) and not key.endswith(_EXTRA_STATE):
            params[key] = value.detach()
        elif isinstance(value, bool | int | float | str):
            metadata[key] = value
        else:
            extra.append(key)
    return WeightSet(name, params, tuple(extra))


def _is_optimizer(key: str, value: Any) -> bool:
    """By its name, or by the form that every torch optimiser's state has."""
    if any(word in key.lower() for word in _OPTIMIZER):
        return True
    if isinstance(value, Mapping):
        return {"state", "param_groups"} <= set(map(str, value))
    return False


def _settings(value: Mapping[Any, Any], prefix: str) -> dict[str, Any]:
    """Plain values below ``value`` under dotted names."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}.{key}"
        if isinstance(item, Mapping):
            found |= _settings(item, name)
        elif isinstance(item, bool | int | float | str):
            found[name] = item
    return found
