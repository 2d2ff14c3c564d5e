"""When a concat computes an operand where it would copy it.

In: a `Move`. Out: whether it pays. Next: `codegen/loops/assemble.py`, which writes each part by one nest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flambeau.compiler.codegen.loops.assemble import can_place, concat_parts, is_run
from flambeau.compiler.passes.cluster_groups import Clustering

if TYPE_CHECKING:
    from flambeau.compiler.passes.cluster_producers import Move

#: Work of ops computed twice that a copy less is worth, in additions.
SAVED = 10.0


def pays(program: Clustering, move: Move) -> bool:
    """Whether computing into the part is less than a copy: not where the plan lets a value lie there anyway."""
    _, layout = concat_parts(program.avals, move.reader)[move.position]
    source = program.source(move.reader.operands[move.position])
    if (is_run(layout) and source.layout.is_identity) or move.again > SAVED * move.saved:
        return False
    graph, _, _ = program.fragment(replace(move.joined, outputs=list(move.reader.results)))
    concat = next(n for n in graph.nodes if n.results[0] == graph.outputs[0])
    return all(can_place(graph, value, part) for value, part in concat_parts(graph.avals, concat))
