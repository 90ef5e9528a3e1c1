"""`LatentDiffusion`: generate weights of an architecture from a population of trained ones.

    theta -> canonical -> standardised x -> code z -> diffusion p(z | condition)

A sample goes the same way back. Latent diffusion of weights as in D2NWG, Soro et al. (2024), arXiv
2402.18153, on weights aligned first as in Gupta et al. (2026), arXiv 2601.05052. Every part can be
replaced; all that is fitted is in the state dict, so that the file of `save` is the whole
generator. Only training members belong in `fit`: nothing here splits for you.

Not promised: that samples are new, or differ as much as the population does. `evaluate` measures
both, beside baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import safetensors.torch
import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.codes import (
    Behaviour,
    Canonicalizer,
    Penalty,
    Standardizer,
    WeightAutoencoder,
    WeightPCA,
)
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.members import check_members
from wsl.generative.models.vector_diffusion import VectorDiffusion
from wsl.generative.problem import FitReport, TrainingMembers
from wsl.matching import Matcher
from wsl.params import Params
from wsl.symmetry import PermutationSpec
from wsl.zoo import Checkpoints

CODES = {code.__name__: code for code in (WeightAutoencoder, WeightPCA)}
"""The codes that a file can name."""


class LatentDiffusion(nn.Module):
    """A generator of weights for the architecture of ``spec``.

    conditions: how many numbers describe a member, for example 1 for its accuracy; 0 for none.
    latent: length of the code. code: makes the code's module from (features, latent);
    `WeightAutoencoder` or `WeightPCA`.
    hidden, blocks: size of the denoiser. copied: tensors, by their last name, that are not
    generated but copied as int64.
    seed: of the initial weights of the generator itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        conditions: int = 1,
        latent: int = 64,
        hidden: int = 256,
        blocks: int = 3,
        code: Callable[[int, int], WeightAutoencoder | WeightPCA] = WeightAutoencoder,
        copied: tuple[str, ...] = ("num_batches_tracked",),
        matcher: Matcher | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self.conditions = spec, conditions
        self.config = {
            "conditions": conditions,
            "latent": latent,
            "hidden": hidden,
            "blocks": blocks,
            "copied": list(copied),
        }
        self.copied = tuple(name for name in spec.axes if name.rpartition(".")[2] in copied)
        self.canonicalizer = Canonicalizer(spec, _blank(spec, self.copied), matcher=matcher)
        self.standardizer = Standardizer(spec, copied=self.copied)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.code = code(self.standardizer.features, latent)
            self.diffusion = VectorDiffusion(
                latent, conditions=conditions, hidden=hidden, blocks=blocks
            )

    def fit(
        self,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor],
        condition: Tensor | None = None,
        *,
        behaviour: Behaviour | float | None = None,
        code_steps: int = 600,
        steps: int = 600,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FitReport:
        """Learn from training members (N, ...) with ``condition`` (N, K), or `TrainingMembers`.

        behaviour: train the code for what networks do, too; without it codes keep weights only, and
        decode to worse networks. A number is the term's weight on the members' model and inputs.
        code_steps, steps: of the code and of the diffusion; trained for long it returns training
        codes.
        progress: called with 1 ... code_steps + steps and the loss.
        Raises `SpecError` when the weights do not fit the specification, ValueError when they or
        the conditions are not finite.
        """
        members, losses = TrainingMembers.of(zoo, condition), _Losses(progress)
        count = check_members(self.spec, members.params, copied=self.copied)
        x = self._standard(members)
        self.code.fit(
            x,
            steps=code_steps,
            penalty=self._penalty(behaviour, members),
            seed=seed,
            progress=losses.part("code"),
        )
        with torch.no_grad():
            z = self.code.encode(x)
        self.diffusion.fit(
            z,
            members.condition,
            steps=steps,
            batch_size=min(128, count),
            seed=seed,
            progress=losses.part("diffusion", after=code_steps),
        )
        return FitReport(count, losses.seen)

    def _standard(self, members: TrainingMembers) -> Tensor:
        """Fit alignment and standardisation; the members' vectors after both."""
        align = self.canonicalizer.fit(members.params, start=members.reference)
        canonical = align(members.params, member=members.member)
        return self.standardizer.fit(canonical)(canonical)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Tensor | float | None = None,
        steps: int = 50,
        eta: float = 0.0,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Params:
        """Draw ``n`` networks (n, ...).

        condition: one number, (K,) or (n, K); None leaves it open.
        eta: 0 is DDIM, 1 draws fresh noise in each of ``steps``. guidance: above 1 insists on the
        condition.
        """
        given = (
            None
            if condition is None
            else torch.atleast_1d(torch.as_tensor(condition, dtype=torch.float32))
        )
        return self.decode(
            self.diffusion.sample(
                n, given, steps=steps, eta=eta, guidance=guidance, generator=generator
            )
        )

    def encode(self, params: Mapping[str, Tensor], *, member: Tensor | None = None) -> Tensor:
        """Codes (N, latent) of networks in any order of their units."""
        check_members(self.spec, params, copied=self.copied)
        return self.code.encode(self.standardizer(self.canonicalizer(params, member=member)))

    def decode(self, z: Tensor) -> Params:
        """Networks (n, ...) of codes (n, latent)."""
        return self._weights(self.code.decode(z))

    def save(self, path: str | Path) -> None:
        """Write everything that `load` needs as one safetensors file.

        The matcher is not kept, since it serves fitting only.
        """
        config = {**self.config, "code": type(self.code).__name__, "code_config": self.code.config}
        write_whole(self, self.state_dict(), path, config=config)

    @classmethod
    def load(cls, path: str | Path) -> LatentDiffusion:
        """Read what `save` wrote; raises ValueError if the file is something else."""
        about = read_about(path, LatentDiffusion.__name__)
        config = about["config"]
        make, arguments = CODES[config.pop("code")], config.pop("code_config")
        model = cls(
            PermutationSpec.parse(about["spec"]), code=lambda *_: make(**arguments), **config
        )
        model.load_state_dict(safetensors.torch.load_file(path))
        return model

    def _weights(self, x: Tensor) -> Params:
        generated = self.standardizer.inverse(x)
        reference = self.canonicalizer.reference
        return {
            name: generated[name]
            if name in generated
            else reference[name].expand(len(x), *reference[name].shape).clone()
            for name in self.spec.axes
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
