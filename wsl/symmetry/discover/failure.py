"""What went wrong inside a network's own code, in one line: the error's first line, and the place
in the network.
"""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

import torch

FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
)
"""What a network's code raises, or torch while it reads that code."""

_SHAPES = "{n: t.shape for n, t in model.state_dict().items()}"
BY_HAND = f"""Write the specification by hand and prove it:
    print(wsl.PermutationSpec.from_axes_to_perm({{}}, {_SHAPES}))  # names for numbers
    spec = wsl.PermutationSpec.parse(text)
    print(wsl.verify(spec, model, *inputs))"""

_NOT_THE_NETWORK = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[1]),
    contextlib.__file__,
    "<",
)


def told(error: BaseException) -> str:
    """Type and first line of an error, and where in the network's code it came from."""
    text = next(iter(str(error).strip().splitlines()), "").strip()[:200]
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(_NOT_THE_NETWORK)
    ]
    place = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}, {frames[-1].line}"
        if frames
        else ""
    )
    return f"{type(error).__name__}: {text}{place}"
