"""Layers and models of other packages for `symmetry_coverage.py`, each in a tiny network.

    geometric    every convolution of torch_geometric.nn.conv that simple arguments build
    peft         every kind of adapter, on a perceptron with layer norm or on a tiny GPT-2
    zuko         every normalizing flow, as the log density that it is trained by
    operators    neural operators of neuraloperator, and Kolmogorov-Arnold networks

A convolution stands between two linear layers, so that both of its sides are units. What a class
needs is told by the names of its arguments; one that needs a compiled library is a row with its
error.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from coverage_networks import Build, Built, torchvision
from torch import Tensor, nn

NODES, EDGES, FEATURES, WIDTH, OUT = 9, 26, 5, 12, 10
RELATIONS, EDGE_FEATURES, SPACE = 2, 3, 3
LEFT_OUT = ("MessagePassing", "WLConv")
"""The base class, and a convolution of classes of nodes, which has no weights."""
HETEROGENEOUS = ("HGTConv", "HANConv", "HeteroConv")


def geometric() -> Iterator[tuple[str, Build]]:
    """The convolutions of PyTorch Geometric; those of CUDA alone and `LEFT_OUT` are not here."""
    module = importlib.import_module("torch_geometric.nn.conv")
    for name in module.__all__:
        if name not in LEFT_OUT and not name.startswith(("CuGraph", "Fused")):
            build = _heterogeneous if name in HETEROGENEOUS else _graph
            yield name, partial(build, getattr(module, name))


def _imported(*names: str) -> None:
    """Import before networks are built, each in a process of its own."""
    for name in names:
        importlib.import_module(name)


class Graph(nn.Module):
    """A convolution between two linear layers, or behind one if it changes the features itself."""

    def __init__(self, conv: nn.Module, width: int) -> None:
        super().__init__()
        self.first, self.conv = nn.Linear(FEATURES, WIDTH), conv
        self.last = nn.Linear(width, OUT - 7)

    def forward(self, x: Tensor, **more: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = self.conv(x, **_hidden(self.conv, x), **more)
        x = x[0] if isinstance(x, tuple) else x
        return self.last(x.relu())


def _wants(module: nn.Module, name: str) -> bool:
    return name in inspect.signature(module.forward).parameters


def _hidden(conv: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Hidden features that a convolution reads beside those of its nodes."""
    return {name: x for name in ("x_0", "hyperedge_attr") if _wants(conv, name)}


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 11), nn.ReLU(), nn.Linear(11, outputs))


def _degrees() -> Tensor:
    return torch.bincount(torch.arange(NODES) % 4)


GRAPH_ARGUMENTS: Mapping[str, Any] = {
    "in_channels": WIDTH,
    "out_channels": OUT,
    "channels": WIDTH,
    "K": 2,
    "alpha": 0.5,
    "num_layers": 2,
    "num_relations": RELATIONS,
    "num_node_types": RELATIONS,
    "num_edge_types": RELATIONS,
    "edge_type_emb_dim": 4,
    "edge_attr_emb_dim": 6,
    "edge_dim": EDGE_FEATURES,
    "dim": EDGE_FEATURES,
    "kernel_size": 3,
    "filter_size": 2,
    "first_aggr": True,
    "hidden_channels": 6,
    "space_dimensions": 3,
    "propagate_dimensions": 7,
    "k": 3,
    "aggregators": ["mean", "max"],
    "scalers": ["identity", "amplification"],
    "in_edge_channels": EDGE_FEATURES,
}
"""By the name of a constructor's argument; taken if it is required, or one of `OPTIONAL`."""

OPTIONAL = frozenset({"edge_dim", "in_edge_channels"})

GRAPH_SPECIAL: Mapping[str, Callable[[], dict[str, Any]]] = {
    "GINConv": lambda: {"nn": _perceptron(WIDTH, OUT)},
    "GINEConv": lambda: {"nn": _perceptron(WIDTH, OUT)},
    "EdgeConv": lambda: {"nn": _perceptron(2 * WIDTH, OUT)},
    "DynamicEdgeConv": lambda: {"nn": _perceptron(2 * WIDTH, OUT)},
    "NNConv": lambda: {"nn": _perceptron(EDGE_FEATURES, WIDTH * OUT)},
    "PointNetConv": lambda: {
        "local_nn": _perceptron(WIDTH + SPACE, 13),
        "global_nn": _perceptron(13, OUT),
    },
    "PPFConv": lambda: {"local_nn": _perceptron(WIDTH + 4, 13), "global_nn": _perceptron(13, OUT)},
    "PointGNNConv": lambda: {
        "mlp_h": _perceptron(WIDTH, SPACE),
        "mlp_f": _perceptron(WIDTH + SPACE, 13),
        "mlp_g": _perceptron(13, WIDTH),
    },
    "GatedGraphConv": lambda: {"out_channels": WIDTH},
    "PNAConv": lambda: {"deg": _degrees()},
    "EGConv": lambda: {"out_channels": 16, "aggregators": ["mean"]},
    "GPSConv": lambda: {"conv": _conv("GCNConv", WIDTH, WIDTH), "heads": 2},
    "DirGNNConv": lambda: {"conv": _conv("SAGEConv", WIDTH, OUT)},
    "CGConv": lambda: {"dim": EDGE_FEATURES},
    "GCN2Conv": lambda: {"theta": 0.5, "layer": 1},
    **{
        name: lambda: {"heads": 2}
        for name in ("GATConv", "GATv2Conv", "TransformerConv", "SuperGATConv", "FeaStConv")
    },
    "HypergraphConv": lambda: {"use_attention": True, "heads": 2},
    "DNAConv": lambda: {"heads": 2},
    "RGCNConv": lambda: {"num_bases": 3},
}
"""What the names of arguments do not tell."""


