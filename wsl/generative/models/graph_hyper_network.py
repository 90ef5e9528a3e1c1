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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from wsl.base import Progress
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.graph_decoder import Codes, TileDecoder
from wsl.generative.models.graph_nodes import GraphEncoder, TensorGraph, tensor_graph
from wsl.generative.models.hyper_decoder import new_statistic
from wsl.generative.problem import Condition, FitReport, TrainingMembers, check_needs
from wsl.params import Params, stack
from wsl.populations import Classification, build_architecture
from wsl.symmetry import PermutationSpec, copied, permutation_spec
from wsl.zoo import Checkpoints


class GraphHyperNetwork(nn.Module):
    """A generator of weights for ``spec`` and, with `at`, for any other specification.

    family: the architectures that it is trained on, each a description as in ``datasets/``, or a
    network. width, rounds: of the messages. rank: numbers of a code. tile: codes of units that are
    learned. waves: cosines that entries of fixed axes are read from, best as many as the longest
    has. noise: of the units' codes, without which a layer wider than ``tile`` has equal units.
    seed: of the initial weights of the generator itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"data"})
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self._family, self.noise = spec, tuple(family), noise
        size = {"width": width, "rounds": rounds, "rank": rank, "tile": tile, "waves": waves}
        self.config: dict[str, Any] = {**size, "noise": noise}
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
        steps: int = 1000,
        networks: int = 4,
        batch_size: int = 64,
        lr: float = 3e-3,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FitReport:
        """Learn from ``zoo.data``: in each step ``networks`` of the family, on a batch each.

        The members' weights are not looked at. Raises ValueError without data or family.
        """
        members, losses = TrainingMembers.of(zoo, condition), []
        check_needs(self.needs, members, what=type(self).__name__)
        if members.condition is not None:
            raise ValueError("condition: numbers were given, but the architecture is all it reads")
        assert members.data is not None
        run = _Run(steps, networks, batch_size, lr, torch.Generator().manual_seed(seed))
        for step, loss in enumerate(self._steps(run, members.data), 1):
            losses.append(loss)
            if progress is not None:
                progress(step, loss)
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
        graph = tensor_graph(self.spec)
        return stack([self._made(self.spec, graph, self._codes(generator)) for _ in range(n)])

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

    def _codes(
        self, generator: torch.Generator | None, spec: PermutationSpec | None = None
    ) -> dict[str, Tensor]:
        return self.decoder.codes(spec or self.spec, noise=self.noise, generator=generator)

    def _made(self, spec: PermutationSpec, graph: TensorGraph, codes: Codes | None) -> Params:
        told = self.decoder.codes(spec, noise=0.0) if codes is None else codes
        found = self.decoder(spec, graph, self.encoder(graph), told)
        like = next(iter(found.values()))
        return {
            name: found[name] if name in found else new_statistic(name, 1, shape, like=like)[0]
            for name, shape in spec.shapes.items()
        }

    def _steps(self, run: _Run, data: Classification) -> Iterator[float]:
        family = self._members(data)
        images, labels = data.train
        optimizer = torch.optim.Adam(self.parameters(), run.lr)
        schedule = OneCycleLR(optimizer, run.lr, total_steps=run.steps, pct_start=0.1)
        for _ in range(run.steps):
            optimizer.zero_grad()
            loss = torch.zeros(())
            for k in torch.randint(len(family), (run.networks,), generator=run.rng).tolist():
                rows = torch.randint(len(labels), (run.batch_size,), generator=run.rng)
                model, spec, graph = family[k]
                made = self._made(spec, graph, self._codes(run.rng, spec))
                out = torch.func.functional_call(model, made, (images[rows],))
                loss = loss + F.cross_entropy(out, labels[rows]) / run.networks
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            yield loss.item()

    def _members(
        self, data: Classification
    ) -> list[tuple[nn.Module, PermutationSpec, TensorGraph]]:
        """The networks of the family, each with its specification and graph."""
        if not self._family:
            raise ValueError("family: empty, but architectures to learn from are needed")
        found = []
        for each in self._family:
            model = _network(each)
            spec = permutation_spec(model, data.train.images[:2])
            found.append((model, spec, tensor_graph(spec)))
        return found


def _network(described: Mapping[str, Any] | nn.Module) -> nn.Module:
    """A template of an architecture; its own weights do not matter."""
    if isinstance(described, nn.Module):
        return copied(described).eval()
    with torch.random.fork_rng(devices=[]):
        return build_architecture(described).eval()


class _Run(NamedTuple):
    """How long and on how much a generator is trained."""

    steps: int
    networks: int
    batch_size: int
    lr: float
    rng: torch.Generator
