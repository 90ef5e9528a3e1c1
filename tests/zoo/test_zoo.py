"""What goes into a zoo file comes out of it, bit for bit, in the order that was asked for, in any
process, after any crash.
"""

import csv
import importlib
import json
import os
import pickle
import re
import signal
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from networks import BY_NAME
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from wsl.params import call, from_module, stack
from wsl.zoo import Zoo, ZooError, ZooWriter, export, read_checkpoint, write_checkpoint
from wsl.zoo.rows.split import split_last, split_members

NETWORK = BY_NAME["residual"]
COLUMNS = {"accuracy": float, "seed": int, "converged": bool, "optimizer": str}
EPOCHS = (0, 5, 20)
ARCHITECTURE = {"_target_": "residual", "widths": [5, 7]}


def member(i, epoch=0):
    theta = NETWORK.weights(seed=100 * i + epoch)
    return {
        name: t if t.is_floating_point() else torch.tensor(i + epoch) for name, t in theta.items()
    }


def metadata(members, epoch=0):
    return {
        "accuracy": [m / 7 + epoch for m in members],
        "seed": [10**12 + m for m in members],
        "converged": [m % 3 == 0 for m in members],
        "optimizer": ["adam" if m % 2 else "Ångström"[: m + 1] for m in members],
    }


def writer(path, **options):
    return ZooWriter(
        path,
        spec=NETWORK.spec,
        like=member(0),
        columns=COLUMNS,
        architecture=ARCHITECTURE,
        **options,
    )


def fill(target, groups=((0, 1, 2, 3), (4, 5, 6), (7, 8, 9)), epochs=EPOCHS):
    for epoch in epochs:
        for group in groups:
            params = stack([member(m, epoch) for m in group])
            key = f"{group[0]}-{epoch}"
            target.append(key, params, member=group, epoch=epoch, metadata=metadata(group, epoch))
    return target


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return fill(
        writer(tmp_path_factory.mktemp("zoo") / "zoo.h5", provenance={"seed": 3})
    ).finalize()


@pytest.fixture
def zoo(path):
    return Zoo(path)


def equal(a, b):
    return list(a) == list(b) and all(
        torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )


def test_what_is_written_is_read_bit_for_bit(zoo):
    assert len(zoo) == 30
    for row in range(30):
        params, about = zoo[row]
        m, epoch = divmod(row, 3)[0], EPOCHS[row % 3]
        assert (about["member"], about["epoch"]) == (m, epoch)
        assert equal(params, member(m, epoch))
        assert {k: [about[k]] for k in COLUMNS} == metadata([m], epoch)
        assert [type(about[k]) for k in COLUMNS] == [float, int, bool, str]
        assert params["bn1.num_batches_tracked"].dtype == torch.int64
    zoo.verify()


def test_special_values_keep_their_bits(tmp_path):
    bits = torch.tensor(
        [0x7FC00001, -0x3FFFFF, 0x7F800000, -0x80000000, 1, 0x3F800000, 0, 2, 3], dtype=torch.int32
    )
    state = {"w": bits.view(torch.float32), "h": torch.tensor([1.5, -0.0], dtype=torch.bfloat16)}
    spec = type(NETWORK.spec).parse("w: 9\nh: 2")
    zoo = Zoo.from_models(
        tmp_path / "z.h5", [state] * 2, spec=spec, metadata={}, allow_nonfinite=True
    )
    assert torch.equal(zoo[1][0]["w"].view(torch.int32), bits)
    assert torch.equal(zoo[[1, 0]][0]["w"].view(torch.int32), torch.stack([bits, bits]))
    assert torch.equal(zoo[0][0]["h"].view(torch.int16), state["h"].view(torch.int16))


def test_description_survives(zoo, path):
    assert str(zoo.spec) == NETWORK.golden
    assert zoo.architecture == ARCHITECTURE
    assert zoo.provenance == {"seed": 3}
    assert zoo.path == path
    assert zoo.shapes == NETWORK.spec.shapes
    assert list(zoo.dtypes) == list(zoo.shapes) == list(member(0))
    assert zoo.buffers == tuple(name for name in member(0) if re.search("running|tracked", name))
    assert repr(zoo).endswith(
        "30 checkpoints of 10 members, 525 values in 18 tensors; columns accuracy, seed, "
        "converged, optimizer)"
    )


