"""Runs whole plans whose steps are launches on a GPU, in NumPy: buffers, arena and donation as the runtime does it for CPUs.

In: a `Program` made for a GPU, arrays, the values of its sizes, and what runs one launch (`gpu_simulator.run`, or the
interpreter of PTX). Out: the outputs. Buffers and the arena start as garbage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from flambeau.compiler.kernel import Launch, Operand
from flambeau.compiler.plans.program import Program
from flambeau.dialects.size_programs import fits
from flambeau.runtime.plan_spec import KERNEL_COPY, LAUNCH_FIELDS, ExprOp, OutMode, RefKind

_APPLY: dict[int, Callable[[int, int], int]] = {
    ExprOp.ADD: lambda a, b: a + b,
    ExprOp.SUB: lambda a, b: a - b,
    ExprOp.MUL: lambda a, b: a * b,
    ExprOp.FLOORDIV: lambda a, b: a // b,
    ExprOp.CEILDIV: lambda a, b: -(-a // b),
    ExprOp.MIN: min,
    ExprOp.MAX: max,
}


def evaluate(exprs: Sequence[tuple[int, int, int]], symbols: Sequence[int]) -> list[int]:
    values: list[int] = []
    for op, a, b in exprs:
        leaves = {ExprOp.CONST: lambda: a, ExprOp.SYMBOL: lambda: symbols[a]}  # noqa: B023
        values.append(leaves[op]() if op in leaves else _APPLY[op](values[a], values[b]))
    return values


def _garbage(size: int) -> np.ndarray:
    return np.full(size, 0xA5, np.uint8)


def run(
    program: Program,
    arrays: Sequence[np.ndarray],
    execute_launch: Callable[[Launch, list[np.ndarray]], None],
    symbols: Sequence[int] = (),
    donate: Sequence[int] = (),
) -> list[np.ndarray]:
    """The outputs as bytes. Inputs named in `donate` are overwritten where the plan says so, others never."""
    spec = program.spec
    assert not symbols or fits(spec, symbols), "the plan is not for these sizes"
    values = evaluate(spec.exprs, symbols)
    inputs = [np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in arrays]
    outputs: list[np.ndarray] = []
    for mode, source, size in spec.outputs:
        if mode == OutMode.INPUT:
            outputs.append(inputs[source])
        elif mode == OutMode.OUTPUT:
            outputs.append(outputs[source])
        elif mode in (OutMode.UPDATE, OutMode.REPLACE) and source in donate:
            outputs.append(inputs[source])
        else:
            outputs.append(inputs[source].copy() if mode == OutMode.UPDATE else _garbage(values[size]))
    arena = _garbage(values[spec.arena_bytes])
    places = {RefKind.INPUT: inputs, RefKind.OUTPUT: outputs, RefKind.ARENA: [arena]}
    for step in spec.steps:
        views = [places[kind][index][values[offset] :] for kind, index, offset in step[-2]]
        dims = tuple(values[d] for d in step[-1])
        if len(step) == LAUNCH_FIELDS:
            _launch(program, step, views, dims, values, execute_launch)
        else:
            assert step[0] == KERNEL_COPY, "only launches and copies run on a GPU"
            views[0][: dims[0]] = views[1][: dims[0]]
    return outputs


def _launch(program: Program, step: tuple, views: list, dims: tuple, values: list[int], execute_launch) -> None:
    grid, block = (tuple(values[e] for e in part) for part in step[1:3])
    operands = tuple(Operand("value", k) for k in range(len(views)))
    source = program.kernels[step[0]]
    execute_launch(Launch(source, operands, dims, 1, 1, (), grid=grid, block=block), views)
