"""A zoo file that is damaged, cut short or made with intent is one clear error: no crash, no wrong
weights, no waste.
"""

import errno
import json
import os
import pickle
import resource
import shutil
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from networks import BY_NAME
from paths import OLD_ZOO

from wsl.params import stack
from wsl.symmetry import PermutationSpec
from wsl.zoo import Zoo, ZooError, ZooWriter, save
from wsl.zoo.file import reader
from wsl.zoo.file.chunks import fletcher32
from wsl.zoo.file.format import TEXTS, VERSION, checksum

NETWORK = BY_NAME["residual"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "zoo.h5"
    columns = {"loss": float, "seed": int, "good": bool, "name": str}
    writer = ZooWriter(
        path,
        spec=NETWORK.spec,
        like=NETWORK.weights(),
        columns=columns,
        provenance={"note": "x" * 50},
    )
    for epoch in (0, 9):
        params = stack([NETWORK.weights(seed=m + epoch) for m in range(6)])
        about = {
            "loss": np.linspace(0, 1, 6),
            "seed": range(6),
            "good": True,
            "name": list("abcdef"),
        }
        writer.append(f"e{epoch}", params, member=range(6), epoch=epoch, metadata=about)
    return writer.finalize()


@pytest.fixture
def path(whole, tmp_path):
    return shutil.copy(whole, tmp_path / "zoo.h5")


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def data_areas(path):
    contents = Zoo(path)._contents
    return {
        name: range(e.offset, e.offset + e.nbytes)
        for name, e in {**contents.extents, "weights": contents.weights}.items()
    }


def test_every_flipped_byte_of_weights_is_caught_and_the_row_named(path):
    area, size = data_areas(path)["weights"], 4 * 525
    for place in np.random.default_rng(0).choice(len(area), 150, replace=False).tolist():
        flip(path, area[place], place % 8)
        member, epoch = divmod(place // size, 2)
        with pytest.raises(
            ZooError,
            match=rf"row {place // size} \(member {member}, epoch {epoch * 9}\) does not match "
            r"its checksum",
        ):
            Zoo(path).verify()
        flip(path, area[place], place % 8)
    Zoo(path).verify()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "archive"])
def test_verify_finds_every_single_changed_byte_of_the_data(tmp_path, kind):
    spec = PermutationSpec.parse("h = 4\nw: h 3\nb: h")
    states = [{"w": torch.randn(4, 3), "b": torch.randn(4)} for _ in range(5)]
    about = {
        "loss": np.linspace(0, 1, 5),
        "seed": range(5),
        "good": [True, False] * 2 + [True],
        "name": list("abcde"),
    }
    zoo = Zoo.from_models(tmp_path / "z.h5", states, spec=spec, metadata=about)
    if kind != "float32":
        dtype = torch.bfloat16 if kind == "bfloat16" else None
        zoo = save(zoo, tmp_path / "y.h5", dtype=dtype, archive=kind == "archive")
    contents, data = zoo._contents, zoo.path.read_bytes()
    areas = [range(e.offset, e.offset + e.nbytes) for e in contents.extents.values()]
    if kind == "archive":
        areas += [range(offset, offset + size) for offset, size in contents.weights.places.tolist()]
    else:
        areas.append(
            range(contents.weights.offset, contents.weights.offset + contents.weights.nbytes)
        )
    places, random = [place for area in areas for place in area], np.random.default_rng(0)
    assert len(places) > 300
    with zoo.path.open("r+b", buffering=0) as file:
        for place in places:
            file.seek(place)
            file.write(bytes([data[place] ^ int(random.integers(1, 256))]))
            with pytest.raises(ZooError, match="does not match its checksum"):
                zoo.verify()
            file.seek(place)
            file.write(data[place : place + 1])
    zoo.verify()


def test_every_flipped_byte_of_metadata_is_caught_and_the_column_named(path):
    for name, area in data_areas(path).items():
        if name == "weights":
            continue
        for place in (
            np.random.default_rng(len(name))
            .choice(area, min(len(area), 20), replace=False)
            .tolist()
        ):
            flip(path, place, place % 8)
            with pytest.raises(ZooError, match=f"/{name} does not match its checksum"):
                Zoo(path).verify()
            if name != "crc32":
                with pytest.raises(ZooError, match=f"/{name} does not match its checksum"):
                    _ = Zoo(path).table
            flip(path, place, place % 8)