def test_table_has_one_typed_record_per_row(zoo):
    names = ("member", "epoch", "split", *COLUMNS)
    assert zoo.table.dtype.names == names
    assert [zoo.table[n].dtype.str for n in names[:6]] == ["<i4", "<i4", "<U5", "<f8", "<i8", "|b1"]
    assert [tuple(zoo[i][1].values()) for i in (0, 17)] == [
        tuple(zoo.table[i].tolist()) for i in (0, 17)
    ]
    with pytest.raises(ValueError, match="read-only"):
        zoo.table["member"][0] = 1


def test_negative_rows_count_from_the_end_and_others_do_not_exist(zoo):
    assert equal(zoo[-1][0], zoo[29][0])
    assert equal(zoo[-30][0], zoo[0][0])
    for row in (30, -31, 10**9):
        with pytest.raises(IndexError, match=f"row {row} does not exist; the zoo has 30 rows"):
            zoo[row]
        with pytest.raises(IndexError, match=f"row {row} does not exist"):
            zoo.__getitems__([0, row])
    with pytest.raises(ZooError, match="rows must be a sequence of integers"):
        zoo[[0.5]]


def test_a_batch_is_its_rows_stacked(zoo):
    rows = [7, -1, 7, 0]
    params, numbers = zoo.__getitems__(rows)
    assert equal(params, stack([zoo[i][0] for i in rows]))
    assert {k: (v.dtype, v.shape) for k, v in numbers.items()} == {
        **dict.fromkeys(["member", "epoch", "seed"], (torch.int64, (4,))),
        "accuracy": (torch.float32, (4,)),
        "converged": (torch.bool, (4,)),
    }
    assert numbers["seed"].tolist() == [zoo[i][1]["seed"] for i in rows]
    for index in (np.array(rows), torch.tensor(rows)):
        assert equal(zoo[index][0], params)
    assert equal(zoo[3:8:2][0], zoo[[3, 5, 7]][0])
    assert zoo[[]][0]["stem.weight"].shape == (0, 5, 2, 3, 3)


def test_batches_and_checkpoints_belong_to_the_caller(zoo):
    before = zoo[4][0]["head.bias"].clone()
    zoo[4][0]["head.bias"].zero_()
    zoo[[4]][0]["head.bias"].zero_()
    assert zoo[4][0]["head.bias"].untyped_storage().nbytes() == 12
    assert torch.equal(zoo[4][0]["head.bias"], before)


