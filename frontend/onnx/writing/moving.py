"""Ops that move elements, as ONNX nodes: views, pieces put together, positions, products."""

from __future__ import annotations

from math import prod

import numpy as np
from flambeau.dialects.graph import Node
from flambeau.onnx.builder import OnnxBuilder, Unwritten, writes

_REDUCTIONS = {"scatter_add": "add", "scatter_mul": "mul", "scatter_max": "max", "scatter_min": "min"}


@writes("reshape")
def _reshape(b: OnnxBuilder, node: Node) -> str:
    (x,), shape = node.operands, b.shape(node.results[0])
    return b.name(x) if b.shape(x) == shape else b.reshaped(b.name(x), shape)


@writes("permute")
def _permute(b: OnnxBuilder, node: Node) -> str:
    return b.node("Transpose", b.name(node.operands[0]), perm=list(node.attrs[0]))


@writes("slice")
def _slice(b: OnnxBuilder, node: Node) -> str:
    (x,), (starts, sizes, steps) = node.operands, node.attrs
    cut = [d for d, n in enumerate(b.shape(x)) if (int(starts[d]), int(sizes[d]), int(steps[d])) != (0, n, 1)]
    if not cut:
        return b.name(x)
    ends = [int(starts[d]) + (int(sizes[d]) - 1) * int(steps[d]) + 1 if sizes[d] else int(starts[d]) for d in cut]
    given = ([starts[d] for d in cut], ends, cut, [steps[d] for d in cut])
    return b.node("Slice", b.name(x), *(b.ints(part) for part in given))


@writes("flip")
def _flip(b: OnnxBuilder, node: Node) -> str:
    axes = list(node.attrs[0])
    ends = [np.iinfo(np.int64).min + 1] * len(axes)
    return b.node("Slice", b.name(node.operands[0]), *map(b.ints, ([-1] * len(axes), ends, axes, [-1] * len(axes))))


def _starts(b: OnnxBuilder, given: tuple[int, ...], most: list[int]) -> str:
    """Starts as a vector, moved to where the window fits."""
    parts = [b.reshaped(b.name(v), (1,)) for v in given]
    whole = b.node("Concat", *parts, axis=0)
    return b.node("Min", b.node("Max", whole, b.ints([0] * len(most))), b.ints(most))


def _spans(sizes: tuple[int, ...], steps: tuple[int, ...]) -> list[int]:
    return [(int(n) - 1) * int(s) + 1 if n else 0 for n, s in zip(sizes, steps)]


@writes("dynamic_slice")
def _dynamic_slice(b: OnnxBuilder, node: Node) -> str:
    (x, *given), (sizes, steps) = node.operands, node.attrs
    spans = _spans(sizes, steps)
    most = [n - span for n, span in zip(b.shape(x), spans)]
    if all(v in b.known for v in given):
        first = np.clip([int(b.known[v]) for v in given], 0, most)
        starts, ends = b.ints(first), b.ints(first + spans)
    else:
        starts = _starts(b, tuple(given), most)
        ends = b.node("Add", starts, b.ints(spans))
    return b.node("Slice", b.name(x), starts, ends, b.ints(range(len(spans))), b.ints(steps))


@writes("update_slice")
def _update_slice(b: OnnxBuilder, node: Node) -> str:
    """The window's places, counted from its start, and what is put there."""
    (x, update, *given), (steps,) = node.operands, node.attrs
    sizes = b.shape(update)
    most = [n - span for n, span in zip(b.shape(x), _spans(sizes, steps))]
    places = np.stack(np.meshgrid(*(np.arange(n) * int(s) for n, s in zip(sizes, steps)), indexing="ij"), -1)
    if all(v in b.known for v in given):
        index = b.constant(places + np.clip([int(b.known[v]) for v in given], 0, most))
    else:
        index = b.node("Add", b.constant(places), _starts(b, tuple(given), most))
    return b.node("ScatterND", b.name(x), index, b.name(update))


