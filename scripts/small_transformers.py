"""A small GPT, over characters or words, and a small ViT over digits, and how they are trained.

All are blocks of attention and a feed-forward layer behind layer norms, with positions that are
learned and a head of its own. The text is the manual that CPython ships (`pydoc_data.topics`). The
GPT over characters is trained to the end of its schedule; that over words has few words and many
weights, and is stopped where the loss on a part that is kept aside is lowest, as the networks of
Theus et al. (2025), arXiv 2506.22712, are. Digits are MNIST's, 16 patches of 7 x 7 pixels.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.populations.tasks.images import Images, mnist

LENGTH = 64
Data = tuple[Tensor, Tensor]
"""Inputs and what they should give."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a transformer: ``length`` tokens, of ``inputs`` numbers each or a vocabulary."""

    width: int
    depth: int
    length: int
    outputs: int
    inputs: int = 0
    heads: int = 4


class Block(nn.Module):
    """Attention and a feed-forward layer of four times the width, each behind a layer norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads, self.causal = shape.heads, not shape.inputs
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, length, width) to the same."""
        y = self.norm1(x)
        q, k, v = (
            f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class SmallTransformer(nn.Module):
    """A GPT of token numbers (N, length), or a ViT of patches (N, length, inputs)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.images = bool(shape.inputs)
        self.embed = (
            nn.Linear(shape.inputs, width) if self.images else nn.Embedding(shape.outputs, width)
        )
        self.positions = nn.Parameter(0.02 * torch.randn(shape.length, width))
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, shape.outputs)
        if not self.images:
            # As in GPT-2: embeddings of unit size stay what the seed drew, rare tokens above all.
            nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every next token (N, length, outputs), or of the image (N, outputs)."""
        y = self.norm(self.blocks(self.embed(x) + self.positions))
        return self.head(y.mean(1) if self.images else y)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW with warm-up and one cosine, gradients of norm 1 at most.

    patience: every 50 steps the loss on the validation part is measured; training stops when so
    many measurements in a row brought no new lowest one, and the weights of the lowest are kept.
    stop: end after so many steps, on the schedule of all.
    """

    steps: int
    batch: int
    rate: float = 2e-3
    decay: float = 0.1
    patience: int | None = None
    stop: int | None = None


def manual() -> str:
    """The manual that CPython ships, its topics in the order of their names."""
    from pydoc_data import topics

    return "\n".join(topics.topics[name] for name in sorted(topics.topics))


class Text:
    """Windows of 64 characters of the manual, each to be continued by one."""

    def __init__(self, root: Path | None = None, *, width: int = 128) -> None:
        del root
        text = manual()
        numbers = {character: i for i, character in enumerate(sorted(set(text)))}
        tokens = torch.tensor([numbers[character] for character in text])
        cut = int(0.9 * len(tokens))
        self.parts = {"train": tokens[:cut], "test": tokens[cut:]}
        self.shape, self.recipe = Shape(width, 2, LENGTH, len(numbers)), Recipe(1500, 16)

    def draw(self, count: int, rng: torch.Generator, part: str = "train") -> Data:
        """Windows from anywhere (count, 64), and the same one character later."""
        tokens = self.parts[part]
        starts = torch.randint(len(tokens) - LENGTH, (count,), generator=rng)
        rows = torch.stack([tokens[i : i + LENGTH + 1] for i in starts])
        return rows[:, :-1], rows[:, 1:]


class Words(Text):
    """Windows of 64 words of the manual; a word that training text has not thrice is spelled.

    Paragraphs are shuffled before they are parted, since its chapters differ: 90 % of them are for
    training, 5 % for validation, 5 % for tests.
    """

    def __init__(self, root: Path | None = None, *, width: int = 128) -> None:
        super().__init__(root, width=width)
        texts = paragraphs()
        words = {part: re.findall(r" ?\w+| ?[^\w\s]+|\s+", text) for part, text in texts.items()}
        seen = collections.Counter(words["train"])
        known = {word for word, count in seen.items() if count > 2} | set("".join(texts.values()))
        numbers = {word: i for i, word in enumerate(sorted(known))}
        self.parts = {part: numbered(each, numbers) for part, each in words.items()}
        self.shape = Shape(width, 2, LENGTH, len(numbers))
        self.recipe = Recipe(3000, 16, rate=1e-3, decay=0.01, patience=3)


def paragraphs() -> dict[str, str]:
    """The manual in three parts of paragraphs, drawn from all of it in the same way every time."""
    # The manual says many of its paragraphs in several chapters; once will do, or tests would be of
    # what was learned by heart.
    found = [*dict.fromkeys(re.split(r"\n\s*\n", manual()))]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    first, second = int(0.9 * len(found)), int(0.95 * len(found))
    parts = {"train": order[:first], "valid": order[first:second], "test": order[second:]}
    return {part: "\n\n".join(found[i] for i in rows) for part, rows in parts.items()}


def numbered(words: list[str], numbers: dict[str, int]) -> Tensor:
    """The numbers of words, and of the characters of a word that has none."""
    spelled = ([word] if word in numbers else [*word] for word in words)
    return torch.tensor([numbers[piece] for pieces in spelled for piece in pieces])


class Digits:
    """MNIST as 16 patches (N, 16, 49)."""

    def __init__(self, root: Path, *, width: int = 64) -> None:
        found = mnist(root)
        self.parts = {"train": patches(found.train), "test": patches(found.test)}
        self.shape, self.recipe = Shape(width, 2, 16, 10, inputs=49), Recipe(1200, 64)

    def draw(self, count: int, rng: torch.Generator, part: str = "train") -> Data:
        """Images and labels, each drawn from all."""
        x, y = self.parts[part]
        rows = torch.randint(len(y), (count,), generator=rng)
        return x[rows], y[rows]


def patches(images: Images) -> Data:
    """Normalised patches (N, 16, 49) and labels (N,)."""
    x = (torch.tensor(images[0]).float() / 255 - 0.1307) / 0.3081
    x = x.unflatten(1, (4, 7)).unflatten(3, (4, 7)).transpose(2, 3)
    return x.flatten(1, 2).flatten(2), torch.tensor(images[1]).long()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The mean over all that is told, images or tokens."""
    return F.cross_entropy(logits.flatten(0, -2), target.flatten())


def trained(task: Text | Digits, seed: int) -> SmallTransformer:
    """A network from its seed; the same on every run of one machine."""
    torch.manual_seed(seed)
    rng, recipe = torch.Generator().manual_seed(seed), task.recipe
    model = SmallTransformer(task.shape)
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.95)
    )
    best = Best(model, task, recipe.patience)
    for step in range(recipe.stop or recipe.steps):
        falling = 0.5 + 0.5 * math.cos(math.pi * step / recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1, (step + 1) / 100) * falling
        x, y = task.draw(recipe.batch, rng)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if best.stops(step + 1):
            break
    return best.model.eval()


class Best:
    """The network with the lowest loss on the validation part, where a recipe asks for it."""

    def __init__(
        self, model: SmallTransformer, task: Text | Digits, patience: int | None, every: int = 50
    ) -> None:
        self.running = self.model = model
        self.patience, self.every = patience, every
        self.losses: list[float] = []
        if patience:
            self.held = task.draw(100, torch.Generator().manual_seed(20_000), "valid")

    @torch.no_grad()
    def stops(self, steps: int) -> bool:
        """Look at the network after so many steps; whether patience is at its end."""
        if not self.patience or steps % self.every:
            return False
        loss = float(cross_entropy(self.running(self.held[0]), self.held[1]))
        if loss < min(self.losses, default=math.inf):
            self.model = copy.deepcopy(self.running)
        self.losses.append(loss)
        best = self.losses.index(min(self.losses))
        return len(self.losses) - 1 - best >= self.patience