def test_iteration_yields_every_row(zoo):
    assert [about["member"] for _, about in zoo] == [row // 3 for row in range(30)]


def test_statistics_are_those_of_all_rows_at_once(zoo, monkeypatch):
    monkeypatch.setattr("wsl.zoo.rows.statistics._CHUNK", 4 * 525 * 7)
    rows = zoo.indices("train")
    params, _ = zoo[rows]
    for name, (mean, std) in zoo.statistics().items():
        values = params[name].double()
        torch.testing.assert_close(mean, values.mean(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(std, values.std(unbiased=False), rtol=1e-12, atol=1e-12)
    assert zoo.statistics("val")["head.bias"] != zoo.statistics()["head.bias"]


def test_statistics_leave_out_what_is_not_finite(tmp_path):
    spec = type(NETWORK.spec).parse("w: 2")
    states = [
        {"w": torch.tensor(w)} for w in ([1.0, torch.nan], [3.0, torch.inf], [-torch.inf, 5.0])
    ]
    zoo = Zoo.from_models(tmp_path / "z.h5", states, spec=spec, metadata={}, allow_nonfinite=True)
    mean, std = zoo.statistics(None)["w"]
    assert (mean.item(), std.item()) == pytest.approx((3.0, (8 / 3) ** 0.5))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_yields_each_row_exactly_once(zoo, shuffle):
    loader = zoo.loader("train", batch_size=5, shuffle=shuffle, seed=1)
    assert len(loader) == 5
    assert [len(numbers["member"]) for _, numbers in loader] == [5, 5, 5, 5, 4]
    seen = [
        pair
        for _, n in loader
        for pair in zip(n["member"].tolist(), n["epoch"].tolist(), strict=True)
    ]
    wanted = [(r["member"], r["epoch"]) for r in zoo.table[zoo.indices("train")]]
    assert sorted(seen) == wanted
    assert (seen == wanted) is not shuffle
    for params, numbers in loader:
        for i, (m, e) in enumerate(
            zip(numbers["member"].tolist(), numbers["epoch"].tolist(), strict=True)
        ):
            assert equal({name: t[i] for name, t in params.items()}, member(m, e))


def test_dropping_the_incomplete_batch_drops_nothing_else(zoo):
    loader = zoo.loader(batch_size=7, drop_last=True)
    assert len(loader) == 4
    assert [len(n["member"]) for _, n in loader] == [7] * 4


def order(loader):
    return [
        (m, e)
        for _, n in loader
        for m, e in zip(n["member"].tolist(), n["epoch"].tolist(), strict=True)
    ]


def test_shuffling_depends_on_seed_and_pass_alone(zoo):
    first, again, other = (zoo.loader(batch_size=4, shuffle=True, seed=s) for s in (1, 1, 2))
    passes = [order(first) for _ in range(3)]
    assert passes == [order(again) for _ in range(3)]
    assert len({tuple(p) for p in passes}) == 3
    assert order(other) != passes[0]
    resumed = zoo.loader(batch_size=4, shuffle=True, seed=1)
    resumed.passes = 2
    assert order(resumed) == passes[2]


def test_a_loader_may_be_restricted_to_an_epoch(zoo):
    assert order(zoo.loader("val", batch_size=2, epoch=20)) == [
        (zoo.table["member"][zoo.indices("val")[0]], 20)
    ]
    with pytest.raises(
        ZooError, match="no rows of split 'val' at epoch 7; the file has epochs 0, 5, 20"
    ):
        zoo.loader("val", batch_size=2, epoch=7)
    with pytest.raises(ZooError, match="batch_size 0 must be at least 1"):
        zoo.loader(batch_size=0)


def test_splits_are_disjoint_by_member_and_cover_everything(zoo):
    rows = [zoo.indices(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(rows)) == list(range(30))
    members = [set(zoo.table["member"][r]) for r in rows]
    assert [len(m) for m in members] == [8, 1, 1]
    assert not members[0] & members[1] | members[0] & members[2] | members[1] & members[2]


@pytest.mark.parametrize(
    ("count", "fractions", "counts"),
    [
        (10, (0.8, 0.1, 0.1), [8, 1, 1]),
        (3, (0.8, 0.1, 0.1), [1, 1, 1]),
        (1, (0.8, 0.1, 0.1), [1, 0, 0]),
        (7, (0.5, 0.5, 0), [4, 3, 0]),
        (1000, (0.6, 0.2, 0.2), [600, 200, 200]),
        (5, (0, 0, 1), [0, 0, 5]),
    ],
)
def test_split_sizes_follow_the_fractions(count, fractions, counts):
    codes = split_members(count, fractions, 0)
    assert np.bincount(codes, minlength=3).tolist() == counts
    assert np.array_equal(codes, split_members(count, fractions, 0))


def test_counted_splits_hold_out_the_last_members_and_draw_val_from_the_others():
    codes = split_last(np.arange(100), (70, 10, 20), 0)
    assert np.array_equal(np.bincount(codes), [70, 10, 20])
    assert np.array_equal(np.flatnonzero(codes == 2), np.arange(80, 100))
    val = np.flatnonzero(codes == 1)
    assert np.ptp(val) > 10
    assert not np.array_equal(val, np.flatnonzero(split_last(np.arange(100), (70, 10, 20), 1) == 1))
    some = np.array([3, 17, 80])
    assert np.array_equal(split_last(some, (70, 10, 20), 0), codes[some])


def test_another_seed_splits_otherwise():
    assert not np.array_equal(
        split_members(100, (0.8, 0.1, 0.1), 0), split_members(100, (0.8, 0.1, 0.1), 1)
    )


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.1), (0.8, 0.3, -0.1), (0.8, 0.1, 0.2), (float("nan"), 0.5, 0.5)]
)
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ZooError, match="three fractions for train, val, test that sum to 1"):
        split_members(10, fractions, 0)


def test_rows_are_found_by_their_metadata(zoo):
    assert zoo.indices(epoch=5, member=2).tolist() == [7]
    assert zoo.indices(member=[0, 9]).tolist() == [0, 1, 2, 27, 28, 29]
    assert zoo.indices(optimizer="adam", epoch=0, converged=True).tolist() == [9, 27]
    assert zoo.indices(epoch=999).tolist() == []
    with pytest.raises(ZooError, match="split 'valid' is unknown; the splits are train, val, test"):
        zoo.indices("valid")
    with pytest.raises(
        ZooError, match=r"column 'acuracy' is unknown \(did you mean 'accuracy'\?\)"
    ):
        zoo.indices(acuracy=1)


