"""`evaluate`: what a functional says of the members of a split, and how well.

Members are read in the order of the file, in batches; the outputs of all are scored together, so
that scores which are no means over members, such as Kendall's tau, are those of the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wsl.params import Params, on_device
from wsl.training.loop.ranks import ALONE, Ranks
from wsl.training.loop.rows import in_order
from wsl.training.objectives import Objective
from wsl.zoo import Checkpoints


def evaluate(
    network: nn.Module,
    zoo: Checkpoints,
    objective: Objective,
    *,
    split: str | None = "test",
    batch_size: int = 256,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Metrics of ``network`` on a split, and per row its number ``row`` and what is told of it.

    ranks: the processes that share the work out, all of which get the result.
    """
    rows = zoo.indices(split)
    if not len(rows):
        raise ValueError(
            f"{zoo.path}: split '{split}' has no members; build the zoo with more members or "
            "other fractions"
        )
    outputs, targets = [], []
    with reading(network) as read:
        mine = rows[ranks.share(len(rows))]
        for theta, metadata, more in in_order(network, zoo, mine, batch_size=batch_size):
            outputs.append(_on_cpu(read(theta, more)))
            targets.append(metadata)
    output, metadata = _joined(ranks.gather(outputs)), _joined(ranks.gather(targets))
    return objective.metrics(output, metadata), {
        "row": torch.as_tensor(rows),
        **objective.rows(output, metadata),
    }


@contextmanager
def reading(network: nn.Module) -> Iterator[Callable[[Params, tuple[Tensor, ...]], Any]]:
    """``network`` in evaluation mode, as a function of weights and codes on any device."""
    device = next(
        (t.device for t in (*network.parameters(), *network.buffers())), torch.device("cpu")
    )
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield lambda theta, more: network(
                on_device(theta, device), *(code.to(device) for code in more)
            )
    finally:
        network.train(training)


def _on_cpu(outputs: Any) -> Any:
    """Numbers (B, features), or weights by name."""
    return (
        {name: t.cpu() for name, t in outputs.items()}
        if isinstance(outputs, Mapping)
        else outputs.float().cpu()
    )


def _joined(batches: Sequence[Any]) -> Any:
    """Batches along their first axis: tensors, or dicts of them."""
    if isinstance(batches[0], Mapping):
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return torch.cat(list(batches))
