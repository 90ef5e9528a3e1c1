"""One form of help for every verb: what it does, its flags, the flags of all verbs, examples."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from wsl.cli.config import recipes

EXAMPLES = {
    "zoo": (
        "wsl zoo build datasets=digits_cnn output=zoo.h5",
        "wsl zoo import my_runs/ -o zoo.h5 --model my_code:Network --input-shape 1,28,28",
        "wsl zoo info zoo.h5 --where 'test_accuracy > 0.9'",
        "wsl zoo look zoo.h5 -o page.html",
        "wsl zoo export zoo.h5 -o weights/ --rows 0 1 2",
    ),
    "train": (
        "wsl train models=unf datasets=digits_cnn seed=0 settings.epochs=30",
        "wsl train models=unf zoo=mine.h5 target=test_accuracy",
    ),
    "evaluate": (
        "wsl evaluate runs/train/digits_cnn-unf-0 --split val",
        "wsl evaluate runs/train/mine-unf-0 new.pt other.pt --zoo mine.h5",
    ),
    "spec": (
        "wsl spec my_code:Network --input-shape 1,28,28 --verify",
        "wsl spec torchvision:resnet18 --input-shape 1,3,64,64 --meta -o resnet18.spec",
    ),
    "check": ("wsl check a.safetensors b.safetensors --model my_code:Network",),
    "match": (
        "wsl match a.safetensors b.safetensors -o aligned.safetensors --model my_code:Network",
        "wsl match --apply aligned.permutation.json adapter.safetensors -o moved.safetensors",
        "wsl match llama_a/ llama_b/ -o aligned/ --stream",
    ),
    "connect": (
        "wsl connect a.pt b.pt --model my_code:Network --data test.npz -o runs/path",
        "wsl connect a.pt b.pt --model my_code:Network --data test.npz -o runs/path --report "
        "page.html",
    ),
    "merge": (
        "wsl merge a.pt b.pt c.pt -o merged.safetensors --model my_code:Network",
        "wsl merge a/ b/ -o merged/ --base base/ --method ties density=0.2",
        "wsl merge mergekit.yaml -o merged/ --dry-run",
        "wsl merge a.pt b.pt -o merged.safetensors --model my_code:Network --data test.npz "
        "--report page.html",
        "wsl merge adapter_a/ adapter_b/ --weights 0.6 -0.4 -o sum/ --rank 8",
    ),
    "generate": (
        "wsl generate models=weight_diffusion datasets=digits_cnn samples=16",
        "wsl generate models=weight_diffusion zoo=mine.h5 model=my_code:Network data=train.npz",
        "wsl generate --from runs/generate/RUN --condition 0.95 -n 8 -o drawn",
        "wsl generate --from RUN --condition-on my_images.npz -n 8 -o drawn",
    ),
    "init-compare": (
        "wsl init-compare datasets=digits_cnn starts=[default_init,lsuv,soup] output=runs/starts",
        "wsl init-compare --model my_code:Network --data train.npz --starts default,kaiming,lsuv "
        "-o runs/starts",
    ),
    "env": ("wsl env --json",),
    "completion": (
        "wsl completion bash > ~/.local/share/bash-completion/completions/wsl",
        "wsl completion zsh > ~/.zfunc/_wsl",
        "wsl completion fish > ~/.config/fish/completions/wsl.fish",
    ),
}
"""What people type, verb by verb."""

RECIPE_FLAGS: Mapping[str, tuple[str | None, str]] = {
    "--data-root": ("FOLDER", "where the files of MNIST or CIFAR-10 lie"),
    "--config-dir": ("FOLDER", "recipes of your own, in its folders models and datasets"),
    "--trust-config": (None, "recipes may run code that is not part of wsl"),
}
"""Flags of every verb that composes recipes; `wsl.cli.config.compose` reads them."""

EVERYWHERE = (
    "every verb also takes -q (only errors), -v (what it took), --json (one document on stdout)\n"
    "and --debug"
)


def verb_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """The parser of ``wsl VERB``, with its examples at the end of the help."""
    return argparse.ArgumentParser(
        prog=f"wsl {verb}",
        description=description,
        epilog=epilog(verb),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def grouped(parser: argparse.ArgumentParser, groups: Mapping[str, Sequence[str]]) -> None:
    """Show flags under titles in the help: by what they are stored as, the rest as before.

    A title without flags has a text instead.
    """
    for title, names in groups.items():
        text = names if isinstance(names, str) else None
        group = parser.add_argument_group(title, text)
        own = () if text else names
        for action in [a for name in own for a in _stored(parser, name)]:
            for other in parser._action_groups:
                other._group_actions = [a for a in other._group_actions if a is not action]
            group._group_actions.append(action)


def _stored(parser: argparse.ArgumentParser, name: str) -> list[argparse.Action]:
    """The flags that are stored as ``name``."""
    return [action for action in parser._actions if action.dest == name]


def recipe_parser(verb: str, description: str, *, keys: str) -> argparse.ArgumentParser:
    """The help of a verb that takes recipes and overrides, which Hydra reads."""
    parser = verb_parser(verb, description)
    for group in ("models", "datasets"):
        parser.add_argument(f"{group}=NAME", help=", ".join(recipes(group)))
    parser.add_argument("KEY=VALUE", nargs="*", help=keys)
    for flag, (value, what) in RECIPE_FLAGS.items():
        if value is None:
            parser.add_argument(flag, help=what, action="store_true")
        else:
            parser.add_argument(flag, help=what, metavar=value)
    return parser


def epilog(verb: str) -> str:
    """What follows the flags in a verb's help."""
    lines = "\n".join(f"  {example}" for example in EXAMPLES[verb])
    return f"{EVERYWHERE}\n\nexamples:\n{lines}"
