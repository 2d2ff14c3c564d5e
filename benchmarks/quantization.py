"""Products and convolutions of int8 beside those of float32, and PyTorch's, in turns and in processor time.

    python benchmarks/quantization.py --rounds 15

Linear with weights of int8 only (`quantize_`), for a few rows and weights beyond the caches; Linear and convolutions of integers on
both sides, which quantize their results; and a language model's layers for one token. Each row shows the least time of float32
and of int8 here, how many times faster that is, and PyTorch's float32 and, for Linear, its `torch._int_mm`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("FLAMBEAU_COMPILE", "blocking")
sys.path[:0] = [str(Path(__file__).resolve().parent)]

import flambeau as fb  # noqa: E402
import flambeau.nn as nn  # noqa: E402
import numpy as np  # noqa: E402
from flambeau.quantization import Int8WeightOnlyConfig, quantize, quantize_, quantized_conv, quantized_linear  # noqa: E402

RNG = np.random.default_rng(0)
#: Rows, inputs, outputs.
PRODUCTS = ((1, 4096, 4096), (4, 4096, 4096), (64, 1024, 1024), (512, 2048, 2048))
#: Images, channels, side, output channels, kernel, stride, padding: layers of ResNet-50, and one of a small net.
CONVOLUTIONS = (
    (1, 3, 224, 64, 7, 2, 3), (1, 64, 56, 64, 3, 1, 1), (8, 64, 56, 64, 3, 1, 1), (1, 64, 56, 256, 1, 1, 0),
    (1, 128, 56, 128, 3, 2, 1), (1, 128, 28, 128, 3, 1, 1), (1, 256, 14, 256, 3, 1, 1), (1, 512, 7, 512, 3, 1, 1),
    (64, 16, 8, 32, 3, 1, 1),
)  # fmt: skip


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def bytes_(dtype: type, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least processor time of each call, in milliseconds."""
    for call in calls.values():
        for _ in range(3):
            call()
    found: dict[str, float] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call()
            found[name] = min(found.get(name, np.inf), (time.process_time() - started) * 1e3)
    return found


def show(what: str, calls: dict[str, Callable[[], object]], rounds: int) -> None:
    with fb.compiler_options(mode="blocking"):  # forgets other sizes: each row is compiled for its own
        times = in_turns(calls, rounds)
    others = "".join(f"  {name} {t:8.3f}" for name, t in times.items() if name not in ("float32", "int8"))
    ratio = times["float32"] / times["int8"]
    print(f"{what:44s} float32 {times['float32']:8.3f}  int8 {times['int8']:8.3f} ms {ratio:5.2f}x{others}", flush=True)


def weights_only(torch: object, rounds: int) -> None:
    for sizes in PRODUCTS[:3]:
        _weights_only(torch, rounds, *sizes)


def _weights_only(torch: object, rounds: int, rows: int, k: int, n: int) -> None:
    layer, x = nn.Linear(k, n), fb.tensor(floats(rows, k))
    small = nn.Sequential(layer)
    quantize_(small, Int8WeightOnlyConfig())
    calls = {"float32": lambda: layer(x).numpy(force=True), "int8": lambda: small(x).numpy(force=True)}
    if torch:
        theirs, y = torch.nn.Linear(k, n), torch.tensor(x.numpy())
        calls["torch"] = lambda: theirs(y)
    show(f"weights only, {rows} x {k} x {n}", calls, rounds)


def decoding(rounds: int) -> None:
    """The layers of a language model that one token passes: 12 blocks of width 768, 340 MB of float32."""
    blocks = [
        [nn.Linear(768, 2304), nn.Linear(768, 768), nn.Linear(768, 3072), nn.Linear(3072, 768)] for _ in range(12)
    ]

    def model() -> nn.Module:
        layers = []
        for qkv, out, up, down in blocks:
            layers += [
                qkv,
                nn.Unflatten(1, (3, 768)),
                nn.Flatten(1),
                nn.Linear(2304, 768),
                out,
                up,
                nn.GELU(),
                down,
                nn.LayerNorm(768),
            ]
        return nn.Sequential(*layers).eval()

    fb.manual_seed(0)
    plain, small, x = model(), model(), fb.tensor(floats(1, 768))
    quantize_(small, Int8WeightOnlyConfig())
    show(
        "weights only, one token of 12 blocks",
        {"float32": lambda: plain(x).numpy(force=True), "int8": lambda: small(x).numpy(force=True)},
        rounds,
    )


def products(torch: object, rounds: int) -> None:
    for sizes in PRODUCTS:
        _product(torch, rounds, *sizes)


def _product(torch: object, rounds: int, rows: int, k: int, n: int) -> None:
    x, weight, scale, bias = (
        fb.tensor(v) for v in (bytes_(np.uint8, rows, k), bytes_(np.int8, n, k), floats(n), floats(n))
    )
    a, b = fb.tensor(floats(rows, k)), fb.tensor(floats(n, k))
    calls = {
        "float32": lambda: nn.functional.linear(a, b, bias).relu().numpy(),
        "int8": lambda: quantize(quantized_linear(x, weight, scale, bias).relu(), 0.1, dtype=fb.uint8).numpy(),
    }
    if torch:
        c, d, e = torch.tensor(a.numpy()), torch.tensor(b.numpy()), torch.tensor(bias.numpy())
        f, g = torch.tensor(bytes_(np.int8, rows, k)), torch.tensor(weight.numpy()).T
        calls["torch"] = lambda: torch.nn.functional.linear(c, d, e).relu()
        calls["torch._int_mm"] = lambda: torch._int_mm(f, g)
    show(f"integers, {rows} x {k} x {n}", calls, rounds)


def convolutions(torch: object, rounds: int) -> None:
    for sizes in CONVOLUTIONS:
        _convolution(torch, rounds, *sizes)


def _convolution(
    torch: object,
    rounds: int,
    images: int,
    channels: int,
    side: int,
    outputs: int,
    kernel: int,
    stride: int,
    padding: int,
) -> None:
    x = fb.tensor(bytes_(np.uint8, images, channels, side, side))
    weight = fb.tensor(bytes_(np.int8, outputs, kernel, kernel, channels))
    scale, bias = fb.tensor(floats(outputs) * 1e-3), fb.tensor(floats(outputs))
    a, b = fb.tensor(floats(*x.shape)), fb.tensor(floats(outputs, channels, kernel, kernel))
    calls = {
        "float32": lambda: nn.functional.conv2d(a, b, bias, stride, padding).relu().numpy(),
        "int8": lambda: quantize(
            quantized_conv(x, weight.movedim(-1, 1), scale, bias, stride, padding).relu(), 0.1, dtype=fb.uint8
        ).numpy(),
    }
    if torch:
        c, d, e = (torch.tensor(v.numpy()) for v in (a, b, bias))
        calls["torch"] = lambda: torch.nn.functional.conv2d(c, d, e, stride, padding).relu()
    what = f"{images} x {channels} x {side} x {side}, {outputs} of {kernel} x {kernel}, stride {stride}"
    show(f"integers, {what}", calls, rounds)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    fb.set_num_threads(args.threads)
    try:
        import torch
    except ModuleNotFoundError:
        torch = None
    else:
        torch.set_num_threads(args.threads)
        torch.set_grad_enabled(False)
    with fb.no_grad():
        weights_only(torch, args.rounds)
        decoding(args.rounds)
        products(torch, args.rounds)
        convolutions(torch, args.rounds)


if __name__ == "__main__":
    main()
