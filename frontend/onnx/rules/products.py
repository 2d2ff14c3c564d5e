"""Nodes that multiply matrices."""

from __future__ import annotations

from flambeau.onnx.names import fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor


@rule("MatMul")
def _matmul(node: OnnxNode, x: Tensor, y: Tensor) -> Tensor:
    return fb.matmul(x, y)


@rule("Gemm")
def _gemm(node: OnnxNode, x: Tensor, y: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha x y + beta c"""
    x = x.t() if node.get("transA", 0) else x
    y = y.t() if node.get("transB", 0) else y
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    found = fb.matmul(x, y)
    found = found if alpha == 1.0 else alpha * found
    return found if c is None else found + (c if beta == 1.0 else beta * c)


@rule("Einsum")
def _einsum(node: OnnxNode, *xs: Tensor) -> Tensor:
    return fb.einsum(node.get("equation"), *xs)


@rule("Det")
def _det(node: OnnxNode, x: Tensor) -> Tensor:
    return fb.det(x)
