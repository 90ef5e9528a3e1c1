"""``wsl merge CONFIG.yaml -o OUT``: a merge as mergekit's YAML says it.

Models are paths, from the working directory or else from the folder of the YAML. What lies in
safetensors is merged tensor by tensor; other files are read into memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsl.cli.merge_streamed import Job, add_running_arguments, write_merge
from wsl.cli.outputs import check_output
from wsl.cli.plans import say_plan
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.matching import large
from wsl.merging import mergekit
from wsl.zoo import open_checkpoint

_SUFFIXES = (".yaml", ".yml")


def is_yaml(arguments: Sequence[str]) -> bool:
    """Whether the command line gives a YAML in the place of checkpoints."""
    before = ["", *arguments]
    return any(
        word.endswith(_SUFFIXES) and (not last.startswith("-") or last == "--dry-run")
        for last, word in zip(before, arguments, strict=False)
    )


def run_yaml(arguments: Sequence[str]) -> None:
    """Plan, and unless it is a dry run write OUT and OUT.result.json."""
    options = _parser().parse_args(arguments)
    config = _parsed(options.config)
    if options.output is None and not options.dry_run:
        raise ConfigError("-o OUT is needed: a .safetensors, or a folder")
    for note in config.notes:
        say(f"note: {note}", error=True)
    out = None if options.dry_run else check_output(str(options.output), folder=True)
    _merge(options, config, out)


def _merge(options: argparse.Namespace, config: mergekit.MergekitConfig, out: Path | None) -> None:
    """The merge of a configuration, written to ``out``; its plan is printed where there is none."""
    named = (*config.models, *([] if config.base is None else [config.base]))
    paths = {model: _place(model, options.config) for model in named}
    files = {model: _files(path) for model, path in paths.items()}
    sources = {
        model: found.tensors if found else _read(paths[model]) for model, found in files.items()
    }
    members = [sources[model] for model in config.models]
    base = None if config.base is None else sources[config.base]
    steps = mergekit.MergekitMerge(config).steps(members, base=base)
    if out is None:
        return say_plan(steps, config.models, config.base, threads=options.threads)
    first = config.slices[0].sources[0].model
    inputs = {"config": options.config, **paths}
    about = {"format": "pt"}
    merged = {"config": Path(options.config).read_text()}
    job = Job(steps, files[first], inputs, config=merged, about=about, threads=options.threads)
    write_merge(out, job, like=paths[first])
    say(f"{out}: written, {config.method} of {len(config.models)}; nothing was scored")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsl merge CONFIG.yaml", description="Merge as mergekit's YAML says."
    )
    parser.add_argument("config", help="mergekit's YAML; its models are paths")
    parser.add_argument("-o", "--output", help="merged checkpoint, .safetensors, or a folder")
    add_running_arguments(parser)
    return parser


def _parsed(path: str) -> mergekit.MergekitConfig:
    try:
        return mergekit.parse(Path(path).read_text())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _place(model: str, config: str) -> str:
    """The path of a model; raises `ConfigError` if nothing is there."""
    for place in (Path(model), Path(config).parent / model):
        if place.exists():
            return str(place)
    raise ConfigError(
        f"{config}: model {model}: there is no such file or folder; models are paths, so download "
        "it first"
    )


def _files(path: str) -> large.TensorFiles | None:
    return None if large.safetensors_of(path) is None else large.open_files(path)


def _read(path: str) -> Mapping[str, large.TensorSlices]:
    """The weights of a file of another format, in memory."""
    params, notes = open_checkpoint(path).choose(None)
    for note in notes:
        say(f"note: {note}", error=True)
    return params
