"""`HyperNetwork`: weights of a classifier from a few labelled examples of its task, in one step.

    (h, t) = encoder(support),   theta = decoder(h, t),   min E_task CE(f_theta(query))

Trained through the tasks' own loss: decode, run on examples that the condition does not hold,
backpropagate. Fresh tasks come in every step, and no population of trained networks is needed, as
in Ha et al. (2016), arXiv 1609.09106, and CNAPs, Requeima et al. (2019), arXiv 1906.07697.

    head="rows"    row c of the last layer from the embedding of class c
    head="ridge"   the last layer solved by ridge on the support, gradients through the solution,
                   as in R2-D2, Bertinetto et al. (2019), arXiv 1805.08136
    first="ridge"  units of the first layer are also told the ridge solution on the inputs:
                   `hyper_first`

Guaranteed with ``classes="axis"``: another order of the condition's classes gives the same network
with its outputs in that order, and no order of the shots matters. ``classes="global"`` is the
usual form for comparison: one vector for the ordered task, from which all weights are made.

Not promised: variety. One condition gives one network, unless ``bootstrap`` draws the examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from wsl.base import Progress
from wsl.generative.conditions import (
    AxisFeatures,
    DatasetEncoder,
    Features,
    LabelledExamples,
    TaskEmbedding,
    head_problem,
    ridge,
    task_loss,
    with_head,
)
from wsl.generative.models.files import read_about, write_whole
from wsl.generative.models.hyper_decoder import AxisDecoder
from wsl.generative.models.hyper_first import RidgeRows
from wsl.generative.models.loss_training import LossTraining
from wsl.generative.models.members import asked_task, check_members
from wsl.generative.problem import FitReport, TrainingMembers, check_needs, reset
from wsl.params import Params, from_module
from wsl.symmetry import PermutationSpec, copied
from wsl.zoo import Checkpoints


class HyperNetwork(nn.Module):
    """A generator for the architecture of ``spec``, asked with `LabelledExamples`.

    features: how many numbers an input has, or what the ``extractor`` makes of it; by default the
    size of the input axis. width: of the embeddings. first: ``"ridge"`` where the first layer is a
    matrix that reads whole inputs. rank: of what a task changes in each tensor; 0
    for hidden layers that are the same for all tasks, which with a solved head is R2-D2 itself.
    model: the network, which a solved head is run with; `fit` takes it from the training members.
    seed: of the initial weights of the hyper-network itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"model", "tasks"})
    conditions: ClassVar[int] = 0
    canonicalizer: ClassVar[None] = None

    def __init__(
        self,
        spec: PermutationSpec,
        *,
        features: int | None = None,
        width: int = 64,
        rank: int = 64,
        head: Literal["ridge", "rows"] = "ridge",
        first: Literal["learned", "ridge"] = "learned",
        classes: Literal["axis", "global"] = "axis",
        extractor: Features | None = None,
        model: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if head not in ("ridge", "rows") or classes not in ("axis", "global"):
            raise ValueError(
                f"head: {head!r} and classes: {classes!r}, but 'ridge' or 'rows' and 'axis' or "
                "'global' are needed"
            )
        if first not in ("learned", "ridge"):
            raise ValueError(f"first: {first!r}, but 'learned' or 'ridge' is needed")
        self.spec, self.axes, self._model = spec, AxisFeatures(spec), (model,)
        features = self.axes.input_size if features is None else features
        self.config = {
            "features": features,
            "width": width,
            "rank": rank,
            "head": head,
            "first": first,
            "classes": classes,
        }
        by_class = classes == "axis"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = DatasetEncoder(features, width=width, extractor=extractor)
            self.whole = None if by_class else nn.Linear(self.axes.count * width, width)
            self.decoder = AxisDecoder(self.axes, width=width, rank=rank, by_class=by_class)
            self.first = RidgeRows(self.axes, width=width) if first == "ridge" else None
        self.penalty, self.scale = (nn.Parameter(torch.tensor(v)) for v in (0.0, 1.5))

    @property
    def model(self) -> nn.Module | None:
        """The network that weights are for; not among the weights and not saved."""
        return self._model[0]

    def forward(self, support: LabelledExamples) -> Params:
        """Weights (N, ...) for the tasks of ``support``; differentiable."""
        embedding = self.encoder(support)
        if self.whole is not None:
            ordered = self.whole(embedding.classes.flatten(1)).relu()
            embedding = TaskEmbedding(embedding.classes, ordered)
        made = self.decoder(embedding)
        if self.first is not None:
            made = self.first(made, embedding, support)
        return made if self.config["head"] == "rows" else self._solved(made, support)

    def fit(
        self,
        zoo: TrainingMembers | Checkpoints | Mapping[str, Tensor],
        condition: Tensor | None = None,
        *,
        tasks: int = 32,
        seed: int = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> FitReport:
        """Learn from ``zoo.tasks``, ``tasks`` fresh ones in each step.

        settings: fields of `LossTraining`: ``steps``, by default 3,000, ``lr``, 2e-3, and
        ``checkpoint``, a file that an interrupted fit goes on from.
        The members' weights are checked and not learned from; ``params`` may be empty.
        Raises ValueError without tasks or model.
        """
        members = TrainingMembers.of(zoo, condition)
        count, how = self._check(members), LossTraining(**{"steps": 3000, "lr": 2e-3, **settings})
        self._start(members.model, seed=seed)

        def loss(rng: torch.Generator) -> Tensor:
            return self._loss(members, tasks, rng)

        return FitReport(count, {"task": how.run(self, loss, seed=seed, progress=progress)})

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        condition: LabelledExamples | None = None,
        bootstrap: bool = False,
        generator: torch.Generator | None = None,
    ) -> Params:
        """``n`` networks (n, ...) for ``condition``: one task for all, or one for each.

        bootstrap: each network is told as many examples of each class, drawn with replacement.
        Raises ValueError without a condition, or if it holds another number of tasks or classes.
        """
        told = asked_task(condition, n, classes=self.axes.count)
        if bootstrap:
            told = _drawn_again(told, generator)
        return {name: tensor.clone() for name, tensor in self(told).items()}

    def save(self, path: str | Path) -> None:
        """Write everything that `load` needs but the network itself and a user's extractor."""
        write_whole(self, self.state_dict(), path, config=self.config)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        model: nn.Module | None = None,
        extractor: Features | None = None,
    ) -> HyperNetwork:
        """Read what `save` wrote; raises ValueError if the file is something else.

        model: what a solved head is run with; without it ``head="ridge"`` cannot be sampled.
        """
        about = read_about(path, cls.__name__)
        spec = PermutationSpec.parse(about["spec"])
        made = cls(spec, model=model, extractor=extractor, **about["config"])
        made.load_state_dict(safetensors.torch.load_file(path))
        return made

    def _check(self, members: TrainingMembers) -> int:
        check_needs(self.needs, members, what=type(self).__name__)
        if members.condition is not None:
            raise ValueError("condition: numbers were given, but a hyper-network reads examples")
        return check_members(self.spec, members.params) if members.params else 0

    def _start(self, model: nn.Module | None, *, seed: int) -> None:
        """Keep the network, and let a fresh one of it be the base of all weights."""
        assert model is not None  # what `needs` names was checked
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder.start_from(from_module(reset(model)))
        self._model = (copied(model),)

    def _loss(self, members: TrainingMembers, tasks: int, rng: torch.Generator) -> Tensor:
        """Of the networks decoded for fresh tasks."""
        assert members.tasks is not None
        assert self.model is not None
        support, query = members.tasks.draw(tasks, generator=rng)
        return task_loss(self.model, self(support), query).mean()

    def _solved(self, made: Params, support: LabelledExamples) -> Params:
        if self.model is None:
            raise ValueError("model: a solved head runs the network; load the generator with model")
        phi, targets = head_problem(self.model, made, support, axes=self.axes)
        # in units of the features, so that their size does not matter
        unit = phi.square().mean((1, 2)).clamp_min(1e-12)
        solved = ridge(phi, targets, self.penalty.exp() * unit)
        return with_head(made, self.scale.exp() * solved, self.axes)


def _drawn_again(told: LabelledExamples, generator: torch.Generator | None) -> LabelledExamples:
    """As many examples of each class, with replacement."""
    n, classes, shots = len(told), told.classes, told.shots
    rows = torch.randint(shots, (n, classes, shots), generator=generator)
    places = torch.arange(n)[:, None, None], torch.arange(classes)[:, None]
    return LabelledExamples(told.inputs[*places, rows])
