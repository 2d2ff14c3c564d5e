"""The code generator for everything that is not a matrix product: a cluster in, loop nests and then kernel calls out.

In: a `Cluster` of kind "loops". Out: `Cut`: its nests, each of which becomes one or two calls by a schedule. A cluster that is
no single nest is cut into its ops, each by itself. Next: `fragment.py` for what one nest can do, `nest.py` for how it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from flambeau.compiler import families
from flambeau.compiler.codegen.expand import expand
from flambeau.compiler.codegen.fragment import Fragment, number_fallible
from flambeau.compiler.codegen.loops import assemble as loops_assemble
from flambeau.compiler.codegen.loops.columns import lower_chunks, lower_columns
from flambeau.compiler.codegen.loops.rows import has_no_order, label, lower_map, lower_rows
from flambeau.compiler.codegen.nest_rules import Source
from flambeau.compiler.codegen.units import Cut, LoopNest, Parts, Unit, joined
from flambeau.compiler.groups.generate import code_generator
from flambeau.compiler.kernel import Cluster, Lowered, Operand
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import LOOPS, cluster
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.schedules.kinds import Columns, Points, Rows
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph

_KINDS: dict[str, type[Schedule]] = {"map": Points, "rows": Rows, "columns": Columns}


def cut(cluster: Cluster) -> Cut:
    """The loop nests of a cluster."""
    return cut_graph(cluster.graph, cluster.errors)


def cut_graph(graph: Graph, error_numbers: dict[int, int] | None = None) -> Cut:
    """The nests that compute the outputs of `graph`. `error_numbers`: see `fragment.number_fallible`."""
    errors = number_fallible(graph) if error_numbers is None else error_numbers
    aliases: dict[int, int] = {}
    needed = _without_aliases(graph, aliases)
    if not needed:
        return Cut(join=lambda made: joined(made, aliases))
    expanded = expand(replace(graph, outputs=needed))
    fragment = Fragment(expanded, errors)
    form = fragment.form()
    if form is not None:
        nests = [LoopNest(_KINDS[form.kind], fragment, form, label(fragment))]
    elif (special := _special(fragment)) is not None:
        nests = special
    else:
        return _cut_apart(graph, expanded, errors, aliases)
    return Cut(list(nests), _emit, lambda made: joined(made, aliases))


def _emit(nest: LoopNest, schedule: Any, target: Target) -> Parts:
    """The calls of one nest."""
    if nest.kind is Points:
        call = lower_map(nest, schedule, parted=not target.narrows_in_order and has_no_order(nest))
        return Parts([loops_assemble.noted(nest, call) if nest.placed else call])
    if nest.own is not None:
        return nest.own(nest, schedule)
    if nest.kind is Columns:
        return lower_columns(nest, schedule)
    return lower_chunks(nest, schedule) if schedule.chunks else Parts([lower_rows(nest, schedule)])


def _special(fragment: Fragment) -> list[LoopNest] | None:
    """The nests of an op that has loops of its own, alone or with the parts that a concat computes; None for anything else."""
    if not fragment.is_affine or not fragment.members:
        return None
    *others, last = fragment.members
    if not set(fragment.graph.outputs) <= set(last.results):  # a view of it, say
        return None
    rules = families.rules(last.op)
    if rules.alone is None or (others and rules.producers(last) is None):
        return None
    if not all(n.op.family.is_pointwise and not n.op.fallible for n in others):
        return None
    return rules.alone(fragment)


def _without_aliases(graph: Graph, aliases: dict[int, int]) -> list[int]:
    """Notes outputs that are other values reshaped; returns the values that must be computed."""
    sources = Fragment(graph).sources
    needed: dict[int, None] = {}
    for value in graph.outputs:
        source = sources.get(value)
        if source is not None and _is_alias(graph, value, source):
            aliases[value] = source.root
            value = source.root
        if value not in graph.inputs and (graph.avals[value].size or _can_fail(graph, value)):
            needed[value] = None
    return list(needed)


def _is_alias(graph: Graph, value: int, source: Source) -> bool:
    """Whether `value` is all of another value that has memory of its own."""
    if source.root == value or not source.layout.is_identity:
        return False
    return graph.avals[value].size == graph.avals[source.root].size and _is_stored(graph, source.root)


def _can_fail(graph: Graph, value: int) -> bool:
    """Whether an empty result may still raise: a scatter into nothing."""
    return any(value in n.results and families.rules(n.op).fails_empty(graph, n) for n in graph.nodes)


def _is_stored(graph: Graph, root: int) -> bool:
    """Whether a root has memory of its own (constants and iotas have not)."""
    return root in graph.inputs or all(n.op.name not in ("constant", "iota") for n in graph.nodes if root in n.results)


def _cut_apart(graph: Graph, expanded: Graph, errors: dict[int, int], aliases: dict[int, int]) -> Cut:
    """Cut a graph that is no single nest op by op; values that `graph` does not know become temporaries."""
    if len(expanded.nodes) == 1:
        raise ValueError(f"[loops] {expanded.nodes[0].op.name} has no lowering. Teach its family how it is made.")
    pieces: list[tuple[Cut, dict[int, int]]] = []
    for part in cluster(expanded, Options(fuse=False)):
        names = dict(zip([*part.graph.inputs, *part.graph.outputs], [*part.operands, *part.results], strict=True))
        numbers = {v: errors[names[v]] for v in names if names[v] in errors}
        pieces.append((_piece(part, numbers), names))
    units: list[Unit] = [unit for piece, _ in pieces for unit in piece.units]
    emits = {unit.kind: piece.emit for piece, _ in pieces for unit in piece.units}
    join = lambda made: _joined_apart(graph, expanded, pieces, made, aliases)  # noqa: E731
    return Cut(units, lambda unit, schedule, target: emits[unit.kind](unit, schedule, target), join, is_apart=True)


def _piece(part: Cluster, errors: dict[int, int]) -> Cut:
    """The nests of one op: by its family's generator, if that has one."""
    if part.kind == LOOPS:
        return cut_graph(part.graph, errors)

    return code_generator("cpu", part.kind)(part)