def test_two_builds_are_equal_to_the_byte_whatever_their_tasks_and_time(path, tmp_path):
    time.sleep(1.1)  # HDF5 counts time in seconds
    other = fill(
        writer(tmp_path / "zoo.h5", provenance={"seed": 3}),
        groups=[(9, 3), (0,), (8, 7, 1, 2), (4, 5, 6)],
    )
    assert other.finalize().read_bytes() == path.read_bytes()


def test_file_is_as_the_schema_says(path):
    with h5py.File(path) as file:
        assert set(file) == {"weights", "member", "epoch", "crc32", "split", "columns"}
        assert file["weights"].id.get_offset() % 4096 == 0
        assert file["weights"].chunks is None
        assert file["weights"].dtype == "<f4"
        rows = file["weights"][:]
        assert [zlib.crc32(row.tobytes()) for row in rows] == file["crc32"][:].tolist()
        layout = json.loads(file.attrs["layout"])
        first = {
            "name": "stem.weight",
            "shape": [5, 2, 3, 3],
            "dtype": "float32",
            "start": 0,
            "end": 90,
            "kind": "param",
        }
        assert layout[0] == first
        assert layout[-1]["end"] == file.attrs["P"] == rows.shape[1]
        assert (file.attrs["format"], file.attrs["version"], file.attrs["state"]) == (
            b"wslzoo",
            2,
            b"complete",
        )
        assert file["columns/optimizer"][1].decode() == "Å"


def test_tiny_and_large_descriptions_are_stored(tmp_path):
    spec = type(NETWORK.spec).parse("\n".join(f"block{i}.scale:" for i in range(1500)))
    states = [{name: torch.tensor(float(i)) for name in spec.axes} for i in range(2)]
    zoo = Zoo.from_models(tmp_path / "many.h5", states, spec=spec, metadata={})
    assert equal(zoo[1][0], states[1])
    zoo = Zoo.from_models(
        tmp_path / "one.h5", [{"w": torch.ones(1)}], spec=type(spec).parse("w: 1"), metadata={}
    )
    assert zoo[0][0]["w"].item() == 1.0
    assert zoo._contents.weights.offset % 4096 == 0


def test_a_pickled_zoo_reads_the_same_file(zoo, path, tmp_path):
    zoo.loader(batch_size=30)
    copy = pickle.loads(pickle.dumps(zoo))  # noqa: S301
    assert len(pickle.dumps(zoo)) < 1000
    assert equal(copy[3][0], zoo[3][0])
    moved = tmp_path / "zoo.h5"
    moved.write_bytes(path.read_bytes())
    there = pickle.dumps(Zoo(moved))
    fill(writer(moved), epochs=(0,)).finalize()
    with pytest.raises(ZooError, match="was replaced by another file"):
        pickle.loads(there)  # noqa: S301


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_loader_workers_read_what_the_parent_reads(zoo, start):
    mine = order(zoo.loader(batch_size=8))
    loader = DataLoader(
        zoo, batch_size=8, num_workers=2, multiprocessing_context=start, collate_fn=zoo.collate
    )
    batches = list(loader)
    assert order(batches) == mine
    assert equal(batches[1][0], zoo[8:16][0])


def test_whole_batches_come_through_a_batch_sampler_too(zoo):
    sampler = BatchSampler(SequentialSampler(zoo), batch_size=8, drop_last=False)
    assert order(DataLoader(zoo, sampler=sampler, batch_size=None)) == order(
        zoo.loader(batch_size=8)
    )


def test_modules_become_a_zoo_in_one_line(tmp_path):
    models = [BY_NAME["residual"].make() for _ in range(5)]
    zoo = Zoo.from_models(
        tmp_path / "deep" / "zoo.h5",
        models,
        spec=NETWORK.spec,
        seed=1,
        metadata={"accuracy": torch.rand(5), "label": np.arange(5), "name": list("abcde")},
    )
    x = NETWORK.inputs()
    for i, model in enumerate(models):
        params, about = zoo[i]
        assert equal(params, from_module(model))
        assert torch.equal(call(model.eval(), params, x), model(x))
        assert (about["member"], about["epoch"], about["name"]) == (i, 0, "abcde"[i])
    assert zoo.columns == {"accuracy": "float64", "label": "int64", "name": "string"}
    assert zoo.buffers[0] == "bn1.running_mean"
    assert os.listdir(tmp_path / "deep") == ["zoo.h5"]


