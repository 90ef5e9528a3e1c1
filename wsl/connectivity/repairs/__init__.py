"""Repair of merged networks: what averaging does to the statistics of their activations.

affine.py          REPAIR: the goal mean and deviation of every unit, folded into the weights
closed_form.py     the same without data: statistics that follow from the weights
noise.py           the same without data: statistics on noise like images
least_squares.py   each layer anew, by regression on what the members compute
batch_norm.py      the running statistics of batch norm alone
products.py        linear streams, averaged as the products that they are
lockstep.py        the one sweep behind the first four: networks run side by side
"""

from wsl.connectivity.repairs.affine import repair
from wsl.connectivity.repairs.batch_norm import reset_batch_norm
from wsl.connectivity.repairs.batches import Batches
from wsl.connectivity.repairs.closed_form import repair_closed_form
from wsl.connectivity.repairs.layers import LayerInputs, layer_inputs
from wsl.connectivity.repairs.least_squares import least_squares
from wsl.connectivity.repairs.noise import noise_like, repair_on_noise
from wsl.connectivity.repairs.products import average_products
from wsl.connectivity.repairs.result import Repaired, RepairedSite

__all__ = [
    "Batches",
    "LayerInputs",
    "Repaired",
    "RepairedSite",
    "average_products",
    "layer_inputs",
    "least_squares",
    "noise_like",
    "repair",
    "repair_closed_form",
    "repair_on_noise",
    "reset_batch_norm",
]
