"""What export cannot read: one call is followed and proved, or the error says what, where and how
to go on.
"""

import dataclasses
import enum
import sys

import numpy as np
import pytest
import torch
from networks import BY_NAME, NETWORKS
from test_discover import Net, found
from torch import nn
from torch.nn.utils import parametrizations

from wsl import params
from wsl.symmetry import SpecError, SpecWarning, permutation_spec, symmetry_spec, verify

A_B = "h1 = 7\na.weight: h1 5\na.bias: h1\nb.weight: 3 h1\nb.bias: 3"


def net(forward, **more):
    torch.manual_seed(0)
    return Net(forward, a=nn.Linear(5, 7), b=nn.Linear(7, 3), **more)


def x(rows=4):
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(0))


@dataclasses.dataclass
class Output:
    scores: torch.Tensor
    kind: str = "scores"


class Color(enum.Enum):
    RED = 1


def branch(m, x):
    h = m.a(x).relu()
    if float(h.sum()) > 0:
        h = h * 2
    return m.b(h)


def truth(m, x):
    h = m.a(x).relu()
    return m.b(h) if (h > 1e9).any() else m.b(h.tanh())


def loop(m, x):
    h = m.a(x).relu()
    for _ in range(int(x.abs().max()) + 1):
        h = h.tanh()
    return m.b(h)


def mask(m, x):
    h = m.a(x).relu()
    return m.b(h[: len(torch.nonzero(x[:, 0] > -9))])


@pytest.mark.parametrize("forward", [branch, truth, loop, mask])
def test_python_that_depends_on_data_is_followed_and_said(forward):
    model = net(forward)
    with pytest.warns(
        SpecWarning,
        match=r"branches that a call with these inputs takes, since Python reads \d values",
    ) as said:
        spec = permutation_spec(model, x())
    assert [warning.filename for warning in said] == [__file__]
    assert str(spec) == A_B
    assert verify(spec, model, x(), controls=True).loose == ()


@pytest.mark.filterwarnings("ignore::wsl.symmetry.SpecWarning")
@pytest.mark.parametrize(
    "read",
    [
        lambda h: torch.tensor(h.tolist()).to(h.dtype),
        lambda h: torch.from_numpy(np.sort(h.detach().numpy(), -1)),
        lambda h: torch.from_numpy(np.asarray(h.detach()) * np.arange(h.shape[1])).to(h.dtype),
        lambda h: h * 2 if torch.equal(h, torch.arange(h.numel()).reshape(h.shape)) else h,
        lambda h: h * h.flatten().argmax().item(),
    ],
    ids=["tolist", "numpy", "array", "equal", "argmax"],
)
def test_units_whose_values_python_reads_stand_still(read):
    model = net(lambda m, x: m.b(read(m.a(x).relu())) * float(x.sum() < 1e9))
    assert not permutation_spec(model, x()).groups


@pytest.mark.filterwarnings("ignore::wsl.symmetry.SpecWarning")
def test_a_unit_that_decides_a_branch_stands_still_and_the_others_move():
    def forward(m, x):
        h = m.a(x).relu()
        return m.b(h * 2) if float(h[0, 0]) > 0 else m.b(h)

    assert str(permutation_spec(net(forward), x())).startswith("h1 = 6\na.weight: 1+h1 5")


def test_memory_that_is_shared_behind_the_graph_is_refused_by_the_proof():
    model = net(lambda m, x: m.b(m.a(x).data) * float(x.sum() < 1e9))
    with pytest.raises(
        SpecError,
        match="what a single call shows is not all of it: h1 do not preserve the function",
    ):
        permutation_spec(model, x())


def experts(m, x):
    h = m.a(x).relu()
    chosen, y = m.r(h).argmax(-1), x.new_zeros(len(x), 3)
    for e, expert in enumerate(m.experts):
        rows = torch.nonzero(chosen == e)[:, 0]
        if len(rows):
            y = y.index_add(0, rows, expert(h[rows]))
    return y + m.b(h)


def mixture():
    torch.manual_seed(1)
    return net(
        experts, r=nn.Linear(7, 2), experts=nn.ModuleList([nn.Linear(7, 3), nn.Linear(7, 3)])
    )


