"""Composition: a network that tells all classes apart, cut to the classes of the task wanted.

    n, pi = argmin_{n, pi injective} sum_c |mu_c - mu_{n, pi(c)}|^2,      mu_c = mean_s e(x_{c, s})
    V_c   = V_{n, pi(c)}                      row c of the last layer; hidden layers are those of n

Each of a few networks is trained on all classes that tasks are made of, under one variation of them
(a turn, an inversion), as tasks are drawn. The one whose class means fit best lends its hidden
layers, and for every wanted class the row of the class whose mean is nearest; e embeds an input, as
pixels unless told. Looking rows up is what a generator by axes has to beat: for classes that are
known in another combination it needs no generation at all.

Guarantees: another order of the wanted classes is the same network with its outputs in that order.
Not for classes that no network has seen, which get the row of a known class; and not free: the
networks are trained here, from the source of tasks and not from the members.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.generative.conditions import LabelledExamples, TaskSource, VariantTasks, VirtualClasses
from wsl.generative.problem import Start
from wsl.generative.starts.asked import given
from wsl.generative.starts.layers import output_layer
from wsl.generative.starts.nearest import best_order, class_means, nearest_rows, reordered
from wsl.params import Params
from wsl.populations import (
    AdamW,
    MemberSettings,
    SharedSettings,
    initial_population,
    train_population,
)
from wsl.symmetry import copied


@dataclasses.dataclass(frozen=True)
class CompositionStart:
    """Rows of networks that know all classes, for the classes of each task wanted.

    networks: how many are trained, each for ``steps`` on ``shots`` examples of every class, or as
    many as there are. embed: inputs (B, *input) to (B, F).
    """

    networks: int = 48
    steps: int = 300
    shots: int = 60
    batch_size: int = 32
    lr: float = 5e-3
    embed: Callable[[Tensor], Tensor] | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"tasks", "wanted"})

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Of one wanted task the n best networks; raises ValueError for other numbers of tasks."""
        wanted, source = given(start.wanted), all_classes(given(start.tasks), shots=self.shots)
        if len(wanted) not in (1, n):
            raise ValueError(
                f"CompositionStart: {len(wanted)} tasks for {n} networks; give 1 or {n}"
            )
        known = source.draw(self.networks, generator=generator).support
        name = output_layer(copied(start.model), wanted.inputs[0, :, 0])

        def wide() -> nn.Module:
            return _with_outputs(start.fresh(), name, known.classes)

        weights = self._trained(wide, known, generator=generator)
        return composed(weights, known, wanted, n=n, head=name, embed=self.embed)

    @torch.enable_grad()
    def _trained(
        self,
        make: Callable[[], nn.Module],
        known: LabelledExamples,
        *,
        generator: torch.Generator,
    ) -> Params:
        """A network of its own initialisation for each task of all classes, trained on it."""
        (inputs, labels), count = known.flat(), len(known)
        seeds = torch.randint(2**31, (count,), generator=generator).tolist()
        shape = (self.steps, count, self.batch_size)
        rows = torch.randint(labels.shape[1], shape, generator=generator)
        own = torch.arange(count)[:, None]
        with torch.random.fork_rng(devices=[]):
            template = make()
        return train_population(
            template,
            initial_population(make, seeds),
            F.cross_entropy,
            batches=lambda step: (inputs[own, rows[step]], labels[own, rows[step]]),
            members=MemberSettings(
                lr=torch.full((count,), self.lr), weight_decay=torch.zeros(count)
            ),
            shared=SharedSettings(optimizer=AdamW(), steps=self.steps, chunk=count),
        ).snapshots[-1]


@torch.no_grad()
def composed(
    weights: Mapping[str, Tensor],
    known: LabelledExamples,
    wanted: LabelledExamples,
    *,
    n: int,
    head: str,
    embed: Callable[[Tensor], Tensor] | None = None,
) -> Params:
    """Networks (n, ...) for ``wanted``, n tasks or one, cut from wider ones, ``weights`` (N, ...).

    known: N tasks, the classes that each of those tells apart in the order of its outputs. n: of
    one wanted task the n networks that fit best, the best first. head: name of the last layer.
    Raises ValueError if more classes are wanted than a network knows.
    """
    if wanted.classes > known.classes:
        raise ValueError(
            f"composed: {wanted.classes} classes are wanted, but the networks know {known.classes}"
        )
    ours, theirs = class_means(wanted, embed), class_means(known, embed)
    distance, order = best_order(torch.cdist(ours[:, None], theirs[None]).square())
    row, own = nearest_rows(distance, order, n)
    head = f"{head}." if head else ""
    return {
        name: reordered(tensor[row], own) if name.startswith(head) else tensor[row]
        for name, tensor in weights.items()
    }


def all_classes(tasks: TaskSource, *, shots: int) -> TaskSource:
    """Where tasks of all classes at once come from that ``tasks`` are made of.

    With as many as ``shots`` examples told of each class. A source that does not say its classes
    is taken as it is.
    """
    if isinstance(tasks, VirtualClasses):
        return all_classes(tasks.source, shots=shots)
    if not isinstance(tasks, VariantTasks):
        return tasks
    every = tuple(sorted({c for chosen in tasks.label_sets for c in chosen}))
    labels = getattr(tasks.data, tasks.parts[0]).labels
    fewest = min(int((labels == c).sum()) for c in every)
    return dataclasses.replace(tasks, sets=(every,), shots=min(shots, fewest - 1), query=1)


def _with_outputs(model: nn.Module, name: str, outputs: int) -> nn.Module:
    """``model`` with a fresh last layer of another number of outputs."""
    old = cast("nn.Linear", model.get_submodule(name))
    new = nn.Linear(old.in_features, outputs, bias=old.bias is not None)
    new = new.to(old.weight)
    if not name:
        return new
    model.set_submodule(name, new)
    return model