def test_modules_and_state_dicts_give_the_same_file(tmp_path):
    models = [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(3)]
    spec = type(NETWORK.spec).parse(
        "h = 3\n0.weight: h 2\n0.bias: h\n1.weight: h\n1.bias: h\n1.running_mean: "
        "h\n1.running_var: h\n1.num_batches_tracked:"
    )
    for name, given in (("a", models), ("b", (m.state_dict() for m in models))):
        Zoo.from_models(tmp_path / name, given, spec=spec, metadata={"lr": [0.1, 0.2, 0.3]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def from_models(path, states=None, **options):
    states = [member(i) for i in range(3)] if states is None else states
    return Zoo.from_models(path, states, **{"spec": NETWORK.spec, "metadata": {}, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"states": []}, "no models given"),
        ({"metadata": {"lr": [0.1, 0.2]}}, "column 'lr': has 2 values for 3 checkpoints"),
        (
            {"metadata": {"lr": 0.1}},
            "column 'lr': is a single value; give a list with one value for each of 3 models",
        ),
        (
            {"metadata": {"lr": [0.1, None, 0.2]}},
            "column 'lr': holds NoneType, float; a column is all numbers",
        ),
        ({"metadata": {"lr": [0.1, "0.2", 0.2]}}, "column 'lr': holds float, str"),
        ({"metadata": {"n": [1, 2, 2**63]}}, "column 'n': holds a number that does not fit"),
        ({"metadata": {"s": ["a", "b\0", "c"]}}, "column 's': value 1 contains a NUL"),
        ({"metadata": {"s": ["a", "b", "c" * 5000]}}, "column 's': holds text of 5000 bytes"),
        ({"metadata": {"x": torch.zeros(3, 2)}}, "column 'x': holds list"),
        ({"metadata": {"epoch": [1, 2, 3]}}, "column 'epoch': use a name"),
        ({"metadata": {"a/b": [1, 2, 3]}}, "column 'a/b': use a name"),
        ({"spec": BY_NAME["mlp"].spec}, "spec: 0.bias: is annotated but not stored"),
        ({"architecture": {"x": float("nan")}}, "architecture: cannot be written as JSON"),
        ({"provenance": {"x": torch.zeros(1)}}, "provenance: cannot be written as JSON"),
        ({"split": (1, 1, 1)}, "three fractions"),
    ],
)
def test_models_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path, options, message):
    with pytest.raises(ZooError, match=message):
        from_models(tmp_path / "z.h5", **options)
    assert not list(tmp_path.iterdir())


def with_tensor(name, value):
    return [member(0), {**member(1), name: value}]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "head.bias",
            torch.zeros(4),
            r"model 1: head.bias: has shape \(1, 4\), but \(1, 3\) is required",
        ),
        (
            "head.bias",
            torch.zeros(3).double(),
            "model 1: head.bias: is torch.float64, but this zoo holds torch.float32",
        ),
        ("extra", torch.zeros(3), "model 1: extra: is not in the layout"),
        (
            "bn1.num_batches_tracked",
            torch.tensor(2**24 + 1),
            "num_batches_tracked: holds torch.int64 values that float32 cannot",
        ),
        (
            "head.bias",
            torch.tensor([0.0, torch.nan, 0.0]),
            "member 1, epoch 0: head.bias holds nan; leave diverged members out",
        ),
        (
            "stem.weight",
            torch.full((5, 2, 3, 3), -torch.inf),
            "member 1, epoch 0: stem.weight holds -inf",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, name, value, message):
    with pytest.raises(ZooError, match=message):
        from_models(tmp_path / "z.h5", with_tensor(name, value))


def test_double_weights_are_stored_only_if_they_are_exact(tmp_path):
    spec = type(NETWORK.spec).parse("w: 1")
    zoo = from_models(
        tmp_path / "z.h5", [{"w": torch.tensor([0.5], dtype=torch.float64)}], spec=spec
    )
    assert zoo[0][0]["w"].dtype == torch.float64
    with pytest.raises(
        ZooError, match="w: holds torch\\.float64 values that float32 cannot represent exactly"
    ):
        from_models(tmp_path / "z.h5", [{"w": torch.tensor([0.1], dtype=torch.float64)}], spec=spec)


def test_diverged_weights_are_stored_on_request(tmp_path):
    zoo = from_models(
        tmp_path / "z.h5",
        with_tensor("head.bias", torch.tensor([0.0, torch.nan, torch.inf])),
        allow_nonfinite=True,
    )
    assert zoo[1][0]["head.bias"].isnan().tolist() == [False, True, False]
    zoo.verify()


