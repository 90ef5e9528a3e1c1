"""`activations`: the values inside of a network, how its symmetry acts on them, and their run.

    z_s(g.theta, x) = g . z_s(theta, x)              at every site s, for every g of the group

The graph that gives the specification is read once more for its values: discovery solves the axes
of each of them along with those of the weights, so that what it says of a site is as true as what
it says of a weight. Activation matching, REPAIR and whatever else looks inside of networks take
their sites from here, and not from the names of modules.

Guarantees: `Activations.run` without a visitor is the network's own output in evaluation mode; the
law above, at every site. It does not say what values inside of a fused operation are (attention
weights, states of a recurrent layer between two steps), nor those of a branch that ``cond`` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten

from wsl.symmetry.activations.execute import Visit, execute
from wsl.symmetry.activations.moved import move_axes
from wsl.symmetry.activations.rename import names_in, renamed
from wsl.symmetry.activations.sites import ActivationSite, sites_of
from wsl.symmetry.discover import Program, discover
from wsl.symmetry.elements import Permutation
from wsl.symmetry.spec import PermutationSpec, SpecError


class _Read(NamedTuple):
    """The graph for inputs of some shapes, with its sites by their node."""

    program: Program
    sites: dict[fx.Node, ActivationSite]


class Activations:
    """The sites of a network and a way to run it with any weights; made by `activations`.

    spec: the specification whose groups the sites name.
    sites: every floating-point value that depends on the inputs, in order of computation, as
    `ActivationSite`.
    """

    def __init__(self, model: nn.Module, spec: PermutationSpec | None, call: Any) -> None:
        self._model = model
        found = discover(model, *call)
        self._own = found.spec
        self.spec: PermutationSpec = spec or found.spec
        self._names = names_in(found.spec, self.spec)
        self._reads = {_key(call): self._read(found.program, found.annotations())}
        self.sites: tuple[ActivationSite, ...] = (*self._reads[_key(call)].sites.values(),)

    def run(
        self, params: Mapping[str, Tensor], *inputs: Any, visit: Visit | None = None, **kwargs: Any
    ) -> Any:
        """The network's output with ``params`` in place of its own weights, in evaluation mode.

        Parameters
            params: one checkpoint; it fits the specification.
            inputs, kwargs: as the network takes them. For a shape that was not met yet the graph is
                read again, and kept.
            visit: called as ``visit(site, tensor)`` at each site in order; a tensor that it returns
                takes the place of the value in all that follows. What it is given may be
                overwritten later: copy what is to be kept.

        Gradients flow if they are on. Raises `SpecError` if the weights do not fit, if the model's
        own tensors are on the meta device, if it computes something else for inputs of this
        shape, and if its path depends on values that Python reads.
        """
        if lead := self.spec.validate(params):
            raise SpecError(
                f"params: have batch axes {tuple(lead)}, but activations are those of one "
                "checkpoint; index or unstack it first"
            )
        read = self._for(inputs, kwargs)
        leaves = tree_flatten((inputs, kwargs))[0]
        if read.program.failure:
            leaves = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return execute(read.program, read.sites, (params, leaves), visit=visit)

    def moved(self, element: Permutation, site: ActivationSite, value: Tensor) -> Tensor:
        """What the value at a site becomes when ``element`` moves the weights."""
        return move_axes(element, site.axes, value)

    def _for(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> _Read:
        """The graph for inputs of these shapes."""
        self._check_runs()
        call = (inputs, kwargs)
        if _key(call) not in self._reads:
            found = discover(self._model, *call)
            read = self._read(found.program, found.annotations())
            names = [site.name for site in read.sites.values()]
            if found.spec != self._own or names != [site.name for site in self.sites]:
                raise SpecError(
                    f"{type(self._model).__name__}: computes something else for inputs of shapes "
                    f"{_shapes(call)} than for those that its activations were read with; read "
                    "them anew with inputs like these"
                )
            self._reads[_key(call)] = read
        return self._reads[_key(call)]

    def _read(self, program: Program, axes: Mapping[fx.Node, Any]) -> _Read:
        named = {node: renamed(value, self._names) for node, value in axes.items()}
        return _Read(program, sites_of(program, named))

    def _check_runs(self) -> None:
        meta = (
            n for n, t in self._model.state_dict().items() if isinstance(t, Tensor) and t.is_meta
        )
        if name := next(meta, None):
            raise SpecError(
                f"{name}: is on the meta device; its sites can be read there, but to run the "
                "network build it on the device of the weights"
            )
        program = next(iter(self._reads.values())).program
        if program.reads:
            raise SpecError(
                f"{type(self._model).__name__}: Python reads {len(program.reads)} values on the "
                f"way ({program.reads[0]}), so that the graph of one call does not tell what "
                "others compute; run the network itself, with hooks"
            )


def activations(
    model: nn.Module, *inputs: Any, spec: PermutationSpec | None = None, **kwargs: Any
) -> Activations:
    """The values inside of ``model``, called as ``model(*inputs, **kwargs)``.

    Parameters
        model: any module that `wsl.permutation_spec` reads; it is never changed. Weights may be on
            the meta device, if only the sites are wanted.
        inputs: example inputs, of a batch size other than one.
        spec: names the groups; by default that of `wsl.permutation_spec`. Its elements must be some
            of the network's: groups may have other names, be tied, or left out.

    Raises `SpecError` as `wsl.permutation_spec` does, and if ``spec`` is not the network's.
    """
    return Activations(model, spec, (inputs, kwargs))


def _key(call: Any) -> tuple[Any, ...]:
    """What a graph depends on: shapes and types of tensors, the values of everything else."""
    leaves, structure = tree_flatten(call)
    told = (
        (tuple(leaf.shape), leaf.dtype, leaf.device.type)
        if isinstance(leaf, Tensor)
        else repr(leaf)
        for leaf in leaves
    )
    return (str(structure), *told)


def _shapes(call: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in tree_flatten(call)[0] if isinstance(leaf, Tensor)]
