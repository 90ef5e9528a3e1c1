"""What data-dependent methods read: measured once for each member, kept in a file of its own.

Whoever has the data measures and publishes; whoever merges needs no data.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from wsl.merging.statistics.files import load_statistics, save_statistics
from wsl.merging.statistics.fisher import fisher
from wsl.merging.statistics.products import input_products

STATISTICS: Mapping[str, Callable] = MappingProxyType(
    {"fisher": fisher, "input_products": input_products}
)
"""What a method's ``measures`` names."""

__all__ = ["STATISTICS", "fisher", "input_products", "load_statistics", "save_statistics"]
