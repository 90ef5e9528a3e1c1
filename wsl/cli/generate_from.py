"""``wsl generate --from RUN``: networks from a generator that is trained already.

    --condition-on images.npz      for a data set: arrays images and labels, a few of each class
    --condition 0.95               for numbers, as many as the generator was trained with

RUN is the folder of a finished ``wsl generate``, or a generator.safetensors. The class of the
generator is read from the file, of those that wsl has. Classes are the labels in ascending order:
the first is output 0.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

import wsl.generative
from wsl.cli.contents import is_zoo
from wsl.cli.evaluation import classes_of, read_data
from wsl.cli.outputs import check_writable
from wsl.cli.results import result, write_json
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import answer, say
from wsl.generative import Condition, Generator, LabelledExamples, reads_examples
from wsl.params import Params, unstack
from wsl.populations import build_architecture
from wsl.zoo import Zoo, write_checkpoint


def add_from_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this form; the other takes recipes."""
    parser.add_argument(
        "--from", dest="run", metavar="RUN", help="a finished run or its generator.safetensors"
    )
    parser.add_argument(
        "--condition-on", metavar="FILE.npz", help="images and labels of the task wanted"
    )
    parser.add_argument(
        "--condition",
        metavar="NUMBERS",
        help="numbers to ask for: of a recipe's generator the validation accuracy, such as 0.95, "
        "by default what the run asked for; none: nothing",
    )
    parser.add_argument("--normalize", metavar="MEAN,STD", help="of the images, if any was used")
    parser.add_argument("-n", "--samples", type=int, default=8, help="how many networks")
    parser.add_argument("-o", "--output", help="folder for sample-XX.safetensors")
    parser.add_argument("--zoo", metavar="FILE.h5", help="also write the networks as one zoo file")
    parser.add_argument("--seed", type=int, default=0)


def run_from(options: argparse.Namespace) -> None:
    """Sample, write, say."""
    if options.samples < 1:
        raise ConfigError(f"-n {options.samples}: at least one network is needed")
    if not options.output:
        raise ConfigError("-o DIR: a folder for the networks is needed")
    folder, file = Path(options.output), generator_file(Path(options.run))
    check_writable(folder)
    if folder.exists() and folder.samefile(file.parent) and _result_of(folder):
        raise ConfigError(f"-o {folder}: is the run itself, whose networks stay; name another")
    if options.zoo:
        _check_zoo(Path(options.zoo))
    about = _about(file)
    generator = load_generator(file, about)
    condition, meant = _condition(options, generator)
    rng = torch.Generator().manual_seed(options.seed)
    drawn = generator.sample(options.samples, condition=condition, generator=rng)
    if meant:
        say(meant, error=True)
    known = {"spec": str(generator.spec.without_units()), **_told_by(file.parent)}
    folder.mkdir(parents=True, exist_ok=True)
    for i, theta in enumerate(unstack(drawn)):
        write_checkpoint(folder / f"sample-{i:02d}.safetensors", theta, known)
    if options.zoo:
        _write_zoo(Path(options.zoo), generator, drawn, known=known)
    done = _result(options, file)
    write_json(folder / "result.json", done)
    answer(done)
    say(f"{folder}: {options.samples} networks by {type(generator).__name__} of {file}")


def generator_file(run: Path) -> Path:
    """The file of a run's generator; raises `ConfigError` where there is none."""
    file = run / "generator.safetensors" if run.is_dir() else run
    if not file.is_file():
        raise ConfigError(f"--from {run}: no such generator.safetensors; give a finished run")
    return file


def load_generator(file: Path, about: Mapping[str, Any]) -> Generator:
    """The generator in a file, by the class that it names.

    Raises `ConfigError` for another file and for a class that wsl does not have.
    """
    name = str(about.get("format", "")).removeprefix("wsl.")
    kinds = _kinds()
    if name not in kinds:
        what = f"holds a {name}" if name else "does not say what it holds"
        raise ConfigError(f"--from {file}: {what}; generators are {', '.join(sorted(kinds))}")
    kind, architecture = kinds[name], _told_by(file.parent).get("architecture")
    if architecture and "model" in inspect.signature(kind.load).parameters:
        return kind.load(file, model=build_architecture(json.loads(architecture)))
    return kind.load(file)


