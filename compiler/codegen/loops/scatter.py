"""Scatters: a copy of the base, then the updates one after the other along the axis, in parallel over the rest.

In: a `Fragment` whose one member is a scatter, its operands views of inputs. Out: its nests. Equal indices are met in
the updates' order, whatever the number of threads. What may fail has to come before anything is overwritten, so that nothing is
lost: few indices into much are looked at by a nest of their own, and the updates, which report nothing, are made in place where
nobody else reads the base. Next: `../reduce.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from flambeau.compiler.codegen.access import dense
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.iteration_space import NestForm
from flambeau.compiler.codegen.loops.assemble import place
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.codegen.loops.points import Point, Row, checked_index
from flambeau.compiler.codegen.loops.rows import finish
from flambeau.compiler.codegen.loops.walks import sweep
from flambeau.compiler.codegen.units import LoopNest, Parts
from flambeau.compiler.schedules.kinds import Scatter
from flambeau.dialects.graph import Node
from flambeau.dialects.size import Int, Size, ceil_div, maximum, minimum

#: Bytes of a base from which on copying it costs more than one more step.
_LEAST_BYTES = 1 << 14


class UpdatePass(NamedTuple):
    """What a nest does with each index: tell whether it is in range, combine the update with what is there, or both. Out of range
    it is taken for 0, whoever tells: steps that may fail run in any order that values allow."""

    checks: bool
    updates: bool


def nests(fragment: Fragment) -> list[LoopNest] | None:
    """The nests of a scatter; None if an operand's view cannot be walked."""
    (node,) = fragment.members
    base, _, updates = node.operands
    out = node.results[0]
    found = []
    if fragment.size(out):
        found.append(place(fragment.graph, base, out, dense(fragment.avals[out].shape)))
    if fragment.size(updates):
        works = [UpdatePass(True, True)]
        if _is_worth_two(fragment, node):
            works = [UpdatePass(True, False), UpdatePass(False, True)]
        found += [_nest(fragment, node, work) for work in works]
    made = [nest for nest in found if nest is not None]
    return made if len(made) == len(found) else None


def _is_worth_two(fragment: Fragment, node: Node) -> bool:
    """Whether reading the indices twice costs less than copying the base."""
    base, index, _ = (fragment.avals[v] for v in node.operands)
    sizes = base.nbytes, index.nbytes
    return not any(isinstance(n, Size) for n in sizes) and sizes[0] >= max(_LEAST_BYTES, sizes[1])


def _nest(fragment: Fragment, node: Node, work: UpdatePass) -> LoopNest | None:
    _, index, updates = node.operands
    form = NestForm.along(fragment.avals[index].shape, node.attrs[0])
    outputs = [index, updates] if work.updates else [index]
    walked = replace(fragment.graph, nodes=[n for n in fragment.graph.nodes if n is not node], outputs=outputs)
    views = Fragment(walked, fragment.error_numbers)
    extents = views.extents(form)
    if extents is None:
        return None
    extents = extents if form.columns > 1 else (*extents, 1)
    label = "scatter" if work.updates else "indices of a scatter"
    return LoopNest(Scatter, views, form, label, node=node, own=partial(lower, work), extents=extents)


def lower(work: UpdatePass, unit: LoopNest, schedule: Scatter) -> Parts:
    """The call of a nest."""
    nest, form, node = Nest(unit, schedule), unit.form, unit.node
    assert node is not None
    block = minimum(schedule.block, form.columns)
    blocks = ceil_div(form.columns, block)
    extent = unit.fragment.avals[node.results[0]].shape[node.attrs[0]]
    _emit(nest, node, form, (block, blocks, extent), schedule.unroll, work)
    return Parts([finish(nest, form.batch * blocks, maximum(1, schedule.grain // (block * form.count)), unit.label)])


def _emit(nest: Nest, node: Node, form: NestForm, numbers: tuple[Int, Int, Int], unroll: int, work: UpdatePass) -> None:
    """Item (outer index, block of inner indices): all indices along the axis, in order."""
    b, (_, index, updates) = nest.b, node.operands
    block, blocks, extent = numbers
    count, size = nest.number(form.count), nest.number(extent, "target")
    out = nest.output(node.results[0]) if work.updates else None
    element = nest.fragment.avals[updates].dtype.mlir

    def update(row: Row, base: Val, col: Val, mask: Val | None) -> None:
        point = Point(row, col, nest.lanes, mask)
        at = b.splat(point.value(index), nest.lanes)
        at = b.splat(checked_index(nest, node, at, point.position, mask, work.checks), nest.lanes)
        if out is None or nest.fragment.size(node.results[0]) == 0:
            return  # nothing is written, or every index is out of range and there is no place to write instead
        at = b.add(at, base)
        if form.columns != 1:
            at = b.add(b.mul(at, nest.number(nest.cols, "cols")), point.columns())
        mask = mask if nest.lanes > 1 else None
        old, new = b.gather(out, at, element, mask), b.splat(point.value(updates), nest.lanes)
        b.scatter(b.splat(node.op.lower(b, old, new), nest.lanes), out, at, mask)

    with b.apart(), b.loop(b.lo, b.hi) as item:
        if (
            form.columns == 1 and nest.lanes == 1
        ):  # nothing beside an index: a loop over one element costs more than the element
            start, base = b.mul(item.index, count), b.mul(item.index, size)
            with b.apart(), b.loop(0, count) as k:
                update(Row(nest, b.add(start, k.index)), base, b.const(0, "i64"), None)
            return
        width, per_row, cols = nest.number(block), nest.number(blocks), nest.number(nest.cols, "cols")
        batch, lo = b.div_unsigned(item.index, per_row), b.mul(b.rem_unsigned(item.index, per_row), width)
        hi = b.minimum(b.add(lo, width), cols)
        start, base = b.mul(batch, count), b.mul(batch, size)
        with b.apart(), b.loop(0, count) as k:
            sweep(nest, lo, hi, unroll, partial(update, Row(nest, b.add(start, k.index)), base))
