"""A selection, several files, or a copy in memory is a zoo like the file it comes from, in any
process and any type.
"""

import multiprocessing
import pickle

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from wsl.params import stack
from wsl.symmetry import PermutationSpec
from wsl.zoo import (
    Collection,
    Concatenation,
    Resident,
    View,
    Zoo,
    ZooError,
    ZooWriter,
    concatenate,
    save,
)
from wsl.zoo import open as open_zoo
from wsl.zoo.rows.where import where

SPEC = PermutationSpec.parse(
    "h = 6\n0.weight: h 4\n0.bias: h\nbn.running_mean: h\nbn.num_batches_tracked:"
)
COLUMNS = {"test_accuracy": float, "seed": int, "good": bool, "optimizer": str}
MEMBERS, EPOCHS = range(12), (0, 5, 20)


def theta(member, epoch, tag=0):
    draw = np.random.default_rng([member, epoch, tag])
    return {
        "0.weight": torch.from_numpy(draw.normal(size=(6, 4)).astype("f4")),
        "0.bias": torch.full((6,), float(member)),
        "bn.running_mean": torch.full((6,), epoch / 4),
        "bn.num_batches_tracked": torch.tensor(epoch),
    }


def build(path, tag=0, members=MEMBERS, **options):
    writer = ZooWriter(
        path, spec=SPEC, like=theta(0, 0), columns=COLUMNS, provenance={"tag": tag}, **options
    )
    for epoch in EPOCHS:
        about = {
            "test_accuracy": [m / 12 + epoch / 1000 for m in members],
            "seed": [10 * m for m in members],
            "good": [m % 2 == 0 for m in members],
            "optimizer": ["adam" if m % 3 else "sgd" for m in members],
        }
        writer.append(
            f"e{epoch}",
            stack([theta(m, epoch, tag) for m in members]),
            member=members,
            epoch=epoch,
            metadata=about,
        )
    return Zoo(writer.finalize())


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return build(tmp_path_factory.mktemp("zoo") / "zoo.h5")


def same(a, b):
    return list(a) == list(b) and all(
        torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a
    )


CONDITIONS = {
    "test_accuracy > 0.5": lambda t: t["test_accuracy"] > 0.5,
    "test_accuracy > 0.8 & epoch == 20": lambda t: (t["test_accuracy"] > 0.8) & (t["epoch"] == 20),
    "0.2 < test_accuracy <= .75": lambda t: (
        (t["test_accuracy"] > 0.2) & (t["test_accuracy"] <= 0.75)
    ),
    "member == 3 | member == 4 & epoch == 0": lambda t: (
        (t["member"] == 3) | (t["member"] == 4) & (t["epoch"] == 0)
    ),
    "(member == 3 | member == 4) & epoch == 0": lambda t: (
        ((t["member"] == 3) | (t["member"] == 4)) & (t["epoch"] == 0)
    ),
    "~good & optimizer == 'adam'": lambda t: ~t["good"] & (t["optimizer"] == "adam"),
    '~(good | optimizer != "adam")': lambda t: ~(t["good"] | (t["optimizer"] != "adam")),
    "good == true & split == 'train'": lambda t: t["good"] & (t["split"] == "train"),
    "seed >= 5e1": lambda t: t["seed"] >= 50,
    "-1 < epoch < +6": lambda t: t["epoch"] < 6,
    "epoch == 5 | 100 <= seed": lambda t: (t["epoch"] == 5) | (t["seed"] >= 100),
    "member < seed": lambda t: t["member"] < t["seed"],
}


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS.items(), ids=CONDITIONS.keys())
def test_a_condition_selects_what_it_says(zoo, condition, expected):
    rows = np.flatnonzero(expected(zoo.table))
    assert 0 < len(rows) < len(zoo)
    view = zoo.where(condition)
    assert np.array_equal(view.table, zoo.table[rows])
    assert same(view[:][0], zoo[rows][0])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            "tst_accuracy > 0",
            r"character 1: column 'tst_accuracy' is unknown \(did you mean 'test_accuracy'\?\); "
            r"the columns are",
        ),
        ("optimizer == adam", "character 14: column 'adam' is unknown.*text stands in quotes"),
        ("epoch = 20", "character 7: '=' is not understood; equality is written =="),
        ("epoch == 20 and good", "character 13: write '&' for 'and'"),
        ("epoch == 20 or good", r"write '\|' for 'or'"),
        ("not good", "write '~' for 'not'"),
        ("optimizer == 3", "text and number cannot be compared"),
        ("good < true", "truth values can be compared with == and != only"),
        ("good == 1", "truth value and number cannot be compared"),
        ("epoch", "must be compared with something"),
        ("3", "must be compared with something"),
        ("(epoch == 20", r"character 13: expected \) here"),
        ("epoch == 20)", r"character 12: expected & or \| here"),
        ("epoch == ", "expected a column, a number or a text in quotes here"),
        ("", "expected a column, a number or a text in quotes here"),
        ("& good", "character 1: expected a column"),
        ("epoch == 20 good", "expected & or | here"),
        ("optimizer == 'adam", "character 14: .* is not understood"),
        ("epoch == 2.0.0", "is not understood|expected"),
        ("epoch + 1 == 2", r"'\+' is not understood"),
        ("__import__('os').system('x') == 0", r"character 17: '\.' is not understood"),
        ("__import__ == 0", "column '__import__' is unknown"),
        ("seed.__class__ == 0", "column 'seed.__class__' is unknown"),
        ("(" * 1000 + "good", "more than 50 parentheses or ~ inside each other"),
        ("~" * 9000 + "good", "more than 50 parentheses or ~ inside each other"),
        ("good &" * 2000 + "good", "at most 10000 characters"),
        (3, "at most 10000 characters"),
        ("epoch == 21", "no row fulfils 'epoch == 21'"),
    ],
)
def test_a_condition_that_cannot_be_understood_is_refused_with_its_place(zoo, condition, message):
    with pytest.raises(ZooError, match=message):
        zoo.where(condition)


