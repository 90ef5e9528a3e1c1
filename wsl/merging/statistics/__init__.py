"""What data-dependent methods read: measured once for each member, kept in a file of its own.

Whoever has the data measures and publishes; whoever merges needs no data.
"""

from wsl.merging.statistics.files import load_statistics, save_statistics
from wsl.merging.statistics.fisher import fisher
from wsl.merging.statistics.products import input_products

__all__ = ["fisher", "input_products", "load_statistics", "save_statistics"]
