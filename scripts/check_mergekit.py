"""The same YAML through the package mergekit and through wsl: deterministic methods agree.

    pip install mergekit        (in an environment of its own)
    python scripts/check_mergekit.py

Three networks near a base, written as safetensors; each configuration is run by mergekit's own
command for plain files and by `wsl.merging.mergekit`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from wsl.merging.mergekit import MergekitMerge, parse
from wsl.params import Params

SHAPES = {
    "conv.weight": (16, 3, 3, 3),
    "up.weight": (32, 20),
    "up.bias": (32,),
    "down.weight": (7, 32),
}
CONFIGS = {
    "linear": "normalize: true",
    "slerp": "t: 0.3",
    "task_arithmetic": "normalize: false",
    "task_arithmetic, normalised": "normalize: true",
    "ties": "normalize: true",
    "ties, sum": "normalize: false",
    "breadcrumbs": "normalize: false",
    "breadcrumbs_ties": "normalize: true",
    "sce": "select_topk: 0.5",
    "model_stock": "filter_wise: false",
    "karcher": "max_iter: 50\n  tol: 1.0e-12",
    "multislerp": "",
    "nuslerp": "",
}
BASED = ("task_arithmetic", "ties", "breadcrumbs", "sce", "model_stock")


def networks() -> dict[str, Params]:
    """A base, and three networks that differ from it a little."""
    found: dict[str, Params] = {}
    for seed, name in enumerate(("base", "a", "b", "c")):
        rng = torch.Generator().manual_seed(seed)
        drawn = {n: torch.randn(s, generator=rng, dtype=torch.float64) for n, s in SHAPES.items()}
        start = found.get("base", dict.fromkeys(SHAPES, torch.tensor(0.0)))
        found[name] = {n: start[n] + (0.1 if seed else 1.0) * t for n, t in drawn.items()}
    return found


def text(method: str, shared: str, folder: Path) -> str:
    """A configuration in mergekit's YAML; spherical methods of two take two."""
    names = (
        ["base", "a"]
        if method == "slerp"
        else ["a", "b"]
        if method == "nuslerp"
        else ["a", "b", "c"]
    )
    lines = [f"merge_method: {method}"]
    if method == "slerp" or method.startswith(BASED):
        lines.append(f"base_model: {folder / 'base.safetensors'}")
    lines.append("models:")
    for i, name in enumerate(names):
        lines.append(f"  - model: {folder / name}.safetensors")
        sparse = method.startswith(("ties", "breadcrumbs"))
        own = [f"weight: {0.5 + 0.2 * i}"] + ([f"density: {0.5 + 0.1 * i}"] if sparse else [])
        if method not in ("slerp", "sce", "model_stock", "karcher"):
            lines.append("    parameters: {" + ", ".join(own) + "}")
    if shared:
        lines += ["parameters:", f"  {shared}"]
    return "\n".join([*lines, "dtype: float64"])


def theirs(config: str, folder: Path) -> Params:
    """What mergekit's command writes."""
    (folder / "merge.yaml").write_text(config)
    call = "from mergekit.scripts.merge_raw_pytorch import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", call]
    subprocess.run(
        [*command, str(folder / "merge.yaml"), str(folder / "out")], check=True, capture_output=True
    )
    found: Params = {}
    for file in sorted((folder / "out").glob("*.safetensors")):
        found |= load_file(file)
        file.unlink()
    return found


def main() -> None:
    """Print the largest difference of each method; exit 1 if one exceeds 1e-6."""
    warnings.simplefilter("ignore")
    found, worst = networks(), 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, theta in found.items():
            save_file(theta, folder / f"{name}.safetensors", {"format": "pt"})
        for title, shared in CONFIGS.items():
            config = text(title.split(",")[0], shared, folder)
            method = MergekitMerge(parse(config))
            members = [found[Path(model).stem] for model in method.config.models]
            base = found["base"] if method.config.base else None
            ours = method.solve(members, base=base)
            try:
                other = theirs(config, folder)
            except subprocess.CalledProcessError as error:
                print(
                    f"{title:<28} mergekit: {error.stderr.decode().strip().splitlines()[-1][:90]}"
                )
                continue
            difference = max(float((ours[n] - other[n]).abs().max()) for n in ours)
            worst = max(worst, difference)
            print(f"{title:<28} largest difference {difference:.1e}", flush=True)
    if worst > 1e-6:
        raise SystemExit("a method gives another result than mergekit")


if __name__ == "__main__":
    main()