def _joined_apart(
    graph: Graph, expanded: Graph, pieces: list[tuple[Cut, dict[int, int]]], made: list[Parts], aliases: dict[int, int]
) -> Lowered:
    """What became of all pieces, in the whole's numbers."""
    lowered, inner = Lowered(aliases=dict(aliases)), {}
    known = {*graph.inputs, *graph.outputs, *aliases.values()}
    at = 0
    for piece, names in pieces:
        own = piece.join(made[at : at + len(piece.units)])
        at += len(piece.units)
        inner.update({names[v]: names[to] for v, to in own.aliases.items()})
        first = len(lowered.temps)
        lowered.temps += own.temps
        for call in own.calls:
            lowered.calls.append(replace(call, operands=tuple(_renamed(call.operands, names, first))))
    _give_homes(graph, expanded, lowered, inner, known)
    return lowered


def _renamed(operands: Iterable[Operand], names: dict[int, int], first_temp: int) -> list[Operand]:
    """Operands of a part, in the whole's numbers."""
    renamed = []
    for operand in operands:
        if operand.kind == "temp":
            operand = replace(operand, index=operand.index + first_temp)
        elif operand.kind == "value":
            operand = replace(operand, index=names[operand.index])
        renamed.append(operand)
    return renamed


def _give_homes(graph: Graph, expanded: Graph, lowered: Lowered, aliases: dict[int, int], known: set[int]) -> None:
    """Give values that only the expanded graph has a temporary each, following aliases."""
    temps: dict[int, int] = {}

    def home(operand: Operand) -> Operand:
        if operand.kind != "value":
            return operand
        value = operand.index
        while value in aliases and value not in known:
            value = aliases[value]
        if value in known or value < len(graph.avals):
            return replace(operand, index=value)
        if value not in temps:
            temps[value] = len(lowered.temps)
            lowered.temps.append(expanded.avals[value].nbytes)
        return Operand("temp", temps[value], operand.offset)

    lowered.calls = [replace(c, operands=tuple(home(o) for o in c.operands)) for c in lowered.calls]
    lowered.aliases.update({v: to for v, to in aliases.items() if v in known})
