"""Weights for a task told by 20 labelled examples a class: generated, looked up, or solved for.

    python scripts/table_conditional.py --output runs/conditional            8x8 digits
    python scripts/table_conditional.py --output runs/conditional --data-root mnist/   and MNIST

Perceptrons 64-32-5; tasks are five digits in any order, turned and perhaps inverted. Nothing but
the 100 labelled images is known of a held-out task, and every arm gets the same: generators as
their condition, ridge and training as data. Tasks of four families are held out: subsets of digits
never seen together, angles never seen, digits 8 and 9 never seen, and with MNIST as the only
source the other data set. Images of held-out tasks are in no training. First table: accuracy as
drawn. Second: training of all 100 images, the rate chosen on validation images, and the steps to
what the default start has reached after them all, less one point. Each seed is one file of results,
each hyper-network one of its own; what is there already is not made again. ``--generated`` runs the
hyper-networks alone, without a population or Reptile, in files that the tables add to the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import params, permutation_spec
from wsl.generative import (
    AxisFeatures,
    Canonicalizer,
    HyperNetwork,
    LabelledExamples,
    TaskDiffusion,
    TaskSource,
    TrainingMembers,
    VariantTasks,
    VirtualClasses,
    label_sets,
    solve_head,
    task_accuracy,
    task_loss,
)
from wsl.params import Params
from wsl.populations import Classification, digits, mnist

ANGLES = range(0, 360, 30)
HELD_ANGLES = (60, 150, 300)
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
STEPS = 50
"""Of training after the draw."""
NEAREST = 16
"""Members whose mean, and whose Gaussian, are arms."""


class Net(nn.Sequential):
    """64-32-5."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))


MODEL, LINEAR = Net(), nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
SPEC = permutation_spec(MODEL, torch.zeros(2, 1, 8, 8))
AXES = AxisFeatures(SPEC)
PIXELS = AxisFeatures(permutation_spec(LINEAR, torch.zeros(2, 1, 8, 8)))
Weights = Mapping[str, Tensor]
Arms = dict[str, Params]


def main() -> None:
    """Run the seeds that have no file yet, then print both tables over all that have one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--data-root", help="of MNIST, for the family of another data set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="of each hyper-network")
    parser.add_argument("--members", type=int, default=512, help="of the population")
    parser.add_argument("--tasks", type=int, default=100, help="held out, of each family")
    parser.add_argument("--sources", nargs="+", default=None, help="digits, mnist; by default all")
    parser.add_argument("--networks", nargs="+", default=None, help="hyper-networks, by name")
    parser.add_argument(
        "--diffusion", type=int, default=0, help="steps of the one on axes; 0: none"
    )
    parser.add_argument(
        "--term", type=float, default=1.0, help="its weight of each own task's loss"
    )
    parser.add_argument("--guidance", type=float, default=2.0, help="of the one on axes")
    parser.add_argument("--generated", action="store_true", help="nothing but hyper-networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = options.sources or sources(options.data_root)
    for seed, source in itertools.product(range(options.seeds), chosen):
        only = "-generated" if options.generated else ""
        path = options.output / f"{source}-{seed}{only}.json"
        if not path.exists():
            path.write_text(json.dumps(run(source, seed, options), indent=1))
    tables(gathered(options.output))


def gathered(folder: Path) -> list[dict]:
    """The results of every source and seed; those of ``--generated`` add the arms that lack."""
    found: dict[tuple, dict] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name)):
        one = json.loads(path.read_text())
        first = found.setdefault((one["source"], one["seed"]), one)
        for name, results in one["families"].items():
            kept = first["families"].setdefault(name, results)
            for kind, arms in results.items():
                kept[kind] = arms | kept[kind]
    return list(found.values())


def sources(root: str | None) -> list[str]:
    """What is trained on."""
    return ["digits"] if root is None else ["digits", "mnist"]


def families(source: str, root: str | None) -> tuple[VariantTasks, dict[str, VariantTasks]]:
    """The tasks to train on, and the held-out ones by name."""
    data = digits()
    held = {"parts": ("val", "test"), "query": 30}
    angles = [a for a in ANGLES if a not in HELD_ANGLES]
    if source == "mnist":
        seen = VariantTasks(small_mnist(root), angles=angles)
        return seen, {"MNIST to digits": VariantTasks(data, angles=angles, **held)}
    sets = label_sets(range(8), 5)
    unknown = sets[::4]
    seen = VariantTasks(data, sets=tuple(s for s in sets if s not in unknown), angles=angles)
    subset = dataclasses.replace(seen, sets=unknown, **held)
    return seen, {
        "subset": subset,
        "angle": dataclasses.replace(subset, angles=HELD_ANGLES),
        "digits 8, 9": dataclasses.replace(subset, sets=label_sets(range(10), 5, all_of=(8, 9))),
    }


def small_mnist(root: str | None) -> Classification:
    """The 20 x 20 pixels that MNIST's digits fill, averaged to 8 x 8; the first 8,000 images."""

    def shrunk(images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images[:, :, 4:24, 4:24], 8)

    images, labels = (part[:8000] for part in mnist(data_root=root).train)
    return Classification.split(shrunk(images), labels, sizes=(7000, 500, 500))


