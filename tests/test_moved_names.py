"""Names keep working at the doors where they stood before their rooms were moved."""

import importlib

import pytest

MOVED = {
    "wsl.zoo": "Adam Augment Classification ClassifierPopulation Cosine Engine FieldPopulation "
    "Processes Ray Recipe Serial TaskPopulation architectures build_architecture cost digits "
    "initial_population mnist replacing task train_population warn_uncompiled",
    "wsl.zoo.architectures": "build_architecture cnn mlp recurrent residual_cnn siren",
    "wsl.merging": "PathLosses accuracy_barrier lerp loss_barrier path_losses reset_batch_norm",
    "wsl.nn": "canonical_phases canonical_scales canonical_signs settled",
    "wsl.training": "Variety optimize settle",
    "wsl.training.optimize": "LearnedOptimizer meta_train unroll",
}


@pytest.mark.parametrize("door", MOVED)
def test_what_moved_is_found_where_it_was(door):
    module = importlib.import_module(door)
    assert [name for name in MOVED[door].split() if not hasattr(module, name)] == []
