"""Key styles of adapter files: which part of which weight a key names.

    PEFT         base_model.model.NAME.lora_A.weight, lora_B, lora_embedding_A, lora_embedding_B,
                 lora_magnitude_vector
    diffusers    unet.NAME.lora_A.weight, NAME.lora.down.weight, NAME.lora_linear_layer.up.weight
    ai-toolkit   diffusion_model.NAME.lora_A.weight, transformer.NAME.lora_A.weight
    kohya        lora_unet_NAME_WITH_UNDERSCORES.lora_down.weight, lora_up, alpha

A key that is none of these is refused by name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PREFIXES = (
    "base_model.model.",
    "unet.",
    "transformer.",
    "diffusion_model.",
    "text_encoder.",
    "text_encoder_2.",
    "lora_unet_",
    "lora_te_",
    "lora_te1_",
    "lora_te2_",
    "lora_transformer_",
)
"""What stands before the name of a module, taken off once, and after it once more for wrappers."""
_ENDINGS: tuple[tuple[str, str], ...] = (
    (r"\.lora_A(?:\.\w+)?\.weight", "a"),
    (r"\.lora_B(?:\.\w+)?\.weight", "b"),
    (r"\.lora_B(?:\.\w+)?\.bias", "bias"),
    (r"\.lora_embedding_A(?:\.\w+)?", "embedding a"),
    (r"\.lora_embedding_B(?:\.\w+)?", "embedding b"),
    (r"\.lora_magnitude_vector(?:\.\w+)?(?:\.weight)?", "magnitude"),
    (r"\.(?:lora|lora_linear_layer)\.down\.weight", "a"),
    (r"\.(?:lora|lora_linear_layer)\.up\.weight", "b"),
    (r"\.lora_down\.weight", "a"),
    (r"\.lora_up\.weight", "b"),
    (r"\.(?:lora_)?alpha", "alpha"),
    (r"\.dora_scale", "magnitude"),
)
_OTHERS = (
    (r"\.hada_|\.lokr_|\.oft_|\.boft_|\.ia3_|\.vera_|\.lora_S|\.randlora|\.vblora|\.spectrum"),
    (r"\.lora_(mid|E|ranknum|grad)"),
)
_PATTERNS = [(re.compile(f"^(?P<module>.+?){ending}$"), part) for ending, part in _ENDINGS]


class Key(NamedTuple):
    """A part of the change of one module: "a", "b", "embedding a", "bias", "magnitude", "alpha"."""

    module: str
    part: str


def parsed(key: str) -> Key | None:
    """What a key names, None where it is a whole tensor; raises ValueError for other adapters."""
    for pattern, part in _PATTERNS:
        if found := pattern.match(key):
            return Key(stripped(found["module"]), part)
    if any(re.search(other, key) for other in _OTHERS):
        raise ValueError(
            f"{key}: is of an adapter that is no LoRA; only low-rank sums (LoRA, rsLoRA, DoRA, "
            "PiSSA) are read. Merge it into its base with the tool that made it"
        )
    return None


def stripped(module: str) -> str:
    """A module's name as in the base."""
    for prefix in PREFIXES:
        if module.startswith(prefix):
            return module.removeprefix(prefix).replace(".base_layer", "")
    return module.replace(".base_layer", "")
