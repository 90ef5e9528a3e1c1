"""The pictures of a population one by one: they draw what the page draws and their tables say."""

import csv

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import wsl
from wsl import diagnostics, plots


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    models = []
    for seed in [*range(9), 0]:  # the last one is the first again
        torch.manual_seed(seed)
        models.append(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    spec = wsl.permutation_spec(models[0], torch.zeros(1, 4))
    known = {"score": [i / 10 for i in range(10)], "kind": ["a", "b"] * 5}
    path = tmp_path_factory.mktemp("zoo") / "mine.h5"
    return wsl.Zoo.from_models(path, models, spec=spec, metadata=known)


@pytest.fixture(scope="module")
def pictures(zoo):
    """Every picture of the page with its table, by the name of its file."""
    known = {name: zoo.table[name] for name in zoo.table.dtype.names}
    profiles = diagnostics.tensor_profiles(zoo, np.arange(10))
    found = diagnostics.pca_map(diagnostics.member_weights(zoo))
    distances = diagnostics.population_distances(zoo, np.arange(10))
    health = diagnostics.population_health(zoo)
    return {
        "columns": (plots.population_columns_figure(known), plots.population_columns_table(known)),
        "map": (
            plots.population_map_figure(found, color=known["score"], label="score"),
            plots.population_map_table(found, known),
        ),
        "spectra": (
            plots.population_spectra_figure(profiles, chosen=[2]),
            plots.population_spectra_table(profiles, chosen=[2]),
        ),
        "entries": (
            plots.population_entries_figure(profiles, chosen=[2]),
            plots.population_entries_table(profiles, chosen=[2]),
        ),
        "distances": (
            plots.population_distances_figure(distances),
            plots.population_distances_table(distances),
        ),
        "health": (plots.population_health_figure(health), plots.population_health_table(health)),
        "structure": (plots.spec_figure(zoo.spec), plots.spec_table(zoo.spec)),
    }


def test_every_picture_of_the_page_is_saved_with_its_numbers(pictures, tmp_path):
    for name, (figure, table) in pictures.items():
        assert isinstance(figure, Figure)
        plots.save_figure(tmp_path / f"{name}.png", figure, table)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
        header, *rows = csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())
        assert header == list(table)
        assert len(rows) == len(next(iter(table.values()))) > 0


def test_bins_hold_every_value_once_and_the_chosen_ones_apart():
    columns = {
        "whole": [1, 1, 2, 5],
        "wide": [1e-4, 1e-3, 0.5, 1.5],
        "missing": [0.25, float("nan"), 0.5, 0.75],
        "word": ["b", "a", "b", "b"],
        "name": ["w"] * 4,
    }
    table = plots.population_columns_table(columns, chosen=[0, 2])
    rows = list(zip(*table.values(), strict=True))
    held = {name: [row[1:] for row in rows if row[0] == name] for name in columns}
    assert held["whole"] == [
        (0.5, 1.5, 2, 1),
        (1.5, 2.5, 1, 1),
        (2.5, 3.5, 0, 0),
        (3.5, 4.5, 0, 0),
        (4.5, 5.5, 1, 0),
    ]
    ratios = [high / low for low, high, *_ in held["wide"]]
    assert ratios == pytest.approx([ratios[0]] * 30)  # equally far on a logarithmic axis
    assert sum(row[2] for row in held["missing"]) == 3
    assert held["word"] == [("a", "a", 1, 0), ("b", "b", 3, 2)]
    figure = plots.population_columns_figure(columns, chosen=[0, 2])
    bars = figure.axes[0].patches
    assert [bar.get_height() for bar in bars] == [2, 1, 0, 0, 1, 1, 1, 0, 0, 0]


def test_names_have_no_histogram():
    names = [f"net{i}" for i in range(30)]
    table = plots.population_columns_table({"file": names, "score": range(30)})
    assert set(table["column"]) == {"score"}
    with pytest.raises(ValueError, match="columns file: no histogram, since words of more than 24"):
        plots.population_columns_figure({"file": names})


def test_a_map_puts_every_row_where_it_is_and_tells_the_shares(zoo, pictures):
    figure, table = pictures["map"]
    found = diagnostics.pca_map(diagnostics.member_weights(zoo))
    drawn = torch.tensor(figure.axes[0].collections[0].get_offsets())
    torch.testing.assert_close(drawn, found.points.double())
    assert figure.axes[0].get_xlabel().startswith("component 1, ")
    assert table["score"] == pytest.approx(zoo.table["score"].tolist())
    words = plots.population_map_figure(found, color=zoo.table["kind"], label="kind")
    assert [text.get_text() for text in words.legends[0].get_texts()] == ["a", "b"]
    bare = plots.population_map_figure(found)
    assert len(bare.axes[0].collections) == 1


def test_a_band_is_the_middle_of_the_population(zoo, pictures):
    figure, table = pictures["spectra"]
    first = diagnostics.tensor_profiles(zoo, np.arange(10))[0].singular_values
    assert table["tensor"][:4] == ["0.weight"] * 4
    assert table["50 %"][:4] == pytest.approx(first.median(0).values.tolist(), rel=0.3)
    assert table["5 %"][0] == pytest.approx(float(first[:, 0].quantile(0.05)))
    assert table["row 2"][:4] == first[2].tolist()
    middle, own = figure.axes[0].lines
    assert middle.get_ydata().tolist() == table["50 %"][:4]
    assert own.get_ydata().tolist() == table["row 2"][:4]
    entries = pictures["entries"][1]
    assert entries["level"][:11] == list(diagnostics.QUANTILE_LEVELS)
    assert len(set(entries["tensor"])) == 4  # biases have no spectrum, but entries


def test_distances_share_a_scale_and_health_names_the_copies(pictures):
    figure, table = pictures["distances"]
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert images[0].get_clim() == images[1].get_clim() == (0, max(table["before"]))
    pair = list(zip(table["a"], table["b"], strict=True)).index((0, 9))
    assert table["before"][pair] == 0
    told = pictures["health"][1]
    assert told["same_as"] == [0, *[""] * 8, 0]
    assert told["reordered_of"] == [""] * 10
    bars = pictures["health"][0].axes[0].patches
    assert [bar.get_width() for bar in bars][3] == 2


def test_a_specification_has_a_line_for_every_axis_of_a_group(zoo, pictures):
    figure, table = pictures["structure"]
    assert table == {
        "tensor": ["0.weight", "0.bias", "2.weight"],
        "axis": [0, 0, 1],
        "group": ["h1"] * 3,
        "size": [6] * 3,
    }
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [f"{n}: {a}" for n, a in told(zoo.spec)] + ["h1 (6)"]
    assert len(figure.axes[0].lines) == 4  # three axes, and the group's own point


def told(spec):
    return [line.split(": ") for line in str(spec).splitlines()[1:]]
