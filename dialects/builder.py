"""Writing programs in ops: `Value` overloads operators, a `Builder` decides what emitting an op means.

In: records called on values. Out: whatever the builder makes: `GraphBuilder` appends to a `Graph`;
the frontend's inline builder records tensors. vjps and the rules of composite functions are written
against this interface only. Next: `autodiff.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import DType, of_python
from flambeau.dialects.graph import Graph, Loc
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.size import Int, Size


class Builder:
    """Emits ops. Subclasses implement `emit_all`; values carry their builder. `loc` is the line emitted ops belong to, `device`
    where the results of ops without operands lie."""

    loc: Loc | None = None
    device: str = CPU

    def emit_all(self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...]) -> tuple[Value, ...]:
        """The results of an op."""
        raise NotImplementedError

    def emit_typed(
        self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...], avals: Sequence[Aval]
    ) -> tuple[Value, ...]:
        """The results of an op, whose types were found before for operands of these types."""
        return self.emit_all(op, operands, attrs)

    def emit(self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...]) -> Value:
        """The result of an op that has one."""
        (result,) = self.emit_all(op, operands, attrs)
        return result

    @contextmanager
    def on(self, device: str) -> Iterator[None]:
        """Within it, the results of ops without operands lie on `device`."""
        before, self.device = self.device, device
        try:
            yield
        finally:
            self.device = before

    def constant(self, value: complex | Int | bool, dtype: DType, shape: tuple[Int, ...] = ()) -> Value:
        """A tensor of `shape` filled with `value`, which may be a size. (-0.0 equals 0.0 as an attribute, so it becomes
        a negation.)"""
        if dtype.is_complex:
            parts = (value.real, value.imag) if isinstance(value, complex) else (value, 0.0)
            return find("complex")(*(self.constant(x, dtype.to_real()) for x in parts)).expand(shape)
        if isinstance(value, Size):
            return self.emit(find("constant"), (), (value, dtype)).expand(shape)
        number: Any = dtype.number(value)
        if number != number:
            number = math.nan  # one object, so that equal programs have equal keys
        negative_zero = number == 0 and math.copysign(1.0, number) < 0
        scalar = self.emit(find("constant"), (), (0.0 if negative_zero else number, dtype))
        scalar = find("neg")(scalar) if negative_zero else scalar
        return scalar.expand(shape) if shape else scalar


class Value:
    """A value of a program under construction: `aval`, and operators with its equals in type or with numbers."""

    __slots__ = ("aval", "builder", "id")
    weak = False  # True for a Python number: it yields to tensors in type promotion

    def __init__(self, builder: Builder, id: Any, aval: Aval) -> None:
        self.builder, self.id, self.aval = builder, id, aval

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> DType:
        return self.aval.dtype

    def like(self, number: complex | Int | bool) -> Value:
        """A constant of this value's type."""
        if self.aval.device == self.builder.device:
            return self.builder.constant(number, self.dtype, self.shape)
        with self.builder.on(self.aval.device):
            return self.builder.constant(number, self.dtype, self.shape)

    def expand(self, shape: tuple[Int, ...]) -> Value:
        """Broadcast to `shape` by NumPy's rules (new leading axes, unit axes stretched)."""
        if shape == self.shape:
            return self
        lead = (1,) * (len(shape) - len(self.shape))
        x = find("reshape")(self, shape=lead + self.shape) if lead else self
        return x if x.shape == shape else find("broadcast")(x, shape=shape)

    def cast(self, dtype: DType) -> Value:
        return self if dtype is self.dtype else find("cast")(self, dtype=of_python(dtype))

    def conj(self) -> Value:
        """The conjugate; of real numbers the value itself."""
        return find("conj")(self) if self.dtype.is_complex else self

    def _binary(self, name: str, other: Any, swap: bool = False) -> Value:
        other = other if isinstance(other, Value) else self.like(other)
        return find(name)(other, self) if swap else find(name)(self, other)

    def __add__(self, other):
        return self._binary("add", other)

    def __radd__(self, other):
        return self._binary("add", other, True)

    def __sub__(self, other):
        return self._binary("sub", other)

    def __rsub__(self, other):
        return self._binary("sub", other, True)

    def __mul__(self, other):
        return self._binary("mul", other)

    def __rmul__(self, other):
        return self._binary("mul", other, True)

    def __truediv__(self, other):
        return self._binary("div", other)

    def __rtruediv__(self, other):
        return self._binary("div", other, True)

    def __neg__(self):
        return find("neg")(self)

    def __lt__(self, other):
        return self._binary("lt", other)

    def __le__(self, other):
        return self._binary("le", other)

    def __gt__(self, other):
        return self._binary("gt", other)

    def __ge__(self, other):
        return self._binary("ge", other)

    def eq(self, other):
        return self._binary("eq", other)

    def ne(self, other):
        return self._binary("ne", other)


class GraphBuilder(Builder):
    """Appends to `graph`; every node gets the location in `loc`."""

    def __init__(self, graph: Graph | None = None) -> None:
        self.graph = graph if graph is not None else Graph()
        self.loc: Loc | None = None

    def input(self, aval: Aval) -> Value:
        return Value(self, self.graph.add_input(aval), aval)

    def value(self, id: int) -> Value:
        return Value(self, id, self.graph.avals[id])

    def emit_all(self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...]) -> tuple[Value, ...]:
        results = self.graph.add_node(op, [v.id for v in operands], attrs, self.loc, self.device)
        return tuple([Value(self, v, self.graph.avals[v]) for v in results])

    def emit_typed(
        self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...], avals: Sequence[Aval]
    ) -> tuple[Value, ...]:
        results = self.graph.add_typed(op, [v.id for v in operands], attrs, avals, self.loc)
        return tuple([Value(self, v, aval) for v, aval in zip(results, avals)])
