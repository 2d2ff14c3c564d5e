"""Orders on CPUs: which nest an op of the family is, and sorting.

In: a `Fragment` whose one member is such an op. Out: its nest; the calls of a sort by a schedule. Lines are sorted in the memory
of a thread, each by one item; or, where they are long, by blocks, whose digits are counted and whose entries are moved by an
item each, a few calls for every digit. Next: `topk.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.loops import search as loops_search
from flambeau.compiler.codegen.loops import topk as loops_topk
from flambeau.compiler.codegen.loops.sort_blocks import Blocks
from flambeau.compiler.codegen.loops.sort_entries import Entries, position
from flambeau.compiler.codegen.loops.sort_keys import key_bits
from flambeau.compiler.codegen.loops.sort_lines import Lines
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.kernel import KernelCall, Operand
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.schedules.kinds import Search, Sort, TopK
from flambeau.dialects.size import maximum


def nests(fragment: Fragment) -> list[LoopNest] | None:
    """The nest of an op; None if an operand does not lie in memory in order."""
    (node,) = fragment.members
    if not fragment.reads_memory(node):
        return None
    form = NestForm.along(fragment.avals[node.operands[0]].shape, node.attrs[0])
    if fragment.avals[node.results[0]].size == 0:
        return []
    kind, own = _OPS[node.op.name]
    return [LoopNest(kind, fragment, form, node.op.name, node=node, own=own)]


def lower(nest: LoopNest, schedule: Sort) -> Parts:
    """The calls of a sort."""
    assert nest.node is not None
    form, (axis_operand,) = nest.form, nest.node.operands
    dtype = nest.fragment.avals[axis_operand].dtype
    operands = (Operand("value", nest.fragment.sources[axis_operand].root), Operand("value", nest.node.results[0]))
    is_unit, descending = not bool(form.columns > 1), bool(nest.node.attrs[1])
    if schedule.block:
        return Blocks(nest, schedule, dtype, operands, is_unit, descending).parts()
    b = Emitter()
    count, columns = b.dim(0), None if is_unit else b.dim(1)
    lines = Lines(b, b.buffer(0), dtype, count, columns, descending)
    with b.loop(b.lo, b.hi) as line:
        start = lines.start(line.index)
        entries = Entries(b, b.scratch, count, lambda k: lines.key(start, k), key_bits(dtype) > 32, schedule.bits)
        found = entries.sort(count, lambda k: k)
        with b.loop(0, count) as k:
            b.store(position(b, entries.at(b.add(found, k.index))), b.buffer(1), lines.place(start, k.index))
    call = KernelCall(
        b.source(nest.label),
        operands,
        dims=(form.count, form.columns),
        n=form.batch * form.columns,
        grain=maximum(1, schedule.grain // form.count),
        writes=(1,),
        scratch=Entries.size(form.count, schedule.bits),
    )
    return Parts([call])


_OPS: dict[str, tuple[type[Schedule], Callable[[LoopNest, Any], Parts]]] = {
    "argsort": (Sort, lower),
    "topk": (TopK, loops_topk.lower),
    "searchsorted": (Search, loops_search.lower),
}