def test_a_failing_build_leaves_the_old_file_as_it_was(tmp_path):
    from_models(tmp_path / "z.h5")
    before = (tmp_path / "z.h5").read_bytes()
    with pytest.raises(ZooError):
        from_models(tmp_path / "z.h5", with_tensor("head.bias", torch.zeros(4)))
    with pytest.raises(ZooError):
        from_models(tmp_path / "z.h5", split=(1, 1, 1))
    assert (tmp_path / "z.h5").read_bytes() == before
    assert os.listdir(tmp_path) == ["z.h5"]


def test_appended_keys_are_known_and_skipped(tmp_path):
    target = writer(tmp_path / "z.h5")
    assert not target.has("a")
    target.append("a", stack([member(0)]), member=0, epoch=0, metadata=metadata([0]))
    assert target.has("a")
    assert writer(tmp_path / "z.h5").has("a")
    target.append("a", stack([member(1)]), member=1, epoch=0, metadata=metadata([1]))
    assert not target.complete
    zoo = Zoo(target.finalize())
    assert equal(zoo[0][0], member(0))
    assert len(zoo) == 1
    assert target.complete
    assert writer(tmp_path / "z.h5").complete
    assert not writer(tmp_path / "z.h5", provenance={"seed": 1}).complete
    assert target.finalize() == zoo.path
    assert os.listdir(tmp_path) == ["z.h5"]


def test_a_task_may_yield_no_checkpoint(tmp_path):
    target = writer(tmp_path / "z.h5")
    nothing = {name: torch.empty(0, *t.shape, dtype=t.dtype) for name, t in member(0).items()}
    target.append("none", nothing, member=[], epoch=[], metadata=metadata([]))
    with pytest.raises(ZooError, match="nothing was appended"):
        target.finalize()
    fill(target, epochs=(5,))
    assert len(Zoo(target.finalize())) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metadata": {}},
            "column '[a-z]+': is missing; the columns of this zoo are accuracy, seed",
        ),
        ({"metadata": {**metadata([0, 1]), "lr": 1.0}}, "column 'lr': was not declared"),
        (
            {"metadata": {**metadata([0, 1]), "seed": [1.5, 2]}},
            "column 'seed': value 0 is 1.5, but the column holds int",
        ),
        (
            {"metadata": {**metadata([0, 1]), "accuracy": None}},
            "column 'accuracy': value 0 is None.*write nan",
        ),
        ({"member": [0]}, "column 'member': has 1 values for 2 checkpoints"),
        ({"member": [0, -1]}, "member: must lie in 0"),
        ({"epoch": 2**31}, "epoch: must lie in 0"),
        ({"key": "../a"}, "key '../a': use 1 to 128 letters"),
        ({"params": member(0)}, "stem.weight: has shape"),
        (
            {"params": stack([member(0), {**member(1), "head.bias": torch.full((3,), torch.inf)}])},
            "member 1.*bias holds inf",
        ),
    ],
)
def test_shards_that_do_not_fit_are_refused(tmp_path, change, message):
    call = {
        "key": "a",
        "params": stack([member(0), member(1)]),
        "member": [0, 1],
        "epoch": 0,
        "metadata": metadata([0, 1]),
        **change,
    }
    with pytest.raises(ZooError, match=message):
        writer(tmp_path / "z.h5").append(call.pop("key"), call.pop("params"), **call)
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ["lr"]}, "columns .*: map each name to float, int, bool or str"),
        (
            {"columns": {"lr": complex}},
            "column 'lr': kind <class 'complex'> is not one of float, int, bool, str",
        ),
        ({"buffers": ["head"]}, "buffers: 'head' is not among the tensors"),
        ({"like": {}}, "no tensors given"),
        ({"like": {"w": torch.zeros(2, dtype=torch.complex64)}}, "w: complex64 tensor"),
    ],
)
def test_a_build_that_cannot_be_is_refused_at_once(tmp_path, change, message):
    with pytest.raises(ZooError, match=message):
        ZooWriter(
            tmp_path / "z.h5",
            **{"spec": NETWORK.spec, "like": member(0), "columns": COLUMNS, **change},
        )
    assert not list(tmp_path.iterdir())


