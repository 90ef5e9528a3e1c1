"""Figures draw what their tables say, without a display, and are saved with them."""

import csv
import subprocess
import sys

import pytest
import torch
from matplotlib.figure import Figure

from wsl import plots
from wsl.connectivity import PathLosses


def curves():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    return {
        "naive": PathLosses(t, 1 + t * (1 - t), 1 - t / 2),
        "aligned": PathLosses(t, 1 + 0 * t, 1 - t / 4),
    }


def scatter():
    rng = torch.Generator().manual_seed(0)
    true = torch.rand(20, generator=rng)
    return true + 0.1 * torch.randn(20, generator=rng), true


def samples():
    return {"a": torch.linspace(0, 1, 11), "b": torch.linspace(0, 2, 7)}


FIGURES = {
    "path": (lambda: plots.path_figure(curves()), lambda: plots.path_table(curves())),
    "scatter": (lambda: plots.scatter_figure(*scatter()), lambda: plots.scatter_table(*scatter())),
    "histogram": (
        lambda: plots.histogram_figure(samples(), label="loss", bins=5),
        lambda: plots.histogram_table(samples(), bins=5),
    ),
    "points": (
        lambda: plots.points_figure({"a": scatter(), "b": scatter()}, x="iou", y="accuracy"),
        lambda: plots.points_table({"a": scatter(), "b": scatter()}),
    ),
    "lines": (
        lambda: plots.lines_figure({"a": ([1, 2], [0.5, 0.25], [0.1, 0.0])}, x="tau", y="share"),
        lambda: plots.lines_table({"a": ([1, 2], [0.5, 0.25], [0.1, 0.0])}),
    ),
    "bar": (
        lambda: plots.bar_figure({"wm": 0.5, "none": 2.0}, label="barrier", errors={"wm": 0.1}),
        lambda: plots.bar_table({"wm": 0.5, "none": 2.0}, errors={"wm": 0.1}),
    ),
}


@pytest.mark.parametrize(("figure", "table"), FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_a_figure_is_saved_with_its_table(figure, table, suffix, tmp_path):
    made = figure()
    assert isinstance(made, Figure)
    assert all(axes.get_xlabel() for axes in made.axes)
    plots.save_figure(tmp_path / f"figure{suffix}", made, table())
    assert (tmp_path / f"figure{suffix}").stat().st_size > 1000
    header, *rows = list(csv.reader((tmp_path / "figure.csv").read_text().splitlines()))
    assert header == list(table())
    assert [list(map(str, row)) for row in zip(*table().values(), strict=True)] == rows
    assert rows


def test_a_path_is_drawn_as_its_table_says():
    figure, table = plots.path_figure(curves()), plots.path_table(curves())
    loss, accuracy = figure.axes
    drawn = [line.get_ydata().tolist() for line in loss.lines]
    assert drawn[0] + drawn[1] == table["loss"]
    assert [y for line in accuracy.lines for y in line.get_ydata().tolist()] == table["accuracy"]
    assert table["path"] == ["naive"] * 5 + ["aligned"] * 5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "naive (barrier 0.25)",
        "aligned (barrier 0)",
    ]


def test_a_scatter_puts_the_truth_on_the_horizontal_axis():
    predicted, true = scatter()
    axes = plots.scatter_figure(predicted, true, label="loss").axes[0]
    points = torch.tensor(axes.collections[0].get_offsets())
    torch.testing.assert_close(points, torch.stack([true, predicted], 1).double())
    assert axes.get_xlabel() == "true loss"
    assert axes.get_title().startswith("tau 0.")


def test_histograms_share_their_bins_and_have_area_one():
    table = plots.histogram_table(samples(), bins=4)
    assert table["low"][:4] == table["low"][4:] == [0, 0.5, 1, 1.5]
    assert table["count"] == [5, 5, 1, 0, 2, 1, 2, 2]
    for rows in (slice(0, 4), slice(4, 8)):
        assert sum(d * 0.5 for d in table["density"][rows]) == pytest.approx(1)
    same = plots.histogram_table({"a": torch.ones(3)}, bins=2)
    assert sum(same["count"]) == 3


def test_bars_keep_their_order_and_errors():
    table = plots.bar_table({"b": 2.0, "a": 1.0}, errors={"a": 0.5})
    assert table == {"name": ["b", "a"], "value": [2.0, 1.0], "error": ["", 0.5]}
    axes = plots.bar_figure({"b": 2.0, "a": 1.0}, label="loss").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 1.0]
    assert axes.yaxis_inverted()


def test_columns_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"columns of a table must be equally long, but they have \{'a': 1, 'b': 2\}",
    ):
        plots.write_csv(tmp_path / "x.csv", {"a": [1], "b": [1, 2]})
    assert not (tmp_path / "x.csv").exists()


