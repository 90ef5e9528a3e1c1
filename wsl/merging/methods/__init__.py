"""Methods of merging: each one file, with its source and its limits."""

from collections.abc import Mapping
from types import MappingProxyType

from wsl.merging.methods.average import Average, average
from wsl.merging.methods.method import MergeMethod

METHODS: Mapping[str, type] = MappingProxyType({"average": Average})
"""Every method by its name on the command line; tests and documentation go through them."""

__all__ = [
    "METHODS",
    "Average",
    "MergeMethod",
    "average",
]
