"""What generators are given by strangers: lists, arrays, columns, files that are something else."""

from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import wsl
from wsl.generative import (
    D2NWG,
    DDIM,
    FlowMatching,
    LatentDiffusion,
    MeanGenerator,
    NoveltyWatch,
    RungeKutta,
    TrainingMembers,
    WeightDiffusion,
    initialize,
    max_iou,
)
from wsl.generative.models.noise import alpha_bars, velocity
from wsl.params import from_module, stack


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def spec():
    return wsl.permutation_spec(net(), torch.randn(1, 3))


@pytest.fixture
def models():
    torch.manual_seed(0)
    return [net() for _ in range(8)]


def small(spec, **more):
    return FlowMatching(spec, latent=3, hidden=8, blocks=1, **more)


QUICK = {"steps": 2, "batch_size": 4}


def drawn(generator):
    return generator.sample(2, generator=torch.Generator().manual_seed(0))


def test_networks_come_one_by_one_as_arrays_or_with_gradients(spec, models):
    known = stack([from_module(model) for model in models])
    forms = [
        known,
        models,
        [model.state_dict() for model in models],
        tuple(models),
        {name: tensor.numpy() for name, tensor in known.items()},
        {name: tensor.clone().requires_grad_() for name, tensor in known.items()},
    ]
    for kind in (small, partial(WeightDiffusion, channels=4, blocks=1)):
        made = []
        for form in forms:
            generator = kind(spec)
            assert generator.fit(form, **QUICK).members == 8
            made.append(drawn(generator))
        for other in made[1:]:
            assert all(torch.equal(made[0][name], other[name]) for name in other)


def test_one_number_for_each_member_is_a_condition(spec, models):
    numbers = [0.1 * i for i in range(8)]
    for form in (numbers, torch.tensor(numbers), torch.tensor(numbers)[:, None]):
        generator = small(spec, conditions=1)
        generator.fit(models, form, **QUICK)
        assert generator.prior.condition_mean.item() == pytest.approx(0.35)
        mean = MeanGenerator(spec)
        mean.fit(models, form)
        assert mean.condition.shape == (8, 1)
    assert TrainingMembers.of(models, numbers).quality.tolist() == pytest.approx(numbers)


@pytest.mark.parametrize("thing", [None, "zoo.h5", 3])
def test_what_is_no_population_is_named(spec, thing):
    with pytest.raises(ValueError, match=f"members: {type(thing).__name__}, but a zoo, a list"):
        small(spec).fit(thing)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 0}, "steps: 0, but it must be above 0"),
        ({"steps": -1}, "steps: -1"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"lr": -0.1}, "lr: -0.1"),
    ],
)
def test_a_fit_of_no_length_is_refused(spec, models, settings, told):
    with pytest.raises(ValueError, match=told):
        small(spec).fit(models, **settings)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ({"latent": 0}, "latent: 0, but at least 1"),
        ({"hidden": 0}, "hidden: 0, but at least 1"),
        ({"blocks": -1}, "blocks: -1, but at least 1"),
        ({"conditions": -1}, "conditions: -1, but at least 0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"watch": {"every": 0}}, "at least 1 step and 2 samples"),
    ],
)
def test_parts_of_no_size_are_refused(spec, size, told):
    with pytest.raises(ValueError, match=told):
        LatentDiffusion(spec, **size)
    with pytest.raises(ValueError, match="at least 1 step"):
        NoveltyWatch(every=0)


def test_a_draw_that_cannot_be_is_named(spec, models):
    flow, direct = small(spec), WeightDiffusion(spec, channels=4, blocks=1)
    flow.fit(models, **QUICK)
    direct.fit(models, **QUICK)
    with pytest.raises(ValueError, match="n: -1, but no fewer than 0"):
        flow.sample(-1)
    with pytest.raises(ValueError, match="a flow needs RungeKutta"):
        flow.sample(1, sampler=DDIM(5))
    with pytest.raises(ValueError, match="a diffusion needs a step such as DDIM"):
        direct.sample(1, sampler=RungeKutta(5))
    with pytest.raises(ValueError, match="FlowMatching was made for none; leave it out"):
        initialize(net(), flow, condition=0.9)


@pytest.mark.parametrize("content", ["cut", "empty", "pickle", "other", "folder"])
def test_a_file_that_is_something_else_is_a_value_error(spec, models, tmp_path, content):
    file = tmp_path / "generator.safetensors"
    generator = small(spec)
    generator.fit(models, **QUICK)
    generator.save(file)
    whole = file.read_bytes()
    file.unlink()
    if content == "folder":
        file.mkdir()
    elif content == "pickle":
        torch.save({"a": 1}, file)
    elif content == "other":
        safetensors.torch.save_file({"a": torch.zeros(2)}, file)
    else:
        file.write_bytes(whole[: -100 if content == "cut" else 0])
    for kind in (FlowMatching, MeanGenerator):
        with pytest.raises(ValueError, match=r"generator\.safetensors: not a saved"):
            kind.load(file)


def test_a_generator_is_saved_whole_or_not_at_all(spec, models, tmp_path, monkeypatch):
    generator = small(spec)
    generator.fit(models, **QUICK)
    file = tmp_path / "new folder ü" / "generator.safetensors"
    generator.save(file)
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    before = file.read_bytes()

    def full(tensors, path, about):
        Path(path).write_bytes(b"half")
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(ValueError, match=r"cannot be written.*nothing that was there is lost"):
        generator.save(file)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("steps", [30, 50, 200])
def test_implicit_steps_meet_the_schedule_where_they_do_not_divide_it(steps):
    """x_0 = m known: every step is exact, whatever the times, if the next one starts there."""
    betas, m = D2NWG.betas(), 3.0
    signal = alpha_bars(betas)

    def predict(x, t):
        a = signal[t[0]]
        eps = (x - a.sqrt() * m) / (1 - a).sqrt()
        seen.append(eps)
        return velocity(torch.full_like(x, m), eps, a)

    seen: list[torch.Tensor] = []
    noise = torch.randn(5, 2, dtype=torch.float64)
    x = DDIM(steps).carry(predict, noise, betas=betas)
    torch.testing.assert_close(x, torch.full_like(x, m))
    for eps in seen[1:]:
        torch.testing.assert_close(eps, seen[0])


def test_overlap_with_nobody_and_of_other_items_is_named():
    with pytest.raises(ValueError, match="there is no other network"):
        max_iou(torch.zeros(2, 3).bool(), torch.zeros(0, 3).bool())
    with pytest.raises(ValueError, match=r"errors \(2, 3\) and others \(2, 4\)"):
        max_iou(torch.zeros(2, 3).bool(), torch.zeros(2, 4).bool())
