"""Places of values in sorted lines, on CPUs: by halves, several values side by side.

In: the nest of a searchsorted and a schedule. Out: its call. All searches in lines of one length take the same steps, so nothing is
decided by a branch. Next: `reduce.py`.
"""

from __future__ import annotations

from math import prod

from flambeau.compiler.codegen.emitter import Emitter, Val
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules.kinds import Search
from flambeau.dialects.size import Int, ceil_div, maximum


def lower(nest: LoopNest, schedule: Search) -> Parts:
    """The call of a searchsorted. Its dims are the elements of a line, lines beside each other, values of a line, all values."""
    assert nest.node is not None
    node, fragment, form, chains = nest.node, nest.fragment, nest.form, schedule.chains
    values = fragment.avals[node.operands[1]]
    total: Int = prod(values.shape)
    search = _SearchWriter(Emitter(), values.dtype.mlir, bool(node.attrs[1]), not bool(form.batch * form.columns > 1))
    b = search.b
    with b.loop(b.lo, b.hi) as item:
        first, all_values = b.mul(item.index, chains), b.dim(3)
        is_whole = b.cmp("le", b.add(first, chains), all_values)
        with b.if_(is_whole):
            search.run([b.add(first, k) for k in range(chains)])
        if chains > 1:
            with b.if_(b.not_(is_whole)), b.loop(first, all_values) as one:
                search.run([one.index])
    operands = tuple(Operand("value", fragment.sources[v].root) for v in node.operands)
    call = KernelCall(
        b.source(nest.label),
        (*operands, Operand("value", node.results[0])),
        dims=(form.count, form.columns, values.shape[node.attrs[0]], total),
        n=ceil_div(total, chains),
        grain=maximum(1, schedule.grain // chains),
        writes=(2,),
    )
    return Parts([call])


class _SearchWriter:
    """The text of searches."""

    def __init__(self, b: Emitter, element: str, right: bool, is_alone: bool) -> None:
        self.b, self.element, self.right, self.is_alone = b, element, right, is_alone

    def run(self, numbers: list[Val]) -> None:
        """Search for the values of these numbers."""
        b = self.b
        values = [b.load(b.buffer(1), n, self.element) for n in numbers]
        starts = [self._start(n) for n in numbers]
        places = [b.const(0, "i64") for _ in numbers]

        def step(left: Val, *places: Val) -> list[Val]:
            half = b.shru(left, 1)
            last = b.sub(half, 1)
            after = [self._is_after(s, b.add(p, last), x) for s, p, x in zip(starts, places, values, strict=True)]
            found = [b.select(c, b.add(p, half), p) for c, p in zip(after, places, strict=True)]
            return [b.sub(left, half), *found]

        _, *places = b.while_([b.dim(0), *places], lambda left, *_: b.cmp("gt", left, 1), step)
        for n, s, p, x in zip(numbers, starts, places, values, strict=True):
            b.store(b.add(p, b.extend_unsigned(self._is_after(s, p, x), "i64")), b.buffer(2), n)

    def _start(self, number: Val) -> Val | None:
        """Where the line of a value begins; None for the only line there is."""
        if self.is_alone:
            return None
        b, columns = self.b, self.b.dim(1)
        outer, column = b.div_unsigned(number, b.mul(b.dim(2), columns)), b.rem_unsigned(number, columns)
        return b.add(b.mul(outer, b.mul(b.dim(0), columns)), column)

    def _is_after(self, start: Val | None, place: Val, value: Val) -> Val:
        """Whether a value belongs after the element in a place of its line."""
        b = self.b
        at = place if start is None else b.add(start, b.mul(place, b.dim(1)))
        found = b.load(b.buffer(0), at, self.element)
        return b.not_(b.cmp("gt" if self.right else "ge", found, value))
