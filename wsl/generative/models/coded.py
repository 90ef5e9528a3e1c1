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
    Penalty,
    Recalibration,
    Standardizer,
    WeightCode,
    WholeVector,
)
from wsl.generative.conditions import LabelledExamples
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.members import check_members
from wsl.generative.models.vectors import VectorModel
from wsl.generative.models.watch import NoveltyWatch
from wsl.generative.problem import Condition, FitReport, TrainingMembers
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
    """

    align: Callable[[Params], Canonicalizer] | None
    code: Callable[[int], WeightCode]
    prior: Callable[[int], VectorModel]
    config: Mapping[str, Any]


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
        self.spec, self.conditions = spec, int(parts.config["conditions"])
        self.watch = NoveltyWatch(**watch) if isinstance(watch, Mapping) else watch
        self.config = {**parts.config, "copied": list(copied), "recalibrate": recalibrate}
        self.config["temperature"] = self.temperature = temperature
        self.config["watch"] = self.watch and dataclasses.asdict(self.watch)
        self.copied = tuple(name for name in spec.axes if name.rpartition(".")[2] in copied)
        self.kept = _Kept(spec, self.copied)
        self.canonicalizer = parts.align and parts.align(_blank(spec, self.copied))
        self.standardizer = Standardizer(spec, copied=self.copied, symmetric=parts.align is None)
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
        code_steps: int = 600,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> FitReport:
        """Learn from training members (N, ...) with ``condition`` (N, K), or `TrainingMembers`.

        behaviour: train for what networks do, too: the code if it can be trained, the distribution
        of codes otherwise. A number is the term's weight on the members' model and inputs.
        code_steps, ``steps``: of the code and of the distribution; trained for long it returns
        training codes. settings: more fields of `VectorTraining`.
        progress: called with 1 ... code_steps + steps and the loss.
        Raises `SpecError` when the weights do not fit the specification, ValueError when they or
        the conditions are not finite.
        """
        members, losses = TrainingMembers.of(zoo, condition), _Losses(progress)
        count = check_members(self.spec, members.params, copied=self.copied)
        if self.recalibration is not None:
            self.recalibration.fit(members.model, members.inputs)
        x, penalty = self._standard(members), self._penalty(behaviour, members)
        self.code.fit(
            x,
            steps=code_steps,
            penalty=penalty if self.code.trains else None,
            seed=seed,
            progress=losses.part("code") if self.code.trains else None,
        )
        with torch.no_grad():
            z = self.code.encode(x)
        self.prior.fit(
            z,
            members.condition,
            seed=seed,
            progress=losses.part("diffusion", after=code_steps if self.code.trains else 0),
            penalty=None if self.code.trains or penalty is None else self._of_codes(penalty),
            watch=self.watch,
            **{"batch_size": min(128, count), **settings},
        )
        watched = self.prior.watched
        return FitReport(count, losses.seen, watched.seen, watched.stopped)

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

        condition: one number, (K,) or (n, K); None leaves it open. guidance: above 1 insists on it.
        sampler: the way from noise to codes, see `samplers`; or ``settings`` of the usual one:
        ``steps``, ``eta`` for diffusion, ``stages`` for a flow. noise: codes to start from (n, D),
        taken as they are.
        """
        z = self.prior.sample(
            n,
            numbers(condition),
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

    def _penalty(
        self, behaviour: Behaviour | float | None, members: TrainingMembers
    ) -> Penalty | None:
        if isinstance(behaviour, int | float):
            if members.model is None or members.inputs is None:
                raise ValueError("behaviour: the training members come without model and inputs")
            behaviour = Behaviour(members.model, members.inputs, weight=behaviour)
        if behaviour is None:
            return None
        return lambda decoded, target, rng: behaviour(
            self._weights(decoded), self._weights(target), rng
        )

    def _of_codes(self, penalty: Penalty) -> Penalty:
        """A term of vectors as one of their codes."""
        decode = self.code.decode
        return lambda z, target, rng: penalty(decode(z), decode(target), rng)


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
