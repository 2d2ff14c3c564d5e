"""Ops that move elements, as ONNX nodes: views, pieces put together, positions, products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, is_static, maximum, minimum, same
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
    cut = [d for d, n in enumerate(b.shape(x)) if (starts[d], sizes[d], steps[d]) != (0, n, 1)]
    if not cut:
        return b.name(x)
    ends = [starts[d] + (sizes[d] - 1) * steps[d] + 1 if sizes[d] else starts[d] for d in cut]
    given = ([starts[d] for d in cut], ends, cut, [steps[d] for d in cut])
    return b.node("Slice", b.name(x), *(b.ints(part) for part in given))


@writes("flip")
def _flip(b: OnnxBuilder, node: Node) -> str:
    return flipped(b, b.name(node.operands[0]), list(node.attrs[0]))


def flipped(b: OnnxBuilder, name: str, axes: list[int]) -> str:
    """A value with its elements in the other order along some axes."""
    ends = [np.iinfo(np.int64).min + 1] * len(axes)
    return b.node("Slice", name, *map(b.ints, ([-1] * len(axes), ends, axes, [-1] * len(axes))))


def _starts(b: OnnxBuilder, given: tuple[int, ...], most: list[Int]) -> str:
    """Starts as a vector, moved to where the window fits."""
    parts = [b.reshaped(b.name(v), (1,)) for v in given]
    whole = b.node("Concat", *parts, axis=0)
    return b.node("Min", b.node("Max", whole, b.ints([0] * len(most))), b.ints(most))


def _spans(sizes: tuple[Int, ...], steps: tuple[Int, ...]) -> list[Int]:
    return [(n - 1) * s + 1 if n else 0 for n, s in zip(sizes, steps)]


def _fitting(b: OnnxBuilder, given: Sequence[int], most: Sequence[Int]) -> list[Int]:
    """Starts that are known, moved to where the window fits."""
    return [minimum(maximum(int(b.known[v]), 0), m) for v, m in zip(given, most)]


@writes("dynamic_slice")
def _dynamic_slice(b: OnnxBuilder, node: Node) -> str:
    (x, *given), (sizes, steps) = node.operands, node.attrs
    spans = _spans(sizes, steps)
    most = [n - span for n, span in zip(b.shape(x), spans)]
    if all(v in b.known for v in given):
        first = _fitting(b, given, most)
        starts, ends = b.ints(first), b.ints([start + span for start, span in zip(first, spans)])
    else:
        starts = _starts(b, tuple(given), most)
        ends = b.node("Add", starts, b.ints(spans))
    return b.node("Slice", b.name(x), starts, ends, b.ints(range(len(spans))), b.ints(steps))


@writes("update_slice")
def _update_slice(b: OnnxBuilder, node: Node) -> str:
    """The window's places, counted from its start, and what is put there; where it lies along one axis, three parts."""
    (x, update, *given), (steps,) = node.operands, node.attrs
    sizes = b.shape(update)
    most = [n - span for n, span in zip(b.shape(x), _spans(sizes, steps))]
    cut = [d for d, (n, size) in enumerate(zip(b.shape(x), sizes)) if not same(n, size)]
    if not is_static((*sizes, *most)) and len(cut) == 1 and steps[cut[0]] == 1 and given[cut[0]] in b.known:
        return _replaced(b, x, update, cut[0], _fitting(b, given, most)[cut[0]])
    places = np.stack(np.meshgrid(*(np.arange(n) * int(s) for n, s in zip(sizes, steps)), indexing="ij"), -1)
    if all(v in b.known for v in given):
        index = b.constant(places + np.clip([int(b.known[v]) for v in given], 0, most))
    else:
        index = b.node("Add", b.constant(places), _starts(b, tuple(given), most))
    return b.node("ScatterND", b.name(x), index, b.name(update))


def _replaced(b: OnnxBuilder, x: int, update: int, axis: int, start: Int) -> str:
    """What lies before the window, the window, and what lies behind it."""
    n, stop = b.shape(x)[axis], start + b.shape(update)[axis]
    parts = [(0, start), (stop, n)]
    low, high = (b.node("Slice", b.name(x), *map(b.ints, ([first], [end], [axis]))) for first, end in parts)
    return b.node("Concat", low, b.name(update), high, axis=axis)


@writes("unfold")
def _unfold(b: OnnxBuilder, node: Node) -> str:
    (x,), (axis, size, step, dilation) = node.operands, node.attrs
    count, rank = b.shape(node.results[0])[axis], len(b.shape(x))
    within = np.arange(int(size)) * int(dilation)
    if is_static(count):
        places = b.constant(np.arange(count)[:, None] * int(step) + within)
    else:
        first = b.node("Mul", b.reshaped(b.count(count), (count, 1)), b.number(step))
        places = b.node("Add", first, b.constant(within))
    windows = b.node("Gather", b.name(x), places, axis=axis)
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


def _flat(b: OnnxBuilder, v: int, rank: int) -> tuple[str, tuple[Int, ...]]:
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
    low, high = b.node("GreaterOrEqual", places, zero), b.node("Less", places, b.number(shape[-1]))
    inside = b.node("And", low, high)
    found = b.node("GatherElements", values, b.node("Where", inside, places, zero), axis=len(shape) - 1)
    return b.reshaped(b.node("Where", inside, found, b.like(x, 0)), b.shape(node.results[0]))


@writes("put")
def _put(b: OnnxBuilder, node: Node) -> str:
    """A plane of zeros and one element more, where everything goes that lies outside."""
    (x, index), (shape, add) = node.operands, node.attrs
    (values, _), (places, before) = _flat(b, x, len(shape)), _flat(b, index, len(shape))
    size = prod(shape)
    plane = b.number(size)
    low, high = b.node("GreaterOrEqual", places, b.constant(np.array(0, np.int64))), b.node("Less", places, plane)
    at = b.node("Where", b.node("And", low, high), places, plane)
    zeros = b.node("Expand", b.like(x, 0), b.ints((*before[:-1], size + 1)))
    axis = len(before) - 1
    found = b.node("ScatterElements", zeros, at, values, axis=axis, reduction="add" if add else "none")
    return b.reshaped(b.node("Slice", found, b.ints([0]), b.ints([size]), b.ints([axis])), b.shape(node.results[0]))


@writes("iota")
def _iota(b: OnnxBuilder, node: Node) -> str:
    raise Unwritten("of this size")
