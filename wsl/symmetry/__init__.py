"""The symmetry group of an architecture's weights: what it is, its elements, how it is found.

    spec/       the specification as a value, its text, and the cut of tensors into pieces
    elements/   permutations, signs, scales, phases, linear maps and rotations; canonical forms
    discover/   a specification read off a model's exported graph
    verify/     the proof that a specification preserves the function
    activations/  the values inside a network: how groups act on them, and a run that stops at them

>>> import torch
>>> from wsl.symmetry import Permutation, permutation_spec
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
>>> spec = permutation_spec(model, torch.zeros(1, 3))
>>> print(spec)
h1 = 4
0.weight: h1 3
0.bias: h1
2.weight: 2 h1
2.bias: 2
>>> g = Permutation(spec, {"h1": torch.tensor([1, 0, 3, 2])})
>>> theta = model.state_dict()
>>> torch.equal(g(theta)["0.bias"], theta["0.bias"][[1, 0, 3, 2]])
True
"""

from wsl.symmetry.activations import Activations, ActivationSite, activations, move_axes
from wsl.symmetry.discover import SpecWarning, permutation_spec, symmetry_spec
from wsl.symmetry.elements import (
    CanonicalPhases,
    CanonicalScales,
    LinearMaps,
    Permutation,
    PermutationBatch,
    Rescaling,
    SignedBatch,
    SymmetryElement,
    act_at,
    at_place,
    balanced_scales,
    bias_of,
    bias_signs,
    canonical_phases,
    canonical_scales,
    canonical_signs,
    centred_basis,
    check_normal,
    check_odd,
    flip_signs,
    gather_rows,
    heads_of,
    mixing,
    permute_optimizer,
    rotary_pairs,
    typical_sizes,
    unit_index,
    with_units,
)
from wsl.symmetry.spec import (
    WRAPPERS,
    Atom,
    Axes,
    Axis,
    Factor,
    Group,
    KeyReport,
    Occurrence,
    PermutationSpec,
    Piece,
    Place,
    Segment,
    SpecError,
    UnitSymmetry,
    Window,
    check_members,
    check_one,
    factor_of,
    format_axes,
    format_axis,
    normal_axis,
    parse_axes,
    pieces,
    window_of,
    windows,
)
from wsl.symmetry.verify import (
    Checks,
    UnitVerification,
    Verification,
    copied,
    verify,
    verify_units,
    with_rotations,
)

__all__ = [
    "WRAPPERS",
    "ActivationSite",
    "Activations",
    "Atom",
    "Axes",
    "Axis",
    "CanonicalPhases",
    "CanonicalScales",
    "Checks",
    "Factor",
    "Group",
    "KeyReport",
    "LinearMaps",
    "Occurrence",
    "Permutation",
    "PermutationBatch",
    "PermutationSpec",
    "Piece",
    "Place",
    "Rescaling",
    "Segment",
    "SignedBatch",
    "SpecError",
    "SpecWarning",
    "SymmetryElement",
    "UnitSymmetry",
    "UnitVerification",
    "Verification",
    "Window",
    "act_at",
    "activations",
    "at_place",
    "balanced_scales",
    "bias_of",
    "bias_signs",
    "canonical_phases",
    "canonical_scales",
    "canonical_signs",
    "centred_basis",
    "check_members",
    "check_normal",
    "check_odd",
    "check_one",
    "copied",
    "factor_of",
    "flip_signs",
    "format_axes",
    "format_axis",
    "gather_rows",
    "heads_of",
    "mixing",
    "move_axes",
    "normal_axis",
    "parse_axes",
    "permutation_spec",
    "permute_optimizer",
    "pieces",
    "rotary_pairs",
    "symmetry_spec",
    "typical_sizes",
    "unit_index",
    "verify",
    "verify_units",
    "window_of",
    "windows",
    "with_rotations",
    "with_units",
]