def run(source: str, seed: int, options: argparse.Namespace) -> dict:
    """Every arm on every held-out family: accuracy as drawn, and curves of training."""
    rng = torch.Generator().manual_seed(seed)
    seen, held = families(source, options.data_root)
    say(f"{source}, seed {seed}")
    found: dict = {"source": source, "seed": seed, "steps": options.steps, "families": {}}
    networks = hypers(seen, source, seed, options)
    alone = options.generated and not options.diffusion
    zoo = None if alone else Population.trained(seen, options.members, rng=rng)
    start = None if options.generated else reptile(seen, rng=rng)
    for name, family in held.items():
        support, query = family.draw(options.tasks, generator=torch.Generator().manual_seed(seed))
        chosen, score = (LabelledExamples(q) for q in query.inputs.split([10, 20], 2))
        told = arms(support, networks, None if options.generated else zoo, start, rng=rng)
        if zoo is not None and options.diffusion:
            diffusion = diffused(zoo, source, seed, options)
            drawn_on_axes = diffusion.sample(
                len(support), condition=support, guidance=options.guidance, generator=rng
            )
            told["diffusion on axes"] = drawn_on_axes
            told["diffusion on axes + ridge"] = solve_head(MODEL, drawn_on_axes, support, axes=AXES)
        drawn = floors(support, score) | {
            arm: task_accuracy(MODEL, weights, score).mean().item() for arm, weights in told.items()
        }
        say(f"{name}: " + ", ".join(f"{arm} {100 * a:.1f}" for arm, a in drawn.items()))
        curves = {arm: tuned(told[arm], support, chosen, score) for arm in TUNED if arm in told}
        found["families"][name] = {"drawn": drawn, "curves": curves}
    return found


def hypers(
    seen: TaskSource, source: str, seed: int, options: argparse.Namespace
) -> dict[str, HyperNetwork]:
    """The hyper-networks, all on the same budget."""
    virtual = VirtualClasses(seen)
    kinds: dict[str, tuple[TaskSource, dict]] = {
        "rows": (seen, {"head": "rows"}),
        "solved, virtual classes": (virtual, {}),
        "one hidden layer for all": (virtual, {"rank": 0}),
        "one vector": (seen, {"head": "rows", "classes": "global"}),
        "solved": (seen, {}),
        "solved, first layer too": (virtual, {"first": "ridge"}),
    }
    made = {}
    for name in options.networks or kinds:
        tasks, how = kinds[name]
        path = options.output / f"{source}-{seed}-{name.replace(', ', '_')}.safetensors"
        began = time.process_time()
        if not path.exists():
            network = HyperNetwork(SPEC, seed=seed, **how)
            known = TrainingMembers({}, model=MODEL, tasks=tasks)
            network.fit(known, steps=options.steps, seed=seed)
            network.save(path)
        made[name] = HyperNetwork.load(path, model=MODEL)
        say(f"hyper-network, {name}: {time.process_time() - began:.0f} s")
    return made


