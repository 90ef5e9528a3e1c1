"""Families of tasks from one set of labelled images, for training and for what is held out.

    task = ((c_1, ..., c_k), angle, inverted),    support, query: images of c_j under label j - 1

The labels are a subset of the classes in some order, every image is turned and perhaps inverted, as
in the zoos of `TaskPopulation`. A family is a value; a held-out one is the same value with other
sets of classes, other angles or other data, so what is tested can be read off two lines:

    seen   = VariantTasks(data, classes=5, digits=range(8), angles=range(0, 360, 30))
    unseen = dataclasses.replace(seen, sets=label_sets(range(10), 5, all_of=(8, 9)))

Support and query of one task share no image. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsl.generative.conditions.examples import Episodes, LabelledExamples
from wsl.populations import Classification, Examples, TaskVariants

LabelSets = tuple[tuple[int, ...], ...]


def label_sets(digits: Iterable[int], classes: int, *, all_of: Iterable[int] = ()) -> LabelSets:
    """Every set of ``classes`` of the ``digits`` that holds ``all_of`` these, in a fixed order."""
    needed = set(all_of)
    return tuple(
        chosen for chosen in itertools.combinations(digits, classes) if needed <= set(chosen)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class VariantTasks:
    """Tasks of ``classes`` of ``data``'s classes with ``shots`` examples told of each.

    digits: the classes of the data to choose from, by default all; ``sets``, where given, are the
    only subsets. angles: in degrees against the clock. invert: whether half of the tasks see 1 - x.
    query: examples of each class that score. parts: the splits of the data that support and query
    come from; from one split they share no image.
    Raises ValueError if a class has too few images, or without two parts.
    """

    data: Classification
    _: dataclasses.KW_ONLY
    classes: int = 5
    shots: int = 20
    query: int = 20
    digits: Sequence[int] | None = None
    sets: LabelSets | None = None
    angles: Sequence[float] = (0, 90, 180, 270)
    invert: bool = True
    parts: tuple[str, str] = ("train", "train")

    def __post_init__(self) -> None:
        _check_two(self.parts)
        needed = dict.fromkeys(self.parts, 0)
        for part, count in zip(self.parts, (self.shots, self.query), strict=True):
            needed[part] += count
        for part, count in needed.items():
            for c in sorted({c for chosen in self.label_sets for c in chosen}):
                there = int((getattr(self.data, part).labels == c).sum())
                if there < count:
                    raise ValueError(
                        f"tasks: class {c} has {there} images in {part}, but shots and query need "
                        f"{count}"
                    )

    @property
    def label_sets(self) -> LabelSets:
        """The subsets of the classes that tasks are about."""
        known = range(int(self.data.train.labels.max()) + 1)
        return self.sets or label_sets(self.digits or known, self.classes)

    def draw(self, n: int, *, generator: torch.Generator | None = None) -> Episodes:
        """``n`` fresh tasks, the same ones for the same state of ``generator``."""
        return self.episodes(self.variants(n, generator=generator), generator=generator)

    def variants(self, n: int, *, generator: torch.Generator | None = None) -> TaskVariants:
        """What ``n`` tasks are: classes in a random order, angle, inversion."""
        sets, angles = torch.tensor(self.label_sets), torch.tensor(self.angles).float()
        chosen = _picked(sets, n, generator)
        order = torch.rand(chosen.shape, generator=generator).argsort(1)
        turns = _picked(angles, n, generator) / 90
        inverted = torch.rand(n, generator=generator) < 0.5
        return TaskVariants(chosen.gather(1, order), turns, inverted & self.invert)

    def episodes(
        self, variants: TaskVariants, *, generator: torch.Generator | None = None
    ) -> Episodes:
        """Support and query of tasks that are known already, from fresh images."""
        first, second = (getattr(self.data, part) for part in self.parts)
        if first is second:
            both = _drawn(first, variants, self.shots + self.query, generator=generator)
            told, scored = both.split([self.shots, self.query], 2)
        else:
            told = _drawn(first, variants, self.shots, generator=generator)
            scored = _drawn(second, variants, self.query, generator=generator)
        return Episodes(LabelledExamples(told), LabelledExamples(scored))


def _picked(values: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    return values[torch.randint(len(values), (n,), generator=generator)]


def examples_of(
    data: Examples,
    columns: Mapping[str, Any],
    *,
    shots: int = 20,
    generator: torch.Generator | None = None,
) -> LabelledExamples:
    """Labelled examples of the tasks of a `TaskPopulation` zoo's members, one task for each row.

    columns: of the zoo, as in ``zoo.table`` or as its rows come, with ``classes``, ``turn`` and
    ``inverted``. data: images with the labels that the population started from.
    Raises ValueError if a column is missing or a class has too few images.
    """
    for name in ("classes", "turn", "inverted"):
        if name not in columns:
            raise ValueError(f"{name}: the zoo has no such column; only a TaskPopulation's has")
    classes = torch.tensor([[int(c) for c in str(row).split(",")] for row in columns["classes"]])
    turns = torch.as_tensor(columns["turn"]).float() / 90
    variants = TaskVariants(classes, turns, torch.as_tensor(columns["inverted"]).bool())
    return LabelledExamples(_drawn(data, variants, shots, generator=generator))


def _drawn(
    examples: Examples, variants: TaskVariants, count: int, *, generator: torch.Generator | None
) -> Tensor:
    """``count`` different images of every class of every task, (N, classes, count, C, H, W)."""
    n, k = variants.classes.shape
    rows = torch.empty(n, k, count, dtype=torch.long)
    for c in variants.classes.unique().tolist():
        mine = _images_of(c, examples, count)
        places = (variants.classes == c).nonzero(as_tuple=True)
        rows[places] = mine[_distinct(len(places[0]), count, among=len(mine), generator=generator)]
    seen = variants.images(examples.images[rows.flatten(1)])
    return seen.unflatten(1, (k, count))


def _images_of(c: int, examples: Examples, count: int) -> Tensor:
    mine = (examples.labels == c).nonzero()[:, 0]
    if len(mine) < count:
        raise ValueError(f"tasks: class {c} has {len(mine)} images, but {count} are needed")
    return mine


def _distinct(rows: int, count: int, *, among: int, generator: torch.Generator | None) -> Tensor:
    """(rows, count) positions below ``among``, no two in a row alike.

    Sorting random numbers costs ``among`` for each row, so of many images a random window is taken.
    """
    if among <= 8 * count:
        return torch.rand(rows, among, generator=generator).argsort(1)[:, :count]
    start = torch.randint(among, (rows, 1), generator=generator)
    stride = among // count
    jitter = torch.randint(stride, (rows, count), generator=generator)
    return (start + stride * torch.arange(count) + jitter) % among


def _check_two(parts: Sequence[str]) -> None:
    if len(parts) != 2 or isinstance(parts, str):
        raise ValueError(
            f"parts: {parts!r}, but two are needed, that of the support and of the query"
        )
