"""Figures, each with the table of the numbers it shows.

``x_figure(data)`` returns a matplotlib `Figure` and ``x_table(data)`` its columns; `save_figure`
writes both side by side. Figures are objects of their own: no pyplot, no display, nothing shown, no
global style. It computes nothing but the scores that it prints in a title.

>>> bar_table({"naive": 0.4, "aligned": 0.9})
{'name': ['naive', 'aligned'], 'value': [0.4, 0.9], 'error': ['', '']}
>>> type(bar_figure({"naive": 0.4, "aligned": 0.9}, label="accuracy")).__name__
'Figure'
"""

from typing import TYPE_CHECKING

from wsl.base import write_csv
from wsl.plots.columns import population_columns_figure, population_columns_table
from wsl.plots.drawing import COLORS, Table
from wsl.plots.general import (
    Lines,
    bar_figure,
    bar_table,
    histogram_figure,
    histogram_table,
    lines_figure,
    lines_table,
    points_figure,
    points_table,
    scatter_figure,
    scatter_table,
)
from wsl.plots.merges import merge_figures, pairs_figure, pairs_table, scores_figure, scores_table
from wsl.plots.pages import save_figure, save_page
from wsl.plots.pairs import (
    alignment_figure,
    alignment_table,
    distance_figure,
    distance_table,
    input_figure,
    input_table,
    report_figures,
    spectra_figure,
    spectra_table,
    taylor_figure,
    taylor_table,
    three_models_figure,
    three_models_table,
)
from wsl.plots.paths import path_figure, path_table, plane_figure, plane_table
from wsl.plots.populations import (
    population_distances_figure,
    population_distances_table,
    population_entries_figure,
    population_entries_table,
    population_health_figure,
    population_health_table,
    population_map_figure,
    population_map_table,
    population_spectra_figure,
    population_spectra_table,
)
from wsl.plots.spectra import (
    intrinsic_figure,
    intrinsic_table,
    network_spectra_figure,
    network_spectra_table,
    ranks_figure,
    ranks_table,
    regimes_figure,
    regimes_table,
    utilised_figure,
    utilised_table,
)
from wsl.plots.structure import spec_figure, spec_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Figure  # what every figure is, for annotations

__all__ = [
    "COLORS",
    "Lines",
    "Table",
    "alignment_figure",
    "alignment_table",
    "bar_figure",
    "bar_table",
    "distance_figure",
    "distance_table",
    "histogram_figure",
    "histogram_table",
    "input_figure",
    "input_table",
    "intrinsic_figure",
    "intrinsic_table",
    "lines_figure",
    "lines_table",
    "merge_figures",
    "network_spectra_figure",
    "network_spectra_table",
    "pairs_figure",
    "pairs_table",
    "path_figure",
    "path_table",
    "plane_figure",
    "plane_table",
    "points_figure",
    "points_table",
    "population_columns_figure",
    "population_columns_table",
    "population_distances_figure",
    "population_distances_table",
    "population_entries_figure",
    "population_entries_table",
    "population_health_figure",
    "population_health_table",
    "population_map_figure",
    "population_map_table",
    "population_spectra_figure",
    "population_spectra_table",
    "ranks_figure",
    "ranks_table",
    "regimes_figure",
    "regimes_table",
    "report_figures",
    "save_figure",
    "save_page",
    "scatter_figure",
    "scatter_table",
    "scores_figure",
    "scores_table",
    "spec_figure",
    "spec_table",
    "spectra_figure",
    "spectra_table",
    "taylor_figure",
    "taylor_table",
    "three_models_figure",
    "three_models_table",
    "utilised_figure",
    "utilised_table",
    "write_csv",
]
