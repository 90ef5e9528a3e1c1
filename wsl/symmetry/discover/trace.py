"""Follow one call of a network on real values, where `torch.export` cannot read it.

Python may then depend on data: on the number that ``item()`` gives, on a tensor's truth, on how
many rows a mask keeps. The graph is of the same level of operations as an export (`make_fx` before
dispatch), but of the branches that this call took.

A value that Python reads must not change when units move, so every tensor that is read is treated
as an output. A tensor that comes from nowhere (NumPy, a list) cannot move, and is treated as an
input. What neither would show, like memory shared behind torch's back, only a proof excludes: see
`wsl.symmetry.discover`, which demands one.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from wsl.symmetry.verify import copied, tensors_of

_COPIED_TO_PYTHON = (torch.ops.aten.resolve_conj.default, torch.ops.aten.resolve_neg.default)
"""What ``numpy()`` and ``tolist()`` call before they read memory."""


class Followed(NamedTuple):
    """A call's graph, what its placeholders and outputs are, constants by name, the reads on which
    its path may depend, and tensors from nowhere by the name of their placeholder.
    """

    graph_module: fx.GraphModule
    graph_signature: ExportGraphSignature
    constants: dict[str, Tensor]
    reads: tuple[str, ...]
    taken: dict[str, Tensor]


def follow_call(
    model: nn.Module, names: Mapping[int, str], *, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> Followed:
    """The graph of ``model(*inputs, **kwargs)``; ``names`` are those of tensors in the state dict,
    by identity.
    """
    memo: dict[int, Any] = {}
    model = copied(model, memo)
    weights = {id(memo[i]): (name, memo[i]) for i, name in names.items() if i in memo}
    known = {id(t): (name, t) for name, t in _constants(model) if id(t) not in weights}
    # The call may write into constants, which are wanted as they were.
    constants = {name: tensor.clone() for name, tensor in known.values()}
    graph_module = _trace(model, inputs, kwargs)
    reads = [*_read_by_python(graph_module.graph)]
    outputs = _outputs(graph_module.graph, reads)
    taken = [*_taken(graph_module)]
    signature = ExportGraphSignature(_sources(graph_module, weights, known, taken=taken), outputs)
    names_of_reads = tuple(str(node.target) for node in reads)
    held = {source.name: tensor for source, tensor in taken}
    return Followed(graph_module, signature, constants, names_of_reads, held)


def _outputs(graph: fx.Graph, reads: list[fx.Node]) -> list[OutputSpec]:
    return [
        OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(node.name), None)
        for node in _return_too(graph, reads)
    ]


def _return_too(graph: fx.Graph, reads: list[fx.Node]) -> list[fx.Node]:
    """Make outputs of what Python reads, since it must not change either; returns all outputs."""
    output = graph.output_node()
    # How many rows a mask keeps is seen by its own rule, which is to pin.
    told = [
        node
        for read in reads
        if read.target != torch.ops.aten.index.Tensor
        for node in read.all_input_nodes
    ]
    returned = [*output.args[0], *told]  # type: ignore[misc]
    output.args = (returned,)
    return returned


def _trace(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.GraphModule:
    leaves, structure = tree_flatten((inputs, kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def call(*tensors: Tensor) -> list[Tensor]:
        filled = dict(enumerate(leaves)) | dict(zip(places, tensors, strict=True))
        args, named = tree_unflatten([*filled.values()], structure)
        return [*tensors_of(model(*args, **named), strict=True)]

    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=_cuda_devices(model)),
        torch.compiler.set_stance("force_eager"),
    ):
        follow = make_fx(
            call, tracing_mode="real", pre_dispatch=True, _error_on_data_dependent_ops=False
        )
        return follow(*(leaves[place].clone() for place in places))


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    tensors = (t for t in model.state_dict().values() if isinstance(t, Tensor))
    return sorted({t.device for t in tensors if t.is_cuda}, key=str)


def _constants(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that a module keeps beside its state: buffers that are not saved, and plain
    attributes.
    """
    for prefix, module in model.named_modules():
        kept = {**vars(module), **module._buffers}
        yield from (
            (f"{prefix}.{name}".lstrip("."), t) for name, t in kept.items() if isinstance(t, Tensor)
        )


def _sources(
    graph_module: fx.GraphModule,
    weights: Mapping[int, tuple[str, Tensor]],
    known: Mapping[int, tuple[str, Tensor]],
    *,
    taken: Sequence[tuple[fx.Node, Tensor]],
) -> list[InputSpec]:
    """What each placeholder is, in order; tensors that the call took from elsewhere are made
    placeholders, after the inputs.
    """
    aliases = {memory(tensor): name for name, tensor in weights.values()}
    made = {source for source, _ in taken}
    nodes = graph_module.graph.nodes
    inputs = [node for node in nodes if node.op == "placeholder" and node not in made]
    specs = [InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None) for node in inputs]
    for source, tensor in taken:
        kind, name = _kind(tensor, weights, known, aliases=aliases)
        specs.append(InputSpec(kind, TensorArgument(source.name), name))
    return specs


def _kind(
    tensor: Tensor,
    weights: Mapping[int, tuple[str, Tensor]],
    known: Mapping[int, tuple[str, Tensor]],
    *,
    aliases: Mapping[tuple[Any, ...], str],
) -> tuple[InputKind, str | None]:
    """What a tensor is and its name; one with the memory of a weight is that weight."""
    if id(tensor) in known:
        return InputKind.CONSTANT_TENSOR, known[id(tensor)][0]
    own = weights.get(id(tensor), (aliases.get(memory(tensor)),))[0]
    return (InputKind.PARAMETER, own) if own else (InputKind.USER_INPUT, None)


def _taken(graph_module: fx.GraphModule) -> Iterator[tuple[fx.Node, Tensor]]:
    """Replace each tensor that the graph holds by a placeholder, and tell which it was."""
    graph = graph_module.graph
    first = next(node for node in graph.nodes if node.op != "placeholder")
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        tensor = operator.attrgetter(node.target)(graph_module)
        if isinstance(tensor, Tensor):
            with graph.inserting_before(first):
                source = graph.placeholder(f"taken_{node.name}")
            source.meta = node.meta
            node.replace_all_uses_with(source)
            yield source, tensor


def _read_by_python(graph: fx.Graph) -> Iterator[fx.Node]:
    """Operations that give Python a value: a number, a truth, a length, or memory for NumPy."""
    for node in graph.nodes:
        if not isinstance(node.target, OpOverload):
            continue
        number = node.target._schema.returns and node.meta.get("val") is None
        if (
            number
            or node.target in _COPIED_TO_PYTHON
            or (torch.Tag.dynamic_output_shape in node.target.tags and _counts(node))
        ):
            yield node


def _counts(node: fx.Node) -> bool:
    """Whether the length of a result depends on values; of indexing, that is so by a mask only."""
    if node.target != torch.ops.aten.index.Tensor:
        return True
    values = (node.meta["val"] for node in node.all_input_nodes[1:])
    return any(value.dtype in (torch.bool, torch.uint8) for value in values)


def memory(tensor: Tensor) -> tuple[Any, ...]:
    """What tells whether two tensors are the same entries of one memory."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride()
