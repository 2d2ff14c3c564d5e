"""Sizes from text, as `size.repr_of` writes them.

In: text such as `s0*64 + s1 - 1`. Out: a size. Next: `size.py`.
"""

from __future__ import annotations

import ast

from flambeau.dialects.size import Int, maximum, minimum, symbol


def parse(text: str) -> Int:
    """The size that `repr_of` wrote."""

    def build(node: ast.AST) -> Int:
        match node:
            case ast.Expression(body):
                return build(body)
            case ast.Constant(int() as value):
                return value
            case ast.Name(id) if id[0] == "s" and id[1:].isdigit():
                return symbol(int(id[1:]))
            case ast.UnaryOp(ast.USub(), operand):
                return -build(operand)
            case ast.BinOp(left, ast.Add(), right):
                return build(left) + build(right)
            case ast.BinOp(left, ast.Sub(), right):
                return build(left) - build(right)
            case ast.BinOp(left, ast.Mult(), right):
                return build(left) * build(right)
            case ast.BinOp(left, ast.FloorDiv(), right):
                return build(left) // build(right)
            case ast.Call(ast.Name("min"), [left, right]):
                return minimum(build(left), build(right))
            case ast.Call(ast.Name("max"), [left, right]):
                return maximum(build(left), build(right))
        raise ValueError(f"[size] {text!r} is no size. Write sums and products of s0, s1, ... and ints.")

    try:
        return build(ast.parse(text.strip(), mode="eval"))
    except SyntaxError:
        raise ValueError(f"[size] {text!r} is no size. Write sums and products of s0, s1, ... and ints.") from None
