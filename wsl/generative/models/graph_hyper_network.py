"""`GraphHyperNetwork`: a network's graph in, its weights out, whatever its widths and depth.

    h = encoder(graph of the specification),   theta = decoder(h, codes of units)
    min E_{architecture, batch} CE(f_theta(x), y)

Trained through the loss of networks of a family of architectures on one data set; asked for an
architecture that it has not seen. GHN-2, Knyazev et al. (2021), arXiv 2110.13100; GHN-3, Knyazev et
al. (2023), arXiv 2303.04143. Nodes are tensors, not operations: only a specification is read.

Guaranteed: codes of units that are moved give the network that is moved. The classes have codes by
their position, so another order of the classes is another question: ask `HyperNetwork` for that.

Not promised: variety. Draws differ by the noise of the units' codes alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.base import Progress
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.graph_decoder import Codes, TileDecoder
from wsl.generative.models.graph_nodes import GraphEncoder, TensorGraph, tensor_graph
from wsl.generative.models.hyper_decoder import new_statistic
from wsl.generative.models.loss_training import LossTraining
from wsl.generative.problem import Condition, FitReport, TrainingMembers, check_needs
from wsl.params import Params, stack
from wsl.populations import Examples, build_architecture
from wsl.symmetry import PermutationSpec, copied, permutation_spec
from wsl.zoo import Checkpoints


class GraphHyperNetwork(nn.Module):
    """A generator of weights for ``spec`` and, with `at`, for any other specification.

    family: the architectures that it is trained on, each a description as in ``datasets/``, or a
    network. width, rounds: of the messages. rank: numbers of a code. tile: codes of units that are
    learned. waves: cosines that entries of fixed axes are read from, best as many as the longest
    has. noise: of the units' codes, without which a layer wider than ``tile`` has equal units.
    networks: of the family that are run in each step of a fit. seed: of the initial weights of the
    generator itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"inputs", "labels"})
    conditions: ClassVar[int] = 0
    canonicalizer: ClassVar[None] = None

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        family: Sequence[Mapping[str, Any] | nn.Module] = (),
        width: int = 32,
        rounds: int = 3,
        rank: int = 64,
        tile: int = 64,
        waves: int = 64,
        noise: float = 0.1,
        networks: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self._family = spec, tuple(family)
        self.noise, self.networks = noise, networks
        size = {"width": width, "rounds": rounds, "rank": rank, "tile": tile, "waves": waves}
        self.config: dict[str, Any] = {**size, "noise": noise, "networks": networks}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = GraphEncoder(width, rounds=rounds)
            self.decoder = TileDecoder(width, rank=rank, tile=tile, waves=waves)

    def at(self, spec: PermutationSpec) -> GraphHyperNetwork:
        """The same generator, sharing all that is learned, for another architecture."""
        made = copy.copy(self)
        made.spec = spec
        return made

    def forward(self, spec: PermutationSpec, *, codes: Codes | None = None) -> Params:
        """Weights of one network; differentiable. codes: of the units, by default the table's."""
        return self._made(spec, tensor_graph(spec), codes)

    def fit(
        self,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor],
        condition: Tensor | None = None,
        *,
        batch_size: int = 64,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> FitReport:
        """Learn from ``zoo.inputs`` and ``labels``: each step some of the family, on a batch each.

        settings: fields of `LossTraining`: ``steps``, by default 1,000, ``lr``, 3e-3, ``clip``, 1,
        since one architecture can have a gradient far above the others', and ``checkpoint``, a file
        that an interrupted fit goes on from.
        The members' weights are not looked at. Raises ValueError without them or family.
        """
        members = TrainingMembers.of(zoo, condition)
        data = self._data(members)
        family = self._members(data)
        how = LossTraining(**{"steps": 1000, "lr": 3e-3, "clip": 1.0, **settings})

        def loss(rng: torch.Generator) -> Tensor:
            chosen = torch.randint(len(family), (self.networks,), generator=rng).tolist()
            losses = [self._loss(family[k], _batch(data, batch_size, rng), rng) for k in chosen]
            return torch.stack(losses).mean()

        losses = how.run(self, loss, seed=seed, progress=progress)
        return FitReport(len(members) if members.params else 0, {"task": losses})

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: Condition | None = None,
        generator: torch.Generator | None = None,
    ) -> Params:
        """``n`` networks (n, ...), each with noise of its own on the codes of its units."""
        if condition is not None:
            raise ValueError("condition: none is read; ask at(spec) for another architecture")
        spec, graph = self.spec, tensor_graph(self.spec)
        codes = [self.decoder.codes(spec, noise=self.noise, generator=generator) for _ in range(n)]
        return stack([self._made(spec, graph, told) for told in codes])

    def save(self, path: str | Path) -> None:
        """Write everything that `load` needs; the family is not kept."""
        write_whole(self, self.state_dict(), path, config=self.config)

    @classmethod
    def load(cls, path: str | Path) -> GraphHyperNetwork:
        """Read what `save` wrote; raises ValueError if the file is something else."""
        about = read_about(path, cls.__name__)
        made = cls(PermutationSpec.parse(about["spec"]), **about["config"])
        made.load_state_dict(safetensors.torch.load_file(path))
        return made

    def _data(self, members: TrainingMembers) -> Examples:
        check_needs(self.needs, members, what=type(self).__name__)
        assert members.inputs is not None
        assert members.labels is not None
        if members.condition is not None:
            raise ValueError("condition: numbers were given, but the architecture is all it reads")
        return Examples(members.inputs, members.labels)

    def _made(self, spec: PermutationSpec, graph: TensorGraph, codes: Codes | None) -> Params:
        told = self.decoder.codes(spec, noise=0.0) if codes is None else codes
        found = self.decoder(spec, self.encoder(graph), graph=graph, codes=told)
        like = next(iter(found.values()))
        return {
            name: found[name] if name in found else new_statistic(name, 1, shape, like=like)[0]
            for name, shape in spec.shapes.items()
        }

    def _loss(self, member: _Member, batch: Examples, rng: torch.Generator) -> Tensor:
        """Of one network of the family, on a fresh batch."""
        codes = self.decoder.codes(member.spec, noise=self.noise, generator=rng)
        made = self._made(member.spec, member.graph, codes)
        out = torch.func.functional_call(member.model, made, (batch.images,))
        return F.cross_entropy(out, batch.labels)

    def _members(self, data: Examples) -> list[_Member]:
        """The networks of the family, each with its specification and graph."""
        if not self._family:
            raise ValueError("family: empty, but architectures to learn from are needed")
        found = []
        for each in self._family:
            model = _network(each)
            spec = permutation_spec(model, data.images[:2])
            found.append(_Member(model, spec, tensor_graph(spec)))
        return found


def _network(described: Mapping[str, Any] | nn.Module) -> nn.Module:
    """A template of an architecture; its own weights do not matter."""
    if isinstance(described, nn.Module):
        return copied(described).eval()
    with torch.random.fork_rng(devices=[]):
        return build_architecture(described).eval()


class _Member(NamedTuple):
    """One network of a family."""

    model: nn.Module
    spec: PermutationSpec
    graph: TensorGraph


def _batch(data: Examples, size: int, rng: torch.Generator) -> Examples:
    rows = torch.randint(len(data.labels), (size,), generator=rng)
    return Examples(data.images[rows], data.labels[rows])
