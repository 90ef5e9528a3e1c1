"""What networks do, beside what the members do: errors in common, disagreement, use in an ensemble.

    max IoU        max_n |E and E_n| / |E or E_n|              E the test items that one gets wrong
    disagreement   share of test items on which a network and its nearest member answer differently
    gain           accuracy of k members and the network together - that of the k members

A network of a fresh seed shares some errors with members, since some items are hard; how many is
read off the members themselves, each left out once. Zeng et al. (2025), arXiv 2506.07998.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from wsl.params import Params
from wsl.params import members as count_of
from wsl.populations import Examples, logits

ENSEMBLE = 4
"""Members that a network is added to, to see whether it adds anything."""

_AT_ONCE = 32


def answers(model: nn.Module, params: Mapping[str, Tensor], examples: Examples) -> Tensor:
    """Probabilities (N, items, classes) of stacked networks, float32."""
    found = [logits(model, part, examples.images) for part in _parts(params)]
    return torch.cat(found).float().softmax(-1)


def predictions(model: nn.Module, params: Mapping[str, Tensor], examples: Examples) -> Tensor:
    """The class (N, items) that each network says, int64."""
    return torch.cat([logits(model, part, examples.images).argmax(-1) for part in _parts(params)])


def _parts(params: Mapping[str, Tensor]) -> Iterator[Params]:
    for i in range(0, count_of(params), _AT_ONCE):
        yield {name: tensor[i : i + _AT_ONCE] for name, tensor in params.items()}


def max_iou(errors: Tensor, others: Tensor) -> Tensor:
    """Largest intersection over union of each row's errors with those of any other network.

    ``errors`` (n, items) and ``others`` (N, items) are boolean; the answer is (n,). Two networks
    without errors cannot be told apart by them: their ratio 0/0 counts as 1. Identical rows give 1.

    >>> import torch
    >>> drawn, members = torch.tensor([[1, 1, 0, 0]]), torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1]])
    >>> [round(share, 3) for share in max_iou(drawn.bool(), members.bool()).tolist()]
    [0.333]
    """
    if errors.dim() != 2 or others.dim() != 2 or errors.shape[1] != others.shape[1]:
        raise ValueError(
            f"max_iou: errors {tuple(errors.shape)} and others {tuple(others.shape)}, but (n, "
            "items) and (N, items) of the same items are needed"
        )
    if not len(others):
        raise ValueError("max_iou: there is no other network to share errors with")
    a, b = errors.double(), others.double()
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1) - both
    return torch.where(either > 0, both / either.clamp_min(1), 1.0).amax(1)


def largest_overlap(wrong: Tensor, others: Tensor, *, own: Tensor | None = None) -> Tensor:
    """`max_iou` of ``wrong`` (n, items) with ``others`` (N, items), (n,).

    own: (n, N) bool, pairs that do not count, as a member and the checkpoints of its own run.
    """
    if own is None:
        return max_iou(wrong, others)
    return torch.cat(
        [max_iou(row[None], others[~same]) for row, same in zip(wrong, own, strict=True)]
    )


def ensemble_gain(
    added: Tensor, members: Tensor, labels: Tensor, *, generator: torch.Generator
) -> Tensor:
    """What each of ``added`` (n, items, classes) adds to `ENSEMBLE` random members, (n,).

    The mean of the networks' probabilities answers. ``members`` (N, items, classes), another draw
    of them for each network; the same draws for the same state of ``generator``.
    """
    few = min(ENSEMBLE, len(members))
    gains = []
    for one in added:
        rows = torch.randperm(len(members), generator=generator)[:few]
        total = members[rows].sum(0)
        before, after = ((p.argmax(-1) == labels).double().mean() for p in (total, total + one))
        gains.append(after - before)
    return torch.stack(gains)
