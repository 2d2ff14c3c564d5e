"""What a loop kernel needs to know of a cluster: where every operand comes from, and one loop nest that serves all.

In: the graph of a cluster; its sizes are ints or `Size`s. Out: `Fragment` (views resolved to layouts) and its `NestForm`, or
None where no single nest can compute it. What a nest may compute is said in `nest_rules.py`, for clustering, too.
Next: `loops/phases.py`, `nest.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView
from flambeau.compiler.codegen.iteration_space import NestForm, extents_of, form_of_split, nest_cuts, reduction_split
from flambeau.compiler.codegen.nest_rules import NestRules, cuts_of, read_operands
from flambeau.dialects.graph import Graph, Node


class Fragment(NestRules):
    """A cluster's graph with every value resolved to a `Source`. `members` are the nodes that compute.

    `is_affine` says that `sources` has every value: views that are not affine are left out.
    """

    def __init__(self, graph: Graph, error_numbers: dict[int, int] | None = None) -> None:
        super().__init__(graph)
        self.error_numbers = error_numbers if error_numbers is not None else number_fallible(graph)
        self.is_affine = all([self.resolve(n) for n in graph.nodes])
        self.members = [n for n in graph.nodes if self.is_computed(n)]
        self.member_of = {v: n for n in self.members for v in n.results}

    def folds(self, node: Node) -> bool:
        """Whether the node is a reduction with something to fold."""
        return self.fold_of(node) is not None

    def form(self) -> NestForm | None:
        """The nest that computes all outputs, or None."""
        if not self.is_affine or any(families.rules(n.op).has_own_loops for n in self.members):
            return None
        form = self._shape_of_nest()
        if form is None or not all(self.fits(node, form, self.member_of) for node in self.members):
            return None
        if any(self.size(v) not in (form.size, form.batch) for v in self._copied()):
            return None
        return form if self.extents(form) is not None else None

    def _shape_of_nest(self) -> NestForm | None:
        folds = [n for n in self.members if n.op.family.folds]
        if any(n.op.lower is None or reduction_split(self.graph, n) is None for n in folds):
            return None
        forms = {form_of_split(split) for n in folds if (split := self.fold_of(n)) is not None}
        if not forms:
            sizes = {self.size(v) for v in self.graph.outputs}
            return NestForm("map", 1, sizes.pop()) if len(sizes) == 1 else None
        return forms.pop() if len(forms) == 1 else None

    def extents(self, form: NestForm, *placed: StridedView) -> tuple[Any, ...] | None:
        """The loops of a nest, outermost first, which also writes to places as these layouts say; None if there are none in which
        all accesses are affine."""
        walked = [s.layout for v in self._copied() if (s := self.sources[v]).root not in self.member_of]
        walked += [x for n in self.members for x in self.external_layouts(n, self.member_of)]
        return extents_of(form, cuts_of(walked, form) | nest_cuts(placed))

    def _copied(self) -> list[int]:
        """Outputs that are views of what has been there, or of members."""
        return [v for v in self.graph.outputs if v not in self.member_of]

    def reads_memory(self, node: Node) -> bool:
        """Whether all operands are inputs as they lie in memory, one element after the other."""
        sources = [self.sources[v] for v in node.operands]
        return all(s.layout.is_identity and s.root in self.graph.inputs for s in sources)

    def takes_place(self, new: int, old: int, form: NestForm, reads: Iterable[StridedView]) -> bool:
        """Whether every element of the output `new` lies where the nest has read that of the input `old`, which it reads through
        `reads`, and nothing else of it: the two can be one buffer."""
        avals = self.avals
        if self.size(new) != form.size or not self.sources[new].layout.is_identity:
            return False
        as_large = (avals[old].size, avals[old].nbytes) == (avals[new].size, avals[new].nbytes)
        return as_large and all(x.is_identity and x.size == form.size for x in reads)

    def leaf_values(self) -> list[int]:
        """Every value that some member, or an output, reads."""
        seen = dict.fromkeys(v for node in self.members for v in read_operands(node))
        seen.update(dict.fromkeys(self._copied()))
        return list(seen)


def number_fallible(graph: Graph) -> dict[int, int]:
    """The error number of every fallible node's result: its place among the fallible nodes."""
    fallible = [n for n in graph.nodes if n.op.fallible]
    return {n.results[0]: k for k, n in enumerate(fallible)}
