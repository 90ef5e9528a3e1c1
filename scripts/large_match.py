"""Two llama-shaped checkpoints of a billion parameters, aligned on two cores in little memory.

    A   random weights in bfloat16, sharded safetensors, written shard by shard
    B   planted.A + noise: the residual stream, every feed-forward layer, and the heads of every
        attention layer (key-value heads, the queries of each, the values inside) in random order;
        with --phases every rotary pair of every key-value head is turned by a random phase too

    wsl match A B -o OUT --model large_match:llama --input-shape int:2,8:VOCABULARY --stream

in a process of its own, whose peak of resident memory is the system's own count. Then the same
again, killed by the ninth signal once while it matches and once while it writes: what a third start
leaves must have the bytes of the first run.

    python scripts/large_match.py --work FOLDER [--size small|full] [--threads 2] [--phases]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsl import PermutationSpec, permutation_spec
from wsl.params import Params
from wsl.symmetry import (
    LinearMaps,
    Permutation,
    Place,
    Rescaling,
    SymmetryElement,
    UnitSymmetry,
    act_at,
)

COMMAND = "import sys; from wsl.cli import main; sys.exit(main(sys.argv[1:]))"
NOISE = 0.5
"""Of the planted copy, in standard deviations of the weights."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a llama: those of TinyLlama 1.1B unless told."""

    hidden: int = 2048
    layers: int = 22
    heads: int = 32
    kv_heads: int = 4
    ffn: int = 5632
    vocabulary: int = 32000

    @property
    def head(self) -> int:
        return self.hidden // self.heads


SIZES = {
    "full": Shape(),
    "small": Shape(256, 10, 8, 2, 768, 22000),
    "tiny": Shape(64, 2, 4, 2, 96, 97),
}


class Layer(nn.Module):
    """Attention with grouped queries and rotary positions, then a gated feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, kv = shape.hidden, shape.kv_heads * shape.head
        self.shape = shape
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(d), nn.RMSNorm(d)
        self.self_attn, self.mlp = nn.Module(), nn.Module()
        for name, out in (("q", d), ("k", kv), ("v", kv), ("o", d)):
            setattr(self.self_attn, f"{name}_proj", nn.Linear(d, out, bias=False))
        self.mlp.gate_proj, self.mlp.up_proj = (nn.Linear(d, shape.ffn, bias=False) for _ in "gu")
        self.mlp.down_proj = nn.Linear(shape.ffn, d, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attend(self.input_layernorm(x), rotary)
        y, mlp = self.post_attention_layernorm(x), self.mlp
        return x + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))

    def attend(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        s, at = self.shape, self.self_attn
        rows, length, _ = x.shape
        q = rotated(at.q_proj(x).view(rows, length, s.heads, s.head).transpose(1, 2), rotary)
        k = rotated(at.k_proj(x).view(rows, length, s.kv_heads, s.head).transpose(1, 2), rotary)
        v = at.v_proj(x).view(rows, length, s.kv_heads, s.head).transpose(1, 2)
        k, v = (t.repeat_interleave(s.heads // s.kv_heads, 1) for t in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return at.o_proj(out.transpose(1, 2).reshape(rows, length, s.hidden))


class Llama(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.model.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.model.norm = nn.RMSNorm(shape.hidden)
        self.lm_head = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        self.head = shape.head

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.model.embed_tokens(tokens)
        rotary = angles(tokens.shape[1], self.head, x.device)
        for layer in self.model.layers:
            x = layer(x, rotary)
        return self.lm_head(self.model.norm(x))


def angles(length: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    frequency = 10000.0 ** (-torch.arange(0, head, 2, device=device) / head)
    angle = torch.outer(torch.arange(length, device=device).float(), frequency).repeat(1, 2)
    return angle.cos(), angle.sin()


def rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    one, two = x.chunk(2, -1)
    return x * rotary[0] + torch.cat([-two, one], -1) * rotary[1]


def llama(size: str = "full") -> Llama:
    return Llama(SIZES[size])


def specification(size: str) -> PermutationSpec:
    with torch.device("meta"):
        model = llama(size)
    return permutation_spec(model, torch.zeros(2, 8, dtype=torch.long))


def turning(spec: PermutationSpec) -> PermutationSpec:
    """With the rotations of every layer, whose axes are (kv, q, positions) and (kv, positions)."""
    units = []
    for name, axes in spec.annotations:
        if name.endswith("q_proj.weight"):
            keys = name.replace("q_proj", "k_proj")
            places = (Place(name, 0, 0, 2), Place(keys, 0, 0, 1, -1))
            units.append(UnitSymmetry("rotation", axes[0][0][0], places, form="half"))
    return dataclasses.replace(spec, units=tuple(units))


def drawn_element(spec: PermutationSpec, seed: int) -> SymmetryElement:
    """A random permutation, and a random phase for every pair where the specification turns."""
    rng = torch.Generator().manual_seed(seed)
    permutation = Permutation.random(spec, rng)
    maps = LinearMaps(spec, tuple(v / v.abs() for v in LinearMaps.random(spec, rng).values))
    return SymmetryElement(permutation, Rescaling.identity(spec), maps)


def drawn(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Weights of one tensor, the same whenever they are drawn; gains of norms are near 1."""
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")
    values = torch.randn(shape, generator=torch.Generator().manual_seed(key))
    return 1 + 0.1 * values if len(shape) == 1 else 0.02 * values


