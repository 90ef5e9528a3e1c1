"""Settings, hardware and labels: what is refused before anything is trained."""

import math

import pytest
import torch
from networks import BY_NAME

from wsl import training
from wsl.nn import StatNet
from wsl.training import Hardware, LabelClassification, ScoreRegression, Settings
from wsl.zoo import Zoo

NETWORK = BY_NAME["mlp"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 3.5, "settings.epochs must be a whole number, got 3.5"),
        ("epochs", 0, "settings.epochs is 0, but it must be at least 1"),
        ("epochs", None, "settings.epochs must be a whole number, got None"),
        ("epochs", True, "settings.epochs must be a whole number, got True"),
        ("batch_size", 0, "settings.batch_size is 0, but it must be at least 1"),
        ("nodes", 0, "settings.nodes is 0"),
        ("patience", "abc", "settings.patience must be a whole number, got 'abc'"),
        ("patience", -1, "settings.patience is -1, but it must be at least 0"),
        ("seed", 1.5, "settings.seed must be a whole number"),
        ("seed", -1, "settings.seed is -1"),
        ("lr", 0, "settings.lr is 0, but it must lie above 0"),
        ("lr", math.nan, "settings.lr is nan, but it must lie above 0"),
        ("lr", "fast", "settings.lr must be a number, got 'fast'"),
        ("weight_decay", -0.1, r"settings.weight_decay is -0.1, but it must lie in \[0, inf\)"),
        ("warmup", 2, r"settings.warmup is 2, but it must lie in \[0, 1\]"),
        ("clip", 0, "settings.clip is 0, but it must lie above 0"),
        ("fraction", 0, r"settings.fraction is 0, but it must lie in \(0, 1\]"),
    ],
)
def test_a_setting_of_a_wrong_kind_or_range_is_refused_by_its_name(name, value, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{name: value})


def test_the_ends_of_the_ranges_are_settings():
    made = Settings(
        epochs=1, batch_size=1, patience=0, lr=1, weight_decay=0, warmup=0, clip=math.inf
    )
    assert made.patience == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
def test_a_gpu_that_is_not_there_is_one_clear_error(accelerator):
    with pytest.raises(ValueError, match=f"accelerator={accelerator}, but this machine has no GPU"):
        Settings(accelerator=accelerator).hardware.start()


@pytest.mark.parametrize("asked", [{"accelerator": "abacus"}, {"precision": "7-true"}])
def test_hardware_that_fabric_does_not_know_is_refused_by_what_was_asked(asked):
    (name, value), *_ = asked.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Hardware(**{"accelerator": "cpu", **asked}).start()


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """A zoo in which every seventh network was never scored."""
    models = [{k: t[i] for k, t in NETWORK.weights(30, seed=1).items()} for i in range(30)]
    path = tmp_path_factory.mktemp("zoo") / "mlp.h5"
    scores = [math.nan if i % 7 == 0 else i / 30 for i in range(30)]
    labels = [math.nan if i % 7 == 0 else float(i % 2) for i in range(30)]
    metadata = {"test_accuracy": scores, "label": labels}
    return Zoo.from_models(path, models, spec=NETWORK.spec, metadata=metadata)


@pytest.mark.parametrize("objective", [ScoreRegression(), LabelClassification(classes=2)])
def test_missing_labels_are_counted_and_the_way_to_leave_them_out_works(unlabelled, objective):
    column, settings = objective.column, Settings(epochs=1, accelerator="cpu")
    network = StatNet(NETWORK.spec, out_features=objective.out_features, hidden=4)
    with pytest.raises(
        ValueError,
        match=rf"column '{column}' is missing \(NaN\) in 5 of 30 rows.*--where '{column} >",
    ):
        training.fit(network, unlabelled, objective, settings=settings)
    whole = unlabelled.where(f"{column} > -1e38")
    assert len(whole) == 25
    assert len(training.fit(network, whole, objective, settings=settings).history) == 1


def test_missing_labels_in_a_batch_are_not_called_out_of_range():
    metadata = {"test_accuracy": torch.tensor([0.5, math.nan])}
    with pytest.raises(ValueError, match=r"missing \(NaN\) in 1 of 2 rows"):
        ScoreRegression().losses(torch.zeros(2, 1), metadata)