@writes("unfold")
def _unfold(b: OnnxBuilder, node: Node) -> str:
    (x,), (axis, size, step, dilation) = node.operands, node.attrs
    count, rank = b.shape(node.results[0])[axis], len(b.shape(x))
    places = np.arange(count)[:, None] * int(step) + np.arange(int(size)) * int(dilation)
    windows = b.node("Gather", b.name(x), b.constant(places), axis=axis)
    perm = [d for d in range(rank + 1) if d != axis + 1] + [axis + 1]
    return b.node("Transpose", windows, perm=perm)


@writes("concat")
def _concat(b: OnnxBuilder, node: Node) -> str:
    return b.node("Concat", *map(b.name, node.operands), axis=node.attrs[0])


@writes("pad")
def _pad(b: OnnxBuilder, node: Node) -> str:
    (x, value), (low, high) = node.operands, node.attrs
    return b.node("Pad", b.name(x), b.ints([*low, *high]), b.name(value))


@writes("matmul")
def _matmul(b: OnnxBuilder, node: Node) -> str:
    return b.node("MatMul", *map(b.name, node.operands))


@writes("gather")
def _gather(b: OnnxBuilder, node: Node) -> str:
    """Whole slices where the positions are a vector, stretched."""
    (x, index), (axis,) = node.operands, node.attrs
    short = b.unstretched.get(index) if index not in b.names else None
    others = [d for d in range(len(b.shape(x))) if d != axis]
    same = all(b.shape(x)[d] == b.shape(index)[d] for d in others)
    if short is not None and same and all(b.shape(short)[d] == 1 for d in others):
        vector = b.reshaped(b.name(short), (b.shape(short)[axis],))
        if b.shape(short)[axis] == b.shape(index)[axis]:
            return b.node("Gather", b.name(x), vector, axis=axis)
    return b.node("GatherElements", b.name(x), b.name(index), axis=axis)


@writes("scatter", *_REDUCTIONS)
def _scatter(b: OnnxBuilder, node: Node) -> str:
    how = {"reduction": _REDUCTIONS[node.op.name]} if node.op.name in _REDUCTIONS else {}
    return b.node("ScatterElements", *map(b.name, node.operands), axis=node.attrs[0], **how)


def _flat(b: OnnxBuilder, v: int, rank: int) -> tuple[str, tuple[int, ...]]:
    """A value with its last axes as one, and the shape that it has then."""
    shape = b.shape(v)
    flat = (*shape[: len(shape) - rank], prod(shape[len(shape) - rank :]))
    return b.reshaped(b.name(v), flat), flat


@writes("pick")
def _pick(b: OnnxBuilder, node: Node) -> str:
    """Elements at places of a plane; 0 at those outside."""
    (x, index), (rank,) = node.operands, node.attrs
    (values, shape), (places, _) = _flat(b, x, rank), _flat(b, index, rank)
    zero = b.constant(np.array(0, np.int64))
    low, high = b.node("GreaterOrEqual", places, zero), b.node("Less", places, b.constant(np.array(shape[-1])))
    inside = b.node("And", low, high)
    found = b.node("GatherElements", values, b.node("Where", inside, places, zero), axis=len(shape) - 1)
    return b.reshaped(b.node("Where", inside, found, b.like(x, 0)), b.shape(node.results[0]))


@writes("put")
def _put(b: OnnxBuilder, node: Node) -> str:
    """A plane of zeros and one element more, where everything goes that lies outside."""
    (x, index), (shape, add) = node.operands, node.attrs
    (values, _), (places, before) = _flat(b, x, len(shape)), _flat(b, index, len(shape))
    plane = b.constant(np.array(prod(int(n) for n in shape), np.int64))
    low, high = b.node("GreaterOrEqual", places, b.constant(np.array(0, np.int64))), b.node("Less", places, plane)
    at = b.node("Where", b.node("And", low, high), places, plane)
    size = prod(int(n) for n in shape)
    zeros = b.node("Expand", b.like(x, 0), b.ints((*before[:-1], size + 1)))
    axis = len(before) - 1
    found = b.node("ScatterElements", zeros, at, values, axis=axis, reduction="add" if add else "none")
    return b.reshaped(b.node("Slice", found, b.ints([0]), b.ints([size]), b.ints([axis])), b.shape(node.results[0]))


@writes("iota")
def _iota(b: OnnxBuilder, node: Node) -> str:
    raise Unwritten("of this size")