def test_missing_numbers_compare_as_ieee_has_it():
    table = np.array([(1.0,), (np.nan,)], dtype=[("x", "f8")])
    assert where("x > 0", table).tolist() == [True, False]
    assert where("~(x > 0)", table).tolist() == [False, True]
    assert where("x != x", table).tolist() == [False, True]
    assert where("x == 99999999999999999999999 | x < 2", table).tolist() == [True, False]


def derived(zoo, tmp_path):
    return {
        "view": zoo.where("epoch == 20"),
        "view of a view": zoo.where("epoch > 0").where("good"),
        "rows": zoo.subset([7, 3, 3, -1]),
        "concatenation": concatenate([zoo, build(tmp_path / "b.h5", tag=1)]),
        "resident": Resident(zoo, "cpu"),
        "archive": save(zoo, tmp_path / "archive.h5", archive=True),
    }


NAMES = ["view", "view of a view", "rows", "concatenation", "resident", "archive"]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_made_of_a_zoo_is_a_sequence_with_loader_table_and_statistics(
    zoo, tmp_path, name
):
    view = derived(zoo, tmp_path)[name]
    assert len(list(view)) == len(view) == len(view.table)
    for row in (0, len(view) - 1, -1):
        params, about = view[row]
        record = view.table[row]
        assert same(params, {k: t[row] for k, t in view[:][0].items()})
        assert tuple(about.values()) == tuple(record.tolist())
        assert params["0.bias"][0] == record["seed"] / 10
        assert params["bn.num_batches_tracked"] == record["epoch"]
    with pytest.raises(IndexError, match=f"row {len(view)} does not exist"):
        view[len(view)]
    numbers = [
        n
        for _, batch in view.loader(batch_size=3, shuffle=True, seed=1)
        for n in batch["seed"].tolist()
    ]
    assert sorted(numbers) == sorted(view.table["seed"].tolist())
    params = view[:][0]
    for tensor, (mean, std) in view.statistics(None).items():
        torch.testing.assert_close(mean, params[tensor].double().mean())
        torch.testing.assert_close(std, params[tensor].double().std(unbiased=False))
    assert (view.spec, view.shapes, view.columns, view.buffers) == (
        zoo.spec,
        zoo.shapes,
        zoo.columns,
        zoo.buffers,
    )
    assert view.buffers == ("bn.running_mean", "bn.num_batches_tracked")
    view.verify()
    with pytest.raises(ValueError, match="read-only"):
        view.table["seed"][0] = 1


@pytest.mark.parametrize("name", NAMES)
def test_splits_of_what_is_made_of_a_zoo_are_still_by_member(zoo, tmp_path, name):
    view = derived(zoo, tmp_path)[name]
    sides = [set(view.table["member"][view.indices(split)]) for split in ("train", "val", "test")]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert sum(len(view.indices(split)) for split in ("train", "val", "test")) == len(view)
    assert set(view.split("train").table["split"]) == {"train"}