def plant(element: SymmetryElement, name: str, weights: Tensor) -> Tensor:
    """One tensor of the planted copy, before noise: permuted, then turned."""
    for axis, of_axis in enumerate(element.spec.axes[name]):
        if (index := element.permutation.axis_index(of_axis)) is not None:
            weights = weights.index_select(axis, index)
    for unit, value in zip(element.spec.units, element.maps.values, strict=True):
        for place in (each for each in unit.places if each.tensor == name):
            weights = act_at(element.spec, unit, value, place=place)(weights, 0)
    return weights


def write(folder: Path, spec: PermutationSpec, element: SymmetryElement | None = None) -> None:
    """One checkpoint, shard by shard: embedding, every four layers, the head."""
    folder.mkdir(parents=True)
    names = sorted(spec.axes, key=shard_of)
    shards = [[n for n in names if shard_of(n) == k] for k in sorted({shard_of(n) for n in names})]
    weight_map, total = {}, 0
    for number, inside in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors: Params = {}
        for name in inside:
            tensor = drawn(name, tuple(spec.shapes[name]), 0)
            if element is not None:
                noise = drawn(name, tuple(tensor.shape), 1)
                noise = noise - 1 if tensor.dim() == 1 else noise
                tensor = plant(element, name, tensor + NOISE * noise)
            tensors[name] = tensor.bfloat16().contiguous()
            weight_map[name], total = file, total + tensors[name].nbytes
        safetensors.torch.save_file(tensors, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))


def shard_of(name: str) -> int:
    parts = name.split(".")
    return 1 + int(parts[2]) // 4 if "layers" in parts else 0 if "embed" in name else 10**6


def start(arguments: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    words = ["match", "A", "B", "-o", out.name, "--stream", "--model", "large_match:llama"]
    words += ["--kwargs", json.dumps({"size": arguments.size})]
    words += ["--input-shape", f"int:2,8:{SIZES[arguments.size].vocabulary}"]
    words += ["--spec", "spec.txt"] if arguments.phases else []
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", COMMAND, *words], cwd=out.parent, env=environment
    )


def killed(arguments: argparse.Namespace, out: Path, seconds: float) -> None:
    """Kill a run after some seconds of matching, and one when its first shard is written."""
    run = start(arguments, out)
    time.sleep(seconds)
    run.send_signal(signal.SIGKILL)
    run.wait()
    tell(f"killed after {seconds:.0f} s: {written(out)} shards")
    run = start(arguments, out)
    while run.poll() is None and written(out) < 1:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    tell(f"killed while it writes: {written(out)} shards, index {index_of(out).exists()}")


def written(out: Path) -> int:
    return len(list(out.glob("*.safetensors")))


def index_of(out: Path) -> Path:
    return out / "model.safetensors.index.json"


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as content:
            found[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def share_recovered(planted: Permutation, found: Permutation) -> float:
    back = found @ planted
    still = Permutation.identity(planted.spec)
    equal = [(back.indices[n] == still.indices[n]).float().flatten() for n in back.indices]
    return float(torch.cat(equal).mean())


def phase_errors(planted: SymmetryElement, found: SymmetryElement) -> Tensor:
    """How far from nothing what was planted and found turns each pair, in radians."""
    back = found @ planted
    return torch.cat([value.angle().abs().flatten() for value in back.maps.values])


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--work", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phases", action="store_true", help="turn rotary pairs too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work.resolve()
    spec = specification(arguments.size)
    spec = turning(spec) if arguments.phases else spec
    planted = drawn_element(spec, arguments.seed)
    began = time.perf_counter()
    write(work / "A", spec)
    (work / "spec.txt").write_text(str(spec))
    write(work / "B", spec, planted)
    count = sum(shape.numel() for shape in spec.shapes.values())
    seconds = time.perf_counter() - began
    tell(f"{count / 1e6:.1f} M parameters twice, noise {NOISE}, written in {seconds:.0f} s")

    tell(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {arguments.threads} threads")
    began = time.perf_counter()
    run = start(arguments, work / "one")
    _, status, used = os.wait4(run.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the run failed")
    tell(f"aligned in {seconds:.0f} s, peak memory {used.ru_maxrss / 2**20:.2f} GiB")
    tell(f"processor time {used.ru_utime + used.ru_stime:.0f} s; load {os.getloadavg()[0]:.1f}")
    found = Permutation.load(work / "one" / "wsl.permutation.json")
    same_units = found == ~planted.permutation
    share = share_recovered(planted.permutation, found)
    tell(f"planted permutation recovered: {same_units}, {share:.2%} of its indices")
    if arguments.phases:
        found = SymmetryElement.load(work / "one" / "wsl.element.safetensors")
        errors = phase_errors(planted, found)
        mean, most = float(errors.mean()), float(errors.max())
        tell(f"phases: {len(errors)}, off by {mean:.4f} rad on average, {most:.4f} at most")

    killed(arguments, work / "two", seconds / 3)
    if start(arguments, work / "two").wait():
        raise SystemExit("the run that was taken up again failed")
    same = digests(work / "one") == digests(work / "two")
    tell(f"killed twice and taken up again, every byte of every file equal: {same}")
    shutil.rmtree(work / "two")
    sys.exit(not (same and same_units))


if __name__ == "__main__":
    main()