def test_a_mixture_of_experts_needs_inputs_for_all_of_them():
    model = mixture()
    assert len(model.r(model.a(x(64)).relu()).argmax(-1).unique()) == 2
    with pytest.warns(SpecWarning):
        spec = permutation_spec(mixture(), x(64))
    assert spec.groups == {"h1": 7}
    assert [o.tensor for o in spec.occurrences("h1")][-2:] == [
        "experts.0.weight",
        "experts.1.weight",
    ]
    with pytest.raises(
        SpecError, match=r"Give inputs that take every branch\. Or: Write the specification by hand"
    ):
        permutation_spec(mixture(), x(1))


@pytest.mark.parametrize(
    "wrap",
    [
        Output,
        lambda y: {"scores": Output(y), "color": None},
        lambda y: (Output(y, "a"), [torch.Size([2]), 3.0]),
    ],
    ids=["dataclass", "nested", "mixed"],
)
def test_outputs_in_dataclasses_are_read_without_a_warning(wrap):
    model = net(lambda m, x: wrap(m.b(m.a(x).relu())))
    assert str(found(model, x())) == A_B
    with torch.device("meta"):
        bare = net(lambda m, x: wrap(m.b(m.a(x).relu())))
    assert str(permutation_spec(bare, x())) == A_B


def test_an_output_that_may_hide_tensors_is_refused():
    with pytest.raises(
        SpecError,
        match="the output holds a Color, whose tensors are not seen; return tensors, or a tuple",
    ):
        permutation_spec(net(lambda m, x: (m.b(m.a(x)), Color.RED)), x())


def test_inputs_of_any_kind_are_passed_on():
    class Batch:
        def __init__(self, features):
            self.features = features

    model = net(
        lambda m, batch, color, scale: Output(m.b(m.a(batch.features).relu() * scale), color.name)
    )
    assert str(permutation_spec(model, Batch(x()), Color.RED, 2.0)) == A_B

    class Named(nn.Linear):
        def forward(self, x, *, flag=None, scale):
            return super().forward(x) * scale if flag == "on" else super().forward(x)

    assert (
        str(permutation_spec(Named(2, 3), torch.randn(4, 2), flag="on", scale=torch.tensor(2.0)))
        == "weight: 3 2\nbias: 3"
    )


