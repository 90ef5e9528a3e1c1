"""Descriptions: plain dicts with a ``_target_`` and its arguments, built by an allow-list only.

    {"_target_": "wsl.zoo.architectures.mlp", "widths": [64, 32, 10]}  ->  mlp(widths=[64, 32, 10])

It is Hydra's form, so that a recipe and the attributes of a zoo file read alike; but a file is data
from elsewhere, hence no import by name: what is not in the list is refused, not executed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from wsl.base import did_you_mean
from wsl.zoo import ZooError


def build(
    description: Mapping[str, Any], *, allowed: Mapping[str, Callable[..., Any]], what: str
) -> Any:
    """Call the target of ``description`` with its other entries.

    ``allowed`` maps names of targets to functions; ``what`` is said first in messages. Raises
    `ZooError` on an unknown target or argument.
    """
    if not isinstance(description, Mapping) or "_target_" not in description:
        raise ZooError(f"{what}: expected a dict with '_target_', got {description!r}")
    arguments = dict(description)
    target = arguments.pop("_target_")
    if target not in allowed:
        hint = did_you_mean(str(target), allowed)
        raise ZooError(f"{what}: '_target_: {target}' is not one of {', '.join(allowed)}{hint}")
    try:
        inspect.signature(allowed[target]).bind(**arguments)
    except TypeError as error:
        raise ZooError(
            f"{what}: {target}: {error}; it takes {inspect.signature(allowed[target])}"
        ) from None
    return allowed[target](**arguments)
