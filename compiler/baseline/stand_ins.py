"""What computes an op's bits while it has no plan.

In: a node of a program. Out: a function of its operands' arrays, or None where somebody has to compile the op first. Of an op whose
reference is not exact, that is what its record says follows the order of kernels; of elementwise ones on real numbers the body that
kernels are made of, played op by op: in C (`c_bodies.py`), else on arrays. Next: `one_op.py`, which counts what this costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from flambeau.compiler.baseline.c_bodies import constant_values, in_c
from flambeau.compiler.groups.form import Body, BodyOp
from flambeau.dialects.dtypes import DType, by_mlir
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.tape.common import quiet
from flambeau.runtime import _binding as runtime

#: (operand arrays..., attrs...) -> what the reference gives: an array, or a tuple of several.
StandIn = Callable[..., Any]

#: Nanoseconds that compiled code takes, by estimate, for what is too much to be done so.
_MOST = 1_000_000.0


def stand_in(graph: Graph, node: Node) -> StandIn | None:
    """What gives the bits of a node of the CPU whose reference does not, where it is small enough. The graph has no symbols."""
    op = node.op
    avals = [graph.avals[v] for v in (*node.operands, *node.results)]
    if op.regions or op.effect or op.fallible or any(a.dtype.is_complex for a in avals):
        return None
    if op.family.cost(graph, node) > _MOST:
        return None
    if op.in_order is not None:
        return op.in_order
    if not op.family.is_pointwise or not op.is_single:
        return None
    return _played(op, attrs_key(node.attrs), node.attrs, tuple(a.dtype for a in avals))


@lru_cache(maxsize=1024)
def _played(op: OpRecord, key: Any, attrs: tuple[Any, ...], dtypes: tuple[DType, ...]) -> StandIn | None:
    """An elementwise op as the body of its kernel, on arrays."""
    from flambeau.compiler.groups import bodies  # most programs do without

    wide = [d.accumulation if d.is_narrow else d for d in dtypes]
    *types, result = (d.mlir for d in wide)
    body = bodies.elementwise(op, attrs, tuple(types), (result,), None)
    if (play := in_c(body) or _on_arrays(body)) is None:
        return None
    operands, narrow = [d.numpy for d in wide[:-1]], dtypes[-1].numpy

    def run(*given: Any) -> np.ndarray:
        arrays = [np.ascontiguousarray(x, dtype).reshape(x.shape) for x, dtype in zip(given, operands)]
        found, shape = np.asarray(play(arrays), narrow), given[0].shape
        return found if found.shape == shape else np.broadcast_to(found, shape)

    return run if wide[-1] is dtypes[-1] else quiet(run)


def _on_arrays(body: Body) -> Callable[[Sequence[np.ndarray]], np.ndarray] | None:
    """The one result of a body on arrays of its arguments but the last: it does not read what was there before."""
    playing = _Playing.of(body)
    return None if playing is None else quiet(lambda arrays: playing.run([*arrays, None])[0])


# ---- bodies on arrays -----------------------------------------------------------------------------------------------


class _Playing:
    """A body as functions of arrays, one for each op."""

    def __init__(self, body: Body, steps: list[Callable[..., Any]]) -> None:
        self._results = body.results
        self._steps = [(step, op.operands, len(op.types)) for step, op in zip(steps, body.ops, strict=True)]

    @classmethod
    def of(cls, body: Body) -> _Playing | None:
        """None where some op is not known here."""
        steps = [_step(op) for op in body.ops]
        return None if None in steps else cls(body, cast(list[Callable[..., Any]], steps))

    def run(self, values: Sequence[Any]) -> list[Any]:
        values = list(values)
        for step, operands, n in self._steps:
            found = step(*[values[v] for v in operands])
            values += [found] if n == 1 else found
        return [values[v] for v in self._results]


def _step(op: BodyOp) -> Callable[..., Any] | None:
    if op.regions:
        return _structured(op)
    make = _STEPS.get(op.name)
    return make(op) if make is not None else _SAME.get(op.name)


def _structured(op: BodyOp) -> Callable[..., Any] | None:
    first, second = (_Playing.of(region) for region in op.regions)
    if first is None or second is None:
        return None
    own = len(op.types)

    def branch(condition: Any, *captured: Any) -> Any:
        found = (first if condition else second).run(captured)
        return found[0] if own == 1 else found

    def loop(*given: Any) -> Any:
        values, captured = list(given[:own]), given[own:]
        while True:
            more, *values = first.run([*values, *captured])
            if not more:
                return values[0] if own == 1 else values
            values = second.run([*values, *captured])

    return branch if op.name == "scf.if" else loop


def _unsigned(function: Callable[..., Any]) -> Callable[[BodyOp], Callable[..., Any]]:
    """Of integers as if they had no sign."""

    def run(x: Any, y: Any) -> Any:
        bare = f"u{x.dtype.itemsize}"
        return function(x.view(bare), y.view(bare)).view(x.dtype)

    return lambda op: run


def _converted(op: BodyOp) -> Callable[..., Any]:
    dtype = by_mlir(op.types[0]).numpy
    return lambda x: x.astype(dtype)


def _bits(op: BodyOp) -> Callable[..., Any]:
    dtype = by_mlir(op.types[0]).numpy
    return lambda x: x.view(dtype)


def _constant(op: BodyOp) -> Callable[..., Any]:
    value = constant_values(op)
    return lambda: value


#: Of floats, and of integers with a sign.
_PREDICATES: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(("oeq", "eq"), np.equal),
    **dict.fromkeys(("une", "ne"), np.not_equal),
    **dict.fromkeys(("olt", "slt"), np.less),
    **dict.fromkeys(("ole", "sle"), np.less_equal),
    **dict.fromkeys(("ogt", "sgt"), np.greater),
    **dict.fromkeys(("oge", "sge"), np.greater_equal),
}


def _fused(x: Any, y: Any, z: Any) -> np.ndarray:
    """Of arrays of one shape, without gaps, and constants."""
    out = np.empty(x.shape or y.shape or z.shape, x.dtype)
    runtime.multiply_add(x, y, z, out, out.itemsize == 8)
    return out


_SAME: dict[str, Callable[..., Any]] = {
    "math.fma": _fused,
    "arith.maximumf": find("maximum").reference,
    "arith.minimumf": find("minimum").reference,
    "tensor.extract": lambda table, at: table[at],
    "arith.addf": np.add,
    "arith.addi": np.add,
    "arith.subf": np.subtract,
    "arith.subi": np.subtract,
    "arith.mulf": np.multiply,
    "arith.muli": np.multiply,
    "arith.divf": np.divide,
    "arith.negf": np.negative,
    "arith.andi": np.bitwise_and,
    "arith.ori": np.bitwise_or,
    "arith.xori": np.bitwise_xor,
    "arith.shli": np.left_shift,
    "arith.shrsi": np.right_shift,
    "arith.maxsi": np.maximum,
    "arith.minsi": np.minimum,
    "arith.select": np.where,
    "arith.index_cast": np.asarray,
    "flambeau.any_lane": np.any,
    "math.absf": np.abs,
    "math.sqrt": np.sqrt,
    "math.floor": np.floor,
    "math.ceil": np.ceil,
    "math.trunc": np.trunc,
    "math.roundeven": np.rint,
    "math.copysign": np.copysign,
}

_STEPS: dict[str, Callable[[BodyOp], Callable[..., Any] | None]] = {
    "arith.constant": _constant,
    **dict.fromkeys(("arith.cmpf", "arith.cmpi"), lambda op: _PREDICATES.get(op.attribute)),
    "arith.bitcast": _bits,
    "arith.shrui": _unsigned(np.right_shift),
    "arith.divui": _unsigned(np.floor_divide),
    **dict.fromkeys(("arith.extf", "arith.truncf", "arith.sitofp", "arith.trunci", "arith.extsi"), _converted),
}
