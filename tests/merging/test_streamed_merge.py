"""Merges tensor by tensor from sources: the bytes of the merge in memory, in bounded memory."""

import pytest
import safetensors.torch
import torch
from laws.methods import ROWS

from wsl.matching.large import FileTensor, TensorFile, TensorFiles, open_files
from wsl.merging import METHODS, Average, Measured, WithStatistics
from wsl.merging.mergekit import MergekitMerge, parse
from wsl.merging.streamed import by_tensor, cost, layout, results, steps

SHAPES = {
    "embed.weight": (40, 6),
    "layers.0.weight": (12, 6),
    "layers.0.conv": (6, 3, 2, 2),
    "layers.1.weight": (12, 6),
    "layers.1.bias": (37,),
    "bn.running_var": (12,),
    "scale": (),
}
ALONE = {name: method for name, method in ROWS.items() if by_tensor(method)}


def model(seed, kind=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    theta = {n: torch.randn(shape, generator=rng).to(kind) for n, shape in SHAPES.items()}
    return theta | {"bn.running_var": theta["bn.running_var"].abs() + 1, "steps": torch.tensor(7)}


def given(method):
    """As many members as it takes, a base if it needs one, and statistics with it."""
    members = [model(seed) for seed in range(getattr(method, "takes", 5))]
    base = model(99) if "base" in method.needs else None
    if "statistics" in method.needs:
        count = len(members) + ("base statistics" in method.needs)
        of_entries = getattr(method, "measures", "fisher") == "fisher"
        told = [model(50 + i) for i in range(count)]
        statistics = [
            {n: t.abs() + 0.1 if of_entries else t.mT @ t for n, t in one.items() if t.dim() == 2}
            for one in told
        ]
        method = WithStatistics(method, statistics)
    return method, members, base


def streamed(told, threads):
    """The results of steps, put together from their parts."""
    return {s.name: torch.cat(p) if s.shape else p[0] for s, p in parts(told, threads)}


def parts(told, threads):
    for step in told:
        yield step, list(results([step], threads=threads))


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("wsl.merging.streamed.run.PART", 64)
    monkeypatch.setattr("wsl.merging.streamed.run.BUDGET", 1 << 14)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ALONE)
def test_the_bytes_are_those_of_the_merge_in_memory(name, threads, small_parts):
    method, members, base = given(ALONE[name])
    expected = method.solve(members, base=base)
    found = streamed(steps(members, method, base=base), threads)
    assert list(found) == list(expected)
    for tensor in found:
        assert found[tensor].dtype == expected[tensor].dtype
        assert torch.equal(found[tensor], expected[tensor]), tensor


@pytest.mark.parametrize("name", ["average", "task_arithmetic", "dare", "della"])
def test_methods_that_can_be_cut_are_cut(name, small_parts):
    method, members, base = given(METHODS[name]())
    counts = {step.name: len(p) for step, p in parts(steps(members, method, base=base), 1)}
    assert counts["embed.weight"] > 4
    assert (counts["layers.1.bias"] > 1) == (name != "della")


def test_every_other_method_is_refused():
    whole = {name: kind for name, kind in ROWS.items() if name not in ALONE}
    assert {"ties", "pcb", "greedy_soup", "fisher"} <= whole.keys()
    for method in whole.values():
        with pytest.raises(ValueError, match="one by one; merge in memory"):
            steps([model(0), model(1)], method)
    assert not by_tensor(Measured(METHODS["regmean"](), dict))


def test_results_come_in_order_whatever_the_threads(small_parts):
    members = [model(seed) for seed in range(3)]
    one, many = ([p.clone() for p in results(steps(members, Average()), threads=n)] for n in (1, 4))
    assert all(torch.equal(x, y) for x, y in zip(one, many, strict=True))


def test_members_that_differ_are_refused_by_name():
    a = model(0)
    without = {n: t for n, t in a.items() if n != "scale"}
    names = ["A", "B"]
    with pytest.raises(ValueError, match="B: has no tensor scale"):
        steps([a, without], Average(), names=names)
    with pytest.raises(ValueError, match="B: scale: A has no such tensor"):
        steps([without, a], Average(), names=names)
    with pytest.raises(ValueError, match=r"B: layers.1.bias: has shape \(3,\).*\(37,\) of A"):
        steps([a, a | {"layers.1.bias": torch.zeros(3)}], Average(), names=names)
    with pytest.raises(ValueError, match="needs a base"):
        steps([a, a], METHODS["dare"]())