@pytest.mark.filterwarnings("ignore::wsl.symmetry.SpecWarning")
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_a_call_that_is_followed_gives_the_golden_text(network):
    class Shown(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network.make()

        def forward(self, x):
            return Output(self.net(x))

    spec = permutation_spec(Shown(), network.inputs())
    assert str(spec.restrict("net")) == network.golden


class Counting(nn.Module):
    """Writes into a buffer, keeps a plain tensor and counts its calls."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 7), nn.Linear(7, 3)
        self.register_buffer("mean", torch.zeros(7))
        self.register_buffer("ones", torch.ones(7), persistent=False)
        self.scale, self.calls = torch.full((7,), 2.0), 0

    def forward(self, x):
        self.calls += 1
        h = self.a(x) * self.scale * self.ones
        self.mean.mul_(0.9).add_(0.1 * h.mean(0))
        return Output(self.b(h - self.mean if float(x.sum()) < 1e9 else h))


@pytest.mark.filterwarnings("ignore::wsl.symmetry.SpecWarning")
def test_a_followed_model_is_left_as_it_was():
    model, state = Counting(), torch.get_rng_state()
    model.b.eval()
    before, inputs = params.from_module(model), x()
    spec = permutation_spec(model, inputs)
    assert spec.groups == {"h1": 7}
    assert spec.axes["mean"] == ((("h1",),),)
    assert (model.training, model.a.training, model.b.training, model.calls) == (
        True,
        True,
        False,
        model.calls,
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(inputs, x())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("inputs", [torch.randn(3, 6), "text"], ids=["shape", "type"])
def test_a_failure_leaves_the_model_as_it_was_and_is_quiet(inputs, capfd):
    model = net(branch)
    model.b.eval()
    with pytest.raises(
        SpecError,
        match=r"Net: fails when it is called with these inputs: .*Error: .* at "
        r"test_trace\.py:\d+, ",
    ):
        permutation_spec(model, inputs)
    assert (model.training, model.a.training, model.b.training) == (True, True, False)
    assert capfd.readouterr().err == ""


def test_the_last_resort_is_explained(capfd):
    class Awkward(nn.Linear):
        def forward(self, x):
            return {"scores": super().forward(x), "color": Color.RED}

    with pytest.raises(SpecError) as caught:
        permutation_spec(Awkward(2, 3), torch.randn(4, 2))
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("Awkward: torch.export cannot read it (")
    assert first.endswith("Write the specification by hand and prove it:")
    assert len(rest) == 3
    assert capfd.readouterr().err == ""
    namespace = {
        "wsl": sys.modules["wsl"],
        "model": nn.Linear(2, 3),
        "inputs": (torch.randn(4, 2),),
        "text": "weight: 3 2\nbias: 3",
    }
    exec("\n".join(line.strip() for line in rest), namespace)
    assert "weight: 3 2\nbias: 3\npreserves the function" in capfd.readouterr().out


def test_data_on_the_meta_device_cannot_decide():
    with torch.device("meta"):
        model = net(branch)
    with pytest.raises(
        SpecError,
        match=r"torch\.export cannot read it .*nor can a single call be followed|fails when it is "
        r"called",
    ):
        permutation_spec(model, x())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_code_is_refused():
    scripted = torch.jit.script(nn.Linear(2, 3))
    with pytest.raises(
        SpecError,
        match=r"is a ScriptModule, compiled code that cannot be read; give the module it was made",
    ):
        permutation_spec(scripted, torch.randn(4, 2))
    with pytest.raises(SpecError, match=r"0: is a ScriptModule"):
        permutation_spec(nn.Sequential(scripted), torch.randn(4, 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_quantised_weights_are_refused():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(5, 3)), {nn.Linear})
    with pytest.raises(
        SpecError, match=r"0: is quantised \(.*\); read the float network and quantise afterwards"
    ):
        permutation_spec(model, x())


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_module_is_refused_until_it_was_called():
    model = nn.Sequential(nn.LazyLinear(7), nn.ReLU(), nn.Linear(7, 3))
    with pytest.raises(
        SpecError, match=r"0\.weight: is not initialised; call the lazy module once"
    ):
        permutation_spec(model, x())
    model(x())
    assert permutation_spec(model, x()).groups == {"h1": 7}


def test_what_is_no_module_is_refused():
    with pytest.raises(SpecError, match=r"a specification is read off an nn\.Module, got function"):
        permutation_spec(branch, x())


@pytest.mark.parametrize(
    ("parametrize", "name"),
    [
        (parametrizations.weight_norm, "0.parametrizations.weight.original1"),
        (parametrizations.spectral_norm, "0.parametrizations.weight.original"),
        (parametrizations.orthogonal, "0.parametrizations.weight.original"),
    ],
)
def test_parametrized_weights_are_named_as_in_the_state_dict(parametrize, name):
    torch.manual_seed(0)
    model = nn.Sequential(parametrize(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 3))
    spec = permutation_spec(model, x())
    assert list(spec.axes) == list(model.state_dict())
    assert name in spec.axes
    assert verify(spec, model, x()).ok
    assert spec.groups == {"h1": 7}


def test_hooks_are_part_of_the_function():
    model = BY_NAME["mlp"].make()
    model[1].register_forward_hook(lambda *call: call[-1].cumsum(-1))
    spec = permutation_spec(model, x())
    assert spec.groups == {"h1": 6}
    assert verify(spec, model, x()).ok


@pytest.mark.filterwarnings("ignore::wsl.symmetry.SpecWarning")
def test_what_python_read_hides_scales_of_units():
    model = net(lambda m, x: m.b(m.a(x).relu()) * m.a(x).relu().sum().item())
    assert not symmetry_spec(model, x()).units
    assert symmetry_spec(net(lambda m, x: Output(m.b(m.a(x).relu()))), x()).units
