"""Base architectures: built from descriptions only, exportable, stackable, and as documented."""

import math

import pytest
import torch

from wsl import params
from wsl.populations import build_architecture
from wsl.populations.architectures.networks import cnn, siren
from wsl.zoo import ZooError

CASES = {
    "mlp": ({"widths": [64, 7, 10], "activation": "tanh"}, (1, 8, 8), 10),
    "cnn": ({"in_channels": 1, "channels": [3, 5], "classes": 4, "strides": [2, 1]}, (1, 8, 8), 4),
    "cnn with batch norm": (
        {"in_channels": 2, "channels": [3, 5], "classes": 4, "batch_norm": True},
        (2, 6, 6),
        4,
    ),
    "residual_cnn": (
        {"in_channels": 1, "width": 5, "classes": 3, "blocks": 1, "stride": 2},
        (1, 8, 8),
        3,
    ),
    "siren": ({"widths": [2, 9, 1]}, (2,), 1),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    arguments, shape, outputs = CASES[request.param]
    description = {"_target_": f"wsl.zoo.architectures.{request.param.split()[0]}", **arguments}
    return (
        build_architecture(description).eval(),
        torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)),
        outputs,
    )


def test_a_description_builds_a_network_with_the_declared_output(case):
    model, x, outputs = case
    assert model(x).shape == (3, outputs)


def test_export_keeps_the_function(case):
    model, x, _ = case
    exported = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), model(x))


def test_stacked_members_give_the_same_outputs_as_each_alone(case):
    model, x, _ = case
    own = params.from_module(model)
    thetas = params.stack(
        [own, {name: t * 0.5 if t.is_floating_point() else t for name, t in own.items()}]
    )
    alone = torch.stack([params.call(model, theta, x) for theta in params.unstack(thetas)])
    torch.testing.assert_close(params.call(model, thetas, x), alone)


def test_siren_starts_in_the_bounds_of_its_paper():
    weights = params.from_module(siren([2, 400, 400, 1], omega_0=30.0))
    for name, bound in [
        ("0", 1 / 2),
        ("1", math.sqrt(6 / 400) / 30),
        ("2", math.sqrt(6 / 400) / 30),
    ]:
        largest = weights[f"layers.{name}.weight"].abs().max().item()
        assert 0.95 * bound < largest <= bound


def test_siren_is_sines_and_a_linear_output():
    model, x = siren([2, 4, 1], omega_0=7.0), torch.randn(5, 2)
    w = params.from_module(model)
    hidden = torch.sin(7.0 * (x @ w["layers.0.weight"].T + w["layers.0.bias"]))
    torch.testing.assert_close(model(x), hidden @ w["layers.1.weight"].T + w["layers.1.bias"])


def test_batch_norm_replaces_the_biases_of_convolutions():
    names = set(params.from_module(cnn(1, [3], 2, batch_norm=True)))
    assert "convs.0.bias" not in names
    assert "norms.0.running_var" in names
    assert set(params.from_module(cnn(1, [3], 2))) == {
        "convs.0.weight",
        "convs.0.bias",
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            {"_target_": "os.system", "command": "true"},
            r"architecture: '_target_: os.system' is not one of wsl\.zoo\.arch",
        ),
        (
            {"_target_": "wsl.zoo.architectures.MLP", "widths": [2, 1]},
            r"'_target_: wsl.zoo.architectures.MLP' is not one of",
        ),
        ({"widths": [2, 1]}, r"expected a dict with '_target_', got \{'widths': \[2, 1\]\}"),
        (
            {"_target_": "wsl.zoo.architectures.mlp", "width": [2, 1]},
            r"mlp: missing a required argument: 'widths'; it takes",
        ),
        (
            {"_target_": "wsl.zoo.architectures.mlp", "widths": [2, 1], "depth": 3},
            r"unexpected keyword argument 'depth'",
        ),
        (
            {"_target_": "wsl.zoo.architectures.mlp", "widths": [2, 1], "activation": "swish"},
            r"'swish' is not one of relu",
        ),
        (
            {"_target_": "wsl.zoo.architectures.mlp", "widths": [2]},
            r"mlp: widths \[2\] need at least an input and an output",
        ),
        (
            {
                "_target_": "wsl.zoo.architectures.cnn",
                "in_channels": 1,
                "channels": [2, 3],
                "classes": 2,
                "strides": [1],
            },
            r"cnn: 2 channels but 1 strides; give one stride per convolution",
        ),
    ],
)
def test_a_wrong_description_is_one_clear_error(description, message):
    with pytest.raises(ZooError, match=message):
        build_architecture(description)
