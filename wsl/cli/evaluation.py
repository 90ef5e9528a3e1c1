"""What a network is worth, by the user's own function or data.

    --evaluate my_code:score                              score(network) -> {"loss": 0.1, ...}
    --data test.npz --loss cross_entropy                  arrays inputs, labels, or x_test, y_test
    --data mnist/ --loss nll_loss --normalize 0.13,0.31   a folder of IDX files
    --data images/ --loss cross_entropy                   a folder with one folder for each class

Images of bytes are divided by 255 and normalised; channels come first. The metrics are the loss,
and the accuracy where labels are classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl.cli.checkpoints import Loaded
from wsl.cli.networks import import_from
from wsl.cli.targets import ConfigError
from wsl.cli.terminal import say
from wsl.connectivity import calibrated
from wsl.params import Params, call
from wsl.populations import mnist_images

Score = Callable[[nn.Module], Mapping[str, float]]
LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "nll_loss": F.nll_loss,
    "mse": F.mse_loss,
}
_INPUTS, _LABELS = ("inputs", "images", "x"), ("labels", "targets", "y")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
_CHUNK = 256
_BATCH = 64


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags by which a user says how networks are scored."""
    parser.add_argument(
        "--evaluate",
        metavar="MODULE:CALLABLE",
        help="your own function: takes the network, returns a dict of numbers, loss first",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="test data: .npz with arrays inputs and labels (or x_test and y_test), a folder of "
        "IDX files, or a folder with one folder of images for each class",
    )
    parser.add_argument("--loss", choices=LOSSES, default="cross_entropy")
    parser.add_argument(
        "--normalize",
        metavar="MEAN,STD",
        help="of inputs, for example 0.1307,0.3081; six numbers for three channels",
    )
    parser.add_argument(
        "--inputs-data",
        metavar="PATH",
        help="unlabelled inputs for batch-norm statistics and activation matching, in one of the "
        "forms of --data",
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Inputs (N, ...) and, if there are any, labels (N,) or targets (N, ...)."""

    inputs: Tensor
    labels: Tensor | None


def read_data(path: str, normalize: str | None = None, *, split: str = "test") -> Labelled:
    """The data at ``path``; raises `ConfigError` saying which form was looked for."""
    place = Path(path)
    if place.suffix == ".npz" and place.is_file():
        inputs, labels = _npz(place, split)
    elif _is_idx(place):
        inputs, labels = getattr(mnist_images(place), split)
    elif place.is_dir():
        inputs, labels = _image_folder(place)
    else:
        raise ConfigError(f"--data {path}: no such .npz file or folder")
    if labels is not None and len(labels) != len(inputs):
        raise ConfigError(
            f"--data {path}: holds {len(inputs)} inputs and {len(labels)} labels; each input "
            "needs one"
        )
    given = None if labels is None else _labels(labels, path)
    return Labelled(_prepared(inputs, normalize, path), given)


def classes_of(labels: Tensor | None, where: str, *, anywhere: bool = False) -> Tensor:
    """Labels (N,) of classes, int64; whole numbers that are stored as floats are such.

    anywhere: whether they may be any whole numbers, where only their order counts. Raises
    `ConfigError` for none and for labels that are no classes; ``where`` names flag and file.
    """
    if labels is None:
        raise ConfigError(f"{where}: has no labels; add an array labels, the class of each input")
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dim() != 1:
        hint = "; of one-hot labels store labels.argmax(1)" if labels.dim() == 2 else ""
        raise ConfigError(
            f"{where}: labels have shape {tuple(labels.shape)}, but one class for each input is "
            f"needed{hint}"
        )
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        missing = int(labels.isnan().sum())
        what = f"{missing} of {len(labels)} labels are NaN" if missing else "labels are no classes"
        raise ConfigError(f"{where}: {what}; whole numbers from 0 are needed, one for each input")
    if len(labels) and int(labels.min()) < 0 and not anywhere:
        raise ConfigError(
            f"{where}: labels run from {int(labels.min())} to {int(labels.max())}, but they count "
            "from 0; renumber them"
        )
    return labels.long()


def evaluator(
    model: nn.Module, data: Labelled, loss: str, *, calibrate: bool = False
) -> Callable[[Params], dict[str, float]]:
    """``params -> {"loss": ..., "accuracy": ...}`` on ``data``, the network in evaluation mode.

    With ``calibrate`` the loss is what is left when one temperature is fitted to the outputs, on
    the same data.
    """
    if data.labels is None:
        raise ConfigError("--data has no labels, which a loss needs; name them labels or targets")
    kind, labels = LOSSES[loss], _targets(data.labels, loss)

    @torch.no_grad()
    def evaluate(theta: Params) -> dict[str, float]:
        model.eval()
        outputs = torch.cat([_answers(model, theta, x) for x in data.inputs.split(_CHUNK)])
        if loss == "mse":
            return {"loss": float(kind(outputs.view_as(labels), labels))}
        accuracy = _hits(outputs, labels)
        value = calibrated(outputs, labels).loss if calibrate else float(kind(outputs, labels))
        return {"loss": value, "accuracy": accuracy}

    return evaluate


def _targets(labels: Tensor, loss: str) -> Tensor:
    """Labels as the loss reads them: numbers, classes, or classes at each place (N, ...)."""
    if loss == "mse":
        return labels.float()
    dense = labels.dim() > 1 and not labels.is_floating_point()
    return labels if dense else classes_of(labels, "--data")


def _answers(model: nn.Module, theta: Params, x: Tensor) -> Tensor:
    """The outputs for a batch; what torch says of data that do not fit is one clear error."""
    try:
        return call(model, theta, x)
    except RuntimeError as error:
        raise ConfigError(
            f"--data: the network cannot be run on inputs of shape {tuple(x.shape)}: {error}"
        ) from error


def _hits(outputs: Tensor, labels: Tensor) -> float:
    """The share of labels that the outputs name."""
    _check_classes(outputs, labels)
    return float((outputs.argmax(1) == labels).double().mean())


def scorer(
    options: argparse.Namespace, loaded: Loaded, split: str = "test"
) -> Callable[[Params], dict[str, float]] | None:
    """How networks are scored: by the user's function, the user's data, or the task that the files
    name; None where there is none of them.
    """
    calibrate = getattr(options, "calibrated", False)
    if calibrate:
        _check_calibrated(options)
    if options.evaluate:
        return own_evaluator(loaded.network(), import_from(options.evaluate))
    if options.data:
        data = read_data(options.data, options.normalize)
        return evaluator(loaded.network(), data, options.loss, calibrate=calibrate)
    if loaded.model is None or loaded.named_task() is None:
        return None
    return _of_task(loaded, split, calibrate=calibrate)


def _of_task(
    loaded: Loaded, split: str, *, calibrate: bool
) -> Callable[[Params], dict[str, float]]:
    """How networks are scored on one part of the task's data."""
    data, model = loaded.task(), loaded.network()
    if calibrate:
        images = Labelled(*getattr(data, split))
        return evaluator(model, images, "cross_entropy", calibrate=True)

    def evaluate(theta: Params) -> dict[str, float]:
        told = data.evaluate(model, {name: t.unsqueeze(0) for name, t in theta.items()}, split)
        return {name: float(told[name][0]) for name in ("loss", "accuracy")}

    return evaluate


def _check_calibrated(options: argparse.Namespace) -> None:
    if options.evaluate:
        raise ConfigError(
            "--calibrated fits a temperature to outputs, which --evaluate does not give; leave one "
            "of them out"
        )
    if options.data and options.loss == "mse":
        raise ConfigError("--calibrated is of classes; --loss mse has none")


def unlabelled(options: argparse.Namespace, loaded: Loaded) -> Tensor:
    """Inputs (N, ...) that networks are matched or repaired on; `ConfigError` if there are none.

    Says once if they are those that the result is scored on.
    """
    found = example_inputs(options, loaded)
    if "saw_inputs" not in options:  # once: it reads the data again
        options.saw_inputs = True
        _say_scored(options, found)
    return found


def _say_scored(options: argparse.Namespace, inputs: Tensor) -> None:
    """Say if ``inputs`` are those of ``--data`` that score, which has no training part then."""
    if options.inputs_data or not options.data or options.evaluate or _is_idx(Path(options.data)):
        return
    if torch.equal(inputs, read_data(options.data, options.normalize).inputs):
        say(
            f"note: matching and repair see the {len(inputs)} inputs of --data (no labels), so the "
            "score is not of unseen data; give --inputs-data PATH",
            error=True,
        )


def example_inputs(options: argparse.Namespace, loaded: Loaded) -> Tensor:
    """Inputs (N, ...) that show what networks read; raises `ConfigError` if there are none."""
    path = options.inputs_data or options.data
    if path:
        return read_data(path, options.normalize, split="train").inputs
    if loaded.model is not None and loaded.named_task() is None:
        raise ConfigError(
            "inputs are needed, to run the networks on; give --inputs-data PATH, an .npz with "
            "inputs or a folder of images (labels are not looked at)"
        )
    return loaded.task().train.images


def labelled_loss(
    model: nn.Module, data: Labelled, loss: str
) -> tuple[Callable[[Params, Any], Tensor], list[tuple[Tensor, Tensor]]]:
    """A loss of weights on a batch that can be differentiated, and the batches of ``data``."""
    if data.labels is None:
        raise ConfigError("the data have no labels, which a loss needs; name them labels")
    labels = _targets(data.labels, loss)
    batches = list(zip(data.inputs.split(_BATCH), labels.split(_BATCH), strict=True))

    def of_batch(theta: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        outputs, wanted = call(model.eval(), theta, batch[0]), batch[1]
        if loss == "mse":
            outputs = outputs.view_as(wanted)
        else:
            _check_classes(outputs, wanted)
        return LOSSES[loss](outputs, wanted)

    return of_batch, batches


def matching_data(options: argparse.Namespace, loaded: Loaded, who: str) -> Labelled:
    """What a matcher that knows a loss trains on: ``--match-data``, else the training part of a
    folder ``--data``, else the training data of the task that the files name.

    Raises `ConfigError` where there is none, and where the same data would be scored.
    """
    path = options.match_data or options.data
    if path is not None:
        _check_unscored(options, path, who)
        return read_data(path, options.normalize, split="train")
    if loaded.model is None or loaded.named_task() is None:
        raise ConfigError(
            f"{who} trains on labelled data; give --match-data PATH, and --loss for what is made "
            "small"
        )
    train = loaded.task().train
    return Labelled(train.images, train.labels)


def _check_unscored(options: argparse.Namespace, path: str, who: str) -> None:
    """Raise `ConfigError` if the data at ``path`` are what the result is scored on."""
    if options.data is None or options.evaluate or _is_idx(Path(path)):
        return
    if Path(path).resolve() == Path(options.data).resolve():
        raise ConfigError(
            f"{who} would train on --data {path}, on which the result is scored; give other data "
            "by --match-data"
        )


def own_evaluator(model: nn.Module, score: Score) -> Callable[[Params], dict[str, float]]:
    """``params -> numbers`` by the user's function, which is given the network with the weights
    in it.

    Raises `ConfigError` if it returns anything but a dict of numbers.
    """

    def evaluate(theta: Params) -> dict[str, float]:
        model.load_state_dict(theta)
        with torch.no_grad():
            told = score(model.eval())
        try:
            return {str(name): float(torch.as_tensor(value)) for name, value in told.items()}
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(
                f"--evaluate: returned {type(told).__name__}, but a dict of numbers is needed, "
                'such as {"loss": 0.1}'
            ) from None

    return evaluate


def _is_idx(place: Path) -> bool:
    """Whether it is a folder of IDX files, which has a training and a test part."""
    return (place.is_dir() and any(place.glob("*idx3*"))) or (place / "MNIST" / "raw").is_dir()


def _check_classes(outputs: Tensor, labels: Tensor) -> None:
    if outputs.dim() < 2 or int(labels.max()) >= outputs.shape[1] or int(labels.min()) < 0:
        raise ConfigError(
            f"--data: labels run from {int(labels.min())} to {int(labels.max())}, but the network "
            f"gives outputs of shape {tuple(outputs.shape)}; is it the right data?"
        )


def _npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        # numpy leaves a file open that it cannot read
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            inputs, labels = _pair({name.lower(): name for name in arrays.files}, split)
            found = [None if name is None else arrays[name] for name in (inputs, labels)]
            names = ", ".join(arrays.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise ConfigError(
            f"--data {path}: is not a readable .npz of plain arrays ({error}); write it again with "
            "numpy.savez"
        ) from None
    if found[0] is None:
        raise ConfigError(
            f"--data {path}: has {names}, but one of {', '.join(_INPUTS)} is needed, and one of "
            f"{', '.join(_LABELS)} for a loss; x_test and y_test, or x_train and y_train, serve too"
        )
    return found[0], found[1]


def _pair(names: Mapping[str, str], split: str) -> tuple[str | None, str | None]:
    """Names of inputs and labels: plain ones, else those of the split, else of the other one.

    Both are of one kind, or labels of another split would be given to inputs.
    """
    for part in ("", split, "train" if split == "test" else "test"):
        for form in ("{}_" + part, part + "_{}") if part else ("{}",):
            inputs, labels = (
                next((names[form.format(n)] for n in known if form.format(n) in names), None)
                for known in (_INPUTS, _LABELS)
            )
            if inputs is not None:
                return inputs, labels
    return None, None


def _image_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of one size, one folder for each class, classes in the order of their names."""
    from PIL import Image

    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [
        (file, label)
        for label, each in enumerate(classes)
        for file in sorted(each.iterdir())
        if file.suffix.lower() in _IMAGES
    ]
    if not files:
        raise ConfigError(f"--data {folder}: has neither IDX files nor folders of images by class")
    images = [np.asarray(Image.open(file)) for file, _ in files]
    if len({image.shape for image in images}) > 1:
        raise ConfigError(
            f"--data {folder}: its images differ in size or channels; make them equal"
        )
    return np.stack(images), np.array([label for _, label in files])


def _prepared(inputs: np.ndarray, normalize: str | None, path: str) -> Tensor:
    """Float inputs; images get their channel axis first.

    Raises `ConfigError` for text, and for values that are not finite.
    """
    x = _tensor(inputs, f"--data {path}: inputs")
    _check_finite(x, path)
    if x.dtype == torch.uint8:
        x = x.unsqueeze(1) if x.dim() == 3 else x
        x = x.movedim(-1, 1) if x.dim() == 4 and x.shape[-1] in (1, 3) else x
        x = x.float() / 255
    elif x.dtype == torch.float64:
        x = x.float()
    return x if normalize is None else _normalized(x, normalize)


def _check_finite(x: Tensor, path: str) -> None:
    if x.is_floating_point() and not x.isfinite().all():
        rows = int((~x.flatten(1).isfinite()).any(1).sum()) if x.dim() > 1 else len(x)
        raise ConfigError(
            f"--data {path}: {rows} of {len(x)} inputs hold NaN or infinite values; leave them out"
        )


def _normalized(x: Tensor, text: str) -> Tensor:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    half = len(values) // 2
    if not half or len(values) % 2 or 0 in values[half:] or (half > 1 and x.shape[1] != half):
        raise ConfigError(
            f"--normalize {text}: means and deviations are needed, one of each or one for each of "
            f"the {x.shape[1]} channels, for example 0.1307,0.3081"
        )
    shape = (1, half, *[1] * (x.dim() - 2))
    mean, std = torch.tensor(values[:half]).view(shape), torch.tensor(values[half:]).view(shape)
    return (x - mean) / std


def _labels(labels: np.ndarray, path: str) -> Tensor:
    tensor = _tensor(labels, f"--data {path}: labels")
    if tensor.is_floating_point():
        return tensor
    one = tensor.dim() == 2 and tensor.shape[1] == 1
    return (tensor[:, 0] if one else tensor).long()


def _tensor(array: np.ndarray, what: str) -> Tensor:
    """Numbers; raises `ConfigError` for text and other things."""
    try:
        return torch.from_numpy(np.array(array))
    except TypeError:
        raise ConfigError(
            f"{what} are of type {np.asarray(array).dtype}, but numbers are needed; of names of "
            "classes store their places, numpy.unique(names, return_inverse=True)[1]"
        ) from None


def data_files(options: argparse.Namespace) -> dict[str, str]:
    """The files of data that a result depends on, by their flags."""
    flags = ("data", "inputs_data", "match_data", "validation")
    given = {flag: getattr(options, flag, None) for flag in flags}
    return {flag: path for flag, path in given.items() if path and Path(path).exists()}
