"""What kernels of the family `window` have in common.

In: a nest of one op. Out: the call of its kernel, whose items a subclass writes. Next: `window.py`, `plane.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules.kinds import Windows
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, maximum
from flambeau.dialects.tape.nan import canonical


class Windowed:
    """A kernel under construction: its operands are those of the op, then the result; `number` gives it numbers."""

    def __init__(self, nest: LoopNest, node: Node, schedule: Windows) -> None:
        self.node, self.schedule = node, schedule
        self.b, self.dims = Emitter(), list[Int]()
        self.roots = [nest.fragment.sources[v].root for v in node.operands]
        self.operand, self.result = nest.fragment.avals[node.operands[0]], nest.fragment.avals[node.results[0]]
        self.dtype: DType = self.operand.dtype
        self.prepare()

    def prepare(self) -> None:
        """Note what the shapes say."""
        raise NotImplementedError

    def emit(self, item: Val) -> None:
        """Write one item of the parallel loop."""
        raise NotImplementedError

    items: Int
    work: Int  #: Elements that an item reads.

    def call(self) -> KernelCall:
        with self.b.loop(self.b.lo, self.b.hi) as item:
            self.emit(item.index)
        out = len(self.roots)
        return KernelCall(
            self.b.source(self.node.op.name),
            (*(Operand("value", root) for root in self.roots), Operand("value", self.node.results[0])),
            dims=tuple(self.dims),
            n=self.items,
            grain=maximum(1, self.schedule.grain // maximum(1, self.work)),
            writes=(out,),
        )

    def number(self, x: Int) -> Val:
        self.dims.append(x)
        return self.b.dim(len(self.dims) - 1)

    @property
    def out(self) -> Val:
        return self.b.buffer(len(self.roots))

    def zero(self, start: Val, count: Val, stride: Val | None = None) -> None:
        """Fill so many elements of the result, adjacent ones by vectors."""
        b, lanes = self.b, 1 if stride is not None else self.schedule.lanes
        whole = self.whole(count, lanes)
        if lanes > 1:
            with b.loop(0, whole, lanes) as k:
                b.store(b.const(0, self.dtype.mlir, lanes), self.out, b.add(start, k.index))
        with b.loop(whole, count) as k:
            step = k.index if stride is None else b.mul(k.index, stride)
            b.store(b.const(0, self.dtype.mlir), self.out, b.add(start, step))

    def whole(self, count: Val, lanes: int) -> Val:
        """How many of some elements vectors hold; the others follow one by one."""
        return self.b.sub(count, self.b.rem_unsigned(count, lanes)) if lanes > 1 else self.b.const(0, "i64")

    def add_to(self, at: Val, x: Val) -> None:
        b = self.b
        b.store(canonical(b, b.add(b.load(self.out, at, self.dtype.mlir), x)), self.out, at)