def test_a_flipped_byte_anywhere_is_caught_or_changes_nothing(path, whole):
    intact = Zoo(whole)
    used = {place for area in data_areas(path).values() for place in area}
    places = [place for place in range(path.stat().st_size) if place not in used]
    caught = 0
    for place in np.random.default_rng(1).choice(places, 200, replace=False).tolist():
        flip(path, place, place % 8)
        try:
            zoo = Zoo(path)
            zoo.verify()
        except ZooError:
            caught += 1
        else:
            assert all(
                torch.equal(a, b)
                for a, b in zip(zoo[:][0].values(), intact[:][0].values(), strict=True)
            )
            assert np.array_equal(zoo.table, intact.table)
            assert (zoo.spec, zoo.architecture, zoo.provenance) == (
                intact.spec,
                intact.architecture,
                intact.provenance,
            )
        flip(path, place, place % 8)
    assert caught > 50


def test_a_file_cut_short_is_refused_wherever_it_is_cut(path, whole):
    data = whole.read_bytes()
    for size in {
        0,
        1,
        8,
        47,
        len(data) - 1,
        *np.random.default_rng(2).integers(0, len(data), 100).tolist(),
    }:
        path.write_bytes(data[:size])
        with pytest.raises(ZooError, match=r"zoo\.h5: "):
            Zoo(path)


def test_damage_after_opening_is_found_by_verify(path):
    zoo = Zoo(path)
    zoo.verify()
    flip(path, data_areas(path)["weights"][5000])
    with pytest.raises(ZooError, match=r"row 2 .* does not match its checksum"):
        zoo.verify()


def test_what_is_no_zoo_is_refused(tmp_path):
    with pytest.raises(ZooError, match=r"none\.h5: no such file; build one with"):
        Zoo(tmp_path / "none.h5")
    with pytest.raises(ZooError, match="no such file"):
        Zoo(tmp_path)
    (tmp_path / "text.h5").write_text("weights" * 1000)
    with pytest.raises(ZooError, match="is not an HDF5 file"):
        Zoo(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(ZooError, match="is HDF5, but not a zoo"):
        Zoo(tmp_path / "other.h5")


def sign(file):
    """Make the attributes agree with their checksum again: what a careful adversary does."""
    texts = {name: file.attrs[name].decode() for name in TEXTS[VERSION]}
    file.attrs.modify("checksum", np.int64(checksum("complete", int(file.attrs["P"]), texts)))


def set_text(file, name, text):
    data = text.encode()
    file.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", len(data)))
    if name in TEXTS[VERSION]:
        sign(file)


def edit_json(name, edit):
    def change(file):
        content = json.loads(file.attrs[name])
        set_text(file, name, json.dumps(edit(content) or content))

    return change


def replaced(name, **options):
    def change(file):
        values = file[name][()]
        del file[name]
        file.create_dataset(name, **{"data": values, **options})

    return change


def linked(name, link):
    def change(file):
        del file[name]
        file[name] = link

    return change


def hard_linked(name, target):
    def change(file):
        del file[name]
        file[name] = file[target]

    return change


def raw_text(name, text):
    return lambda file: file.attrs.create(
        name, np.bytes_(text), dtype=h5py.string_dtype("utf-8", len(text))
    )


def attribute(name, value):
    return lambda file: file.attrs.create(name, value)


def resized(name, shape):
    """A dataset that claims more than there is, without storage of its own."""

    def change(file):
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape, dtype)

    return change


def outside(file):
    del file["weights"]
    file.create_dataset("weights", (12, 525), "f4", external=[("/etc/passwd", 0, 12 * 525 * 4)])


def renamed(file):
    file.move("columns/loss", "columns/lost")


