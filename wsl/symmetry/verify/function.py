"""`Function`: a float64 copy of a network as a function of its weights, which group elements move
in place.

    f(example) -> Run: the output as one vector, and what must move along with the weights: their
    gradients, updated buffers

The copy is the only one: an element is applied tensor by tensor and undone by its inverse, so that
a network of P weights costs 8 P bytes and its largest tensor once more. Buffers that a forward pass
changes are put back after it. Each pass starts from the same random state, autocast is off, and
whatever precision the network asks for it gets float64 (`wsl.symmetry.verify.double`).
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from wsl.params import Params
from wsl.symmetry.spec import SpecError
from wsl.symmetry.verify.calibrate import calibrating
from wsl.symmetry.verify.calls import Example, Run, alike, put_back
from wsl.symmetry.verify.double import Double, widened
from wsl.symmetry.verify.materialize import materialized, refuse_meta
from wsl.symmetry.verify.moves import Moves, inverse, moved
from wsl.symmetry.verify.outputs import tensors_of


class Function:
    """The copy; its weights are where `randomize` put them whenever nothing is being measured."""

    def __init__(self, model: nn.Module, *, seed: int, materialize: bool = False) -> None:
        if not materialize:
            refuse_meta(model)
        self.model = materialized(copy.deepcopy(model))._apply(widened)
        self.seed = seed
        self.state: Params = {
            n: t for n, t in self.model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)
        }
        memories: dict[int, list[str]] = {}
        for name, tensor in self.state.items():
            memories.setdefault(tensor.untyped_storage()._cdata, []).append(name)
        self.memories = tuple(map(tuple, memories.values()))

    def randomize(self, generator: torch.Generator, example: Example) -> None:
        """Vectors and buffers away from 0 and 1, positive where they were; layers whose outputs are
        of unit size on an example.

        Integers are kept.
        """
        self._draw(generator)
        with calibrating(self.model):
            self(example)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        for tensor in self.state.values():
            if not _continuous(tensor) or not tensor.numel():
                continue
            drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter) and tensor.dim() > 1:
                drawn *= (2 / tensor[0].numel()) ** 0.5
            elif not tensor.is_complex() and bool((tensor > 0).all()):
                drawn = 0.5 + drawn.abs()
            else:
                drawn *= 0.5
            tensor.copy_(drawn)

    @contextlib.contextmanager
    def moved(self, moves: Moves) -> Iterator[None]:
        """The weights are moved for the time of a block."""
        self._move(moves)
        try:
            yield
        finally:
            self._move(inverse(moves))

    @torch.no_grad()
    def _move(self, moves: Moves) -> None:
        for names in self.memories:
            if not any(name in moves for name in names):
                continue
            new = {name: moved(self.state[name], moves.get(name, {})) for name in names}
            for name, tensor in new.items():
                self.state[name].copy_(tensor)
            for name, tensor in new.items() if len(names) > 1 else ():
                if not torch.equal(self.state[name], tensor):
                    raise SpecError(
                        f"{name}: shares its memory with another tensor, but the specification "
                        "moves them differently"
                    )

    def reference(self, example: Example) -> Run:
        """A run to compare with. Raises `SpecError` if nothing can be told from it."""
        run = self(example)
        norm = float(run.output.norm())
        if not 0 < norm < math.inf:
            raise SpecError(
                f"verify: the output has norm {norm} for random weights, so nothing can be told "
                f"({example}); "
                "try another seed or other inputs"
            )
        if example.gradients and not run.tensors:
            raise SpecError(
                "verify: no output depends on the weights in a way that can be differentiated; "
                "leave gradients out"
            )
        return run

    def error(self, example: Example, moves: Moves, reference: Run) -> float:
        """Relative error of the moved network: of its output, and of each tensor that should have
        moved along.
        """
        with self.moved(moves):
            run = self(example)
        error = _difference(run.output, reference.output, float(reference.output.norm()))
        largest = max((float(t.norm()) for t in reference.tensors.values()), default=0.0)
        for name, tensor in reference.tensors.items():
            expected = moved(tensor, moves.get(name, {}))
            error = max(
                error,
                _difference(run.tensors[name], expected, max(float(tensor.norm()), 1e-3 * largest)),
            )
        return error

    def __call__(self, example: Example) -> Run:
        """One forward pass, and one backward pass where gradients are asked for."""
        self.model.train(example.training)
        for module in self.model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        args, kwargs = tree_map_only(
            Tensor, lambda t: widened(t).clone(), (example.args, dict(example.kwargs))
        )
        for tensor in self.state.values():
            tensor.requires_grad_(
                example.gradients and isinstance(tensor, nn.Parameter) and _continuous(tensor)
            )
        devices = {t.device for t in self.state.values() if t.is_cuda}
        with (
            alike(self.seed, devices),
            put_back(self.model),
            torch.set_grad_enabled(example.gradients),
            Double() as mode,
        ):
            outputs = self.model(*args, **kwargs)
            leaves = [*tensors_of(outputs)]
            if not leaves:
                raise SpecError(
                    f"verify: the model returns {type(outputs).__name__} without any tensor"
                )
            vector = torch.cat([_real(leaf) for leaf in leaves])
            tensors = self._gradients(vector) if example.gradients else {}
            tensors |= self._buffers() if example.training else {}
        return Run(vector.detach(), tensors, mode.random)

    def _gradients(self, vector: Tensor) -> Params:
        """Of a random weighting of the output; nothing, where it does not depend on the weights."""
        names = [name for name, t in self.state.items() if t.requires_grad]
        if not vector.requires_grad or not names:
            return {}
        weights = torch.randn(
            vector.shape, generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64
        )
        gradients = torch.autograd.grad(
            vector, [self.state[n] for n in names], weights.to(vector.device), allow_unused=True
        )
        return {
            name: gradient.to_dense()
            for name, gradient in zip(names, gradients, strict=True)
            if gradient is not None
        }

    def _buffers(self) -> Params:
        now = {
            n: t.detach().clone()
            for n, t in self.model.state_dict().items()
            if not isinstance(self.state.get(n), nn.Parameter)
        }
        return {
            name: tensor if _continuous(tensor) else tensor.double() for name, tensor in now.items()
        }


def _continuous(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _real(tensor: Tensor) -> Tensor:
    """The entries as one float64 vector."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().flatten()


def _difference(found: Tensor, expected: Tensor, norm: float) -> float:
    """Relative to a norm; infinite where the shapes differ or nothing finite came out."""
    if found.shape != expected.shape:
        return math.inf
    error = float(
        (found - expected).to(expected.dtype if expected.is_complex() else torch.float64).norm()
    )
    if not error:
        return 0.0
    return error / norm if norm and not math.isnan(error) else math.inf