@pytest.mark.parametrize("threads", [1, 2])
def test_nan_and_overflow_are_refused_by_name(threads):
    a, b = model(0), model(1)
    b["layers.0.weight"][0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layers\.0\.weight: member 2 holds NaN or infinity"):
        list(results(steps([a, b], Average()), threads=threads))
    told = steps([a, a], METHODS["dare"](), base=a | {"scale": torch.tensor(torch.inf)})
    with pytest.raises(ValueError, match="scale: the base holds NaN"):
        list(results(told, threads=threads))
    half = {"w": torch.full((2, 2), 6e4, dtype=torch.float16)}
    far = METHODS["task_arithmetic"](scale=3.0)
    base = {"w": torch.zeros(2, 2, dtype=torch.float16)}
    told = steps([half, half], far, base=base)
    with pytest.raises(ValueError, match="w: the merge leaves the range"):
        list(results(told, threads=threads))


def test_mergekit_steps_give_what_it_solves(small_parts):
    text = """
merge_method: dare_ties
base_model: base
models:
  - {model: a, parameters: {weight: [0, 1], density: 0.5}}
  - {model: b, parameters: {weight: 0.3, density: 0.7}}
dtype: bfloat16
"""
    merge = MergekitMerge(parse(text))
    members, base = [model(1), model(2)], model(0)
    expected = merge.solve(members, base=base)
    found = streamed(merge.steps(members, base=base), 2)
    assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in expected.items())
    with pytest.raises(ValueError, match="b: has no tensor scale"):
        merge.steps([model(1), {n: t for n, t in model(2).items() if n != "scale"}], base=base)


def test_cost_counts_what_is_read_and_written():
    members = [{"w": torch.zeros(10, 10)}] * 3
    told = cost(steps(members, Average()))
    assert told[:2] == (1200, 400)
    large = {"w": FileTensor(None, torch.float32, torch.Size((2**15, 2**15)), 0)}
    cut = cost(steps([large] * 2, Average())).held
    whole = cost(steps([large] * 2, METHODS["tsvm"](), base=large)).held
    assert cut < 300 << 20 < 2 << 32 < whole


@pytest.mark.parametrize("name", ALONE)
def test_no_method_but_the_spectral_ones_plans_for_more_than_its_members_and_one(name):
    method, tensor = ALONE[name], FileTensor(None, torch.bfloat16, torch.Size((2**15, 2**15)), 0)
    if "statistics" in method.needs:
        return  # they are held too
    members = [{"w": tensor}] * getattr(method, "takes", 4)
    base = members[0] if "base" in method.needs else None
    bound = (len(members) + 1) * tensor.size + (300 << 20)
    fits = cost(steps(members, method, base=base)).held <= bound
    assert fits == (getattr(method, "doubles", 0) == 0)


def test_the_layout_is_that_of_the_first_member_or_shards_by_size(tmp_path, monkeypatch):
    theta = model(0)
    safetensors.torch.save_file(theta, tmp_path / "m.safetensors")
    like = open_files(tmp_path / "m.safetensors")
    told = steps([theta, theta], Average())
    assert list(layout(told, like).files) == ["m.safetensors"]
    assert layout(told, like).index is None
    two = TensorFiles(
        {
            f: TensorFile(None, {n: t for n, t in like.tensors.items() if (n < "f") == first}, {})
            for f, first in (("x", True), ("y", False))
        },
        {"weight_map": {}},
        "i",
    )
    assert set(layout(told, two).files["x"].tensors) == {"embed.weight", "bn.running_var"}
    assert list(layout(told, two, one="z").files) == ["z"]
    monkeypatch.setattr("wsl.merging.streamed.files.SHARD", 1000)
    made = layout(told)
    assert made.index_file == "model.safetensors.index.json"
    assert set(made.index["weight_map"]) == set(theta)
    assert len(made.files) > 1
    assert all(f.startswith("model-0000") for f in made.files)