def _kinds() -> dict[str, Any]:
    """Every generator that wsl has, by the name of its class."""
    own = (getattr(wsl.generative, name) for name in wsl.generative.__all__)
    return {
        kind.__name__: kind
        for kind in own
        if isinstance(kind, type)
        and all(callable(getattr(kind, name, None)) for name in ("fit", "sample", "save", "load"))
        and not getattr(kind, "_is_protocol", False)
    }


def _about(file: Path) -> dict[str, Any]:
    """What a generator's file says of itself; nothing for any other."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            return json.loads((opened.metadata() or {}).get("wsl", "{}"))
    except safetensors.SafetensorError:
        raise ConfigError(f"--from {file}: is not a safetensors file") from None


def _told_by(folder: Path) -> dict[str, str]:
    """Architecture and task of the run, as JSON, if its result says so."""
    done = _result_of(folder)
    known = {name: done.get(name) for name in ("architecture", "task")}
    return {name: json.dumps(value) for name, value in known.items() if value}


def _result_of(folder: Path) -> dict[str, Any]:
    """What a run has written of itself, if it has."""
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _condition(options: argparse.Namespace, generator: Generator) -> tuple[Condition | None, str]:
    """What is asked of the generator, and of examples how they were read.

    Raises `ConfigError` where it cannot be asked that.
    """
    name = type(generator).__name__
    if reads_examples(generator):
        if not options.condition_on:
            raise ConfigError(f"{name} is asked by labelled examples; add --condition-on FILE.npz")
        told, meant = examples_of(options.condition_on, options.normalize)
        return _as_learned(told, options), meant
    if options.condition_on:
        how = f"it is asked by {generator.conditions} numbers: --condition"
        how = how if generator.conditions else "it is asked for nothing"
        raise ConfigError(f"--condition-on: {name} reads no labelled examples; {how}")
    if options.condition is None:
        return _as_in_the_run(options, generator)
    if options.condition == "none":
        return None, ""
    return _asked_numbers(options, generator)


def _asked_numbers(options: argparse.Namespace, generator: Generator) -> tuple[Tensor, str]:
    """Those of ``--condition``; says where one lies outside what the members of the run have."""
    numbers, name = _numbers(options.condition), type(generator).__name__
    if len(numbers) != generator.conditions:
        raise ConfigError(
            f"--condition {options.condition}: {len(numbers)} numbers, but this {name} is asked by "
            f"{generator.conditions}"
        )
    low, high = _run_of(options).get("members", [-math.inf, math.inf])
    far = len(numbers) == 1 and not low <= float(numbers) <= high
    seen = (
        f"note: --condition {options.condition}: members of the run lie in {low:.4g} to {high:.4g}"
    )
    return numbers, seen if far else ""


def _run_of(options: argparse.Namespace) -> dict[str, Any]:
    return _result_of(generator_file(Path(options.run)).parent)


def _as_in_the_run(
    options: argparse.Namespace, generator: Generator
) -> tuple[Condition | None, str]:
    """What the run itself asked for, where the generator reads one number."""
    wanted = _run_of(options).get("wanted")
    if generator.conditions != 1 or wanted is None:
        return None, ""
    how = "as the run was; --condition NUMBER or none asks otherwise"
    return torch.tensor([float(wanted)]), f"asked for {wanted:.4g}, {how}"


def _as_learned(told: LabelledExamples, options: argparse.Namespace) -> LabelledExamples:
    """The examples with their inputs in the shape that the run learned from.

    Raises `ConfigError` for another number of classes or size of input; says where values lie far
    outside those of the run.
    """
    path, known = options.condition_on, _run_of(options).get("examples")
    if not known:
        return told
    if told.classes != known["classes"]:
        raise ConfigError(
            f"--condition-on {path}: {told.classes} classes, but networks of this run have "
            f"{known['classes']} outputs; give images of {known['classes']} classes"
        )
    shape, wanted = list(told.inputs.shape[3:]), known["input"]
    if [d for d in shape if d != 1] == [d for d in wanted if d != 1]:  # an axis of one channel
        told = LabelledExamples(told.inputs.reshape(*told.inputs.shape[:3], *wanted))
    elif shape != wanted:
        how = "reshape them" if math.prod(shape) == math.prod(wanted) else "resize them"
        raise ConfigError(
            f"--condition-on {path}: images {tuple(shape)}, but this run learned from "
            f"{tuple(wanted)}; {how}"
        )
    _say_range(told.inputs, known.get("range"), path)
    return told


def _say_range(inputs: Tensor, known: Sequence[float] | None, path: str) -> None:
    """Say where values lie twice as far out as those of the run."""
    if known is None:
        return
    low, high, width = float(inputs.min()), float(inputs.max()), known[1] - known[0]
    if low < known[0] - width or high > known[1] + width or high - low < width / 10:
        say(
            f"note: --condition-on {path}: values run from {low:.4g} to {high:.4g}, but this run "
            f"learned from {known[0]:.4g} to {known[1]:.4g}; scale them, or use --normalize",
            error=True,
        )


def _numbers(text: str) -> Tensor:
    try:
        return torch.tensor([float(word) for word in text.split(",")])
    except ValueError:
        raise ConfigError(f"--condition {text}: numbers are needed, such as 0.95") from None


def examples_of(path: str, normalize: str | None = None) -> tuple[LabelledExamples, str]:
    """The images of a file as one task, as many of each class as the rarest has; and in words.

    Raises `ConfigError` without labels, or with labels that are not classes.
    """
    data = read_data(path, normalize, split="train")
    if data.labels is None:
        raise ConfigError(f"--condition-on {path}: an array of labels, one per image, is needed")
    labels = classes_of(data.labels, f"--condition-on {path}", anywhere=True)
    if not len(labels):
        raise ConfigError(f"--condition-on {path}: holds no images; some of each class are needed")
    classes, count = labels.unique(return_counts=True)
    rows = torch.stack([(labels == c).nonzero()[: count.min(), 0] for c in classes])
    places = ", ".join(f"{c} is output {i}" for i, c in enumerate(classes.tolist()))
    told = LabelledExamples(data.inputs[rows][None])
    return told, f"{path}: {told.shots} images of each class; {places}"


def _check_zoo(path: Path) -> None:
    """Raise `ConfigError` for a place of no zoo, before anything is written."""
    check_writable(path.absolute().parent)
    if path.is_dir() or (path.exists() and not is_zoo(path)):
        raise ConfigError(f"--zoo {path}: is there and is no zoo; name another file")


def _write_zoo(
    path: Path, generator: Generator, drawn: Params, *, known: Mapping[str, str]
) -> None:
    """One file with all networks; it knows architecture and task where the run does."""
    rows = list(range(len(next(iter(drawn.values())))))
    told = {name: json.loads(known[name]) for name in ("architecture", "task") if name in known}
    about = {"architecture": told.get("architecture"), "provenance": {}}
    if "task" in told:
        about["provenance"] = {"task": told["task"]}
    Zoo.from_models(
        path,
        unstack(drawn),
        spec=generator.spec.without_units(),
        metadata={"sample": rows},
        **about,
    )


def _result(options: argparse.Namespace, file: Path) -> dict[str, Any]:
    config = {name: getattr(options, name) for name in ("condition", "samples", "seed")}
    inputs = {"generator": file}
    if options.condition_on:
        inputs["condition"] = Path(options.condition_on)
    return result("generate", config, inputs)