def test_statistics_are_streamed_once(zoo, monkeypatch):
    view, read = View(zoo, np.arange(20)), []
    gather = Zoo.gather
    monkeypatch.setattr(
        Zoo,
        "gather",
        lambda self, rows, out=None: read.append(len(rows)) or gather(self, rows, out),
    )
    monkeypatch.setattr("wsl.zoo.rows.statistics._CHUNK", 4 * 37 * 8)
    first = view.statistics(None)
    assert read == [8, 8, 4]
    assert view.statistics(None) == first
    assert len(read) == 3


def test_trajectories_and_populations_are_indexed(zoo):
    assert list(zoo.by_member) == list(MEMBERS)
    assert list(zoo.by_epoch) == list(EPOCHS)
    assert zoo.by_member[7].table["epoch"].tolist() == list(EPOCHS)
    assert zoo.by_epoch[5].table["member"].tolist() == list(MEMBERS)
    assert same(zoo.by_epoch[5][7][0], theta(7, 5))
    assert 20 in zoo.by_epoch
    assert 21 not in zoo.by_epoch
    with pytest.raises(KeyError, match="no row has epoch 21; there are 0, 5, 20"):
        zoo.by_epoch[21]
    assert list(zoo.where("epoch < 20").by_member[3].table["epoch"]) == [0, 5]


def test_a_view_says_in_its_provenance_which_rows_it_has(zoo):
    first, other = zoo.where("epoch == 5"), zoo.where("epoch == 20")
    assert first.provenance["tag"] == 0
    assert first.provenance["view"]["rows"] == 12
    assert first.provenance != other.provenance
    assert zoo.subset(first.rows).provenance == first.provenance


def test_several_files_are_one_sequence_whose_members_stay_apart(zoo, tmp_path):
    other = build(tmp_path / "b.h5", tag=1, members=range(5))
    both = open_zoo([zoo.path, other.path])
    assert isinstance(both, Concatenation)
    assert len(both) == 36 + 15
    assert len(both.by_member) == 17
    assert both.table["member"].max() == 16
    assert same(both.by_member[12 + 3][1][0], theta(3, 5, tag=1))
    mixed = both[[50, 0, 36, 35]]
    for i, row in enumerate((50, 0, 36, 35)):
        assert same({k: t[i] for k, t in mixed[0].items()}, both[row][0])
    assert isinstance(open_zoo(zoo.path), Zoo)
    assert len(concatenate([both, zoo.where("epoch == 20")])) == 51 + 12


def test_files_that_differ_are_no_sequence_and_the_difference_is_named(zoo, tmp_path):
    state = {"w": torch.zeros(3)}
    other = Zoo.from_models(
        tmp_path / "o.h5", [state], spec=PermutationSpec.parse("w: 3"), metadata={}
    )
    with pytest.raises(
        ZooError, match=r"o\.h5: has other tensors, shapes or types .*than in .*zoo\.h5"
    ):
        open_zoo([zoo.path, other.path])
    spec = PermutationSpec.parse("h = 3\nw: h")
    again = Zoo.from_models(tmp_path / "p.h5", [state], spec=spec, metadata={})
    with pytest.raises(ZooError, match="has another specification"):
        concatenate([other, again])
    more = Zoo.from_models(tmp_path / "q.h5", [state], spec=spec, metadata={"lr": [1.0]})
    with pytest.raises(ZooError, match=r"has other columns \(such as 'lr'\)"):
        concatenate([again, more])
    with pytest.raises(ZooError, match="is given twice"):
        open_zoo([zoo.path, zoo.path])
    with pytest.raises(ZooError, match="no zoos given"):
        open_zoo([])


def test_a_collection_has_one_entry_per_kind_and_never_mixes_them(zoo, tmp_path):
    state = {"w": torch.arange(3.0)}
    other = Zoo.from_models(
        tmp_path / "o.h5",
        [state] * 4,
        spec=PermutationSpec.parse("w: 3"),
        metadata={"seed": list(range(4))},
    )
    many = Collection([zoo, other, build(tmp_path / "b.h5", tag=1)])
    assert [len(kind) for kind in many] == [72, 4]
    assert [list(kind.shapes) for kind in many] == [list(zoo.shapes), ["w"]]
    seen = [
        (kind, len(batch[1]["member"]), list(batch[0]))
        for kind, batch in many.loader(batch_size=10, shuffle=True, seed=0)
    ]
    assert sum(count for kind, count, _ in seen if kind == 0) == 72
    assert sum(count for kind, count, _ in seen if kind == 1) == 4
    assert all(names == list(many[kind].shapes) for kind, _, names in seen)
    many.verify()
    with pytest.raises(ZooError, match="no zoos given"):
        Collection([])


