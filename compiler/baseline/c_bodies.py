"""Bodies of kernels as steps that the runtime does op by op, many times as fast as NumPy does them on small arrays.

In: a body of straight code. Out: a function of arrays with the bits of the compiled kernel, or None where C does not know an op.
Next: `stand_ins.py`, which plays the others on NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from flambeau.compiler.groups.form import Body, BodyOp
from flambeau.dialects.dtypes import by_mlir
from flambeau.runtime import _binding as runtime

_CONVERSIONS = frozenset(
    f"arith.{name}" for name in ("bitcast", "extf", "truncf", "extsi", "trunci", "sitofp", "uitofp", "index_cast")
)
_UNIT = 8  # bytes of a constant
_MOST = 4  # operands


@cache
def _places() -> dict[str, int]:
    """Ops by the names that C gives them."""
    return {name: place for place, name in enumerate(runtime.body_ops())}


class Code(NamedTuple):
    """A body as `run_body` takes it."""

    steps: bytes
    constants: bytes
    n_values: int
    n_steps: int


def coded(body: Body) -> Code | None:
    """A body of one result, the last value, whose arguments after the first few are not read; None where C does not know an op."""
    types = body.value_types()
    steps = _BodySteps(types)
    if len(body.types) > _MOST + 1 or body.results != (len(types) - 1,):
        return None
    if not all(steps.add(*entry) for entry in enumerate(body.ops, len(body.types))):
        return None
    code = np.array(steps.code, np.int32).tobytes()
    return Code(code, bytes(steps.constants), len(types), len(steps.code)) if code else None


def in_c(body: Body) -> Callable[[Sequence[np.ndarray]], np.ndarray] | None:
    """What computes the body's one result from arrays of its first arguments, which are of one shape, without gaps and of the
    arguments' types; others are not read."""
    found = coded(body)
    if found is None:
        return None
    code, held, n_values, _ = found
    dtype = by_mlir(body.value_types()[-1]).numpy

    def run(arrays: Sequence[np.ndarray]) -> np.ndarray:
        out = np.empty(arrays[0].shape, dtype)
        if out.size:
            runtime.run_body(code, held, n_values, tuple(arrays), out, out.size)
        return out

    return run


class _BodySteps:
    """The steps of a body whose values are of these `types`, and the constants that follow the values."""

    def __init__(self, types: Sequence[str]) -> None:
        self.code: list[list[int]] = []
        self.constants = bytearray()
        self._types = types
        self._tables: dict[int, int] = {}  # their constants, by the numbers of their values

    def add(self, number: int, op: BodyOp) -> bool:
        """Add the op that makes this value. False: C does not know it."""
        if op.regions or len(op.types) != 1:
            return False
        operands = [self._tables.get(v, v) for v in op.operands]
        if op.name == "arith.constant":
            operands = [self._constant(op)]
            if op.types[0].startswith("tensor<"):
                self._tables[number] = operands[0]
                return True
        elif op.name == "tensor.extract" and op.operands[0] not in self._tables:
            return False
        place = _places().get(_name(op, self._types))
        if place is not None:
            self.code.append([place, number, *operands, *[operands[0]] * (3 - len(operands))])
        return place is not None

    def _constant(self, op: BodyOp) -> int:
        """The number of what a constant is."""
        number = len(self._types) + len(self.constants) // _UNIT
        self.constants += _spelled(constant_values(op))
        return number


def constant_values(op: BodyOp) -> np.ndarray:
    """What an `arith.constant` is: a number, or a table of them."""
    from flambeau.compiler.groups.play import number  # most programs do without

    (type,), literal = op.types, str(op.attribute)
    is_table = type.startswith("tensor<")
    element = type[:-1].split("x")[-1] if is_table else type
    texts = literal.removeprefix("dense<[").removesuffix("]>").split(", ") if is_table else [literal]
    dtype = by_mlir(element)
    numbers = np.array([number(text, element) for text in texts], dtype.numpy if dtype.is_floating_point else np.int64)
    found = numbers.astype(dtype.numpy)  # literals of integers are signed
    return found if is_table else found.reshape(())


def _name(op: BodyOp, types: Sequence[str]) -> str:
    """As `body_ops` spells it."""
    (result,) = op.types
    if op.name in ("arith.cmpf", "arith.cmpi"):
        return f"{op.name} {op.attribute} {types[op.operands[0]]}"
    return f"{op.name} {types[op.operands[0]]} {result}" if op.name in _CONVERSIONS else f"{op.name} {result}"


def _spelled(values: np.ndarray) -> bytes:
    """A number, or a table after its length, in whole units."""
    found = values.tobytes() if not values.ndim else np.int64(values.size).tobytes() + values.tobytes()
    return found + bytes(-len(found) % _UNIT)
