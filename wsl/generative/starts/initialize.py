"""Initial weights from a generator instead of from a distribution.

    theta_0 ~ p(theta | condition)        in place of        theta_0 ~ N(0, sigma^2)

Whether it pays is an empirical question: compare the accuracy as drawn and the steps to a target
with the default initialisation, and with the nearest member of the population, which costs nothing
to generate.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar, cast

import torch
from torch import nn

from wsl.generative.problem import Condition, Generator, Initializer, Start, is_generator
from wsl.generative.starts.asked import starting_weights
from wsl.generative.starts.initializers import GeneratedStart
from wsl.generative.starts.table import initializer

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def initialize(
    model: Module,
    method: Generator | Initializer | str,
    *,
    start: Start | None = None,
    condition: Condition | None = None,
    seed: int = 0,
) -> Module:
    """Fill ``model`` in place with one network drawn by ``method``; device and dtype stay its own.

    method: a fitted generator, asked for ``condition``, an initialiser, or the name of one in
    `INITIALIZERS`. start: what is known of the network's kind, for initialisers that need more than
    the model; a ``condition`` given here takes the place of its own.
    Raises `SpecError` when names or shapes of the model are not those that the generator was made
    for, ValueError for an unknown name, or an initialiser that lacks what it needs.
    """
    asked = dataclasses.replace(start or Start(model), model=model, seed=seed)
    if condition is not None:
        asked = dataclasses.replace(asked, condition=condition)
    if isinstance(method, str):
        method = initializer(method)
    if is_generator(method):
        asked = dataclasses.replace(asked, fitted=method, spec=method.spec, condition=condition)
        if condition is not None and asked.asked is None:
            raise ValueError(
                f"condition: {type(method).__name__} was made for "
                + ("numbers, not examples" if method.conditions else "none; leave it out")
            )
        method = GeneratedStart()
    own = model.state_dict()
    if asked.spec is not None:
        asked.spec.validate(own)
    drawn = starting_weights(
        cast("Initializer", method), asked, 1, generator=torch.Generator().manual_seed(seed)
    )
    for name, tensor in own.items():
        tensor.copy_(drawn[name][0])
    return model
