"""`Function`: a float64 copy of a network as a function of its weights, moved in place.

    f(example) -> ForwardPass    the output as a vector, and what must move with the weights:
                                 their gradients, and the buffers that the pass updates

The copy is the only one: an element is applied tensor by tensor and undone by its inverse, so that
a network of P weights costs 8 P bytes and its largest tensor once more. Buffers that a forward pass
changes are put back after it. Each pass starts from the same random state, autocast is off, and
whatever precision the network asks for it gets float64 (`wsl.symmetry.verify.double`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from wsl.params import Params
from wsl.symmetry.spec import SpecError
from wsl.symmetry.verify.calls import Example, ForwardPass, alike, put_back, tensors_of
from wsl.symmetry.verify.copies import copied, materialized, refuse_meta
from wsl.symmetry.verify.double import Double, widened
from wsl.symmetry.verify.draw import Watch, calibrating, draw, is_matrix
from wsl.symmetry.verify.memory import Memory
from wsl.symmetry.verify.moves import Moves, inverse, moved


class Function:
    """The copy; its weights are where `randomize` put them whenever nothing is being measured."""

    def __init__(self, model: nn.Module, *, seed: int, materialize: bool = False) -> None:
        if not materialize:
            refuse_meta(model)
        self.original = _state(model)
        self.model = materialized(copied(model))._apply(widened)
        self.seed = seed
        self.state = _state(self.model)
        self.memories = tuple(map(tuple, _by_memory(self.state).values()))
        self.variances: set[str] = set()
        self._memory = Memory(self.model)

    def randomize(self, generator: torch.Generator, example: Example) -> None:
        """Draw weights and buffers at random, in layers whose outputs are of unit size.

        Where the pass shows that a variance was not drawn positive, all are drawn once more.
        """
        start = generator.get_state()
        for _ in range(2):
            generator.set_state(start)
            draw(self.state, self.variances, generator)
            vectors = {n: t for n, t in self.state.items() if not is_matrix(t)}
            watch = Watch(vectors, self.original)
            with calibrating(self.model):
                self(example, watch=watch)
            if watch.variances <= self.variances:
                break
            self.variances |= watch.variances

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

    def reference(self, example: Example) -> ForwardPass:
        """A run to compare with. Raises `SpecError` if nothing can be told from it."""
        run = self(example)
        norm = float(run.output.norm())
        if not 0 < norm < math.inf:
            raise SpecError(
                f"verify: the output has norm {norm} for random weights, so nothing can be told "
                f"({example}); try another seed or other inputs"
            )
        if example.gradients and not run.tensors:
            raise SpecError(
                "verify: no output depends on the weights in a way that can be differentiated; "
                "leave gradients out"
            )
        return run

    def error(self, example: Example, moves: Moves, reference: ForwardPass) -> float:
        """Relative error of the moved network: of its output, and of what should have moved too."""
        with self.moved(moves):
            run = self(example)
        return _error(run, moves, reference)

    def refuse_if_no_function(
        self, example: Example, reference: ForwardPass, tolerance: float
    ) -> None:
        """Raise `SpecError` if the network is no function of its input and weights.

        To be asked after a move changed the output: then this, not the move, is the reason.
        """
        for why, run, expected in self._second_calls(example, reference):
            if not _error(run, {}, expected) <= tolerance:
                raise SpecError(
                    "verify: the function gives another output for the same input and weights: "
                    f"{why(self)}"
                )

    def _second_calls(
        self, example: Example, reference: ForwardPass
    ) -> Iterator[tuple[Callable[[Function], str], ForwardPass, ForwardPass]]:
        """Runs that are equal if the network is a function, and why they are not if it is none."""
        with self._smaller():  # what was computed from other weights and kept does not fit these
            kept = self(example)
            with self._memory.as_at_first():
                fresh = self(example)
        yield lambda f: _what_remembers(f._remembered(example)), fresh, kept
        with put_back(self.model):
            self(example, all_buffers=False)
            later = self(example)
        yield lambda _: "buffers outside the state dict remember earlier calls", later, reference
        if reference.random:
            other = self(example, seed=self.seed + 1)
            yield lambda _: _what_draws(reference.random, example), other, reference

    @contextlib.contextmanager
    def _smaller(self) -> Iterator[None]:
        """All weights are a little smaller for the time of a block."""
        theta = {n: t.detach().clone() for n, t in self.state.items() if _continuous(t)}
        with torch.no_grad():
            for name, tensor in theta.items():
                self.state[name].copy_(0.9 * tensor)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in theta.items():
                    self.state[name].copy_(tensor)

    def _remembered(self, example: Example) -> list[str]:
        """Attributes that two calls in a row leave with different values."""
        self(example)
        memory = Memory(self.model)
        self(example)
        return memory.changed()

    def __call__(
        self,
        example: Example,
        *,
        seed: int | None = None,
        all_buffers: bool = True,
        watch: contextlib.AbstractContextManager[Any] | None = None,
    ) -> ForwardPass:
        """One forward pass, and one backward pass where gradients are asked for.

        ``watch`` sees the operations as the network writes them; without ``all_buffers`` those
        outside the state dict keep what the pass wrote.
        """
        self._prepare(example)
        with (
            self._alike(seed),
            put_back(self.model, all_of_them=all_buffers),
            torch.set_grad_enabled(example.gradients),
            Double() as mode,
            watch or contextlib.nullcontext(),
        ):
            vector = self._output(example)
            tensors = self._gradients(vector) if example.gradients else {}
            tensors |= self._buffers() if example.training else {}
        return ForwardPass(vector.detach(), tensors, mode.random)

    def _alike(self, seed: int | None) -> contextlib.AbstractContextManager[Any]:
        """The same random numbers in every call, on all devices."""
        devices = {t.device for t in self.state.values() if t.is_cuda}
        return alike(self.seed if seed is None else seed, devices)

    def _prepare(self, example: Example) -> None:
        self.model.train(example.training)
        for module in self.model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        for tensor in self.state.values():
            tensor.requires_grad_(
                example.gradients and isinstance(tensor, nn.Parameter) and _continuous(tensor)
            )

    def _output(self, example: Example) -> Tensor:
        """All that the network returns, as one vector."""
        args, kwargs = tree_map_only(
            Tensor, lambda t: widened(t).clone(), (example.args, dict(example.kwargs))
        )
        outputs = self.model(*args, **kwargs)
        leaves = [*tensors_of(outputs)]
        if not leaves:
            raise SpecError(
                f"verify: the model returns {type(outputs).__name__} without any tensor"
            )
        return torch.cat([_real(leaf) for leaf in leaves])

    def _gradients(self, vector: Tensor) -> Params:
        """Of a random weighting of the output; nothing, where it does not depend on the weights."""
        names = [name for name, t in self.state.items() if t.requires_grad]
        if not vector.requires_grad or not names:
            return {}
        gradients = torch.autograd.grad(
            vector, [self.state[n] for n in names], self._weighting(vector), allow_unused=True
        )
        return {n: g.to_dense() for n, g in zip(names, gradients, strict=True) if g is not None}

    def _weighting(self, vector: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        return weights.to(vector.device)

    def _buffers(self) -> Params:
        now = {
            n: t.detach().clone()
            for n, t in self.model.state_dict().items()
            if not isinstance(self.state.get(n), nn.Parameter)
        }
        return {
            name: tensor if _continuous(tensor) else tensor.double() for name, tensor in now.items()
        }


def _state(model: nn.Module) -> Params:
    state = model.state_dict(keep_vars=True)
    return {name: t for name, t in state.items() if isinstance(t, Tensor)}


def _by_memory(state: Mapping[str, Tensor]) -> dict[int, list[str]]:
    """Names of tensors that share their memory: tied weights, and views of one tensor."""
    found: dict[int, list[str]] = {}
    for name, tensor in state.items():
        found.setdefault(tensor.untyped_storage()._cdata, []).append(name)
    return found


def _what_remembers(names: list[str]) -> str:
    where = f" in {', '.join(names)}" if names else ""
    return (
        f"it remembers earlier calls{where}, or draws random numbers without torch's generator; "
        "nothing can be told while it does"
    )


def _what_draws(operation: str | None, example: Example) -> str:
    when = " in training" if example.training else ""
    otherwise = "leave training out" if example.training else "switch them off"
    return (
        f"the model draws random numbers{when} ({operation}), which stay in place while units "
        "move, so nothing can be told; set the dropout probabilities inside its layers to 0, or "
        f"{otherwise}"
    )


def _continuous(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _real(tensor: Tensor) -> Tensor:
    """The entries as one float64 vector."""
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().flatten()


def _error(run: ForwardPass, moves: Moves, reference: ForwardPass) -> float:
    """The largest of the relative errors of the output and of each tensor that moves along.

    A tensor that is all but zero is compared relatively to the largest one.
    """
    error = _difference(run.output, reference.output, float(reference.output.norm()))
    largest = max((float(t.norm()) for t in reference.tensors.values()), default=0.0)
    for name, tensor in reference.tensors.items():
        expected = moved(tensor, moves.get(name, {}))
        size = max(float(tensor.norm()), 1e-3 * largest)
        error = max(error, _difference(run.tensors[name], expected, size))
    return error


def _difference(found: Tensor, expected: Tensor, norm: float) -> float:
    """Relative to a norm; infinite where the shapes differ or nothing finite came out."""
    if found.shape != expected.shape:
        return math.inf
    kind = expected.dtype if expected.is_complex() else torch.float64
    error = float((found - expected).to(kind).norm())
    if not error:
        return 0.0
    return error / norm if norm and not math.isnan(error) else math.inf
