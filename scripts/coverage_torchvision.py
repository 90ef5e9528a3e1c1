"""torchvision for `symmetry_coverage.py`: every classification network, and every family of the
other tasks.

Detectors choose boxes by their scores and cut them out with compiled operators, which cannot run
here. What runs is the backbone, the heads of every level, and behind a mean over the image instead
of a box the heads of regions. Auxiliary classifiers, which only training uses, are left out. Videos
and image pairs are short and small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from coverage_networks import CLASSES, Build, Built, images, torchvision
from torch import nn
from torch.nn import functional as F

GIANTS = ("vit_h_14", "regnet_y_128gf")
"""More than 600 million parameters: last, since their float64 copies need most of a small machine's
memory.
"""
SIDES = {"inception_v3": 96, "vit_h_14": 28}
DETECTORS = (
    "fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn fasterrcnn_resnet50_fpn_v2 "
    "fcos_resnet50_fpn "
    "keypointrcnn_resnet50_fpn maskrcnn_resnet50_fpn maskrcnn_resnet50_fpn_v2 "
    "retinanet_resnet50_fpn "
    "retinanet_resnet50_fpn_v2 ssd300_vgg16 ssdlite320_mobilenet_v3_large"
)
SEGMENTATION = (
    "deeplabv3_mobilenet_v3_large deeplabv3_resnet50 fcn_resnet50 lraspp_mobilenet_v3_large"
)


def networks() -> Iterator[tuple[str, Build]]:
    """Segmentation, detection, video and optical flow, then classification."""
    models = torchvision().models
    for name in SEGMENTATION.split():
        yield f"segmentation/{name}", partial(_segmentation, name)
    for name in DETECTORS.split():
        yield f"detection/{name}", partial(_detector, name)
    for name in models.list_models(module=models.video):
        yield f"video/{name}", partial(_video, name)
    for name in models.list_models(module=models.optical_flow):
        yield f"optical_flow/{name}", partial(_flow, name)
    for name in sorted(models.list_models(module=models), key=lambda name: (name in GIANTS, name)):
        yield name, partial(_classifier, name)


def _make(name: str, **options: Any) -> Any:
    return torchvision().models.get_model(name, **options)


def _classifier(name: str) -> Built:
    side = SIDES.get(
        name, 32 if name.startswith("vit") else 224 if name.startswith("maxvit") else 64
    )
    extra: dict[str, Any] = {"image_size": side} if name.startswith("vit") else {}
    extra |= (
        {"init_weights": False, "aux_logits": False}
        if name in ("googlenet", "inception_v3")
        else {}
    )
    return _make(name, num_classes=CLASSES, **extra), images(3, side, side), {}


def _segmentation(name: str) -> Built:
    return _make(name, num_classes=CLASSES, weights_backbone=None), images(3, 64, 64), {}


def _detector(name: str) -> Built:
    side = 300 if name.startswith("ssd300") else 128
    return (
        Detector(_make(name, num_classes=CLASSES, weights_backbone=None)),
        images(3, side, side),
        {},
    )


def _video(name: str) -> Built:
    if name.startswith("mvit"):
        return _mvit(name), images(3, 8, 64, 64), {}
    frames, side = (16, 224) if name == "s3d" else (4, 64)
    return _make(name, num_classes=CLASSES), images(3, frames, side, side), {}


def _mvit(name: str) -> nn.Module:
    """The builders fix the size of the video, so that the class is called in their place."""
    mvit = torchvision().models.video.mvit
    kept: Callable[..., Any] = mvit._mvit
    mvit._mvit = lambda **options: kept(**options | {"spatial_size": (64, 64), "temporal_size": 8})
    try:
        return _make(name, num_classes=CLASSES)
    finally:
        mvit._mvit = kept


def _flow(name: str) -> Built:
    return _make(name), (*images(3, 128, 128), *images(3, 128, 128)), {"num_flow_updates": 2}


class Detector(nn.Module):
    """A detector without the choice of boxes: every region's head sees the mean of its window over
    the whole image.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> list[Any]:
        """Outputs of every head."""
        features = self.detector.backbone(image)
        levels = [features] if isinstance(features, torch.Tensor) else list(features.values())
        if hasattr(self.detector, "head"):
            return [self.detector.head(levels)]
        regions = self.detector.roi_heads
        outputs: list[Any] = [self.detector.rpn.head(levels)]
        for kind in ("box", "mask", "keypoint"):
            if getattr(regions, f"{kind}_roi_pool", None) is not None:
                pooled = F.adaptive_avg_pool2d(
                    levels[0], getattr(regions, f"{kind}_roi_pool").output_size
                )
                outputs.append(
                    getattr(regions, f"{kind}_predictor")(getattr(regions, f"{kind}_head")(pooled))
                )
        return outputs