def test_parts_in_other_types_are_read_as_one_without_rounding(zoo, tmp_path):
    half = save(zoo, tmp_path / "half.h5", dtype=torch.bfloat16)
    with pytest.raises(ZooError, match=r"dtype=torch\.float32 makes types equal"):
        concatenate([half, zoo])
    for paths in ([half.path, zoo.path], [zoo.path, half.path]):
        both = open_zoo(paths, dtype=torch.float32)
        full = both.subset(range(36, 72)) if paths[0] == half.path else both.subset(range(36))
        assert same(full[:][0], zoo[:][0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("archive", [False, True])
def test_two_byte_files_round_once_and_are_read_in_either_type(zoo, tmp_path, dtype, archive):
    small = save(zoo, tmp_path / "small.h5", dtype=dtype, archive=archive)
    expected = {k: t.to(dtype) if t.is_floating_point() else t for k, t in zoo[:][0].items()}
    assert same(small[:][0], expected)
    assert small.dtypes["0.weight"] == dtype
    assert small.dtypes["bn.num_batches_tracked"] == torch.int64
    again = Zoo(small.path, dtype=torch.float32)
    assert same(
        again[:][0], {k: t.float() if t.is_floating_point() else t for k, t in expected.items()}
    )
    assert np.array_equal(small.table, zoo.table)
    small.verify()
    back = save(small, tmp_path / "back.h5", dtype=torch.float32)
    assert same(back[:][0], again[:][0])
    direct = build(tmp_path / "direct.h5", dtype=dtype)
    assert same(direct[:][0], expected)
    with h5py.File(small.path) as file:
        assert file["weights"].dtype == ("<u2" if dtype == torch.bfloat16 else "<f2")
        assert file.attrs["dtype"].decode() == str(dtype).removeprefix("torch.")


def test_what_a_two_byte_type_cannot_hold_is_refused_by_name(tmp_path):
    spec = PermutationSpec.parse("w: 2\nn:")
    good = {"w": torch.tensor([1.0, 70000.0]), "n": torch.tensor(256)}
    zoo = Zoo.from_models(tmp_path / "z.h5", [good], spec=spec, metadata={}, dtype=torch.bfloat16)
    assert zoo[0][0]["w"].tolist() == [1.0, 70144.0]
    with pytest.raises(ZooError, match=r"w: holds 70000, which float16 cannot represent"):
        Zoo.from_models(tmp_path / "z.h5", [good], spec=spec, metadata={}, dtype=torch.float16)
    with pytest.raises(
        ZooError,
        match=r"n: holds 257, which bfloat16 cannot represent; store the zoo as float32, or leave",
    ):
        Zoo.from_models(
            tmp_path / "z.h5",
            [{**good, "n": torch.tensor(257)}],
            spec=spec,
            metadata={},
            dtype=torch.bfloat16,
        )
    with pytest.raises(
        ZooError,
        match=r"dtype torch\.int8: weights are stored as torch\.float32, torch\.float16, "
        r"torch\.bfloat16",
    ):
        Zoo.from_models(tmp_path / "z.h5", [good], spec=spec, metadata={}, dtype=torch.int8)
    with pytest.raises(ZooError, match="is no floating type"):
        Zoo(zoo.path, dtype=torch.int64)


def test_an_archive_is_read_like_the_file_and_is_smaller(tmp_path):
    spec = PermutationSpec.parse("w: 5000")
    states = [{"w": torch.arange(5000.0) + i} for i in range(130)]
    zoo = Zoo.from_models(tmp_path / "z.h5", states, spec=spec, metadata={})
    archive = save(zoo, tmp_path / "a.h5", archive=True)
    assert (archive.archived, zoo.archived) == (True, False)
    assert len(archive._contents.weights.places) > 1
    assert archive.path.stat().st_size < zoo.path.stat().st_size / 2
    rows = np.random.default_rng(0).integers(0, 130, 300)
    assert torch.equal(archive[rows][0]["w"], zoo[rows][0]["w"])
    with h5py.File(archive.path) as file:
        assert np.array_equal(file["weights"][:], zoo[:][0]["w"].numpy())
        assert (
            file["weights"].shuffle,
            file["weights"].compression,
            file["weights"].fletcher32,
        ) == (True, "gzip", True)
    before = archive.path.read_bytes()
    assert save(zoo, tmp_path / "a.h5", archive=True).path.read_bytes() == before


def test_saving_keeps_members_order_splits_and_says_what_it_was(zoo, tmp_path):
    view = zoo.where("good & epoch == 20")
    saved = save(view, tmp_path / "v.h5")
    assert np.array_equal(saved.table, view.table)
    assert same(saved[:][0], view[:][0])
    assert saved.provenance == view.provenance
    shuffled = save(zoo.subset([7, 3, 5]), tmp_path / "s.h5")
    assert np.array_equal(shuffled.table, zoo.table[[3, 5, 7]])
    assert same(shuffled[:][0], zoo[[3, 5, 7]][0])
    with pytest.raises(ZooError, match="a checkpoint occurs twice"):
        save(zoo.subset([3, 3]), tmp_path / "t.h5")
    assert save(zoo, tmp_path / "same.h5").path.read_bytes() == zoo.path.read_bytes()


def test_a_batch_is_gathered_into_memory_that_is_given(zoo):
    out = torch.empty(4, 37)
    params, _ = zoo.batch([3, 1, 2, 3], out=out)
    assert params["0.weight"].data_ptr() == out.data_ptr()
    assert same(params, zoo[[3, 1, 2, 3]][0])
    for wrong in (torch.empty(3, 37), torch.empty(4, 37, dtype=torch.float64)):
        with pytest.raises(ZooError, match=r"out must have shape \(4, 37\) and type torch.float32"):
            zoo.batch([3, 1, 2, 3], out=wrong)


def test_row_numbers_may_come_in_any_form(zoo):
    rows = np.array([3, 1, 2, 30])
    frozen = rows.copy()
    frozen.flags.writeable = False
    spread = np.repeat(rows, 2)[::2]
    for index in (
        frozen,
        spread,
        rows[::-1][::-1],
        rows.astype(np.uint8),
        rows - 36,
        tuple(rows),
        torch.tensor(rows),
    ):
        assert same(zoo[index][0], zoo[rows.tolist()][0])
    assert same(zoo[rows[::-1]][0], zoo[[30, 2, 1, 3]][0])


def test_what_does_not_fit_on_a_device_is_refused(zoo, monkeypatch):
    monkeypatch.setattr("wsl.zoo.opening.several._free_bytes", lambda _: 1000)
    with pytest.raises(
        ZooError, match=r"36 rows need 5,328 bytes, but cpu has 1,000 free; keep the file mapped"
    ):
        Resident(zoo, "cpu")


@pytest.mark.gpu
def test_batches_reach_a_gpu_through_pinned_memory_unchanged(zoo):
    for source in (zoo, Resident(zoo, "cuda")):
        for (params, numbers), (expected, known) in zip(
            source.loader(batch_size=5, device="cuda", shuffle=True),
            zoo.loader(batch_size=5, shuffle=True),
            strict=True,
        ):
            assert same({k: t.cpu() for k, t in params.items()}, expected)
            assert same({k: t.cpu() for k, t in numbers.items()}, known)


def seen(batches):
    return [
        (n["seed"].tolist(), n["epoch"].tolist(), p["0.bias"][:, 0].tolist()) for p, n in batches
    ]


@pytest.mark.parametrize("start", ["fork", "forkserver", "spawn"])
def test_workers_however_started_read_what_the_parent_reads(zoo, tmp_path, start):
    many = concatenate([zoo, build(tmp_path / "b.h5", tag=1)]).where("epoch > 0")
    mine = seen(many.loader(batch_size=8))
    assert start in multiprocessing.get_all_start_methods()
    loader = DataLoader(
        many, batch_size=8, num_workers=2, multiprocessing_context=start, collate_fn=many.collate
    )
    assert seen(loader) == mine


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_made_of_a_zoo_can_be_pickled(zoo, tmp_path, name):
    view = derived(zoo, tmp_path)[name]
    view.statistics(None)
    copy = pickle.loads(pickle.dumps(view))  # noqa: S301
    assert same(copy[:][0], view[:][0])
    assert np.array_equal(copy.table, view.table)
