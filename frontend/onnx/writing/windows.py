"""Convolutions and poolings as ONNX nodes: ours say how many windows there are, ONNX's how much is added at the end."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, is_static, same
from flambeau.onnx.builder import OnnxBuilder, Unwritten, writes


def _high(
    sizes: Sequence[Int], counts: Sequence[Int], extents: Sequence[int], steps: Sequence[int], low: Sequence[int]
) -> list[int]:
    """How much is added at the end so that there are so many windows; none where elements are left over."""
    return [_missing(*of_one) for of_one in zip(sizes, counts, extents, steps, low)]


def _missing(n: Int, count: Int, extent: int, step: int, before: int) -> int:
    if is_static((n, count)):
        return int(max((count - 1) * step + extent - n - before, 0))
    for after in range(extent + step):
        if same((n + before + after - extent) // step + 1, count):
            return after
    raise Unwritten("with a number of windows that this size does not give")


def _extents(size: Sequence[int], dilation: Sequence[int]) -> list[int]:
    return [(int(k) - 1) * int(d) + 1 for k, d in zip(size, dilation)]


@writes("convolution")
def _convolution(b: OnnxBuilder, node: Node) -> str:
    (x, w), (sizes, stride, padding, dilation, groups) = node.operands, node.attrs
    kernel = b.shape(w)[2:]
    high = _high(b.shape(x)[2:], sizes, _extents(kernel, dilation), stride, padding)
    how = {"strides": list(stride), "dilations": list(dilation), "group": int(groups), "kernel_shape": list(kernel)}
    return b.node("Conv", b.name(x), b.name(w), pads=[*padding, *high], **how)


@writes("convolution_input")
def _transposed(b: OnnxBuilder, node: Node) -> str:
    (y, w), (sizes, stride, padding, dilation, groups) = node.operands, node.attrs
    extents = _extents(b.shape(w)[2:], dilation)
    whole = [(n - 1) * s + e for n, s, e in zip(b.shape(y)[2:], stride, extents)]
    rest = [n - (total - low) for n, total, low in zip(sizes, whole, padding)]
    cut, extra = [int(max(-r, 0)) for r in rest], [int(max(r, 0)) for r in rest]
    if any(e >= int(s) and e for e, s in zip(extra, stride)):
        raise Unwritten("with an output this much larger than what is put in")
    how = {"strides": list(stride), "dilations": list(dilation), "group": int(groups), "output_padding": extra}
    return b.node("ConvTranspose", b.name(y), b.name(w), pads=[*padding, *cut], **how)


def _maps(b: OnnxBuilder, v: int, n: int) -> str:
    """A value with all axes but the last n as one: [1, rest, maps...]."""
    shape = b.shape(v)
    return b.reshaped(b.name(v), (1, prod(shape[: len(shape) - n]), *shape[len(shape) - n :]))


def _pooled(b: OnnxBuilder, node: Node, kind: str, count: int, **more: int) -> tuple[str, ...]:
    (x,), (shape, size, step, low, dilation) = node.operands, node.attrs
    n = len(shape)
    high = _high(b.shape(x)[-n:], shape, _extents(size, dilation), step, low)
    how = {"kernel_shape": list(size), "strides": list(step), "pads": [*low, *high], **more}
    if any(d != 1 for d in dilation):
        how["dilations"] = list(dilation)
    return b.several(kind, [_maps(b, x, n)], count, **how)


@writes("pool_max")
def _pool_max(b: OnnxBuilder, node: Node) -> str:
    return b.reshaped(_pooled(b, node, "MaxPool", 1)[0], b.shape(node.results[0]))


@writes("pool_argmax")
def _pool_argmax(b: OnnxBuilder, node: Node) -> str:
    """ONNX counts places through all maps."""
    plane = prod(b.shape(node.operands[0])[-len(node.attrs[0]) :])
    places = b.node("Mod", _pooled(b, node, "MaxPool", 2)[1], b.number(plane))
    return b.reshaped(places, b.shape(node.results[0]))


@writes("pool_sum")
def _pool_sum(b: OnnxBuilder, node: Node) -> str:
    if any(d != 1 for d in node.attrs[4]):
        raise Unwritten("of dilated windows")
    mean = _pooled(b, node, "AveragePool", 1, count_include_pad=1)[0]
    total = b.node("Mul", mean, b.like(node.operands[0], prod(node.attrs[1])))
    return b.reshaped(total, b.shape(node.results[0]))


def _adaptive(extent: int, count: int) -> np.ndarray:
    """Which elements are in which window: [extent, count]."""
    first = np.arange(count) * extent // count
    stop = -(-(np.arange(count) + 1) * extent // count)
    places = np.arange(extent)[:, None]
    return (places >= first) & (places < stop)


@writes("adaptive_sum")
def _adaptive_sum(b: OnnxBuilder, node: Node) -> str:
    """Along each axis a product by a matrix of zeros and ones."""
    (x,), (shape,) = node.operands, node.attrs
    found, n, extents = _maps(b, x, len(shape)), len(shape), b.shape(x)[-len(shape) :]
    for k, (extent, count) in enumerate(zip(extents, shape)):
        if same(count, 1):
            found = b.node("ReduceSum", found, b.ints([2 + k]), keepdims=1)
            continue
        matrix = b.constant(_adaptive(extent, int(count)).astype(b.aval(x).dtype.numpy))
        perm = [*range(2 + n)]
        perm[2 + k], perm[-1] = perm[-1], perm[2 + k]
        found = b.node("Transpose", b.node("MatMul", b.node("Transpose", found, perm=perm), matrix), perm=perm)
    return b.reshaped(found, b.shape(node.results[0]))


@writes("adaptive_max")
def _adaptive_max(b: OnnxBuilder, node: Node) -> str:
    """Along each axis the largest of the elements in each window, of which the last one may be there twice."""
    (x,), (shape,) = node.operands, node.attrs
    found, extents = _maps(b, x, len(shape)), b.shape(x)[-len(shape) :]
    for k, (extent, count) in enumerate(zip(extents, shape)):
        if same(count, 1):
            found = b.node("ReduceMax", found, b.ints([2 + k]), keepdims=1)
            continue
        inside = [np.flatnonzero(column) for column in _adaptive(extent, int(count)).T]
        most = max(len(places) for places in inside)
        places = np.stack([np.pad(p, (0, most - len(p)), mode="edge") for p in inside])
        found = b.node("Gather", found, b.constant(places), axis=2 + k)
        found = b.node("ReduceMax", found, b.ints([3 + k]), keepdims=0)
    return b.reshaped(found, b.shape(node.results[0]))