HOSTILE = {
    "newer version": (
        attribute("version", 3),
        "has format version 3, but this wsl reads versions up to 2; update wsl",
    ),
    "interrupted": (
        lambda f: set_text(f, "state", "writing"),
        "is in state 'writing', not complete: its build",
    ),
    "wrong format": (
        lambda f: set_text(f, "format", "zoo"),
        "not a zoo: its attribute format is not 'wslzoo'",
    ),
    "edited text": (
        raw_text("provenance", b'{"note": "%s"}' % (b"y" * 50)),
        "the attributes do not match their checksum",
    ),
    "text of varying length": (
        attribute("spec", "h = 3"),
        "attribute spec must be fixed-length text",
    ),
    "number as text": (attribute("spec", 3), "attribute spec must be fixed-length text"),
    "text as number": (attribute("P", "525"), "attribute P must be an integer"),
    "list of numbers": (attribute("P", [525, 525]), "attribute P is an array"),
    "no spec": (lambda f: f.attrs.__delitem__("spec"), "attribute spec is missing"),
    "not UTF-8": (raw_text("spec", b"\xff\xfe"), "attribute spec is not UTF-8 text"),
    "huge text": (
        lambda f: set_text(f, "spec", "#" * (5 << 20)),
        "attribute spec must be fixed-length text of at most",
    ),
    "deep JSON": (
        lambda f: set_text(f, "provenance", "[" * 100_000),
        "provenance: is not readable JSON",
    ),
    "huge number": (
        lambda f: set_text(f, "provenance", '{"x": ' + "9" * 10_000 + "}"),
        "provenance: is not readable JSON",
    ),
    "bad JSON": (lambda f: set_text(f, "layout", "[{"), "layout: is not readable JSON"),
    "JSON list": (
        lambda f: set_text(f, "provenance", "[]"),
        "architecture, provenance: must be JSON objects",
    ),
    "layout object": (lambda f: set_text(f, "layout", "{}"), "layout: must be a non-empty list"),
    "overlap": (
        edit_json("layout", lambda c: c[1].update(start=c[1]["start"] - 1)),
        "stem.bias: lies at 89..95, not at 90",
    ),
    "gap": (
        edit_json("layout", lambda c: c.pop(1) and None),
        "layout: inner.weight: lies at 95..410, not at 90..405",
    ),
    "short layout": (
        edit_json("layout", lambda c: c.pop() and None),
        "spec: head.bias: is annotated but not stored",
    ),
    "huge shape": (
        edit_json("layout", lambda c: c[0].update(shape=[2**62, 2**62])),
        "stem.weight: lies at",
    ),
    "negative shape": (
        edit_json("layout", lambda c: c[0].update(shape=[-90])),
        "shape .* must hold positive integers",
    ),
    "float shape": (
        edit_json("layout", lambda c: c[0].update(shape=[90.0])),
        "must hold positive integers",
    ),
    "bool shape": (
        edit_json("layout", lambda c: c[0].update(shape=[True])),
        "must hold positive integers",
    ),
    "many axes": (edit_json("layout", lambda c: c[0].update(shape=[1] * 99)), "at most 16 sizes"),
    "unknown dtype": (edit_json("layout", lambda c: c[0].update(dtype="object")), "dtype 'object'"),
    "listed dtype": (edit_json("layout", lambda c: c[0].update(dtype=["float32"])), "dtype"),
    "extra key": (
        edit_json("layout", lambda c: c[0].update(x=1)),
        "layout: an entry is not an object of",
    ),
    "named twice": (
        edit_json("layout", lambda c: c[1].update(name="stem.weight")),
        "layout: a tensor is named twice",
    ),
    "renamed tensor": (
        edit_json("layout", lambda c: c[0].update(name="stem.width")),
        "spec: stem.w[a-z]+: is",
    ),
    "other spec": (
        lambda f: set_text(f, "spec", BY_NAME["mlp"].golden),
        "spec: 0.bias: is annotated but not stored",
    ),
    "wrong shape in spec": (
        lambda f: set_text(f, "spec", NETWORK.golden.replace("c2 = 7", "c2 = 8")),
        "annotation has shape",
    ),
    "spec bomb": (
        lambda f: set_text(f, "spec", "a = 1, b = 1\nw: (2000000000 (a+b))"),
        "spec: w: is not in the normal form",
    ),
    "spec tower": (
        lambda f: set_text(f, "spec", "w: " + "(" * 10_000),
        "spec: w: is not in the normal form",
    ),
    "endless line": (
        lambda f: set_text(f, "spec", "w: " + "1 " * 100_000),
        "spec: w: is not in the normal form",
    ),
    "huge group": (lambda f: set_text(f, "spec", "h = " + "9" * 5000 + "\nw: h"), "spec: "),
    "no spec text": (lambda f: set_text(f, "spec", "what"), "spec: line 1, 'what'"),
    "columns object": (lambda f: set_text(f, "columns", "{}"), "columns: must be a list"),
    "unknown kind": (
        edit_json("columns", lambda c: c[0].update(dtype="object")),
        "columns: a dtype is not one of",
    ),
    "column path": (
        edit_json("columns", lambda c: c[0].update(name="../weights")),
        "column '../weights': use a name",
    ),
    "number as name": (edit_json("columns", lambda c: c[0].update(name=3)), "column 3: use a name"),
    "column twice": (
        edit_json("columns", lambda c: c.append(c[0])),
        "columns: a column is named twice",
    ),
    "other kind": (
        edit_json("columns", lambda c: c[0].update(dtype="int64")),
        "/columns/loss is stored as float64; int64",
    ),
    "checksums list": (
        lambda f: set_text(f, "checksums", "[]"),
        "checksums: must hold one number for each of member",
    ),
    "checksum text": (
        edit_json("checksums", lambda c: c.update(member="0")),
        "checksums: must be integers",
    ),
    "no weights": (lambda f: f.__delitem__("weights"), "/ has 5 members, not the 6 of"),
    "something else": (lambda f: f.create_group("more"), "/ has 7 members"),
    "another column": (renamed, "/columns lacks 'loss'"),
    "soft link": (linked("weights", h5py.SoftLink("/member")), "'weights' in / is a link"),
    "soft column": (
        linked("columns/loss", h5py.SoftLink("/member")),
        "'loss' in /columns is a link",
    ),
    "external link": (
        linked("weights", h5py.ExternalLink("/etc/passwd", "/x")),
        "'weights' in / is a link",
    ),
    "external column": (
        linked("columns/loss", h5py.ExternalLink("other.h5", "/x")),
        "'loss' in /columns is a link",
    ),
    "external storage": (outside, "/weights must be stored contiguously in this file"),
    "compressed": (
        replaced("weights", compression="gzip"),
        r"/weights is stored in chunks with the filters \[1\]",
    ),
    "chunked": (replaced("member", chunks=(4,)), "/member must be stored contiguously"),
    "group as array": (
        hard_linked("member", "/columns"),
        "/member is a GroupID; a DatasetID is required",
    ),
    "array as group": (
        hard_linked("columns", "/member"),
        "/columns is a DatasetID; a GroupID is required",
    ),
    "endless group": (hard_linked("columns/loss", "/"), "/columns/loss is a GroupID"),
    "compound": (
        replaced("member", data=np.zeros(12, dtype="i4,i4")),
        "/member is of type TypeCompoundID",
    ),
    "texts": (
        replaced("columns/name", data=["x"] * 12, dtype=h5py.string_dtype()),
        "/columns/name is of type TypeStringID",
    ),
    "lists": (
        replaced("member", data=None, shape=(12,), dtype=h5py.vlen_dtype("i4")),
        "/member is of type TypeVlenID",
    ),
    "references": (
        replaced("member", data=None, shape=(12,), dtype=h5py.ref_dtype),
        "/member is of type TypeReferenceID",
    ),
    "arrays": (
        replaced("member", data=None, shape=(12,), dtype=np.dtype("(3,)i4")),
        "/member is of type TypeArrayID",
    ),
    "doubles": (
        replaced("weights", dtype="f8"),
        "/weights is stored as float64; <f4 is required for float32",
    ),
    "big end": (replaced("weights", dtype=">f4"), "/weights is stored as >f4"),
    "half integers": (replaced("member", dtype="i2"), "/member is stored as int16"),
    "scalar": (replaced("member", data=np.int32(3)), r"/member has shape \(\)"),
    "empty": (
        replaced("weights", data=np.zeros((0, 525), "f4")),
        r"/weights has shape \(0, 525\); at least one row",
    ),
    "null": (replaced("member", data=h5py.Empty("i4")), "/member has shape None"),
    "fewer members": (
        replaced("member", data=np.zeros(11, "i4")),
        r"/member has shape \(11,\); \(12,\) is required",
    ),
    "wide rows": (
        replaced("weights", data=np.zeros((12, 526), "f4")),
        r"/weights has shape \(12, 526\); \(12, 525\) is",
    ),
    "many splits": (replaced("split", data=np.zeros(13, "u1")), r"/split has shape \(13,\)"),
    "unknown type": (
        lambda f: set_text(f, "dtype", "object"),
        "dtype: 'object' is not one of float32, float16, bfloat16",
    ),
    "other type": (
        lambda f: set_text(f, "dtype", "bfloat16"),
        "layout: stem.weight: is torch.float32, but all floating",
    ),
    "absurd rows": (
        resized("weights", (2**40, 525)),
        r"/weights claims \(1099511627776, 525\) values of float32",
    ),
    "absurd column": (resized("columns/loss", (2**45,)), "/columns/loss claims"),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused_with_the_reason(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ZooError, match=message) as caught:
        Zoo(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KiB


def test_nothing_of_a_hostile_size_is_allocated(whole, tmp_path):
    """All hostile files are opened in a process that has little address space left."""
    paths = []
    for number, (change, _) in enumerate(HOSTILE.values()):
        paths.append(shutil.copy(whole, tmp_path / f"{number}.h5"))
        with h5py.File(paths[-1], "r+") as file:
            change(file)
    child = os.fork()
    if child == 0:
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20), used + (96 << 20)))
            for path in paths:
                with pytest.raises(ZooError):
                    Zoo(path)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def archive_of(whole, tmp_path):
    return save(Zoo(whole), tmp_path / "archive.h5", archive=True).path


