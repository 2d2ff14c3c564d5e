"""Reductions, scans and orders as ONNX nodes."""

from __future__ import annotations

import numpy as np
from flambeau.dialects.dtypes import bool_, int32
from flambeau.dialects.graph import Node
from flambeau.onnx.builder import OnnxBuilder, Unwritten, writes

_FOLDS = {"sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}


@writes(*_FOLDS)
def _fold(b: OnnxBuilder, node: Node) -> str:
    x = b.name(node.operands[0])
    if not node.attrs[0]:
        return x
    if b.aval(node.operands[0]).dtype is bool_:
        return b.cast(b.node(_FOLDS[node.op.name], b.cast(x, int32), b.ints(node.attrs[0]), keepdims=0), bool_)
    return b.node(_FOLDS[node.op.name], x, b.ints(node.attrs[0]), keepdims=0)


@writes("all", "any")
def _truth(b: OnnxBuilder, node: Node) -> str:
    x = b.name(node.operands[0])
    if not node.attrs[0]:
        return x
    kind = "ReduceMin" if node.op.name == "all" else "ReduceMax"
    return b.cast(b.node(kind, b.cast(x, int32), b.ints(node.attrs[0]), keepdims=0), bool_)


@writes("argmax", "argmin")
def _place(b: OnnxBuilder, node: Node) -> str:
    (x,), (axes,) = node.operands, node.attrs
    kind = "ArgMax" if node.op.name == "argmax" else "ArgMin"
    if len(axes) == 1:
        return b.node(kind, b.name(x), axis=axes[0], keepdims=0)
    kept = [d for d in range(len(b.shape(x))) if d not in axes]
    turned = b.node("Transpose", b.name(x), perm=[*kept, *sorted(axes)])
    flat = b.reshaped(turned, [*(b.shape(x)[d] for d in kept), -1])
    return b.node(kind, flat, axis=-1, keepdims=0)


@writes("cumsum")
def _cumsum(b: OnnxBuilder, node: Node) -> str:
    axis, reverse = node.attrs
    return b.node("CumSum", b.name(node.operands[0]), b.constant(np.array(axis)), reverse=int(reverse))


@writes("argsort", "topk")
def _order(b: OnnxBuilder, node: Node) -> str:
    """Positions; among equals ONNX has the lowest first, as we do."""
    (x,) = node.operands
    axis, k, largest = (
        node.attrs if node.op.name == "topk" else (node.attrs[0], b.shape(x)[node.attrs[0]], node.attrs[1])
    )
    if not b.shape(x):
        raise Unwritten("of a scalar")
    return b.several("TopK", [b.name(x), b.ints([k])], 2, axis=axis, largest=int(largest), sorted=1)[1]
