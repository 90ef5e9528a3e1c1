"""Recipes and overrides: what is refused, with which words."""

import pytest
import yaml

from wsl.cli.config import CONF, compose, recipes
from wsl.cli.targets import ConfigError, instantiate


def written(group, name):
    """A recipe as it stands."""
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


GENERATORS = {name for name in recipes("models") if "generator" in written("models", name)}
CHOSEN = ["models=unf", "datasets=digits_cnn"]


@pytest.mark.parametrize("model", [name for name in recipes("models") if name not in GENERATORS])
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


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=1.5", "^seed must be a whole number, got 1.5"),
        ("seed=null", "^seed must be a number, got null"),
        ("seed=-1", "^seed is -1, but it must be at least 0"),
        ("settings.epochs=3.5", "^settings.epochs must be a whole number, got 3.5"),
        ("settings.epochs=1e3", "^settings.epochs must be a whole number, got 1000.0"),
        ("settings.epochs=true", "^settings.epochs must be a number, got True"),
        ("settings.patience=abc", "^settings.patience must be a number or null, got 'abc'"),
        ("settings.lr=[0.1]", "^settings.lr must be a number, got"),
        ("network.hidden=wide", "^network.hidden must be a number, got 'wide'"),
        ("network.hidden=-4", "^network.hidden is -4, but it must be at least 0"),
        ("network.gated=1", "^network.gated must be true or false, got 1"),
        ("population.architecture.channels=8", r"channels must be a list, such as \[.*, got 8"),
        ("population.architecture.channels=8-8", r"channels must be a list, such as \[.*'8-8'"),
        ("population.architecture.channels=[8,x]", "channels.1 must be a number, got 'x'"),
        ("population.architecture.channels=[8,8.5]", "channels.1 must be a whole number, got 8.5"),
        ("population.lr=0.1", "^population.lr must be a list, such as .*, got 0.1"),
    ],
)
def test_a_value_of_another_kind_than_its_place_asks_for_is_refused_by_its_key(word, message):
    with pytest.raises(ConfigError, match=message):
        compose("train", [*CHOSEN, word])


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("settings.lr=1", 1),
        ("settings.patience=4", 4),
        ("settings.patience=null", None),
        ("settings.compile=null", None),
        ("settings.devices=-1", -1),
        ("settings.precision=16", 16),
        ("variety.noise=1", 1),
        ("variety.mixup=direct", "direct"),
    ],
)
def test_a_value_that_a_place_allows_is_taken_as_it_is(word, value):
    key = word.partition("=")[0].split(".")
    assert compose("train", [*CHOSEN, word])[key[0]][key[1]] == value


PATHS = [
    "runs/epoch=3.h5",
    "my run (1)/[best], a={b}.h5",
    "/data/新加卷/zoo.h5",
    "runs/lr#1.h5",
    'it\'s "mine".h5',
    "ends with a backslash\\",
    "a\\'b",
    "12",
    "true",
    " x ",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["zoo", "output", "data_root"])
def test_a_path_is_taken_as_it_is(key, path):
    assert compose("train", [*CHOSEN, f"{key}={path}"])[key] == path


def test_a_path_may_be_quoted_absent_or_put_together():
    said = ["zoo='a b.h5'", "output=runs/${seed}", "data_root=null", "seed=3"]
    config = compose("train", [*CHOSEN, *said])
    assert (config["zoo"], config["output"], config["data_root"]) == ("a b.h5", "runs/3", None)


def test_folders_of_recipes_and_of_data_may_have_any_name(tmp_path):
    folder = tmp_path / "my recipes [1], a=b's #新"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "mine.yaml").write_text(
        "# @package _global_\nnetwork: {_target_: wsl.nn.StatNet}\n"
    )
    words = ["models=mine", "datasets=digits_cnn", "--config-dir", str(folder)]
    config = compose("train", [*words, "--data-root", str(folder)])
    assert config["network"] == {"_target_": "wsl.nn.StatNet"}
    assert config["data_root"] == str(folder)


def test_a_value_that_the_grammar_cannot_read_is_shown_quoted():
    with pytest.raises(
        ConfigError, match=r"column=a=b: .* quote it .*: \"objective.column='a=b'\""
    ):
        compose("train", [*CHOSEN, "objective.column=a=b"])
    config = compose("train", [*CHOSEN, "objective.column='a=b'"])
    assert config["objective"]["column"] == "a=b"
