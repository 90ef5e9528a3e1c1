"""What generators share that learn vectors of a population's weights.

    theta -> canonical -> standardised x -> code z -> p(z | condition)

A sample goes the same way back: decoded, the standardisation undone, integer tensors copied from a
member, and batch-norm statistics measured anew where that is asked for. A subclass says which
parts it is made of; all that is fitted is in the state dict, so that the file of `save` is the
whole generator. Only training members belong in `fit`: nothing here splits for you.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors.torch
import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.codes import (
    CODES,
    Behaviour,
    Canonicalizer,
    Recalibration,
    Standardizer,
    TaskLoss,
    WeightCode,
    WholeVector,
)
from wsl.generative.conditions import AxisFeatures, LabelledExamples
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.members import asked_task, check_members
from wsl.generative.models.own_task import OwnTaskLoss
from wsl.generative.models.terms import FunctionTerms
from wsl.generative.models.vectors import VectorModel
from wsl.generative.models.watch import NoveltyWatch
from wsl.generative.problem import Condition, FitReport, TrainingMembers, check_needs
from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo import Checkpoints

COPIED = ("num_batches_tracked",)
"""Tensors, by their last name, that are copied and not generated."""


@dataclasses.dataclass(frozen=True)
class GeneratorParts:
    """What a generator is made of, once its standardiser and code know their sizes.

    align: from a network of zeros; None aligns nothing, and standardises symmetrically.
    code: from the number of generated weights. prior: from the length of a code.
    config: the arguments that rebuild the generator, as JSON holds them.
    symmetry: where nothing is aligned, the specification whose group the standardisation moves
    with, by default the generator's own. tell: from examples of N tasks to the condition (N, K) of
    the prior, for generators that are asked with them.
    """

    align: Callable[[Params], Canonicalizer] | None
    code: Callable[[int], WeightCode]
    prior: Callable[[int], VectorModel]
    config: Mapping[str, Any]
    symmetry: PermutationSpec | None = None
    tell: Callable[[LabelledExamples], Tensor] | None = None


class CodedGenerator(nn.Module):
    """A generator with a distribution of codes.

    copied: tensors, by their last name, that are not generated but copied as int64.
    watch: stops a fit where draws lose their spread. recalibrate: measure batch-norm statistics of
    what is drawn on the members' inputs. temperature: factor on the noise that codes are made from,
    above 1 for draws that lie farther apart. seed: of the generator's own initial weights.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        spec: PermutationSpec,
        parts: GeneratorParts,
        *,
        copied: Sequence[str] = COPIED,
        watch: NoveltyWatch | Mapping[str, Any] | None = None,
        recalibrate: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self.conditions = spec, int(parts.config.get("conditions", 0))
        _check_sizes(parts.config, temperature)
        self.tell = parts.tell
        self.watch = NoveltyWatch(**watch) if isinstance(watch, Mapping) else watch
        self.config = {**parts.config, "copied": list(copied), "recalibrate": recalibrate}
        self.config["temperature"] = self.temperature = temperature
        self.config["watch"] = self.watch and dataclasses.asdict(self.watch)
        self.copied = tuple(name for name in spec.axes if name.rpartition(".")[2] in copied)
        self.kept = _Kept(spec, self.copied)
        self.canonicalizer = parts.align and parts.align(_blank(spec, self.copied))
        self.standardizer = Standardizer(
            parts.symmetry or spec, copied=self.copied, symmetric=parts.align is None
        )
        self.recalibration = Recalibration() if recalibrate else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.code = parts.code(self.standardizer.features)
            self.prior = parts.prior(self.code.latent)

    def fit(
        self,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor],
        condition: Tensor | None = None,
        *,
        behaviour: Behaviour | float | None = None,
        task_loss: TaskLoss | OwnTaskLoss | float | None = None,
        code_steps: int = 600,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> FitReport:
        """Learn from training members (N, ...) with ``condition`` (N, K), or `TrainingMembers`.

        behaviour: train for what networks do, too: the code if it can be trained, the distribution
        of codes otherwise. A number is the term's weight on the members' model and inputs.
        task_loss: train for how well drawn networks do, in the same places; a number is the term's
        weight on the members' model, inputs and labels, or, for generators that are asked with
        examples, on each member's own examples. A number of 0 leaves a term out.
        code_steps, ``steps``: of the code and of the distribution; trained for long it returns
        training codes. settings: more fields of `VectorTraining`.
        progress: called with 1 ... code_steps + steps and the loss.
        Raises `SpecError` when the weights do not fit the specification, ValueError when they or
        the conditions are not finite.
        """
        members, losses = TrainingMembers.of(zoo, condition), _Losses(progress)
        check_needs(self.needs, members, what=type(self).__name__)
        count = check_members(self.spec, members.params, copied=self.copied)
        if self.recalibration is not None:
            self.recalibration.fit(members.model, members.inputs)
        terms = FunctionTerms.of(
            members,
            self._weights,
            behaviour=behaviour,
            task_loss=task_loss,
            measured=self.recalibration is not None,
            by_task=self.tell is not None,
        )
        x, fixed = self._standard(members), not self.code.trains
        self._fit_code(x, terms, steps=code_steps, seed=seed, losses=losses)
        with torch.no_grad():
            z = self.code.encode(x)
        self.prior.fit(
            z,
            self._told(members),
            seed=seed,
            progress=losses.part("diffusion", after=0 if fixed else code_steps),
            penalty=terms.through(self.code.decode) if fixed else None,
            watch=self.watch,
            **{"batch_size": min(128, count), **settings},
        )
        watched = self.prior.watched
        return FitReport(count, losses.seen, watched.seen, watched.stopped)

    def _told(self, members: TrainingMembers) -> Tensor | None:
        """What the prior is told of each member."""
        if self.tell is None or members.examples is None:
            return members.condition
        return self.tell(members.examples)

    def _asked(self, condition: Condition | None, n: int) -> Tensor | None:
        """What the prior is asked for."""
        if self.tell is None:
            return numbers(condition)
        return self.tell(asked_task(condition, n, classes=AxisFeatures(self.spec).count))

    def _fit_code(
        self, x: Tensor, terms: FunctionTerms, *, steps: int, seed: int, losses: _Losses
    ) -> None:
        how: dict[str, Any] = {"steps": steps, "seed": seed}
        if not self.code.trains:
            self.code.fit(x, penalty=None, progress=None, **how)
            return
        if terms.of_draws is not None:  # a code of a user's own may not know of it
            how["drawn"] = terms.of_draws
        self.code.fit(x, penalty=terms.of_members, progress=losses.part("code"), **how)

    def _standard(self, members: TrainingMembers) -> Tensor:
        """Fit alignment and standardisation; the members' vectors after both."""
        self.kept.fit(members.params, members.reference)
        canonical = members.params
        if self.canonicalizer is not None:
            align = self.canonicalizer.fit(members.params, start=members.reference)
            canonical = align(members.params, member=members.member)
        return self.standardizer.fit(canonical)(canonical)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Condition | None = None,
        guidance: float = 1.0,
        sampler: Any = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> Params:
        """Draw ``n`` networks (n, ...).

        condition: one number, (K,) or (n, K), or examples of one task or of n, as the generator was
        trained; None leaves numbers open. guidance: above 1 insists on it.
        sampler: the way from noise to codes, see `samplers`; or ``settings`` of the usual one:
        ``steps``, ``eta`` for diffusion, ``stages`` for a flow. noise: codes to start from (n, D),
        taken as they are.
        """
        z = self.prior.sample(
            n,
            self._asked(condition, n),
            guidance=guidance,
            sampler=sampler,
            noise=noise,
            temperature=self.temperature,
            generator=generator,
            **settings,
        )
        drawn = self.decode(z)
        return drawn if self.recalibration is None else self.recalibration(drawn)

    def encode(self, params: Mapping[str, Tensor], *, member: Tensor | None = None) -> Tensor:
        """Codes (N, latent) of networks, in any order of their units where they are aligned."""
        check_members(self.spec, params, copied=self.copied)
        if self.canonicalizer is not None:
            params = self.canonicalizer(params, member=member)
        return self.code.encode(self.standardizer(params))

    def decode(self, z: Tensor) -> Params:
        """Networks (n, ...) of codes (n, latent)."""
        return self._weights(self.code.decode(z))

    def save(self, path: str | Path) -> None:
        """Write everything that `load` needs as one safetensors file.

        The matcher is not kept, since it serves fitting only; nor are the network and the inputs
        that batch norm is measured on.
        """
        code = {"code": type(self.code).__name__, "code_config": self.code.config}
        write_whole(self, self.state_dict(), path, config={**self.config, **code})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; raises ValueError if the file is something else."""
        about = read_about(path, cls.__name__)
        model = cls(PermutationSpec.parse(about["spec"]), **_arguments(about["config"]))
        model.load_state_dict(safetensors.torch.load_file(path))
        return model

    def _weights(self, x: Tensor) -> Params:
        generated, kept = self.standardizer.inverse(x), self.kept(len(x))
        return {
            name: generated[name] if name in generated else kept[name] for name in self.spec.axes
        }


class _Kept(nn.Module):
    """The tensors that are not generated, as one member has them; buffers ``kept/NAME``."""

    def __init__(self, spec: PermutationSpec, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.register_buffer(_key(name), torch.zeros(spec.shapes[name], dtype=torch.long))

    def fit(self, params: Mapping[str, Tensor], row: int) -> None:
        for name in self.names:
            self.get_buffer(_key(name)).copy_(params[name][row])

    def forward(self, n: int) -> Params:
        tensors = {name: self.get_buffer(_key(name)) for name in self.names}
        return {name: tensor.expand(n, *tensor.shape).clone() for name, tensor in tensors.items()}


def _check_sizes(config: Mapping[str, Any], temperature: float) -> None:
    """Raise ValueError for a part of no size."""
    for name in ("latent", "hidden", "blocks", "channels"):
        if config.get(name, 1) < 1:
            raise ValueError(f"{name}: {config[name]}, but at least 1 is needed")
    if config.get("conditions", 0) < 0:
        raise ValueError(f"conditions: {config['conditions']}, but at least 0 are needed")
    if temperature < 0:
        raise ValueError(f"temperature: {temperature}, but at least 0 is needed")


def numbers(condition: Condition | None) -> Tensor | None:
    """A condition of numbers as a tensor; raises ValueError for examples of a task."""
    if isinstance(condition, LabelledExamples):
        raise ValueError(
            "condition: labelled examples, but this generator was made for numbers; give (K,) or "
            "(n, K), or use a generator that reads examples"
        )
    if condition is None:
        return None
    return torch.atleast_1d(torch.as_tensor(condition, dtype=torch.float32))


def _arguments(config: dict[str, Any]) -> dict[str, Any]:
    """What a file's ``config`` stands for: a code is made anew from its own arguments."""
    name, arguments = config.pop("code"), config.pop("code_config")
    return config if name == WholeVector.__name__ else {**config, "code": _Made(name, arguments)}


@dataclasses.dataclass(frozen=True)
class _Made:
    """Makes the code that a file names, whatever size it is asked for."""

    name: str
    arguments: Mapping[str, Any]

    def __call__(self, *_: int) -> WeightCode:
        return CODES[self.name](**self.arguments)


def _key(name: str) -> str:
    return "kept/" + name.replace(".", "/")


def _blank(spec: PermutationSpec, integers: tuple[str, ...]) -> Params:
    return {
        name: torch.zeros(shape, dtype=torch.long if name in integers else torch.float32)
        for name, shape in spec.shapes.items()
    }


class _Losses:
    """Records the losses of each part, and tells ``progress`` of them with one count of steps."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.seen: dict[str, list[float]] = {}

    def part(self, name: str, *, after: int = 0) -> Progress:
        """A callback for one part, which starts when ``after`` steps are done."""
        mine = self.seen.setdefault(name, [])

        def record(step: int, loss: float) -> None:
            mine.append(loss)
            if self.progress is not None:
                self.progress(after + step, loss)

        return record