def test_figures_need_no_display_and_no_pyplot():
    code = (
        "import sys, torch, wsl.plots as p; p.bar_figure({'a': 1.0}, label='x');"
        "sys.exit(' '.join(m for m in ('matplotlib.pyplot', 'tkinter') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plane_is_drawn_with_its_corners_and_tabulated_row_by_row():
    from wsl.connectivity import PlaneLosses
    from wsl.plots import plane_figure, plane_table

    grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
    loss = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = PlaneLosses(grid, grid, loss, loss / 4, corners)
    axes = plane_figure(found).axes[0]
    assert [text.get_text() for text in axes.texts] == ["a", "b", "c"]
    table = plane_table(found)
    assert table["x"] == [0, 1, 0, 1]
    assert table["loss"] == [0, 1, 2, 3]
    plane_figure(PlaneLosses(grid, grid, loss * 0, loss, corners))  # flat: nothing to contour


def a_report():
    from wsl.connectivity import PlaneLosses, path_losses, report

    a, b = ({"w": torch.randn(3, 4), "v": torch.randn(4)} for _ in "ab")

    def loss(theta):
        return theta["w"].square().sum()

    grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    square = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)
    plane = PlaneLosses(grid, grid, square, square, corners)
    paths = {"naive": path_losses(lambda theta: (loss(theta), 0.5), a, b, points=3)}
    return report(a, b, b, paths=paths, loss=loss, plane=plane)


def test_a_page_holds_every_figure_of_a_report_and_needs_nothing_else(tmp_path):
    from wsl.plots import report_figures, save_page

    torch.manual_seed(0)
    figures = report_figures(a_report())
    assert list(figures) == ["path", "distances", "spectra", "alignment", "taylor", "plane"]
    page = tmp_path / "out.html"
    tables = save_page(page, "a & b", figures, notes={"path": "1 < 2"})
    text = page.read_text()
    assert text.count("<svg") == len(figures)
    assert "a &amp; b" in text
    assert "1 &lt; 2" in text
    assert not [word for word in ("<script", "<img", "<link", "url(http") if word in text]
    assert sorted(tmp_path.iterdir()) == sorted([page, *tables])
    table = (tmp_path / "out_spectra.csv").read_text()
    assert [row["layer"] for row in csv.DictReader(table.splitlines())] == ["w"] * 3
    again = tmp_path / "again.html"
    save_page(again, "a & b", {"spectra": figures["spectra"]})
    assert (tmp_path / "again_spectra.csv").read_text() == (
        tmp_path / "out_spectra.csv"
    ).read_text()


def test_three_models_and_inputs_have_figures_with_their_tables():
    from wsl.connectivity import InputAlignment, PathLosses, ThreeModels
    from wsl.plots import input_figure, input_table, three_models_figure, three_models_table

    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    path = PathLosses(t, t, t)
    found = ThreeModels(path, path, path, path)
    assert len(three_models_figure(found).axes[0].lines) == 4
    assert set(three_models_table(found)["path"]) == {"a to b'", "a to c'", "b' to c'", "b to c"}
    inputs = InputAlignment(("x",) * 5, (t,) * 5, (t,) * 5, (0.1,) * 5)
    assert len([axes for axes in input_figure(inputs).axes if axes.get_visible()]) == 5
    assert input_table(inputs)["number"] == [1, 2] * 5


def spectra():
    from wsl.diagnostics import network_spectra

    rng = torch.Generator().manual_seed(0)
    shapes = {"a": {"w": (4, 6), "v": (3, 3)}, "b": {"w": (4, 6)}}
    return {
        name: network_spectra({n: torch.randn(s, generator=rng) for n, s in own.items()})
        for name, own in shapes.items()
    }


def test_spectra_of_networks_are_drawn_relative_and_tabulated_as_they_are():
    found = spectra()
    table = plots.network_spectra_table(found)
    assert table["matrix"] == ["w"] * 4 + ["v"] * 3 + ["w"] * 4
    assert table["singular_value"][:4] == found["a"]["w"].values.tolist()
    panels = plots.network_spectra_figure(found).axes
    assert [len(axes.lines) for axes in panels] == [2, 1]
    assert [line.get_ydata()[0] for line in panels[0].lines] == [1, 1]
    ranks = plots.ranks_table(found)
    assert ranks["full_rank"] == [4, 3, 4]
    left, right = plots.ranks_figure(found).axes
    drawn = [x for line in left.lines for x in line.get_xdata()]
    golden = [e / f for e, f in zip(ranks["effective_rank"], ranks["full_rank"], strict=True)]
    assert drawn == golden
    assert len(right.lines) == 2


def test_utilised_ranks_are_bars_of_shares():
    from wsl.diagnostics import UtilisedRank

    found = {"a": {"x": UtilisedRank(3, 2, 4, 0.1)}, "b": {"x": UtilisedRank(4, 4, 4, 0.0)}}
    assert plots.utilised_table(found)["rank"] == [2, 4]
    bars = plots.utilised_figure(found).axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.5, 1]


def test_intrinsic_dimensions_are_told_in_the_legend():
    from wsl.diagnostics import IntrinsicDimension

    found = {"toy": IntrinsicDimension((5, 10), (0.2, 0.95), 1.0, 0.9)}
    axes = plots.intrinsic_figure(found).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["toy: 10"]
    assert plots.intrinsic_table(found)["score"] == [0.2, 0.95]


def test_regimes_stand_where_temperature_and_density_say():
    from wsl.diagnostics import PruningRegime

    found = {
        (8.0, 0.5): PruningRegime("II-B", 0.0, 1.0),
        (8.0, 0.1): PruningRegime("I", 0.4, 0.5),
    }
    axes = plots.regimes_figure(found, label="batch size").axes[0]
    assert [text.get_text() for text in axes.texts] == ["II-B\n0.00, 1.00", "I\n0.40, 0.50"]
    assert [text.get_position() for text in axes.texts] == [(0, 0), (0, 1)]
    assert plots.regimes_table(found)["regime"] == ["II-B", "I"]