UNWANTED = {"FAConv": "edge_weight"}
"""An input that a convolution names and, as it is built here, refuses."""


def _conv(name: str, *widths: int) -> nn.Module:
    return getattr(importlib.import_module("torch_geometric.nn"), name)(*widths)


def _graph(kind: type[nn.Module]) -> Built:
    needed = inspect.signature(kind.__init__).parameters
    given = {
        name: GRAPH_ARGUMENTS[name]
        for name, argument in needed.items()
        if name in GRAPH_ARGUMENTS and (argument.default is argument.empty or name in OPTIONAL)
    }
    conv = kind(**{**given, **GRAPH_SPECIAL.get(kind.__name__, dict)()}).eval()
    refused = UNWANTED.get(kind.__name__)
    inputs = {n: t for n, t in _graph_inputs().items() if _wants(conv, n) and n != refused}
    x = inputs.pop("x", None)
    if x is None:
        raise TypeError(f"{kind.__name__}.forward takes no x")
    if kind.__name__ == "DNAConv":
        return _Stacked(conv), (x,), inputs
    if kind.__name__ == "MeshCNNConv":
        inputs["edge_index"] = _four_neighbours()
    with torch.no_grad():
        hidden = torch.randn(NODES, WIDTH)
        out = conv(hidden, **_hidden(conv, hidden), **inputs)
    width = (out[0] if isinstance(out, tuple) else out).shape[-1]
    return Graph(conv, width), (x,), inputs


def _four_neighbours() -> Tensor:
    """Of every edge of a mesh its four neighbours, in order."""
    edge = torch.arange(NODES).repeat_interleave(4)
    return torch.stack([(edge + torch.arange(4 * NODES) % 4 + 1) % NODES, edge])


