"""``wsl zoo look``: the data of the page against the zoo, its size, and what is refused."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import wsl
from wsl.cli import main
from wsl.cli.look.columns import described, joined
from wsl.cli.look.embed import embeddings
from wsl.cli.look.encode import categories, encoded, numbers
from wsl.cli.look.page import as_script

TYPES = {"f4": "<f4", "f8": "<f8", "i4": "<i4", "u1": "u1"}


def decoded(told):
    return np.frombuffer(base64.b64decode(told["data"]), TYPES[told["type"]])


def content(path):
    """What the page holds as data."""
    text = Path(path).read_text()
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    )


def network(width=6, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


def zoo(path, *, width=6, count=12, **metadata):
    models = [network(width, seed) for seed in range(count)]
    spec = wsl.permutation_spec(models[0], torch.zeros(1, 4))
    return wsl.Zoo.from_models(path, models, spec=spec, metadata=metadata)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mine(here):
    return zoo(
        "mine.h5",
        score=[i / 12 for i in range(12)],
        seed=[2**40 + i for i in range(12)],
        kind=["a", "b", "</script>"] * 4,
        same=[7] * 12,
    )


def test_columns_are_those_of_the_zoo(mine):
    assert main(["zoo", "look", "mine.h5", "-o", "page.html"]) == 0
    page = content("page.html")
    columns = {c["name"]: c for c in page["columns"]}
    assert np.array_equal(decoded(columns["score"]["values"]), mine.table["score"].astype("f4"))
    assert np.array_equal(decoded(columns["seed"]["values"]), mine.table["seed"])
    codes = decoded(columns["kind"]["values"])
    assert [columns["kind"]["levels"][i] for i in codes] == mine.table["kind"].tolist()
    assert page["constants"]["same"] == "7"
    assert (page["rows"], page["total"]) == (12, 12)
    norms = wsl.diagnostics.member_weights(mine).norm(dim=1)
    assert np.allclose(decoded(columns["norm of weights"]["values"]), norms, rtol=1e-6)


def test_pictures_hold_the_numbers_of_the_library(mine):
    assert main(["zoo", "look", "mine.h5", "-o", "page.html", "--align", "5", "--pairs", "4"]) == 0
    (section,) = content("page.html")["sections"]
    maps = {m["name"]: m for m in section["maps"]}
    raw = wsl.diagnostics.pca_map(wsl.diagnostics.member_weights(mine)).points
    found = maps["PCA of weights"]
    points = np.stack([decoded(found["x"]), decoded(found["y"])], 1)
    assert np.allclose(points, raw, atol=1e-6)
    aligned = decoded(maps["PCA of aligned weights"]["x"])
    assert np.isfinite(aligned).sum() == 5
    rows = decoded(section["distances"]["rows"])
    some = wsl.diagnostics.member_weights(mine)[rows.tolist()].double()
    before = decoded(section["distances"]["before"]).reshape(4, 4)
    assert np.allclose(before, torch.cdist(some, some), atol=1e-5)
    profiles = wsl.diagnostics.tensor_profiles(mine, np.arange(12))
    first = section["tensors"][0]
    assert first["name"] == "0.weight"
    assert np.array_equal(decoded(first["quantiles"]).reshape(12, -1), profiles[0].quantiles)
    assert np.array_equal(decoded(first["spectra"]).reshape(12, -1), profiles[0].singular_values)
    assert section["spec"] == str(mine.spec)
    assert [section["graph"]["tensors"][t]["name"] for t, _, _ in section["graph"]["edges"]] == [
        place.tensor for place in mine.spec.occurrences("h1")
    ]


def test_what_is_drawn_is_said_on_the_page_and_on_stderr(mine, capsys):
    words = ["zoo", "look", "mine.h5", "-o", "page.html", "--rows", "8", "--align", "5"]
    assert main([*words, "--pairs", "3"]) == 0
    said = capsys.readouterr()
    notes = content("page.html")["sections"][0]["notes"]
    assert [note.split(";")[0] for note in notes] == [
        "8 of 12 checkpoints are shown, those of some members, drawn at random",
        "aligned weights: 5 of 8 members",
        "distances: 3 of 8 members",
    ]
    assert all(f"note: {note}\n" in said.err for note in notes)
    assert "8 checkpoints of 1 architecture" in said.out


def test_a_small_file_beside_a_large_one_is_shown_whole(here):
    files = [f"run/{i}.pt" for i in range(5)]
    zoo("small.h5", width=9, count=5, source=files, kind=["a", "b", "a", "b", "a"])
    zoo("large.h5", count=40)
    words = ["zoo", "look", "large.h5", "small.h5", "-o", "page.html", "--rows", "20"]
    assert main([*words, "--align", "0", "--pairs", "0"]) == 0
    page = content("page.html")
    assert [s["end"] - s["start"] for s in page["sections"]] == [15, 5]
    kinds = {c["name"]: c["kind"] for c in page["columns"]}
    assert (kinds["source"], kinds["kind"]) == ("name", "category")


def test_a_document_tells_the_page(mine, capsys):
    assert main(["zoo", "look", "mine.h5", "-o", "page.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == Path("page.html").stat().st_size
    assert (told["checkpoints"], told["notes"]) == (12, [])


def test_the_page_stands_alone(mine):
    assert main(["zoo", "look", "mine.h5", "-o", "page.html"]) == 0
    text = Path("page.html").read_text()
    assert text.count("</script>") == 3  # the library, the data, the program
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.(?!data:)", text)
    assert len(text) < 6e6


def test_a_page_of_ten_thousand_members_has_room(here):
    torch.manual_seed(0)
    stacked = {n: torch.randn(10_000, *t.shape) for n, t in network().state_dict().items()}
    spec = wsl.permutation_spec(network(), torch.zeros(1, 4))
    known = {f"column_{i}": np.random.default_rng(i).normal(size=10_000) for i in range(10)}
    wsl.Zoo.from_models("big.h5", wsl.params.unstack(stacked), spec=spec, metadata=known)
    words = ["zoo", "look", "big.h5", "-o", "page.html", "--align", "50", "--pairs", "5"]
    assert main(words) == 0
    assert Path("page.html").stat().st_size < 8_000_000
    assert content("page.html")["rows"] == 10_000


def test_files_of_one_architecture_are_one_population(here):
    zoo("a.h5", score=[0.5] * 12, only_a=list(range(12)))
    zoo("b.h5", score=[0.25] * 12)
    zoo("wide.h5", width=9, score=[0.75] * 12)
    assert main(["zoo", "look", "a.h5", "wide.h5", "b.h5", "-o", "page.html"]) == 0
    page = content("page.html")
    assert [(s["name"], s["start"], s["end"]) for s in page["sections"]] == [
        ("a + b", 0, 24),
        ("wide", 24, 36),
    ]
    columns = {c["name"]: c for c in page["columns"]}
    assert decoded(columns["score"]["values"]).tolist() == [0.5] * 12 + [0.25] * 12 + [0.75] * 12
    only = decoded(columns["only_a"]["values"])
    assert only[:12].tolist() == list(range(12))
    assert np.isnan(only[12:]).all()
    assert len(np.unique(decoded(page["track"]))) == 36
    # seeds are the same in both: every network is there twice
    assert page["sections"][0]["health"]["duplicates"][0] == [0, 12]


def test_rows_can_be_chosen_by_a_condition(mine):
    words = ["zoo", "look", "mine.h5", "-o", "page.html", "--where", "score > 0.6"]
    assert main(words) == 0
    assert content("page.html")["rows"] == (mine.table["score"] > 0.6).sum()


def test_a_single_checkpoint_is_looked_at_too(here):
    zoo("one.h5", count=1)
    assert main(["zoo", "look", "one.h5", "-o", "page.html"]) == 0
    (section,) = content("page.html")["sections"]
    assert section["distances"] is None
    assert [m["name"] for m in section["maps"]] == ["PCA of weights"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["there.pt", "-o", "p.html"], "there.pt: is no zoo file"),
        (["none.h5", "-o", "p.html"], "none.h5"),
        (["mine.h5", "-o", "mine.h5"], "let its name end with .html"),
        (["mine.h5", "-o", "folder.html"], "is a folder"),
        (["mine.h5", "-o", "there.pt/p.html"], "nothing can be written there"),
        (["mine.h5", "-o", "p.html", "--rows", "0"], "--rows 0: must be at least 1"),
        (["mine.h5", "-o", "p.html", "--embed", "."], "no result.json"),
        (["mine.h5", "-o", "p.html", "--where", "skore > 1"], "skore"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_what_is_wrong_is_said(mine, capsys, words, told):
    torch.save(network().state_dict(), "there.pt")
    Path("folder.html").mkdir()
    assert main(["zoo", "look", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert not Path("p.html").exists()


def test_a_functional_gives_a_map_of_its_own_architecture_alone(mine, capsys):
    train = ["train", "models=unf", "zoo=mine.h5", "target=score", "settings.epochs=1"]
    assert main([*train, "output=run"]) == 0
    models = [nn.Sequential(network(), nn.ReLU(), nn.Linear(3, 2)) for _ in range(12)]
    deeper = wsl.permutation_spec(models[0], torch.zeros(1, 4))
    wsl.Zoo.from_models("deep.h5", models, spec=deeper, metadata={"score": [0.75] * 12})
    words = ["zoo", "look", "-o", "page.html", "--embed", "run"]
    assert main([*words, "mine.h5", "deep.h5"]) == 0
    first, second = content("page.html")["sections"]
    assert [m["name"] for m in first["maps"]][-1] == "PCA of embeddings"
    assert "embeddings: the functional is of another architecture" in second["notes"]
    capsys.readouterr()
    assert main([*words, "deep.h5"]) == 2
    assert "was trained for another architecture" in capsys.readouterr().err


def test_embeddings_are_what_the_last_layer_reads(mine):
    train = ["train", "models=unf", "zoo=mine.h5", "target=score", "settings.epochs=1"]
    assert main([*train, "output=run"]) == 0
    seen = embeddings("run", mine)
    weights = load_file("run/network.safetensors")
    last = next(name for name, t in weights.items() if t.shape == (1, seen.shape[1]))
    outputs = seen @ weights[last].T + weights[last.replace("weight", "bias")]
    table = np.genfromtxt("run/predictions.csv", delimiter=",", names=True)
    rows = np.atleast_1d(table["row"]).astype(int)
    given = np.atleast_1d(table["prediction"])
    assert np.allclose(torch.sigmoid(outputs[rows, 0]), given, atol=1e-5)


def test_numbers_keep_what_they_say():
    assert decoded(numbers(np.array([1.5, np.nan])))[0] == 1.5
    assert numbers(np.array([2.0**24 + 2]))["type"] == "f8"
    assert numbers(np.array([1e30 + 0.5, 0.25]))["type"] == "f4"
    assert decoded(encoded(torch.arange(4).view(2, 2), "i4")).tolist() == [0, 1, 2, 3]
    assert categories(np.array(["b" * 100, "a"]))["levels"] == ["a", "b" * 77 + "..."]


def test_columns_that_files_lack_are_empty():
    parts = [
        {"x": np.array([1, 2]), "word": np.array(["a", "b"])},
        {"x": np.array([0.5]), "y": np.array([True])},
    ]
    found = joined(parts)
    assert list(found) == ["x", "word", "y"]
    assert found["x"].tolist() == [1, 2, 0.5]
    assert found["word"].tolist() == ["a", "b", ""]
    assert found["y"].tolist() == ["", "", "True"]
    many = {f"c{i}": np.arange(3.0) for i in range(45)}
    columns, constants = described(many | {"nothing": np.full(3, np.nan)})
    assert len(columns) == 40
    assert constants["5 more columns, not drawn"] == "c40, c41, c42, c43, c44"
    assert constants["nothing"] == "nan"
    _, constants = described({f"c{i}": np.arange(3.0) for i in range(5000)})
    told = constants["4960 more columns, not drawn"]
    assert told == "c40, c41, c42, c43, c44, c45, c46, c47 and 4952 more"


def test_names_cannot_end_the_element_of_the_data():
    text = as_script({"name": "</script><!--"})
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!--"}
