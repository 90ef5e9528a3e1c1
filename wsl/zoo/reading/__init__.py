"""Read checkpoints that anyone saved: files, shards, nests, whatever stands beside the weights."""

from wsl.zoo.reading.entries import Content, WeightSet, find_sets
from wsl.zoo.reading.files import (
    INDEX,
    SUFFIXES,
    has_suffix,
    is_copy,
    read_shards,
    resolve,
    shard_names,
)
from wsl.zoo.reading.fit import Expected, Fitted, fit, no_values, with_prefix
from wsl.zoo.reading.formats import read_content
from wsl.zoo.reading.jsons import read_json
from wsl.zoo.reading.kinds import foreign
from wsl.zoo.reading.npz import read_npz
from wsl.zoo.reading.read import FoundCheckpoint, open_checkpoint, read_checkpoint

__all__ = [
    "INDEX",
    "SUFFIXES",
    "Content",
    "Expected",
    "Fitted",
    "FoundCheckpoint",
    "WeightSet",
    "find_sets",
    "fit",
    "foreign",
    "has_suffix",
    "is_copy",
    "no_values",
    "open_checkpoint",
    "read_checkpoint",
    "read_content",
    "read_json",
    "read_npz",
    "read_shards",
    "resolve",
    "shard_names",
    "with_prefix",
]
