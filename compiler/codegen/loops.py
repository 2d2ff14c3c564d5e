"""The code generator for everything that is not a matrix product: a cluster in, kernel calls out.

In: a `Cluster` of kind "loops". Out: `Lowered`. A cluster that is one loop nest becomes one or two calls; any other is
cut into its ops, each lowered by itself. Next: `fragment.py` for what one nest can do, `nest.py` for how it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flambeau.compiler.codegen import loops_assemble, loops_scatter
from flambeau.compiler.codegen.expand import expand
from flambeau.compiler.codegen.fragment import Form, Fragment, Source, number_fallible
from flambeau.compiler.codegen.loops_columns import lower_chunks, lower_columns
from flambeau.compiler.codegen.loops_rows import lower_map, lower_rows
from flambeau.compiler.codegen.stages import Stages
from flambeau.compiler.kernel import Cluster, KernelCall, Lowered, Operand
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph
from flambeau.dialects.orders import CHUNK
from flambeau.dialects.record import Kind
from flambeau.dialects.size import Int

#: Rows enough to keep the threads busy without cutting the rows.
MANY_ROWS = 32


def lower(cluster: Cluster, target: Target) -> Lowered:
    """The kernel calls of a cluster."""
    return lower_graph(cluster.graph, target, cluster.errors)


def lower_graph(graph: Graph, target: Target, error_numbers: dict[int, int] | None = None) -> Lowered:
    """The kernel calls that compute the outputs of `graph`. `error_numbers`: see `fragment.number_fallible`."""
    errors = number_fallible(graph) if error_numbers is None else error_numbers
    lowered = Lowered()
    needed = _without_aliases(graph, lowered.aliases)
    if not needed:
        return lowered
    expanded = expand(replace(graph, outputs=needed))
    fragment = Fragment(expanded, errors)
    form = fragment.form()
    if form is not None:
        lowered.calls, lowered.temps = _nest(fragment, form, target)
    elif (calls := _special(fragment, target)) is not None:
        lowered.calls = calls
    else:
        _lower_apart(graph, expanded, target, errors, lowered)
    return lowered


def _special(fragment: Fragment, target: Target) -> list[KernelCall] | None:
    """The calls of a lone assembly or scatter, or of a concat of computed parts; None for anything else."""
    if not fragment.is_affine or not fragment.members:
        return None
    *others, last = fragment.members
    if last.op.name == "concat" and all(n.op.kind is Kind.ELEMENTWISE and not n.op.fallible for n in others):
        return loops_assemble.lower(fragment, target)
    if others:
        return None
    if last.op.kind is Kind.ASSEMBLE:
        return loops_assemble.lower(fragment, target)
    return loops_scatter.lower(fragment, target) if last.op.kind is Kind.SCATTER else None


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
    return any(
        n.op.kind is Kind.SCATTER and value in n.results and graph.avals[n.operands[1]].size for n in graph.nodes
    )


def _is_stored(graph: Graph, root: int) -> bool:
    """Whether a root has memory of its own (constants and iotas have not)."""
    return root in graph.inputs or all(n.op.name not in ("constant", "iota") for n in graph.nodes if root in n.results)


def _nest(fragment: Fragment, form: Form, target: Target) -> tuple[list[KernelCall], list[Int]]:
    if form.kind == "map":
        return [lower_map(fragment, form, target)], []
    if form.kind == "columns":
        calls, temps = lower_columns(fragment, form, target)
        return calls, temps
    if _is_one_pass(fragment, form) and form.count > CHUNK and form.batch < MANY_ROWS:
        calls, temps = lower_chunks(fragment, form, target)
        return calls, temps
    return [lower_rows(fragment, form, target)], []


def _is_one_pass(fragment: Fragment, form: Form) -> bool:
    """Whether nothing but the reductions themselves depends on a reduction."""
    stages = Stages(fragment, form)
    folds = {n.results[0] for n in fragment.members if fragment.folds(n)}
    late = {v for v, stage in stages.stage_of.items() if stage > 0}
    return late == folds and folds.issuperset(stages.row_outputs())


def _lower_apart(graph: Graph, expanded: Graph, target: Target, errors: dict[int, int], lowered: Lowered) -> None:
    """Lower a graph that is no single nest op by op; values that `graph` does not know become temporaries."""
    from flambeau.compiler.options import Options
    from flambeau.compiler.passes.cluster import cluster

    if len(expanded.nodes) == 1:
        raise ValueError(f"[loops] {expanded.nodes[0].op.name} has no lowering. Teach `codegen/loops.py` its kind.")
    aliases: dict[int, int] = {}
    known = {*graph.inputs, *graph.outputs, *lowered.aliases.values()}
    for part in cluster(expanded, Options(fuse=False)):
        names = dict(zip([*part.graph.inputs, *part.graph.outputs], [*part.operands, *part.results], strict=True))
        numbers = {v: errors[names[v]] for v in names if names[v] in errors}
        piece = lower_graph(part.graph, target, numbers)
        aliases.update({names[v]: names[to] for v, to in piece.aliases.items()})
        first = len(lowered.temps)
        lowered.temps += piece.temps
        for call in piece.calls:
            lowered.calls.append(replace(call, operands=tuple(_renamed(call.operands, names, first))))
    _give_homes(graph, expanded, lowered, aliases, known)


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
