"""`ImageEdit`: the error of edited representations, against a loop over members; what it refuses;
`wsl train` to the end.
"""

import csv
import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch
from paths import DOCS
from torch import nn

from wsl.cli import main
from wsl.nn import EquivariantNet, FlatMLP
from wsl.populations import digits_fields
from wsl.training import ImageEdit, Settings, Variety, evaluate, fit
from wsl.zoo import Zoo

TINY = ["population.members=40", "population.steps=3", "population.snapshots=[3]"]
SMALL = ["population.architecture.channels=[2,3,3]", *TINY]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A zoo of images and one of classifiers, both tiny."""
    folder = tmp_path_factory.mktemp("zoos")
    assert main(["zoo", "build", "datasets=digits_inr", f"output={folder}/inr.h5", *TINY]) == 0
    assert main(["zoo", "build", "datasets=digits_cnn", f"output={folder}/cnn.h5", *SMALL]) == 0
    return folder


@pytest.fixture
def zoo(files):
    return Zoo(files / "inr.h5")


def dilated(image):
    """The largest neighbour, pixel by pixel."""
    height, width = image.shape
    found = image.clone()
    for i in range(height):
        for j in range(width):
            found[i, j] = image[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max()
    return found


def contrasted(image):
    """Twice the distance from the mean, pixel by pixel."""
    mean = sum(image.flatten().tolist()) / image.numel()
    return torch.tensor([[min(max(2 * float(x) - mean, 0.0), 1.0) for x in row] for row in image])


def siren(theta, x, omega=10.0):
    """The function of `digits_inr`, written out."""
    for k in range(2):
        x = torch.sin(omega * (x @ theta[f"layers.{k}.weight"].T + theta[f"layers.{k}.bias"]))
    return x @ theta["layers.2.weight"].T + theta["layers.2.bias"]


@pytest.mark.parametrize(("edit", "by_hand"), [("dilate", dilated), ("contrast", contrasted)])
def test_losses_and_metrics_are_those_of_a_loop_over_members_and_pixels(zoo, edit, by_hand):
    objective, data = ImageEdit(zoo, edit), digits_fields()
    theta, about = zoo.__getitems__(zoo.indices("test"))
    expected = []
    for i, image in enumerate(about["image"].tolist()):
        shown = siren({name: t[i] for name, t in theta.items()}, data.coordinates)
        target = by_hand(data.values[image].view(8, 8)).reshape(64, 1)
        expected.append(
            sum(
                (a - b) ** 2
                for a, b in zip(shown[:, 0].tolist(), target[:, 0].tolist(), strict=True)
            )
            / 64
        )
    torch.testing.assert_close(objective.losses(theta, about), torch.tensor(expected))
    scores, table = evaluate(nn.Identity(), zoo, objective, batch_size=3)
    assert scores["mse"] == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert scores["psnr"] == pytest.approx(-10 * math.log10(scores["mse"]))
    assert torch.equal(table["image"], about["image"])
    torch.testing.assert_close(table["mse"], torch.tensor(expected))


def test_errors_do_not_depend_on_how_many_members_are_rendered_at_once(zoo, monkeypatch):
    objective = ImageEdit(zoo)
    batch = zoo.__getitems__(range(7))
    whole = objective.rows(*batch)["mse"]
    monkeypatch.setattr(sys.modules["wsl.training.objectives.edit"], "_ROWS", 3)
    torch.testing.assert_close(objective.rows(*batch)["mse"], whole)


def test_any_function_of_images_can_be_the_edit(zoo):
    batch = zoo.__getitems__(range(3))
    mirrored = ImageEdit(zoo, lambda images: images.flip(-1))
    targets = digits_fields().targets(batch[1]["image"]).view(3, 1, 8, 8).flip(-1)
    assert torch.equal(mirrored.targets(batch[1]), targets)
    assert not torch.equal(mirrored.losses(*batch), ImageEdit(zoo).losses(*batch))


def test_training_lowers_the_error_below_that_of_weights_left_alone(zoo):
    objective = ImageEdit(zoo)
    torch.manual_seed(0)
    net = EquivariantNet(zoo.spec, hidden=8, layers=2, scale=0.1)
    trained = fit(net, zoo, objective, settings=Settings(epochs=6, batch_size=8, lr=1e-2))
    scores, before = (evaluate(f, zoo, objective)[0] for f in (net, nn.Identity()))
    assert scores["mse"] < 0.9 * before["mse"]
    assert trained.best_score == max(row["val_psnr"] for row in trained.history)


def test_zoos_without_images_are_refused(files):
    with pytest.raises(
        ValueError,
        match=r"cnn\.h5: its networks do not show one image each, so there is nothing to edit",
    ):
        ImageEdit(Zoo(files / "cnn.h5"))


def test_unknown_edits_and_moved_inputs_are_refused(zoo):
    with pytest.raises(
        ValueError, match="edit='sharpen': choose dilate or contrast, or give a function of images"
    ):
        ImageEdit(zoo, "sharpen")
    with pytest.raises(
        ValueError,
        match="rotate, stretch and translate move the image that is edited, not its target",
    ):
        fit(EquivariantNet(zoo.spec), zoo, ImageEdit(zoo), variety=Variety(rotate=5.0))


def test_a_saved_run_of_another_edit_is_not_continued(zoo, tmp_path):
    settings = Settings(epochs=1)
    fit(EquivariantNet(zoo.spec, hidden=4), zoo, ImageEdit(zoo), settings=settings, folder=tmp_path)
    with pytest.raises(ValueError, match="belongs to another run"):
        fit(
            EquivariantNet(zoo.spec, hidden=4),
            zoo,
            ImageEdit(zoo, "contrast"),
            settings=settings,
            folder=tmp_path,
        )


EDITORS = {
    "equivariant_net": ["network.hidden=4"],
    "nfn_edit": ["network.hidden=3"],
    "nft_edit": ["network.hidden=4", "network.heads=2"],
    "flat_edit": ["network.hidden=8"],
}


@pytest.mark.parametrize("model", EDITORS)
def test_every_editor_trains_from_its_recipe_and_is_scored_again(files, model, monkeypatch):
    monkeypatch.chdir(files)
    words = [
        f"models={model}",
        "datasets=digits_inr",
        "zoo=inr.h5",
        "settings.epochs=1",
        f"output={model}",
        *EDITORS[model],
    ]
    assert main(["train", *words, "edit.edit=contrast"]) == 0
    done = json.loads(Path(model, "result.json").read_text())
    assert done["config"]["objective"] == {"_target_": "wsl.training.ImageEdit", "edit": "contrast"}
    assert done["config"]["network"]["odd"] == ["h1", "h2"]
    assert set(done["test"]) == set(done["unchanged"]) == {"psnr", "mse"}
    rows = list(csv.DictReader(Path(model, "predictions.csv").read_text().splitlines()))
    assert set(rows[0]) == {"row", "image", "mse", "mse_unchanged"}
    for name, key in (("mse", "test"), ("mse_unchanged", "unchanged")):
        assert sum(float(row[name]) for row in rows) / len(rows) == pytest.approx(
            done[key]["mse"], rel=1e-4
        )
    assert main(["evaluate", model, "--zoo", "inr.h5"]) == 0
    again = json.loads(Path(model, "evaluation-test.json").read_text())["scores"]
    assert again == pytest.approx(done["test"])


def test_networks_that_give_numbers_do_not_edit(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    words = [
        "models=flat_mlp",
        "datasets=digits_inr",
        "zoo=inr.h5",
        "+edit._target_=wsl.training.ImageEdit",
    ]
    assert main(["train", *words]) == 2
    assert f"{FlatMLP.__name__} and ImageEdit do not fit" in capsys.readouterr().err


def test_the_snippet_of_the_documentation_runs(files):
    page = (DOCS / "editing.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1].replace(
        "runs/zoos/mnist_inr.h5", f"{files}/inr.h5"
    )
    space = {}
    exec(code.replace("epochs=20", "epochs=1"), space)
    assert isinstance(space["objective"], ImageEdit)
