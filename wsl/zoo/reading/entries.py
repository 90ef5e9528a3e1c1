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
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.base import did_you_mean
from wsl.params import Params
from wsl.zoo.file import MAX_TEXT, ZooError

_DEPTH, _SHOWN = 8, 10
_MOST = 10_000
"""Sets of weights that are told apart in one file."""
_LONG = 1000
_OPTIMIZER = ("optim", "sched", "scaler", "amp", "ema_optim")
_MOMENTS = {"exp_avg", "momentum_buffer", "square_avg"}
"""What optimisers keep of each weight, by the names that torch gives it."""

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
    ``extra`` names entries that are no tensors, such as a module's ``_extra_state``; ``about`` are
    the plain values beside it and in the levels above it.
    """

    name: str
    params: Params
    extra: tuple[str, ...] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_average(self) -> bool:
        """Whether its name says that it is a moving average of another set."""
        last = self.name.rpartition("/")[2].lower()
        return any(word in last for word in _AVERAGES)


@dataclasses.dataclass(frozen=True, eq=False)
class Content:
    """All that a file holds: sets of weights, plain values, and the names of everything else.

    ``kind`` is the type of the whole; ``unread`` are those of the others that hold tensors, and are
    no optimiser's state.
    """

    sets: tuple[WeightSet, ...]
    metadata: dict[str, Any]
    others: tuple[str, ...] = ()
    kind: str = "dict"
    unread: tuple[str, ...] = ()

    @property
    def listed(self) -> tuple[WeightSet, ...]:
        """The sets in their order, if they are a list: their places differ in one number only."""
        places = [found.name.split("/") for found in self.sets]
        if len(places) < 2 or len({len(place) for place in places}) > 1:
            return ()
        different = [parts for parts in zip(*places, strict=True) if len(set(parts)) > 1]
        if len(different) != 1 or not all(map(_is_index, different[0])):
            return ()
        ordered = sorted(zip(map(int, different[0]), self.sets, strict=True), key=lambda p: p[0])
        return tuple(found for _, found in ordered)

    def choose(self, where: str, entry: str | None = None) -> tuple[WeightSet, tuple[str, ...]]:
        """The set ``entry``, or the obvious one, and a note for each of what was not read.

        ``where`` names the file in errors. Raises `ZooError` where there is none, or where several
        are equally likely, listing them.
        """
        if not self.sets:
            raise self._empty(where)
        chosen = self._named(where, entry) if entry is not None else self._obvious(where)
        return chosen, tuple(self._notes(where, chosen))

    def _empty(self, where: str) -> ZooError:
        beside = ", ".join([*self.metadata, *self.others][:5]) if self.kind == "dict" else ""
        of = f" of {beside}" if beside else ""
        return ZooError(
            f"{where}: holds no weights, it holds a {self.kind}{of}; a non-empty dict of "
            "tensors is required, as state_dict() gives"
        )

    def beside(self, where: str) -> tuple[str, ...]:
        """A note of tensors that are in no set of weights and no optimiser's state."""
        said = f"{where}: {_listed(self.unread)} beside the weights: not read"
        return (said,) if self.unread else ()

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
        if all(_MOMENTS & found.params.keys() for found in self.sets):
            raise ZooError(
                f"{where}: holds the state of an optimiser and no weights; give the file that "
                "model.state_dict() was saved to"
            )
        own = [found for found in self.sets if not found.is_average] or list(self.sets)
        if len(own) == 1:
            return own[0]
        what = "a list of" if self.listed else "several sets of weights,"
        listed = _listed([f"{found.name} ({len(found.params)} tensors)" for found in self.sets])
        raise ZooError(
            f"{where}: holds {what} {len(self.sets)}: {listed}; choose one with --entry NAME"
        )

    def _notes(self, where: str, chosen: WeightSet) -> Iterator[str]:
        if unread := [found.name for found in self.sets if found is not chosen]:
            flag = "; --entry NAME reads another" if unread else ""
            yield f"{where}: {chosen.name or 'the top'} is read, {', '.join(unread)} not{flag}"
        yield from self.beside(where)
        if chosen.extra:
            yield f"{where}: {', '.join(chosen.extra)} left out, since it is no tensor"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def find_sets(content: Any) -> Content:
    """Every set of weights in ``content``, the preferred names first."""
    found = _Sorted([], {}, [], [], _holding(content))
    found.sort(content, (), {})
    found.sets.sort(key=_preference)
    kind = "dict" if isinstance(content, Mapping) else type(content).__name__
    others, unread = tuple(found.others), tuple(found.unread)
    return Content(tuple(found.sets), found.metadata, others, kind, unread)


