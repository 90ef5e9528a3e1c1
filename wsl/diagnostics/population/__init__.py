"""A population of checkpoints as numbers to look at: maps, distributions, distances, health.

>>> import pathlib, tempfile, torch, wsl
>>> models = [torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)) for _ in range(6)]
>>> models[5] = models[0]
>>> spec = wsl.permutation_spec(models[0], torch.zeros(1, 4))
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder) / "zoo.h5"
...     zoo = wsl.Zoo.from_models(path, models, spec=spec, metadata={})
...     found = pca_map(member_weights(zoo))
...     health = population_health(zoo)
>>> found.points.shape, health.duplicates
(torch.Size([6, 2]), ((0, 5),))
"""

from wsl.diagnostics.population.alignment import AlignedMembers, align_members
from wsl.diagnostics.population.distances import PopulationDistances, population_distances
from wsl.diagnostics.population.health import PopulationHealth, population_health
from wsl.diagnostics.population.maps import PopulationMap, pca_map, tsne_map
from wsl.diagnostics.population.rows import (
    last_rows,
    learned_tensors,
    member_weights,
    sample_rows,
)
from wsl.diagnostics.population.tensors import QUANTILE_LEVELS, TensorProfile, tensor_profiles

__all__ = [
    "QUANTILE_LEVELS",
    "AlignedMembers",
    "PopulationDistances",
    "PopulationHealth",
    "PopulationMap",
    "TensorProfile",
    "align_members",
    "last_rows",
    "learned_tensors",
    "member_weights",
    "pca_map",
    "population_distances",
    "population_health",
    "sample_rows",
    "tensor_profiles",
    "tsne_map",
]