def diffused(zoo: Population, source: str, seed: int, options: argparse.Namespace) -> TaskDiffusion:
    """Diffusion of the members' weights, told of each one's task on the axes."""
    path = options.output / f"{source}-{seed}-diffusion.safetensors"
    if not path.exists():
        began = time.process_time()
        made = TaskDiffusion(SPEC, width=16, channels=48, seed=seed)
        known = TrainingMembers(zoo.weights, examples=zoo.examples, model=MODEL)
        how = {"batch_size": 32, "lr": 2e-3, "decay": 0.99, "task_loss": options.term}
        made.fit(known, steps=options.diffusion, seed=seed, **how)
        made.save(path)
        say(f"diffusion on axes: {time.process_time() - began:.0f} s")
    return TaskDiffusion.load(path)


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Networks of many tasks, aligned to each other, and images and class means of their tasks."""

    weights: Params
    aligned: Params
    means: Tensor
    examples: LabelledExamples

    @classmethod
    def trained(cls, seen: VariantTasks, members: int, *, rng: torch.Generator) -> Population:
        """Each on 60 images of each class of a task of its own."""
        tasks = dataclasses.replace(seen, shots=60, query=1).draw(members, generator=rng).support
        weights = train(fresh(members, rng), tasks, steps=300, rate=5e-3, batch=32, rng=rng)[-1]
        blank = {name: torch.zeros_like(t[0]) for name, t in weights.items()}
        aligned = Canonicalizer(SPEC, blank).fit(weights, start=0)(weights)
        few = LabelledExamples(tasks.inputs[:, :, :20])
        return cls(weights, aligned, tasks.inputs.flatten(3).mean(2), few)

    def nearest(self, support: LabelledExamples) -> tuple[Tensor, Tensor]:
        """Members by distance of class means in the best order (T, N), and that order (T, N, 5)."""
        told = support.inputs.flatten(3).mean(2)
        apart = (told[:, None, :, None] - self.means[None, :, None]).square().sum(-1)
        orders = torch.tensor(list(itertools.permutations(range(5))))
        costs = torch.stack([apart[:, :, range(5), order].sum(-1) for order in orders.tolist()], -1)
        cost, which = costs.min(-1)
        by_distance = cost.argsort(1)
        return by_distance, orders[which].gather(1, by_distance[..., None].expand(-1, -1, 5))

    def nearest_as_they_are(self, support: LabelledExamples) -> Tensor:
        """The nearest member of each task, class by class in the given order."""
        means = support.inputs.flatten(3).mean(2).flatten(1)
        return torch.cdist(means, self.means.flatten(1)).argmin(1)


def arms(
    support: LabelledExamples,
    networks: Mapping[str, HyperNetwork],
    zoo: Population | None,
    start: Params | None,
    *,
    rng: torch.Generator,
) -> Arms:
    """Starting weights (T, ...) of every arm; those with ``+ ridge`` have a solved last layer."""
    count = len(support)
    found: Arms = {"default start": fresh(count, rng)}
    if start is not None:
        found["Reptile"] = {name: t.expand(count, *t.shape).clone() for name, t in start.items()}
    if zoo is not None:
        found |= looked_up(support, zoo, rng)
    rolled = support.of(torch.arange(count).roll(1))
    noise = LabelledExamples(torch.rand(support.inputs.shape, generator=rng))
    mean = LabelledExamples(support.inputs.mean(0, keepdim=True))
    for name, network in networks.items():
        found[f"generated, {name}"] = network.sample(count, condition=support)
    for name in [n for n in CONDITIONED if n in networks]:
        network = networks[name]
        conditions = {"wrong": rolled, "random": noise, "mean": mean}
        for which, condition in conditions.items():
            found[f"generated, {name}: {which} condition"] = network.sample(
                count, condition=condition
            )
    return found | {
        f"{name} + ridge": solve_head(MODEL, weights, support, axes=AXES)
        for name, weights in found.items()
        if "random" not in name
    }


def looked_up(support: LabelledExamples, zoo: Population, rng: torch.Generator) -> Arms:
    """Retrieval in the given and in the best order, mean and Gaussian of the nearest."""
    near, order = zoo.nearest(support)

    def ordered(weights: Params, k: int) -> Params:
        return AXES.ordered({name: t[near[:, k]] for name, t in weights.items()}, order[:, k])

    group = [ordered(zoo.aligned, k) for k in range(NEAREST)]
    stacked = {name: torch.stack([member[name] for member in group]) for name in group[0]}
    plain = zoo.nearest_as_they_are(support)
    return {
        "retrieval, as labelled": {name: t[plain] for name, t in zoo.weights.items()},
        "retrieval": ordered(zoo.weights, 0),
        "soup of the nearest": {name: t.mean(0) for name, t in stacked.items()},
        "Gaussian of the nearest": {
            name: t.mean(0) + t.std(0) * torch.randn(t.shape[1:], generator=rng)
            for name, t in stacked.items()
        },
    }


CONDITIONED = ("rows", "solved", "solved, virtual classes", "solved, first layer too")
"""Hyper-networks that are also asked with wrong, random and mean conditions."""

TUNED = (
    "default start",
    "default start + ridge",
    "Reptile",
    "Reptile + ridge",
    "retrieval",
    "retrieval + ridge",
    "soup of the nearest + ridge",
    "generated, rows",
    "generated, one vector",
    "generated, rows + ridge",
    "generated, solved",
    "generated, solved, virtual classes",
    "generated, one hidden layer for all",
    "generated, solved, first layer too",
)
"""Arms that are trained further."""


def floors(support: LabelledExamples, score: LabelledExamples) -> dict[str, float]:
    """What needs no generated network."""
    inputs, labels = score.flat()
    apart = torch.cdist(inputs.flatten(2), support.inputs.flatten(3).mean(2))
    blank = {name: torch.zeros(len(support), *s) for name, s in PIXELS.spec.shapes.items()}
    linear = solve_head(LINEAR, blank, support, axes=PIXELS)
    return {
        "nearest class mean": (apart.argmin(-1) == labels).float().mean().item(),
        "ridge on pixels": task_accuracy(LINEAR, linear, score).mean().item(),
    }


def fresh(count: int, rng: torch.Generator) -> Params:
    """Networks as torch initialises them."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        return params.stack([params.from_module(Net()) for _ in range(count)])


