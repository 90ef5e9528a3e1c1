"""What generators and initialisers are given, what they give, and what each declares.

    generator:    trained networks theta_1 ... theta_N with conditions c_n  ->  p(theta | c)
    initialiser:  a network to start, and what is known of its kind         ->  theta_0

A generator is fitted first and then asked any number of times; an initialiser holds only its
hyper-parameters and answers once per question. Both are open: a class of a user's own that has
these attributes and methods takes part in the same trial.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.codes import Canonicalizer, Recalibration
from wsl.generative.conditions import LabelledExamples, TaskSource
from wsl.params import Params, from_module, stack
from wsl.populations import Classification
from wsl.symmetry import PermutationSpec, copied
from wsl.zoo import Checkpoints

Condition = Tensor | float | LabelledExamples
"""What may be asked of a generator: numbers, as of an accuracy wanted, or examples of a task."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingMembers:
    """Trained networks to learn from, and what is known of them.

    params: their weights, (N, ...). condition: (N, K), for example the accuracy of each.
    member: (N,), the run of each row; rows of one run are aligned together.
    reference: row that an alignment starts from, best a good one.
    model, inputs, labels: the network, and what it was trained on, for generators that run it.
    examples: of the task of each row, N tasks. tasks: where more tasks of the kind come from.
    """

    params: Mapping[str, Tensor]
    condition: Tensor | None = None
    member: Tensor | None = None
    reference: int = 0
    model: nn.Module | None = None
    inputs: Tensor | None = None
    examples: LabelledExamples | None = None
    tasks: TaskSource | None = None
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.condition is not None:
            given = torch.as_tensor(self.condition)
            one = given[:, None] if given.dim() == 1 else given
            object.__setattr__(self, "condition", one if one.is_floating_point() else one.float())

    @classmethod
    def of(
        cls,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor] | Sequence[Any],
        condition: Tensor | None = None,
    ) -> TrainingMembers:
        """Members as they are, the training split of a zoo, or stacked weights (N, ...).

        Networks or their weights may also come one by one. Of the condition, (N,) is one number
        each. Raises ValueError for anything else.
        """
        if isinstance(zoo, Checkpoints):
            params, metadata = zoo.__getitems__(zoo.indices("train"))
            return cls(params, condition, metadata["member"])
        if isinstance(zoo, TrainingMembers):
            return zoo if condition is None else dataclasses.replace(zoo, condition=condition)
        return cls(_stacked(zoo), condition)

    def __len__(self) -> int:
        return len(next(iter(self.params.values())))

    @property
    def quality(self) -> Tensor:
        """How good each member is, (N,): the first condition; raises ValueError without one."""
        if self.condition is None:
            raise ValueError("condition: none is known of these members, so none is the best")
        return self.condition[:, 0]

    @property
    def runs(self) -> Tensor:
        """The run of each row, (N,); where it is not known, each row is a run of its own."""
        return torch.arange(len(self)) if self.member is None else self.member

    def rows(self, chosen: Tensor) -> Params:
        """The weights of some members, by index or by a mask."""
        return {name: tensor[chosen] for name, tensor in self.params.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class FitReport:
    """What fitting a generator has to show: how many networks it learned from, and its losses.

    losses: for each part of the generator the loss after every step, empty where none is trained.
    watched: after so many steps, dispersion and novelty of what would have been drawn.
    stopped: the step at which one of them fell below its bound, None if none did.
    """

    members: int
    losses: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    watched: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    stopped: int | None = None


@runtime_checkable
class Generator(Protocol):
    """A distribution over weights, learned from trained networks; made from (spec, seed=...).

    conditions: how many numbers may be asked for, 0 for none.
    needs: names of the fields of `TrainingMembers` that `fit` cannot do without.
    canonicalizer: what it aligns networks to, None if it aligns nothing.
    """

    needs: ClassVar[frozenset[str]]

    @property
    def spec(self) -> PermutationSpec: ...  # noqa: D102

    @property
    def conditions(self) -> int: ...  # noqa: D102

    @property
    def canonicalizer(self) -> Canonicalizer | None: ...  # noqa: D102

    def fit(
        self,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor],
        condition: Tensor | None = None,
        /,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FitReport:
        """Learn from training members only; more keyword arguments are its hyper-parameters."""
        ...

    def sample(
        self,
        n: int,
        *,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Params:
        """``n`` networks (n, ...), the same ones for the same state of ``generator``."""
        ...

    def save(self, path: str | Path) -> None:
        """Write everything that `load` needs as one file without pickle."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> Any:
        """The generator that `save` wrote; raises ValueError if the file is something else."""
        ...


@runtime_checkable
class Coded(Protocol):
    """A generator with a code, from which networks can be decoded again."""

    def encode(self, params: Mapping[str, Tensor], /) -> Tensor: ...  # noqa: D102

    def decode(self, z: Tensor, /) -> Params: ...  # noqa: D102


@dataclasses.dataclass(frozen=True, eq=False)
class Larger:
    """One trained network of the same kind, wider or deeper: its weights and specification."""

    params: Params
    spec: PermutationSpec


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """The question of an initialiser: which network is to be started, and what is known of it.

    model: the network, used as a template only. seed: of what does not draw from a generator.
    make: a new network under torch's own seed; default: ``model`` with its parameters reset.
    members: trained networks of the architecture. good: those that are as good as wanted, (M, ...).
    held_out: weights (H, ...) that no generator has seen, the best first.
    fitted: a generator, and the ``condition`` to ask it for.
    data: of the task that the network is started for; what reads its test part is no start.
    larger: a network that weights are taken from.
    """

    model: nn.Module
    spec: PermutationSpec | None = None
    seed: int = 0
    make: Callable[[], nn.Module] | None = None
    members: TrainingMembers | None = None
    good: Params | None = None
    held_out: Params | None = None
    fitted: Generator | None = None
    condition: Condition | None = None
    data: Classification | None = None
    larger: Larger | None = None

    @property
    def inputs(self) -> Tensor | None:
        """Unlabelled inputs (M, ...): of the data, else those that the members were trained on."""
        if self.data is not None:
            return self.data.train.images
        return None if self.members is None else self.members.inputs

    @functools.cached_property
    def wanted(self) -> LabelledExamples | None:
        """What is known of the task wanted: the condition, else a few training data per class."""
        if isinstance(self.condition, LabelledExamples):
            return self.condition
        return None if self.data is None else _few(*self.data.train)

    @property
    def labelled(self) -> tuple[Tensor, Tensor] | None:
        """Inputs (T, M, ...) and labels (T, M) of the tasks wanted; of data, all that train."""
        if self.data is None or isinstance(self.condition, LabelledExamples):
            return None if self.wanted is None else self.wanted.flat()
        images, labels = self.data.train
        return images[None], labels[None]

    @property
    def examples(self) -> LabelledExamples | None:
        """Of the task of each member."""
        return None if self.members is None else self.members.examples

    @property
    def tasks(self) -> TaskSource | None:
        """Where tasks of the members' kind come from."""
        return None if self.members is None else self.members.tasks

    @functools.cached_property
    def canonicalizer(self) -> Canonicalizer | None:
        """The one of the generator; without it, one fitted to the members."""
        if self.fitted is not None and self.fitted.canonicalizer is not None:
            return self.fitted.canonicalizer
        if self.members is None or self.spec is None or not self.members.params:
            return None
        return aligner(self.members, self.spec)

    @functools.cached_property
    def aligned(self) -> Params | None:
        """The good members, each brought to one reference."""
        align = self.canonicalizer
        return None if self.good is None or align is None else align(self.good)

    @property
    def asked(self) -> Condition | None:
        """The condition, if the generator reads one of that kind."""
        fitted, condition = self.fitted, self.condition
        if fitted is None or condition is None:
            return None
        if isinstance(condition, LabelledExamples):
            return condition if reads_examples(fitted) else None
        return condition if fitted.conditions else None

    @property
    def recalibration(self) -> Recalibration | None:
        """How the generator measures batch-norm statistics of what it draws, if it does.

        A generator says so by an attribute of that name; arms are to be treated alike.
        """
        return getattr(self.fitted, "recalibration", None)

    @property
    def coded(self) -> Coded | None:
        """The generator, if it has a code."""
        return self.fitted if isinstance(self.fitted, Coded) else None

    def fresh(self) -> nn.Module:
        """A network with weights of its own initialisation, drawn by torch's own generator."""
        return reset(self.model) if self.make is None else self.make()


@runtime_checkable
class Initializer(Protocol):
    """A way to starting weights, with its hyper-parameters.

    needs: names of the attributes of `Start` that must be there.
    """

    needs: ClassVar[frozenset[str]]

    def draw(self, start: Start, n: int, *, generator: torch.Generator) -> Params:
        """Weights (n, ...) for the network of ``start``, which has what `needs` names."""
        ...


def _stacked(members: Any) -> Params:
    """Weights (N, ...) of a mapping of such, or of networks or their weights one by one."""
    if isinstance(members, Sequence) and not isinstance(members, str):
        members = stack([from_module(m) if isinstance(m, nn.Module) else m for m in members])
    if not isinstance(members, Mapping):
        raise ValueError(
            f"members: {type(members).__name__}, but a zoo, a list of networks, or stacked weights "
            "(N, ...) are needed; see params.stack"
        )
    return {name: torch.as_tensor(t).detach() for name, t in members.items()}


def _few(inputs: Tensor, labels: Tensor, most: int = 20) -> LabelledExamples:
    """As many of each class as the rarest has, and ``most`` at most, as one task."""
    shots = min(most, int(labels.bincount().min()))
    rows = [(labels == c).nonzero()[:shots, 0] for c in range(int(labels.max()) + 1)]
    return LabelledExamples(inputs[torch.stack(rows)][None])


def aligner(members: TrainingMembers, spec: PermutationSpec) -> Canonicalizer:
    """An alignment fitted to members, starting from their reference."""
    blank = {name: torch.zeros_like(tensor[0]) for name, tensor in members.params.items()}
    return Canonicalizer(spec, blank).fit(members.params, start=members.reference)


def check_needs(needs: Iterable[str], problem: TrainingMembers | Start, *, what: str) -> None:
    """Raise ValueError naming the first attribute of ``problem`` that is needed and not there."""
    for name in sorted(needs):
        if getattr(problem, name) is None:
            raise ValueError(f"{what} needs {name}, but {type(problem).__name__} has none")


def reset(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in which every module that can has drawn its parameters anew.

    Raises ValueError for a parameter whose module has no ``reset_parameters``.
    """
    made = copied(model)
    for name, module in made.named_modules():
        again = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if callable(again):
            again()
        elif own := next(iter(dict(module.named_parameters(recurse=False))), None):
            raise ValueError(
                f"{f'{name}.{own}'.lstrip('.')}: {type(module).__name__} has no reset_parameters; "
                "say with `make` how a new network is built"
            )
    return made


def reads_examples(generator: Generator) -> bool:
    """Whether a generator is asked by labelled examples: it learns from tasks, so it needs them."""
    return bool(generator.needs & {"examples", "tasks"})


def is_generator(made: Any) -> TypeGuard[Generator]:
    """Whether something has all that a `Generator` declares.

    Python 3.12 and later look past what a module answers for its parts, so that isinstance does not
    see a submodule that the protocol names.
    """
    names = ("needs", "spec", "conditions", "canonicalizer", "fit", "sample", "save", "load")
    return all(hasattr(made, name) for name in names)
