"""Matching of checkpoints that do not fit into memory: read, matched and written in parts.

>>> import torch, wsl
>>> spec = wsl.PermutationSpec.parse("h = 3\\nin.weight: h 2\\nout.weight: 1 h")
>>> a = {"in.weight": torch.arange(6.0).view(3, 2), "out.weight": torch.ones(1, 3)}
>>> b = {"in.weight": a["in.weight"][[2, 0, 1]], "out.weight": torch.ones(1, 3)}
>>> match_sources(spec, a, b).permutation.indices["h"].tolist()
[1, 2, 0]
"""

from wsl.matching.large.experts import file_moves, with_experts
from wsl.matching.large.family import family_moves
from wsl.matching.large.files import (
    FileTensor,
    Source,
    TensorFile,
    TensorFiles,
    TensorSlices,
    open_files,
    safetensors_of,
    structure,
)
from wsl.matching.large.joined import JoinedTensor
from wsl.matching.large.moves import Element, Move, Moves, check_family, load_element, own_move
from wsl.matching.large.phases import has_rotations
from wsl.matching.large.problem import distances, match_sources
from wsl.matching.large.weights import StreamedWeights
from wsl.matching.large.write import Journal, write_files, write_index, write_moved

__all__ = [
    "Element",
    "FileTensor",
    "JoinedTensor",
    "Journal",
    "Move",
    "Moves",
    "Source",
    "StreamedWeights",
    "TensorFile",
    "TensorFiles",
    "TensorSlices",
    "check_family",
    "distances",
    "family_moves",
    "file_moves",
    "has_rotations",
    "load_element",
    "match_sources",
    "open_files",
    "own_move",
    "safetensors_of",
    "structure",
    "with_experts",
    "write_files",
    "write_index",
    "write_moved",
]
