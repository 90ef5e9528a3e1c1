"""`wsl train models=M datasets=D` for every pair of recipes: it trains, or it says in one line why
the two do not fit.
"""

import json
import math
import re
from pathlib import Path

import pytest
import yaml

from wsl.cli import main
from wsl.cli.config import CONF, recipes

pytestmark = pytest.mark.slow

TINY = ["population.members=20", "population.steps=2", "population.snapshots=[2]"]
SPLITS = {"mnist_inr_all": ["population.splits=[14,3,3]"]}
MODELS = [
    name
    for name in recipes("models")
    if "generator" not in yaml.safe_load((CONF / "models" / f"{name}.yaml").read_text())
]
EDITORS = {"equivariant_net", "flat_edit", "nfn_edit", "nft_edit"}
REASONS = {
    "edit": r"its networks do not show one image each, so there is nothing to edit",
    "vmap": r"torch.vmap cannot run this network .* set vectorized=False",
}


def expected(model, dataset):
    """None if the pair trains, otherwise the reason."""
    if model in EDITORS and not dataset.removesuffix("_all").endswith("_inr"):
        return REASONS["edit"]
    if (model, dataset) == ("probenet", "seq_rnn"):
        return REASONS["vmap"]
    return None


@pytest.mark.parametrize("dataset", recipes("datasets"))
def test_every_model_trains_on_every_population_or_says_why_not(
    dataset, tmp_path, data_root, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tiny = [*TINY, *SPLITS.get(dataset, [])]
    assert (
        main(
            [
                "zoo",
                "build",
                f"datasets={dataset}",
                "output=zoo.h5",
                *tiny,
                "--data-root",
                str(data_root),
            ]
        )
        == 0
    )
    found = {model: attempt(model, dataset, data_root, capsys) for model in MODELS}
    wrong = {
        model: told for model, told in found.items() if not fits(told, expected(model, dataset))
    }
    assert not wrong


def attempt(model, dataset, data_root, capsys):
    """None after a training with finite scores, otherwise what was said."""
    capsys.readouterr()
    words = [
        f"models={model}",
        f"datasets={dataset}",
        "zoo=zoo.h5",
        f"output={model}",
        "settings.epochs=1",
        "settings.batch_size=2",  # networks of 300,000 weights do not fit otherwise
    ]
    code = main(["train", *words, "--data-root", str(data_root)])
    said = capsys.readouterr().err
    if code == 0:
        scores = json.loads(Path(model, "result.json").read_text())["test"]
        return (
            None
            if all(math.isfinite(score) for score in scores.values() if score is not None)
            else f"scores {scores}"
        )
    assert code == 2
    assert not Path(model, "result.json").exists()
    return said.strip().splitlines()[-1]


def fits(told, reason):
    return (
        told is None if reason is None else told is not None and re.search(reason, told) is not None
    )
