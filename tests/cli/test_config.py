"""Recipes and overrides: what is refused, with which words."""

import pytest

from wsl.cli.config import compose, recipes
from wsl.cli.targets import ConfigError, instantiate

CHOSEN = ["models=unf", "datasets=digits_cnn"]


@pytest.mark.parametrize(
    "model", [name for name in recipes("models") if name != "weight_diffusion"]
)
@pytest.mark.parametrize("dataset", recipes("datasets"))
def test_every_pair_of_recipes_composes(model, dataset):
    config = compose("train", [f"models={model}", f"datasets={dataset}"])
    assert config["network"]["_target_"].startswith("wsl.nn.")
    assert config["population"]["_target_"].startswith("wsl.zoo.")


def test_overrides_beat_the_recipe_and_the_recipe_beats_the_defaults():
    config = compose("train", [*CHOSEN, "settings.epochs=3", "seed=5"])
    assert config["settings"]["epochs"] == 3
    assert config["settings"]["seed"] == 5
    assert instantiate(config["settings"]).epochs == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models=unf"], "choose a recipe: datasets=NAME, one of .*digits_cnn"),
        (["models=unff", "datasets=digits_cnn"], r"no recipe models=unff \(did you mean 'unf'\?\)"),
        (
            [*CHOSEN, "settings.lrr=1"],
            r"unknown key 'settings.lrr' \(did you mean 'settings.lr'\?\)",
        ),
        ([*CHOSEN, "settings.lr=abc"], "settings.lr must be a number, got 'abc'"),
        ([*CHOSEN, "settings.lr=[1"], "."),
        ([*CHOSEN, "go"], "'go' is not an override"),
        ([*CHOSEN, "network._target_=os.system"], "'os.system' is not part of wsl"),
        (
            [*CHOSEN, "network._target_=wsl.cli.targets.importlib.import_module"],
            "is not part of wsl|does not exist",
        ),
        ([*CHOSEN, "network._target_=wsl.nn.Nothing"], "'wsl.nn.Nothing' does not exist"),
        ([*CHOSEN, "--config-dir", "nowhere"], "--config-dir needs a folder that exists"),
    ],
)
def test_a_wrong_override_is_one_clear_error(words, message):
    with pytest.raises(ConfigError, match=message):
        compose("train", words)


def test_a_recipe_of_ones_own_is_found_and_may_not_run_foreign_code(tmp_path):
    (tmp_path / "models").mkdir()
    text = (
        "# @package _global_\nnetwork: {_target_: collections.OrderedDict}\nsettings: {epochs: 2}\n"
    )
    (tmp_path / "models" / "mine.yaml").write_text(text)
    words = ["models=mine", "datasets=digits_cnn", "--config-dir", str(tmp_path)]
    with pytest.raises(
        ConfigError, match="may not run other code; if you trust this recipe, add --trust-config"
    ):
        compose("train", words)
    config = compose("train", [*words, "--trust-config"])
    assert config["settings"]["epochs"] == 2
    assert instantiate(config["network"]) == {}


def test_the_data_root_and_the_executor_are_chosen_on_the_command_line(tmp_path):
    config = compose(
        "zoo",
        [
            "datasets=mnist_inr",
            "--data-root",
            str(tmp_path),
            "executor=ray",
            "executor.address=auto",
        ],
    )
    assert config["data_root"] == str(tmp_path)
    assert config["executor"]["_target_"] == "wsl.zoo.Ray"
    assert config["executor"]["address"] == "auto"
    assert compose("zoo", ["datasets=mnist_inr", f"data_root={tmp_path}"])["data_root"] == str(
        tmp_path
    )
    assert compose("zoo", ["datasets=mnist_inr"])["executor"] == {
        "_target_": "wsl.zoo.Serial",
        "device": "cpu",
    }
    assert compose("train", ["models=unf", "datasets=mnist_inr", "--data-root", str(tmp_path)])[
        "data_root"
    ] == str(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data-root", "nowhere"], "--data-root needs a folder that exists, got nowhere"),
        (
            ["executor=rays"],
            r"no recipe executor=rays \(did you mean 'ray'\?\); there are processes, ray, serial",
        ),
        (["executor=processes", "executor.adress=auto"], "unknown key 'executor.adress'"),
    ],
)
def test_a_wrong_data_root_or_executor_is_one_clear_error(words, message):
    with pytest.raises(ConfigError, match=message):
        compose("zoo", ["datasets=mnist_inr", *words])