def train(
    start: Weights,
    examples: LabelledExamples,
    *,
    steps: int,
    rate: float,
    batch: int | None = None,
    rng: torch.Generator | None = None,
    each: Callable[[Params], object] | None = None,
) -> list:
    """Adam on each network's own examples; what ``each`` reads after every step, last the weights.

    batch: examples drawn in each step, those of all classes alike in number if it is None: all.
    """
    theta = {name: t.clone().requires_grad_() for name, t in start.items()}
    optimizer = torch.optim.Adam(theta.values(), rate)
    found: list = []
    for _ in range(steps):
        told = examples
        if batch is not None:
            shots = torch.randint(examples.shots, (batch // 5,), generator=rng)
            told = LabelledExamples(examples.inputs[:, :, shots])
        optimizer.zero_grad()
        task_loss(MODEL, theta, told).sum().backward()
        optimizer.step()
        if each is not None:
            found.append(each(theta))
    return [*found, {name: t.detach() for name, t in theta.items()}]


def reptile(seen: TaskSource, *, rng: torch.Generator, outer: int = 300, inner: int = 10) -> Params:
    """A start from which ten steps go far on a task: Nichol et al. (2018), arXiv 1803.02999."""
    start = {name: t[0] for name, t in fresh(1, rng).items()}
    for step in range(outer):
        support, _ = seen.draw(16, generator=rng)
        copies = {name: t.expand(16, *t.shape) for name, t in start.items()}
        after = train(copies, support, steps=inner, rate=1e-2)[-1]
        share = 1 - step / outer
        start = {name: t + share * (after[name].mean(0) - t) for name, t in start.items()}
    return start


def tuned(
    start: Weights, support: LabelledExamples, chosen: LabelledExamples, score: LabelledExamples
) -> dict:
    """The curve of the rate with the best area on the validation images, from step 0 on."""

    def read(theta: Weights) -> tuple[float, float]:
        return tuple(task_accuracy(MODEL, theta, e).mean().item() for e in (chosen, score))

    runs = {}
    for rate in RATES:
        curve = train(start, support, steps=STEPS, rate=rate, each=read)[:-1]
        runs[rate] = [read(start), *curve]
    best = max(runs, key=lambda rate: sum(v for v, _ in runs[rate]))
    return {"rate": best, "curve": [s for _, s in runs[best]]}


def tables(found: Sequence[dict]) -> None:
    """Means over seeds, in points, as markdown."""
    names = list(dict.fromkeys(name for one in found for name in one["families"]))
    for title, cell in (("as drawn", drawn_cell), (f"steps to the target, {STEPS} at most", steps)):
        kind = "drawn" if cell is drawn_cell else "curves"
        print(f"\n| {title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        rows = dict.fromkeys(
            arm for one in found for family in one["families"].values() for arm in family[kind]
        )
        for arm in rows:
            cells = [cell(with_arm(found, n, kind, arm), arm) for n in names]
            print(f"| {arm} | {' | '.join(cells)} |")


def with_arm(found: Sequence[dict], family: str, kind: str, arm: str) -> list[dict]:
    """A family's results of the seeds that tried an arm on it."""
    there = (one["families"][family] for one in found if family in one["families"])
    return [results for results in there if arm in results[kind]]


def drawn_cell(seeds: Sequence[dict], arm: str) -> str:
    """Mean and deviation over seeds of the accuracy as drawn."""
    if not seeds:
        return ""
    values = 100 * torch.tensor([one["drawn"][arm] for one in seeds])
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")


def steps(seeds: Sequence[dict], arm: str) -> str:
    """Steps to the target of each seed, and the mean accuracy after all of them."""
    reached, last = [], []
    for one in seeds:
        curve = one["curves"][arm]["curve"]
        target = one["curves"]["default start"]["curve"][-1] - 0.01
        reached.append(next((str(i) for i, a in enumerate(curve) if a >= target), "never"))
        last.append(100 * curve[-1])
    return f"{', '.join(reached)} ({sum(last) / len(last):.1f})" if seeds else ""


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
