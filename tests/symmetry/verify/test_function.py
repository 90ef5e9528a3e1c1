"""What `verify` runs: copies of networks that refuse to be copied, variances, and no function."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from wsl.symmetry import PermutationSpec, SpecError, permutation_spec, verify
from wsl.symmetry.verify import copied

TEXT = "h = 7\n0.weight: h 5\n0.bias: h\n1.weight: 3 h\n1.bias: 3"
AGAIN = "the function gives another output for the same input and weights"


class Net(nn.Sequential):
    """Two layers, and a function between them."""

    def __init__(self, between=torch.relu):
        super().__init__(nn.Linear(5, 7), nn.Linear(7, 3))
        self.between = between

    def forward(self, x):
        return self[1](self.between(self[0](x)))


def norms():
    return nn.Sequential(
        nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1)
    ).eval()


class FrozenNorm(nn.Module):
    """A normalisation written out by hand, as detectors do it."""

    def __init__(self, root):
        super().__init__()
        self.root = root
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("spread", torch.ones(6))

    def forward(self, x):
        spread = self.spread.reshape(1, -1, 1, 1)
        return (x - self.mean[:, None, None]) * self.root(spread + 1e-5)


@pytest.mark.parametrize("value", [0.0, -1e-3])
def test_a_dead_channel_is_no_obstacle(value):
    model, x = norms(), torch.randn(4, 2, 3, 3)
    model[1].running_var[3] = value
    spec = permutation_spec(model, x)
    assert verify(spec, model, x, controls=True).loose == ()
    wrong = PermutationSpec.parse(str(spec).replace("running_var: c1", "running_var: 6"))
    assert verify(wrong, model, x).broken == tuple(spec.groups)
    assert model[1].running_var[3] == value


@pytest.mark.parametrize(
    "root",
    [
        torch.rsqrt,
        lambda v: v**-0.5,
        lambda v: 1 / v.float().sqrt(),
        lambda v: (-v.log() / 2).exp(),
    ],
    ids=["rsqrt", "power", "sqrt", "log"],
)
def test_variances_are_known_by_the_root_that_is_taken_of_them(root):
    model, x = norms(), torch.randn(4, 2, 3, 3)
    model[1] = FrozenNorm(root)
    model[1].spread[2] = 0.0
    spec = permutation_spec(model, x)
    assert "1.spread: c1" in str(spec)
    assert verify(spec, model, x)


def test_instance_norms_that_track_statistics_have_variances_too():
    model, x = norms(), torch.randn(4, 2, 3, 3)
    model[1] = nn.InstanceNorm2d(6, track_running_stats=True)
    model.eval()[1].running_var[1] = 0.0
    assert verify(permutation_spec(model, x), model, x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "change",
    [
        nn.utils.weight_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["old weight norm", "weight norm", "old spectral norm", "spectral norm", "pruning"],
)
def test_weights_that_are_computed_from_others_are_proved_and_left_alone(change):
    model, x = Net(), torch.randn(4, 5)
    change(model[0])
    model.eval()
    before, output = {n: t.clone() for n, t in model.state_dict().items()}, model(x)
    computed = model[0].weight
    spec = permutation_spec(model, x)
    report = verify(spec, model, x, controls=True)
    assert report.ok
    assert report.loose == ()
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert torch.equal(model[0].weight, computed)
    assert torch.equal(model(x), output)


class Locked(Net):
    """Holds what no copy can be made of, and refuses to be copied as a whole."""

    def __reduce_ex__(self, protocol):
        raise TypeError("there is only one of me")

    def __init__(self):
        super().__init__()
        self.lock, self.library, self.stream = threading.Lock(), np, (n for n in range(3))
        self.last = [self[0](torch.ones(1, 5))]
        self.hold = self[0].forward

    def forward(self, x):
        with self.lock:
            return self[1](self.hold(x).relu())

    def __deepcopy__(self, memo):
        raise NotImplementedError("there is only one of me")


def test_a_network_that_refuses_to_be_copied_is_proved():
    model, x = Locked(), torch.randn(4, 5)
    with pytest.raises(NotImplementedError):
        copy.deepcopy(model)
    report = verify(PermutationSpec.parse(TEXT), model, x, controls=True)
    assert report.ok
    assert report.loose == ()
    wrong = PermutationSpec.parse(TEXT.replace("0.bias: h", "0.bias: 7"))
    assert verify(wrong, model, x).broken == ("h",)


def test_a_copy_shares_no_weight_and_keeps_ties_classes_and_circles():
    model = Locked()
    model[1].top, model.again = [model], model[0]
    memo = {}
    twin = copied(model, memo)
    assert type(twin) is Locked
    assert twin[1].top[0] is twin
    assert twin.again is twin[0]
    assert twin.hold.__self__ is twin[0]
    assert twin.lock is model.lock
    assert memo[id(model[0].weight)] is twin[0].weight
    assert [*twin.state_dict()] == [*model.state_dict()]
    for name, tensor in twin.state_dict(keep_vars=True).items():
        assert torch.equal(tensor, model.state_dict()[name])
        assert tensor.data_ptr() != model.state_dict()[name].data_ptr()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_compiled_and_recurrent_networks_are_copied_in_their_own_way():
    model, x = nn.GRU(5, 7, batch_first=True), torch.randn(3, 4, 5)
    nn.utils.weight_norm(model, "weight_hh_l0")
    twin = copied(model)
    assert torch.equal(twin(x)[0], model(x)[0])
    compiled = torch.compile(Net(), backend="eager")
    assert copied(compiled)._orig_mod is not compiled._orig_mod
    prefixed = TEXT.replace("\n", "\n_orig_mod.")
    wrong = PermutationSpec.parse(prefixed.replace("0.bias: h", "0.bias: 7"))
    assert verify(PermutationSpec.parse(prefixed), compiled, torch.randn(4, 5))
    assert not verify(wrong, compiled, torch.randn(4, 5))


def test_what_a_class_holds_beside_its_attributes_is_copied():
    class Listed(nn.Module, list):
        __hash__ = nn.Module.__hash__

        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            return self.net(x) * self[0]

    model, x = Listed(), torch.randn(4, 5)
    model.append(torch.tensor([2.0]))
    assert torch.equal(copied(model)(x), model(x))
    assert verify(PermutationSpec.parse(TEXT.replace("\n", "\nnet.")), model, x)


def test_a_copy_that_still_reads_the_original_is_refused():
    model = Net()
    model.between = lambda h: h + model[0].bias
    with pytest.raises(SpecError, match=r"0\.bias: a copy of the model still reads this tensor"):
        verify(PermutationSpec.parse(TEXT), model, torch.randn(4, 5))


def test_a_copy_that_shares_weights_is_refused_before_they_are_written_to():
    class Same(nn.Parameter):
        def __deepcopy__(self, memo):
            return self

    model = nn.Linear(5, 3)
    model.weight = Same(model.weight.detach())
    before = model.weight.clone()
    with pytest.raises(SpecError, match=r"weight: a copy of the model shares this tensor"):
        verify(PermutationSpec.parse("weight: 3 5\nbias: 3"), model, torch.randn(4, 5))
    assert torch.equal(model.weight, before)
    assert model.weight.dtype == torch.float32


def noise(h):
    return h + torch.randn_like(h)


def numpy_noise(h):
    return h + torch.from_numpy(np.random.default_rng().normal(size=h.shape))


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (lambda h: F.dropout(h, 0.5), r"draws random numbers \(aten\.\w+.*switch them off"),
        (noise, r"draws random numbers \(aten\.randn_like"),
        (numpy_noise, "draws random numbers without torch's generator"),
    ],
    ids=["dropout", "noise", "numpy"],
)
def test_a_random_function_is_told_as_such(between, why):
    with pytest.raises(SpecError, match=f"{AGAIN}: .*{why}"):
        verify(PermutationSpec.parse(TEXT), Net(between), torch.randn(4, 5))


class Remembers(Net):
    """Adds what it computed in earlier calls, or what the first call computed."""

    def __init__(self, *, once=False):
        super().__init__()
        self.state, self.once = None, once

    def forward(self, x):
        h = self[0](x)
        if self.state is None or not self.once:
            self.state = h if self.state is None else self.state / 2 + h
        return self[1](self.state)


class Lists(Net):
    """Its memory is a list that grows."""

    def __init__(self):
        super().__init__()
        self.calls = [0]

    def forward(self, x):
        self.calls.append(len(self.calls))
        return super().forward(x) * len(self.calls)


class Traces(Net):
    """Its memory is a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("trace", torch.arange(7.0), persistent=False)

    def forward(self, x):
        self.trace = 0.5 * self.trace + self[0](x).mean(0)
        return self[1](self.trace + self[0](x))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Remembers(), "it remembers earlier calls in state"),
        (Remembers(once=True), "it remembers earlier calls"),
        (Lists(), "it remembers earlier calls"),
        (Traces(), "buffers outside the state dict remember earlier calls"),
    ],
    ids=["attribute", "first call", "list", "buffer"],
)
def test_a_function_with_a_memory_is_told_as_such(model, why):
    kept = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    with pytest.raises(SpecError, match=f"{AGAIN}: {why}"):
        verify(PermutationSpec.parse(TEXT), model, torch.randn(4, 5))
    assert {n: v for n, v in vars(model).items() if not n.startswith("_")} == kept


def test_random_numbers_that_change_nothing_do_not_hide_a_wrong_group():
    def between(h):
        torch.rand(3)
        return h.relu()

    wrong = PermutationSpec.parse(TEXT.replace("0.bias: h", "0.bias: 7"))
    assert verify(PermutationSpec.parse(TEXT), Net(between), torch.randn(4, 5))
    assert verify(wrong, Net(between), torch.randn(4, 5)).broken == ("h",)


def test_a_memory_of_weights_as_they_are_is_no_memory():
    class Caches(Net):
        def forward(self, x):
            self.weight = self[0].weight * 2
            return self[1](F.linear(x, self.weight, self[0].bias))

    wrong = PermutationSpec.parse(TEXT.replace("0.bias: h", "0.bias: 7"))
    assert verify(PermutationSpec.parse(TEXT), Caches(), torch.randn(4, 5))
    assert verify(wrong, Caches(), torch.randn(4, 5)).broken == ("h",)
