"""Shared set-up: two threads and no more, so that results repeat."""

import torch

torch.set_num_threads(2)
