"""How many weights are given at once: one checkpoint, or members stacked along one axis."""

import pytest
import torch

from wsl.symmetry import PermutationSpec, SpecError, check_members, check_one

SPEC = PermutationSpec.parse("h = 3\nw: h 2")


def theta(*batch):
    return {"w": torch.zeros(*batch, 3, 2)}


def test_one_checkpoint_has_no_batch_axes():
    check_one(SPEC, theta(), "a")
    with pytest.raises(SpecError, match=r"a: has batch axes \(2,\), but one checkpoint is needed"):
        check_one(SPEC, theta(2), "a")
    with pytest.raises(SpecError, match="but match takes one checkpoint; index or unstack it"):
        check_one(SPEC, theta(2), "a", needed="match takes one checkpoint")


def test_members_are_counted_along_one_axis():
    assert check_members(SPEC, theta(4), "candidates") == 4
    for batch in [(), (0,), (2, 2)]:
        with pytest.raises(SpecError, match=r"candidates: leading axes .* one axis with at least"):
            check_members(SPEC, theta(*batch), "candidates")
