"""`program_of`: the graph of a network's operations, by export or by following one call.

    1. torch.export(strict=False), not decomposed: all branches are seen or refused, and weights
       may be on the meta device.
    2. Where Python depends on data, or outputs are dataclasses, export fails:
       `wsl.symmetry.discover.trace` follows one call.
    3. Where that fails too, `SpecError` says what stood in the way and where, and how to go on by
       hand.

What has no readable operations is refused at once: scripted, quantised and lazy modules that were
never called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec
from torch.nn.parameter import is_lazy
from torch.utils._pytree import TreeSpec, tree_map_only

from wsl.symmetry.discover.failure import BY_HAND, FAILURES, told
from wsl.symmetry.discover.trace import follow_call, memory
from wsl.symmetry.spec import SpecError


@dataclasses.dataclass(frozen=True)
class Program:
    """A graph with what its placeholders and outputs stand for, under the names of the state dict.

    ``failure`` says why the network could not be exported; then the graph is that of one call.
    ``reads`` are the values that Python read on the way, on which the path of that call may depend.
    ``taken`` are the tensors that it took from nowhere, by the name of their placeholder, and
    ``outputs`` the structure of what an exported network returns.
    """

    graph_module: fx.GraphModule
    graph_signature: ExportGraphSignature
    constants: Mapping[str, Any]
    reads: tuple[str, ...] = ()
    taken: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    failure: str | None = None
    outputs: TreeSpec | None = None

    @property
    def graph(self) -> fx.Graph:
        """The operations."""
        return self.graph_module.graph


def program_of(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Program:
    """The graph of ``model(*inputs, **kwargs)`` in evaluation mode; the model is left as it was.
    Raises `SpecError`.
    """
    _refuse(model)
    if any(isinstance(t, Tensor) and t.is_meta for t in model.state_dict().values()):
        inputs, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), (inputs, kwargs))
    bare = _unwrapped(model)
    with evaluation_mode(model), evaluation_mode(bare):
        try:
            exported = _export(bare, inputs, kwargs)
            signature = _owned(_renamed(exported, bare, model), exported.constants, model)
            outputs = exported.call_spec.out_spec
            return Program(exported.graph_module, signature, exported.constants, outputs=outputs)
        except FAILURES as error:
            failure = told(error)
        return _followed(model, bare, (inputs, kwargs), failure=failure)


def _followed(
    model: nn.Module,
    bare: nn.Module,
    call: tuple[tuple[Any, ...], dict[str, Any]],
    *,
    failure: str,
) -> Program:
    """The graph of one call, where an export ended in ``failure``."""
    inputs, kwargs = call
    try:
        followed = follow_call(bare, _names(model), inputs=inputs, kwargs=kwargs)
    except FAILURES as error:
        _check_call(bare, inputs, kwargs)
        raise SpecError(
            f"{type(model).__name__}: torch.export cannot read it ({failure}), nor can a "
            "single call be followed "
            f"({told(error)}). {BY_HAND}"
        ) from None
    return Program(*followed, failure=failure)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``model.eval()`` for the time of a block; every submodule's own flag comes back."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def _export(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    with _quiet():
        exported = torch.export.export(model, inputs, kwargs, strict=False)
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and any(not isinstance(n, int) for n in value.shape):
            raise SpecError(f"{node.name} ({node.target}): its shape depends on data")
    return exported


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What torch logs and prints when an export fails is said once, by the error; the rest is
    passed on.
    """
    noise, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(noise), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="The tensor attributes? .* assigned during export"
            )
            warnings.filterwarnings(
                "ignore", message="Converting a tensor with requires_grad=True to a scalar"
            )
            yield
        sys.stderr.write(noise.getvalue())
    finally:
        logging.disable(before)


def _refuse(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise SpecError(f"a specification is read off an nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        where = f"{name or type(model).__name__}: is"
        if isinstance(module, torch.jit.ScriptModule):
            raise SpecError(
                f"{where} a ScriptModule, compiled code that cannot be read; give the module it "
                "was made from"
            )
        if ".quantized" in type(module).__module__:
            raise SpecError(
                f"{where} quantised ({type(module).__module__}); read the float network and "
                "quantise afterwards"
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise SpecError(
                f"{name}: is not initialised; call the lazy module once, on an input of the right "
                "shape"
            )
        if tensor.is_quantized:
            raise SpecError(f"{name}: is quantised; read the float network and quantise afterwards")


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of `torch.compile` and data-parallel wrappers."""
    while True:
        parallel = isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel))
        inside = model.module if parallel else model._modules.get("_orig_mod")
        if not isinstance(inside, nn.Module):
            return model
        model = inside


def _names(model: nn.Module) -> dict[int, str]:
    """Names in the state dict by identity: it is the one thing about a tensor that wrappers
    keep.
    """
    return {
        id(tensor): name
        for name, tensor in model.state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor)
    }


def _renamed(exported: ExportedProgram, bare: nn.Module, model: nn.Module) -> ExportGraphSignature:
    """Targets under the names of ``model``, of which ``bare`` is the inside."""
    signature = exported.graph_signature
    if bare is model:
        return signature
    names = _names(model)
    own = [
        *bare.named_parameters(remove_duplicate=False),
        *bare.named_buffers(remove_duplicate=False),
    ]
    new = {old: names.get(id(tensor), old) for old, tensor in own}

    def renamed(spec: Any) -> Any:
        return dataclasses.replace(spec, target=new.get(str(spec.target), spec.target))

    return ExportGraphSignature(
        [*map(renamed, signature.input_specs)], [*map(renamed, signature.output_specs)]
    )


def _owned(
    signature: ExportGraphSignature, constants: Mapping[str, Any], model: nn.Module
) -> ExportGraphSignature:
    """Weights that a module reads from a list or a plain attribute are weights all the same.

    An export takes them for constants; it is their memory that tells.
    """
    weights = {memory(t): name for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    own = {
        name: weights[memory(t)]
        for name, t in constants.items()
        if isinstance(t, Tensor) and memory(t) in weights
    }
    specs = [
        InputSpec(InputKind.PARAMETER, spec.arg, own[str(spec.target)])
        if str(spec.target) in own and spec.kind == InputKind.CONSTANT_TENSOR
        else spec
        for spec in signature.input_specs
    ]
    return ExportGraphSignature(specs, signature.output_specs)


def _check_call(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise `SpecError` if the reason is that the network cannot be called like this."""
    try:
        with torch.no_grad():
            model(*inputs, **kwargs)
    except FAILURES as error:
        raise SpecError(
            f"{type(model).__name__}: fails when it is called with these inputs: {told(error)}"
        ) from None
