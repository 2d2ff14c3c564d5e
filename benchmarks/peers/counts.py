"""What the workloads compute, in floating-point operations of products and convolutions: what a step cannot take less time than.

In: a workload's name. Out: operations of a step, or bytes that it has to read at least. A multiply-add is two operations; of a
causal matrix of scores half is counted; gradients that nobody asks for (of the batch) are not. Next: `workloads.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import workloads as C


class Layer(NamedTuple):
    """A product: its operations forward. Each gradient takes as many; by a batch there is none."""

    flops: float
    first: bool = False


def linear(rows: int, *widths: int) -> list[Layer]:
    return [Layer(2.0 * rows * a * b, k == 0) for k, (a, b) in enumerate(pairwise(widths))]


def convolution(a: int, b: int, kernel: int, size: int, images: int, first: bool = False) -> Layer:
    """`size`: that of the result; of a transposed convolution, that of its operand."""
    return Layer(2.0 * images * size * size * a * b * kernel * kernel, first)


def forward(layers: list[Layer]) -> float:
    return sum(layer.flops for layer in layers)


def training(layers: list[Layer]) -> float:
    return sum(layer.flops * (2 if layer.first else 3) for layer in layers)


def cnn(images: int) -> list[Layer]:
    dense = [layer._replace(first=False) for layer in linear(images, 9216, 128, 10)]
    return [convolution(1, 32, 3, 26, images, True), convolution(32, 64, 3, 24, images), *dense]


def lstm() -> list[Layer]:
    c = C.LSTM
    each = c["emb"] * 4 * c["hid"] + c["hid"] * 4 * c["hid"] + c["hid"] * c["vocab"]
    return [Layer(2.0 * c["B"] * c["T"] * each)]


def transformer(rows: int, length: float, d: int, blocks: int, out: int) -> list[Layer]:
    """`length`: keys that a row sees, on average."""
    return [Layer(2.0 * rows * blocks * (12 * d * d + 2 * length * d)), Layer(2.0 * rows * d * out)]


def resnet(images: int) -> list[Layer]:
    found, size = [convolution(3, 64, 7, 112, images, True)], 56
    for a, b, stride in C.RESNET:
        size //= stride
        found += [convolution(c, b, 3, size, images) for c in (a, b, b, b)]
        found += [convolution(a, b, 1, size, images)] if stride > 1 else []
    return [*found, Layer(2.0 * images * 512 * 1000)]


def vit(images: int) -> list[Layer]:
    c = C.VIT
    side = 224 // c["patch"]
    rest = transformer(images * (side**2 + 1), side**2 + 1, c["d"], c["layers"], 0)
    return [convolution(3, c["d"], c["patch"], side, images, True), *rest, Layer(2.0 * images * c["d"] * 1000)]


def gan() -> float:
    """Both updates: D learns of real and made images, G through D, whose weights are left alone."""
    b, f, nz = C.GAN["B"], C.GAN["ngf"], C.GAN["nz"]
    g = [Layer(2.0 * b * nz * 8 * f * 16, True)]
    g += [convolution(a, c, 4, n, b) for a, c, n in ((8 * f, 4 * f, 4), (4 * f, 2 * f, 8), (2 * f, f, 16), (f, 3, 32))]
    d = [convolution(3, f, 4, 32, b, True)]
    d += [
        convolution(a, c, 4, n, b) for a, c, n in ((f, 2 * f, 16), (2 * f, 4 * f, 8), (4 * f, 8 * f, 4), (8 * f, 1, 1))
    ]
    return training(g) + 2 * training(d) + 2 * forward(d)


def flops(name: str) -> float | None:
    """Operations of a step; None where these are not what limits it."""
    if name.startswith("W1_b"):
        return training(linear(int(name[4:]), 784, 512, 256, 10))
    if name.startswith("W7_mm"):
        return 2.0 * int(name[5:]) ** 3
    gpt = C.GPT
    found = {
        "W2": lambda: training(cnn(C.CNN["B"])),
        "W3": lambda: training(lstm()),
        "W4": lambda: training(
            transformer(gpt["B"] * gpt["T"], gpt["T"] / 2, gpt["d"], gpt["layers"], gpt["vocab"])
        ),
        "W5": gan,
        "W9_cnn": lambda: forward(cnn(1)),
        "resnet18_train": lambda: training(resnet(8)),
        "resnet18_infer": lambda: forward(resnet(1)),
        "vit_train": lambda: training(vit(8)),
        "vit_infer": lambda: forward(vit(1)),
    }  # fmt: skip
    return found[name]() if name in found else None


def read_bytes(name: str) -> float | None:
    """Bytes that a step has to read of memory, where that is what limits it: the weights of a net that sees one row."""
    if name == "decode":
        c = C.DECODE
        return 4.0 * (c["layers"] * 12 * c["d"] ** 2 + c["d"] * c["vocab"])
    return None