def test_shards_of_another_build_are_not_mixed_in(tmp_path):
    fill(writer(tmp_path / "z.h5"), epochs=(0,))
    with pytest.raises(ZooError, match="belongs to another build"):
        writer(tmp_path / "z.h5", provenance={"seed": 1})


def test_a_checkpoint_given_twice_is_named(tmp_path):
    target = fill(writer(tmp_path / "z.h5"), epochs=(0,))
    target.append("b", stack([member(4)]), member=4, epoch=0, metadata=metadata([4]))
    with pytest.raises(ZooError, match=r"member 4, epoch 0: is in shards (4-0 and b|b and 4-0)"):
        target.finalize()
    assert len(list(target.shards.glob("*.npz"))) == 4


def test_a_damaged_shard_is_named(tmp_path):
    target = fill(writer(tmp_path / "z.h5"), epochs=(0,))
    shard = target.shards / "4-0.npz"
    whole = shard.read_bytes()
    for damaged in (
        whole[:100],
        whole[:-10],
        b"",
        whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:],
    ):
        shard.write_bytes(damaged)
        with pytest.raises(ZooError, match=r"4-0\.npz: is damaged"):
            target.finalize()
        assert not (tmp_path / "z.h5").exists()


def build(path):
    fill(writer(path), groups=[(0, 1), (2,)], epochs=(0, 5)).finalize()


create = importlib.import_module("wsl.zoo.file.create")  # the door has the function of that name
STEPS = {
    os: ["fsync", "replace", "rename", "unlink", "rmdir", "mkdir"],
    create: ["_create_dataset", "_write_attributes", "_write_rows", "read"],
}