def remade(**options):
    """The weights of an archive stored otherwise."""

    def change(file):
        values = file["weights"][()]
        del file["weights"]
        given = {
            "chunks": (12, 525),
            "shuffle": True,
            "compression": "gzip",
            "fletcher32": True,
            "data": values,
            **options,
        }
        file.create_dataset("weights", **given)

    return change


def virtual(file):
    del file["weights"]
    layout = h5py.VirtualLayout((12, 525), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "weights", (12, 525))
    file.create_virtual_dataset("weights", layout)


def bomb(file):
    """A chunk that unpacks to far more than its shape says."""
    data = zlib.compress(bytes(200 << 20), 9)
    sums = fletcher32(data)
    file["weights"].id.write_direct_chunk(
        (0, 0), data + (sums[0] | sums[1] << 16).to_bytes(4, "little")
    )


def with_mask(file):
    file["weights"].id.write_direct_chunk((0, 0), file["weights"][()].tobytes(), filter_mask=7)


ARCHIVES = {
    "virtual": (virtual, "/weights must be stored contiguously"),
    "no checksum": (
        remade(fletcher32=False),
        r"filters \[2, 1\]; an archive has shuffle, deflate, fletcher32",
    ),
    "no filter": (remade(fletcher32=False, shuffle=False, compression=None), r"filters \[\]"),
    "other filter": (remade(compression="lzf"), r"filters \[2, 32000, 3\]"),
    "parts of rows": (remade(chunks=(12, 100)), r"/weights has chunks of shape \(12, 100\)"),
    "nothing stored": (
        remade(data=None, shape=(12, 525), dtype="f4"),
        "/weights lacks the chunk of row 0",
    ),
    "endless": (
        remade(data=None, shape=(2**50, 525), dtype="f4"),
        "no more of them than the file has bytes",
    ),
    "huge chunks": (
        remade(data=None, shape=(2**20, 525), chunks=(2**20, 525), dtype="f4"),
        "of at most 16777216 bytes",
    ),
    "masked": (with_mask, "lies beyond the end of the file, or lacks a filter"),
    "bomb": (bomb, "or it has an impossible size"),
    "chunked column": (replaced("member", chunks=(4,)), "/member must be stored contiguously"),
}