def _preference(found: WeightSet) -> int:
    """The place of a set's name among the preferred ones, from 0 on; all others come last."""
    name = found.name.rpartition("/")[2]
    return _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)


@dataclasses.dataclass(frozen=True)
class _Sorted:
    """What was found so far; ``unread`` are those of ``others`` that hold tensors.

    ``holding`` are the ids of the mappings and lists that do, at any depth; ``entered`` those that
    were sorted, since one may stand in many places, or in itself.
    """

    sets: list[WeightSet]
    metadata: dict[str, Any]
    others: list[str]
    unread: list[str]
    holding: set[int]
    entered: set[int] = dataclasses.field(default_factory=set)

    def sort(self, content: Any, path: tuple[str, ...], above: Mapping[str, Any]) -> None:
        """Sort one level of the nest into weights, plain values, deeper levels and the rest.

        ``above`` are the plain values of the levels that it lies in.
        """
        items = _items(content)
        full = len(path) >= _DEPTH or len(self.sets) >= _MOST
        if items is None or full or id(content) in self.entered:
            self._other("/".join(path) or type(content).__name__, content)
        elif _is_weights(items):
            self._weights(items, path, above)
        else:
            self.entered.add(id(content))
            own = self._plain_values(items, path, isinstance(content, Mapping))
            self._nests(items, path, {**above, **own})

    def _nests(
        self, items: Mapping[str, Any], path: tuple[str, ...], above: Mapping[str, Any]
    ) -> None:
        """Go into all that is deeper, but for optimisers' states and settings."""
        for key, value in items.items():
            if not self._is_nest(value) or _is_settings(key, value):
                continue
            if _is_optimizer(key, value):
                self.others.append("/".join((*path, key)))
            else:
                self.sort(value, (*path, key), above)

    def _is_nest(self, value: Any) -> bool:
        """Whether there is more to sort in ``value``: a list of plain values is a value itself."""
        return bool(_items(value)) and (isinstance(value, Mapping) or id(value) in self.holding)

    def _weights(
        self, items: Mapping[str, Any], path: tuple[str, ...], above: Mapping[str, Any]
    ) -> None:
        params, extra, own = {}, [], {}
        for key, value in items.items():
            if isinstance(value, Tensor) and not key.endswith(_EXTRA_STATE):
                params[key] = value.detach()
            elif isinstance(value, bool | int | float | str):
                own[key] = value
            else:
                extra.append(key)
        self._note(own, path)
        self.sets.append(WeightSet("/".join(path), params, tuple(extra), {**above, **own}))

    def _plain_values(
        self, items: Mapping[str, Any], path: tuple[str, ...], named: bool
    ) -> dict[str, Any]:
        """Numbers, text and settings of one level; what is neither they nor a nest is listed."""
        own: dict[str, Any] = {}
        for key, value in items.items():
            if _is_settings(key, value):
                own |= self._settings(value, key)
            elif _is_plain(value):
                own[key if named else ".".join((*path[-1:], key))] = _number(value)
            elif (text := self._as_text(value)) is not None:
                own[key] = text
            elif not (value is None or self._is_nest(value) or isinstance(value, Mapping)):
                self._other("/".join((*path, key)), value)
        self._note(own, path)
        return own

    def _as_text(self, value: Any) -> str | None:
        """A short list of plain values as JSON."""
        if not isinstance(value, list | tuple) or not 0 < len(value) <= _LONG:
            return None
        if id(value) in self.holding or not all(map(_is_plain, value)):
            return None
        text = json.dumps(value)
        return text if len(text) <= MAX_TEXT else None

    def _settings(self, value: Mapping[Any, Any], prefix: str) -> dict[str, Any]:
        """Plain values below ``value`` under dotted names."""
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = f"{prefix}.{key}"
            if isinstance(item, Mapping):
                found |= self._settings(item, name)
            elif isinstance(item, bool | int | float | str):
                found[name] = item
            elif item is not None:
                self._other(name.replace(".", "/"), item)
        return found

    def _note(self, own: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """Keep plain values under their names; one that another level took, under its place."""
        for key, value in own.items():
            taken = key in self.metadata and self.metadata[key] != value
            self.metadata[".".join((*path, key)) if taken else key] = value

    def _other(self, name: str, value: Any) -> None:
        self.others.append(name)
        if isinstance(value, Tensor) or id(value) in self.holding:
            self.unread.append(name)


def _holding(content: Any) -> set[int]:
    """The ids of all mappings and lists in ``content`` with a tensor somewhere in them.

    Each is looked at once: in a pickle one may stand in many places, or in itself.
    """
    inside: dict[int, list[int]] = {}
    found: set[int] = set()
    for box in _boxes(content):
        for value in _values(box):
            if isinstance(value, Tensor):
                found.add(id(box))
            elif isinstance(value, Mapping | list | tuple):
                inside.setdefault(id(value), []).append(id(box))
    return found | _outside(found, inside)


def _outside(boxes: set[int], inside: Mapping[int, Sequence[int]]) -> set[int]:
    """All that ``boxes`` lie in, at any depth; ``inside`` are those that each lies in itself."""
    found: set[int] = set()
    waiting = list(boxes)
    while waiting:
        outer = [box for box in inside.get(waiting.pop(), ()) if box not in found]
        found.update(outer)
        waiting += outer
    return found


def _boxes(content: Any) -> Iterator[Any]:
    """All mappings and lists in ``content``, and itself if it is one."""
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        box = waiting.pop()
        if id(box) not in seen and isinstance(box, Mapping | list | tuple):
            seen.add(id(box))
            yield box
            waiting += [
                value for value in _values(box) if isinstance(value, Mapping | list | tuple)
            ]


def _values(box: Any) -> Iterable[Any]:
    return box.values() if isinstance(box, Mapping) else box


def _number(value: Any) -> Any:
    """A plain value, a tensor of one as a number."""
    return value.item() if isinstance(value, Tensor) else value


def _items(content: Any) -> dict[str, Any] | None:
    """The entries of a mapping or list by name, None for anything else.

    Two keys of one text, such as 1 and "1", stay two entries.
    """
    if isinstance(content, list | tuple):
        return {str(i): item for i, item in enumerate(content)}
    if not isinstance(content, Mapping):
        return None
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key)
        while name in found:
            name = f"{name}_{type(key).__name__}"
        found[name] = value
    return found


def _is_plain(value: Any) -> bool:
    """A number or text; a tensor of one value counts as a number."""
    if isinstance(value, Tensor):
        dense = value.layout == torch.strided and not (value.is_meta or value.is_quantized)
        return dense and value.numel() == 1 and not value.is_complex()
    return isinstance(value, bool | int | float | str)


def _is_settings(key: str, value: Any) -> bool:
    return key in _SETTINGS and isinstance(value, Mapping)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_weights(items: Mapping[str, Any]) -> bool:
    """Tensors with axes, and no mapping beside them: a nest with a few tensors is still a nest."""
    tensors = [value for value in items.values() if isinstance(value, Tensor)]
    nested = [
        k for k, v in items.items() if isinstance(v, Mapping) and not k.endswith(_EXTRA_STATE)
    ]
    return bool(tensors) and not nested and any(tensor.dim() for tensor in tensors)


def _is_optimizer(key: str, value: Any) -> bool:
    """By its name, or by the form that every torch optimiser's state has."""
    if any(word in key.lower() for word in _OPTIMIZER):
        return True
    if isinstance(value, Mapping):
        return {"state", "param_groups"} <= set(map(str, value))
    return False