def killed_at(call, path):
    """Run `build` in a child that is killed at the ``call``-th step that touches files; whether it
    got that far.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def dying(function):
            def counted(*args, **kwargs):
                nonlocal count
                count += 1
                if count == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return counted

        try:
            for module, names in STEPS.items():
                for name in names:
                    setattr(module, name, dying(getattr(module, name)))
            build(path)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == signal.SIGKILL


def test_a_build_killed_anywhere_is_finished_by_running_it_again(tmp_path):
    build(tmp_path / "whole.h5")
    whole, path = (tmp_path / "whole.h5").read_bytes(), tmp_path / "z.h5"
    calls = 1
    while killed_at(calls, path):
        if path.exists():
            assert path.read_bytes() == whole
            assert writer(path).finalize().read_bytes() == whole
        build(path)
        assert path.read_bytes() == whole
        path.unlink()
        calls += 1
    assert calls > 15
    assert sorted(os.listdir(tmp_path)) == ["whole.h5", "z.h5"]


def test_a_rebuild_killed_anywhere_leaves_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "z.h5"
    build(path)
    new = path.read_bytes()
    old = (
        fill(writer(path, provenance={"old": 1}), groups=[(5, 6)], epochs=(0,))
        .finalize()
        .read_bytes()
    )
    calls, seen = 1, set()
    while killed_at(calls, path):
        seen.add(path.read_bytes())
        Zoo(path).verify()
        calls += 1
        for shard in path.parent.glob("z.h5.*/*.npz"):
            shard.unlink()
        path.write_bytes(old)
    assert seen == {old, new}


def test_rows_are_exported_as_safetensors_with_their_origin(tmp_path):
    provenance = {"task": {"_target_": "wsl.zoo.digits"}}
    zoo = Zoo(fill(writer(tmp_path / "z.h5", provenance=provenance)).finalize())
    paths = export(zoo, [22, -30], tmp_path / "out")
    assert [p.name for p in paths] == [
        "member-0007-epoch-005.safetensors",
        "member-0000-epoch-000.safetensors",
    ]
    params, about = read_checkpoint(paths[0])
    assert equal(params, member(7, 5))
    assert about["spec"] == NETWORK.golden
    assert json.loads(about["architecture"]) == ARCHITECTURE
    assert json.loads(about["task"]) == provenance["task"]
    assert [about[k] for k in ("zoo", "row", "member", "epoch", "optimizer")] == [
        "z.h5",
        "22",
        "7",
        "5",
        "adam",
    ]
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == ["22", "0"]
    assert float(lines[0]["accuracy"]) == zoo[22][1]["accuracy"]
    first = paths[0].read_bytes()
    assert export(zoo, [22], tmp_path / "out")[0].read_bytes() == first


def test_checkpoints_keep_dtypes_order_and_metadata(tmp_path):
    tied = torch.randn(3, 4)
    params = {
        "z": tied,
        "a": tied.T,
        "n": torch.tensor(2**40),
        "h": torch.ones(2, dtype=torch.bfloat16),
        "b": torch.tensor([True]),
    }
    about = {c: c * 2 for c in "qwertyuiop"}
    write_checkpoint(tmp_path / "c.safetensors", params, about)
    back, found = read_checkpoint(tmp_path / "c.safetensors")
    assert equal(back, params)
    assert found == about
    assert os.listdir(tmp_path) == ["c.safetensors"]
    for wrong in ({"epoch": 3}, {"order": "x"}):
        with pytest.raises(ZooError, match="safetensors holds text only"):
            write_checkpoint(tmp_path / "c.safetensors", params, wrong)
    with pytest.raises(ZooError, match=r"written as \.safetensors"):
        write_checkpoint(tmp_path / "c.pt", params, {})


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}, "epoch": 3},
    ],
)
def test_pytorch_files_are_read_through_their_nesting(tmp_path, wrap, legacy):
    content = wrap(NETWORK.make().state_dict())
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=not legacy)
    params, about = read_checkpoint(tmp_path / "c.pth")
    assert list(params) == list(member(0))
    assert about == ({"epoch": 3} if "epoch" in content else {})


def test_checkpoints_that_cannot_be_read_are_one_clear_error(tmp_path):
    path = tmp_path / "c.pt"
    for content, message in [
        ([1, 2], "holds a list; a non-empty dict of tensors is required"),
        ({}, "holds a dict; a non-empty"),
        ({"w": torch.ones(1).expand(10**9)}, "'w' claims 1000000000 values"),
    ]:
        torch.save(content, path)
        with pytest.raises(ZooError, match=message):
            read_checkpoint(path)
    with pytest.raises(ZooError, match="no such file"):
        read_checkpoint(tmp_path / "none.pt")
    (tmp_path / "c.txt").write_text("notes")
    with pytest.raises(ZooError, match="not a readable PyTorch checkpoint, nor one of safetensors"):
        read_checkpoint(tmp_path / "c.txt")
    torch.save({"w": torch.ones(2), "x": 3}, path)
    params, about = read_checkpoint(path)
    assert (list(params), about) == (["w"], {"x": 3})


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, legacy):
    torch.save(
        {"w": Malicious(tmp_path / "ran")},
        tmp_path / "c.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(ZooError, match=r"refused \(.*(touch|getattr).*it would run code") as caught:
        read_checkpoint(tmp_path / "c.pt")
    assert "weights_only" not in str(caught.value)  # torch's advice to load it unsafely
    assert not (tmp_path / "ran").exists()


def test_a_foreign_note_of_order_is_left_alone(tmp_path):
    params = {"b": torch.ones(1), "a": torch.zeros(2)}
    for order in ("ascending", '["a", "a"]', "[1, 2]", "[" * 100_000, "{}"):
        safetensors.torch.save_file(params, tmp_path / "c.safetensors", {"order": order})
        back, about = read_checkpoint(tmp_path / "c.safetensors")
        assert about == {"order": order}
        assert equal(dict(sorted(back.items())), dict(sorted(params.items())))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:Defining your")
@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt", "plain.safetensors"])
def test_damaged_checkpoints_are_read_or_refused_and_never_crash(tmp_path, name):
    whole, damaged = tmp_path / name, tmp_path / f"damaged-{name}"
    state = NETWORK.make().state_dict()
    if name.endswith("pt"):
        torch.save({"state_dict": state}, whole, _use_new_zipfile_serialization=name == "zip.pt")
    else:
        write_checkpoint(whole, state, {"a": "b"})
    data, random, refused = whole.read_bytes(), np.random.default_rng(0), []
    for _ in range(100):
        broken = bytearray(data)
        for place in random.integers(len(data), size=3):
            broken[place] = random.integers(256)
        damaged.write_bytes(
            broken if random.random() < 0.7 else broken[: random.integers(len(data))]
        )
        try:
            read_checkpoint(damaged)
        except ZooError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all(message.startswith(f"{damaged}: ") for message in refused)


@pytest.mark.parametrize("row", [30, -31])
def test_rows_that_are_not_there_are_not_exported(zoo, tmp_path, row):
    for rows in ([row], [0, row]):
        with pytest.raises(ZooError, match=f"row {row} does not exist; the zoo has 30 rows"):
            export(zoo, rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(export(zoo, [-1], tmp_path / "out")) == 1