@pytest.mark.parametrize(("change", "message"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_a_hostile_archive_is_refused_with_the_reason(whole, tmp_path, change, message):
    path = archive_of(whole, tmp_path)
    Zoo(path).verify()
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ZooError, match=message):
        Zoo(path)


def test_a_small_chunk_that_unpacks_to_too_much_is_refused_when_it_is_read(whole, tmp_path):
    path = archive_of(whole, tmp_path)
    with h5py.File(path, "r+") as file:
        data = zlib.compress(bytes(20 << 20), 9)
        sums = fletcher32(data)
        assert len(data) < 12 * 525 * 4
        file["weights"].id.write_direct_chunk(
            (0, 0), data + (sums[0] | sums[1] << 16).to_bytes(4, "little")
        )
    zoo = Zoo(path)
    tracemalloc.start()
    for read in (lambda: zoo[0], zoo.verify):
        with pytest.raises(ZooError, match="the block of rows 0 to 11 does not match its checksum"):
            read()
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_fletcher_sums_are_those_of_hdf5(tmp_path):
    for size in (1, 2, 7, 360, 361, 65537, 200001):
        values = np.random.default_rng(size).integers(0, 256, size).astype("u1")
        for data in (values, np.full(size, 255, "u1"), np.zeros(size, "u1")):
            with h5py.File(tmp_path / "f.h5", "w") as file:
                dataset = file.create_dataset("x", data=data, chunks=(size,), fletcher32=True)
                stored = int.from_bytes(dataset.id.read_direct_chunk((0,))[1][-4:], "little")
            assert fletcher32(data.tobytes()) == ((stored & 0xFFFF) % 65535, (stored >> 16) % 65535)


def test_a_file_of_version_1_is_read_and_written_as_the_newest(tmp_path):
    path = OLD_ZOO
    with h5py.File(path) as file:
        assert file.attrs["version"] == 1
        assert "dtype" not in file.attrs
    old = Zoo(path)
    old.verify()
    assert old.table["name"].tolist() == list("abcd")
    assert torch.equal(old[:][0]["0.weight"], torch.arange(24.0).view(4, 3, 2) / 8)
    assert old[3][0]["steps"].dtype == torch.int64
    assert (old.provenance, old.buffers) == ({"note": "version 1"}, ("steps",))
    new = save(old, tmp_path / "new.h5")
    assert np.array_equal(new.table, old.table)
    assert all(
        torch.equal(a, b) for a, b in zip(new[:][0].values(), old[:][0].values(), strict=True)
    )
    with h5py.File(new.path) as file:
        assert file.attrs["version"] == 2
        assert file.attrs["dtype"] == b"float32"


def test_a_file_of_version_1_may_not_use_what_came_later(tmp_path):
    path = shutil.copy(OLD_ZOO, tmp_path / "v.h5")
    with h5py.File(path, "r+") as file:
        remade(chunks=(4, 10))(file)
    with pytest.raises(ZooError, match="/weights must be stored contiguously"):
        Zoo(path)


def test_an_array_that_claims_more_than_the_file_has_is_refused(path):
    size = path.stat().st_size
    with h5py.File(path) as file:
        assert reader._extent(file, "weights", size).shape == (12, 525)
        end = file["weights"].id.get_offset() + 12 * 525 * 4
        with pytest.raises(
            ZooError,
            match=f"/weights claims .* which end at byte {end}, but the file has {end - 1} bytes",
        ):
            reader._extent(file, "weights", end - 1)


def resealed(name, values):
    """Other data under a checksum that fits."""

    def change(file):
        file[name][...] = values
        set_text(
            file,
            "checksums",
            json.dumps(
                {**json.loads(file.attrs["checksums"]), name: zlib.crc32(file[name][:].tobytes())}
            ),
        )

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (resealed("split", 3), "/split must hold one code below 3 for each of 6 members"),
        (
            resealed("member", np.arange(12)),
            "/split must hold one code below 3 for each of 12 members",
        ),
        (resealed("member", np.arange(12)[::-1]), "rows are not sorted by member and epoch"),
        (resealed("epoch", 0), "rows are not sorted by member and epoch, or one occurs twice"),
        (resealed("columns/good", 2), "column 'good': holds values other than 0 and 1"),
        (
            resealed("columns/name", np.bytes_(b"\xff")),
            "column 'name': holds bytes that are not UTF-8",
        ),
    ],
)
def test_metadata_that_contradict_the_format_are_refused(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    zoo = Zoo(path)
    for read in (lambda: zoo.table, lambda: zoo[0], lambda: zoo.loader(batch_size=1), zoo.verify):
        with pytest.raises(ZooError, match=message) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")


def test_a_file_cut_short_while_it_is_open_is_an_error_and_no_signal(path):
    zoo, read = Zoo(path), Zoo(path)
    read[0]
    path.write_bytes(path.read_bytes()[:5000])
    uses = (
        lambda z: z[0],
        lambda z: z[:],
        lambda z: z.statistics(),
        lambda z: list(z.loader(batch_size=2)),
    )
    for use in uses:
        for cut in (zoo, read):
            with pytest.raises(
                ZooError, match=r"was cut short after it was opened: it had \d+ bytes and has 5000"
            ):
                use(cut)
    with pytest.raises(ZooError, match="HDF5 cannot read it"):
        read.verify()


def test_read_by_calls_a_file_cut_in_the_middle_of_a_read_is_an_error_too(path, monkeypatch):
    """What no check before a copy from a map can see: here the file is cut after the first of the
    calls.
    """
    zoo, expected, preadv = Zoo(path, mapped=False), Zoo(path)[[5, 2]][0], os.preadv
    assert all(
        torch.equal(a, b) for a, b in zip(zoo[[5, 2]][0].values(), expected.values(), strict=True)
    )

    def cut_after(descriptor, buffers, offset):
        done = preadv(descriptor, buffers, offset)
        os.truncate(path, 5000)
        return done

    monkeypatch.setattr(os, "preadv", cut_after)
    with pytest.raises(
        ZooError, match=r"was cut short after it was opened: it had \d+ bytes and has 5000"
    ):
        zoo[[5, 2]]


def test_read_by_calls_a_failing_disk_is_an_error(path, monkeypatch):
    zoo = Zoo(path, mapped=False)
    zoo.table  # noqa: B018

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(
        ZooError,
        match=r"cannot be read at byte \d+ \(Input/output error\); check the disk or the network",
    ):
        zoo[3]


def test_read_by_calls_everything_is_as_from_the_map_even_in_small_pieces(path, whole, monkeypatch):
    preadv = os.preadv
    monkeypatch.setattr(
        os,
        "preadv",
        lambda file, buffers, offset: preadv(
            file, [memoryview(buffers[0]).cast("B")[:100]], offset
        ),
    )
    mapped, called = Zoo(path), pickle.loads(pickle.dumps(Zoo(path, mapped=False)))  # noqa: S301
    called.verify()
    for rows in (slice(None), [7, 3, 3, 4, 5, -1], []):
        for a, b in zip(mapped[rows], called[rows], strict=True):
            assert list(a) == list(b)
            assert all(torch.equal(a[name], b[name]) for name in a)
    assert np.array_equal(mapped.table, called.table)
    out = torch.empty(2, mapped.header.layout.size)
    assert torch.equal(called.gather(np.array([4, 1]), out), mapped.gather(np.array([4, 1])))


def test_a_file_that_the_caller_has_open_can_be_opened(path):
    with h5py.File(path) as file:
        assert len(Zoo(path)) == len(file["weights"])


def test_a_file_that_is_replaced_or_removed_stays_open_as_it_was(path, tmp_path):
    zoo, first = Zoo(path), Zoo(path)[0][0]
    other = shutil.copy(path, tmp_path / "other.h5")
    with h5py.File(other, "r+") as file:
        file["weights"][:] = 0
    other.rename(path)
    assert all(torch.equal(a, b) for a, b in zip(zoo[0][0].values(), first.values(), strict=True))
    path.unlink()
    assert all(torch.equal(a, b) for a, b in zip(zoo[0][0].values(), first.values(), strict=True))