class _Types(nn.Module):
    """A convolution between two types of nodes and back, between linear layers."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.first = nn.ModuleDict({kind: nn.Linear(FEATURES, WIDTH) for kind in "ab"})
        self.conv, self.last = conv, nn.Linear(OUT, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        hidden = {kind: first(x).relu() for kind, first in self.first.items()}
        out = self.conv(hidden, dict.fromkeys(TYPES, edge_index))
        return self.last(out["a"].relu()) + self.last(out["b"].relu())


TYPES = (("a", "to", "b"), ("b", "to", "a"))


def _heterogeneous(kind: type[nn.Module]) -> Built:
    if kind.__name__ == "HeteroConv":
        conv = kind({types: _conv("SAGEConv", WIDTH, OUT) for types in TYPES})
    else:
        conv = kind(WIDTH, OUT, (["a", "b"], [*TYPES]), heads=2)
    inputs = _graph_inputs()
    return _Types(conv.eval()), (inputs["x"], inputs["edge_index"]), {}


class _Stacked(Graph):
    """A convolution that reads all layers so far."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__(conv, WIDTH)

    def forward(self, x: Tensor, **more: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(self.conv(torch.stack([x, 2 * x], 1), **more))


def _graph_inputs() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ends = torch.randint(NODES, (2, EDGES), generator=draw)
    ring = torch.stack([torch.arange(NODES), (torch.arange(NODES) + 1) % NODES])
    edges = torch.cat([ends, ring], 1)
    count = edges.shape[1]
    normal = partial(torch.randn, generator=draw)
    return {
        "x": normal(NODES, FEATURES),
        "edge_index": edges,
        "hyperedge_index": edges % NODES,
        "pos_edge_index": edges[:, ::2],
        "neg_edge_index": edges[:, 1::2],
        "edge_attr": normal(count, EDGE_FEATURES).sigmoid(),
        "edge_weight": normal(count).sigmoid(),
        "edge_type": torch.arange(count) % RELATIONS,
        "node_type": torch.arange(NODES) % RELATIONS,
        "pos": normal(NODES, SPACE),
        "normal": nn.functional.normalize(normal(NODES, SPACE), dim=-1),
    }


ADAPTER_WIDTH = 24
ADAPTERS: Mapping[str, Mapping[str, Any]] = {
    "LORA": {"r": 4},
    "LORA dora": {"r": 4, "use_dora": True},
    "LORA rslora": {"r": 4, "use_rslora": True},
    "ADALORA": {"init_r": 4, "target_r": 2, "total_step": 10},
    "BOFT": {"boft_block_size": 4},
    "OFT": {"oft_block_size": 4, "use_cayley_neumann": False},
    "OFT neumann": {"oft_block_size": 4},
    "LOHA": {"r": 4},
    "LOKR": {"r": 2, "decompose_factor": 4},
    "LOKR both": {"r": 1, "decompose_both": True, "decompose_factor": 4},
    "HRA": {"r": 4},
    "HRA gram-schmidt": {"r": 4, "apply_GS": True},
    "IA3": {"feedforward_modules": ["2"]},
    "LN_TUNING": {"target_modules": ["norm"]},
    "VERA": {"r": 4},
    "PVERA": {"r": 4},
    "FOURIERFT": {"n_frequency": 30},
    "VBLORA": {"r": 2, "num_vectors": 6, "vector_length": 4},
    "UNILORA": {"r": 2, "theta_d_length": 16},
    "RANDLORA": {"r": 4},
    "ROAD": {"group_size": 4},
    "HIRA": {"r": 4},
    "SHIRA": {"r": 4},
    "C3A": {"block_size": 4},
    "WAVEFT": {"n_frequency": 30},
    "OSF": {},
    "DELORA": {"r": 4},
    "GRALORA": {"r": 4, "gralora_k": 2, "alpha": 4},
    "MISS": {"r": 4},
    "TINYLORA": {"r": 2, "u": 3},
    "PSOFT": {"r": 4, "psoft_alpha": 4},
    "GLORA": {"r": 4},
    "PEANUT": {"r": 4},
    "LILY": {"r": 4},
    "DEFT": {"r": 4},
    "FROD": {"progressbar": False},
    "BEFT": {},
    "SUPERTUNING": {},
    "ADAMSS": {},
}
"""Adapters of linear layers by peft's names, and sizes that fit widths of `ADAPTER_WIDTH`."""

PROMPTS: Mapping[str, Mapping[str, Any]] = {
    "PROMPT_TUNING": {"num_virtual_tokens": 3},
    "P_TUNING": {"num_virtual_tokens": 3, "encoder_hidden_size": 14},
    "PREFIX_TUNING": {"num_virtual_tokens": 3},
}
"""Adapters that put tokens or states before a text."""


def peft() -> Iterator[tuple[str, Build]]:
    """The kinds of adapters that peft knows."""
    torchvision()
    _imported("peft", "transformers")
    for name, options in ADAPTERS.items():
        yield name, partial(_adapter, name.split()[0], options)
    for name, options in PROMPTS.items():
        yield name, partial(_prompt, name, options)


class _Layered(nn.Module):
    """A perceptron with a residual block and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        width = ADAPTER_WIDTH
        self.layers = nn.ModuleDict(
            {"0": nn.Linear(8, width), "1": nn.Linear(width, 20), "2": nn.Linear(20, width)}
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers["0"](x).relu()
        x = x + self.layers["2"](self.layers["1"](x).relu())
        return self.head(self.norm(x))


def _config(kind: str, options: Mapping[str, Any]) -> Any:
    configs = importlib.import_module("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING
    return configs[importlib.import_module("peft").PeftType[kind]](**options)


def _adapter(kind: str, options: Mapping[str, Any]) -> Built:
    config = _config(kind, {"target_modules": ["0", "1", "2"], **options})
    adapted = importlib.import_module("peft").get_peft_model(_Layered(), config)
    more = {"task_ids": torch.zeros(4, dtype=torch.long)} if kind == "POLY" else {}
    return adapted, (torch.randn(4, 8),), more


def _prompt(kind: str, options: Mapping[str, Any]) -> Built:
    transformers = importlib.import_module("transformers")
    sizes = {"vocab_size": 37, "n_embd": 24, "n_layer": 2, "n_head": 2, "use_cache": False}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    config = _config(kind, {**options, "task_type": "CAUSAL_LM"})
    adapted = importlib.import_module("peft").get_peft_model(model, config)
    words = torch.randint(37, (2, 6))
    return adapted, (), {"input_ids": words, "attention_mask": torch.ones_like(words)}


class _Density(nn.Module):
    """The log density of a flow."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.flow(context).log_prob(x)


class _Transform(_Density):
    """Where a flow takes points, and the log determinant of its Jacobian: for flows whose base is
    bounded, where random weights leave no density.
    """

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.flow(context).transform.call_and_ladj(x)


FLOWS: Mapping[str, Mapping[str, Any]] = {
    "MAF": {},
    "NSF": {},
    "NCSF": {},
    "NICE": {},
    "RealNVP": {},
    "NAF": {"network": {"hidden_features": (15, 14)}},
    "UNAF": {"network": {"hidden_features": (15, 14)}},
    "SOSPF": {},
    "BPF": {},
    "GF": {},
    "GMM": {"components": 3},
    "CNF": {},
}


def zuko() -> Iterator[tuple[str, Build]]:
    """The flows of zuko, conditioned on a context."""
    _imported("zuko.flows")
    for name, options in FLOWS.items():
        yield name, partial(_flow, name, options)


def _flow(name: str, options: Mapping[str, Any]) -> Built:
    kind = getattr(importlib.import_module("zuko.flows"), name)
    hidden = {} if name in ("NAF", "UNAF") else {"hidden_features": (18, 17)}
    flow = kind(features=4, context=3, **hidden, **options)
    whole = _Transform(flow) if name == "NCSF" else _Density(flow)
    return whole, (torch.rand(6, 4) - 0.5, torch.randn(6, 3)), {}


def operators() -> Iterator[tuple[str, Build]]:
    """Neural operators and networks with functions on their edges."""
    _imported("neuralop.models", "kan")
    sizes = {"in_channels": 2, "out_channels": 1, "hidden_channels": 12, "n_layers": 2}
    yield "FNO", partial(_operator, "FNO", {**sizes, "n_modes": (4, 4)})
    yield "FNO 1d", partial(_operator, "FNO", {**sizes, "n_modes": (5,)}, space=(16,))
    for factorization in ("tucker", "cp", "tt"):
        options = {**sizes, "n_modes": (4, 4), "factorization": factorization, "rank": 0.5}
        yield f"TFNO {factorization}", partial(_operator, "TFNO", options)
    yield "UNO", partial(_operator, "UNO", {**sizes, "n_layers": 3, **UNO})
    yield "KAN of pykan", partial(_pykan, symbolic=True)
    yield "KAN of pykan without formulas", partial(_pykan, symbolic=False)
    yield "KAN of splines", _efficient_kan


UNO = {
    "uno_out_channels": [12, 12, 12],
    "channel_mlp_skip": "linear",
    "uno_n_modes": [[4, 4], [4, 4], [4, 4]],
    "uno_scalings": [[1.0, 1.0], [0.5, 0.5], [2.0, 2.0]],
}


def _operator(name: str, options: Mapping[str, Any], space: tuple[int, ...] = (16, 16)) -> Built:
    kind = getattr(importlib.import_module("neuralop.models"), name)
    return kind(**options), (torch.randn(2, 2, *space),), {}


def _pykan(*, symbolic: bool) -> Built:
    kan = importlib.import_module("kan").KAN
    options = {"grid": 4, "k": 3, "auto_save": False, "symbolic_enabled": symbolic}
    return kan([4, 9, 8, 2], **options), (torch.rand(6, 4) - 0.5,), {}


class _SplineLayer(nn.Module):
    """y_o = sum_i base_oi silu(x_i) + sum_ig spline_oig scaler_oi B_g(x_i), as efficient-kan has
    it: B-splines of degree 3 on a grid that is a buffer, by the recursion of Cox and de Boor.
    """

    def __init__(self, inputs: int, outputs: int, grid: int = 5, degree: int = 3) -> None:
        super().__init__()
        self.degree = degree
        knots = torch.linspace(-1, 1, grid + 1)
        step = 2 / grid
        ends = step * torch.arange(1, degree + 1)
        knots = torch.cat([-1 - ends.flip(0), knots, 1 + ends])
        self.register_buffer("grid", knots.expand(inputs, -1).contiguous())
        self.base_weight = nn.Parameter(torch.randn(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.randn(outputs, inputs, grid + degree))
        self.spline_scaler = nn.Parameter(torch.randn(outputs, inputs))

    def _bases(self, x: Tensor) -> Tensor:
        x, grid = x.unsqueeze(-1), self.grid
        bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
        for k in range(1, self.degree + 1):
            left = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)])
            right = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k])
            bases = left * bases[:, :, :-1] + right * bases[:, :, 1:]
        return bases

    def forward(self, x: Tensor) -> Tensor:
        base = nn.functional.linear(nn.functional.silu(x), self.base_weight)
        weight = self.spline_weight * self.spline_scaler.unsqueeze(-1)
        return base + nn.functional.linear(self._bases(x).flatten(1), weight.flatten(1))


def _efficient_kan() -> Built:
    layers = nn.Sequential(_SplineLayer(4, 9), _SplineLayer(9, 8), _SplineLayer(8, 2))
    return layers, (torch.rand(6, 4) - 0.5,), {}
