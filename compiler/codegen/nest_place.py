"""The values of a nest at one place: the walk over what a fragment computes, for every machine.

In: a `Fragment` and what a machine says of a place: how it reads what lies in memory, where it is, what others hold. Out: text
that computes each value where it is first needed, written by the machine's emitter. Next: `loops/points.py`, places of CPUs, whose
elements are vectors; `gpu/points.py`, those of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.nest_rules import Source, read_operands
from flambeau.compiler.codegen.reduce import Reduction
from flambeau.compiler.codegen.values import Val
from flambeau.dialects.graph import Node
from flambeau.dialects.tape.nan import canonical


class NestPlace:
    """What is known at one place. `values` holds values of the graph by number, those of members by their roots, too."""

    def __init__(self, fragment: Fragment, b: Emitter) -> None:
        self.fragment, self.b = fragment, b
        self.values: dict[int, Val] = {}

    # ---- what a machine says -----------------------------------------------------------------------------------

    def leaf(self, value: int, source: Source) -> Val:
        """The element of a value that is no member's: of memory, a constant or an iota."""
        raise NotImplementedError

    def position(self) -> Val:
        """The linear index of the element, or of each lane's."""
        raise NotImplementedError

    def computes(self, root: int) -> bool:
        """Whether `root` is a member that is computed here, not one that a row shares or that is read back."""
        return root in self.fragment.member_of

    def held(self, root: int) -> Val:
        """A member that is not computed here."""
        raise NotImplementedError

    def report(self, node: Node, failed: Val) -> None:
        """Note that a member has failed, where `failed`."""
        raise NotImplementedError

    def write(self, value: int, x: Val) -> None:
        """Store the element of an output."""
        raise NotImplementedError

    def store_all(self, values: Iterable[int]) -> None:
        """Store the elements of outputs, all of them computed before the first is written."""
        for value, x in [(v, self.value(v)) for v in values]:
            self.write(value, x)

    # ---- the walk ----------------------------------------------------------------------------------------------

    def value(self, value: int) -> Val:
        """The element of any value of the graph."""
        if value not in self.values:
            for needed in post_order(value, self.needs):
                self.values[needed] = self._made(needed)
            self.values[value] = self._made(value)
        return self.values[value]

    def needs(self, value: int) -> list[int]:
        """What is computed here before `value` is, and is not known yet."""
        root = self.fragment.sources[value].root
        if root in self.values or not self.computes(root):
            return []
        roots = [self.fragment.sources[v].root for v in read_operands(self.fragment.member_of[root])]
        return [r for r in roots if r not in self.values and self.computes(r)]

    def _made(self, value: int) -> Val:
        source = self.fragment.sources[value]
        node = self.fragment.member_of.get(source.root)
        if node is None:
            return self.leaf(value, source)
        if source.root in self.values:
            return self.values[source.root]
        if not self.computes(source.root):
            return self.held(source.root)
        return self.member(node, source.root)

    def member(self, node: Node, root: int) -> Val:
        """A result of a member, which is emitted once for all of them."""
        made = self._computed(node, [self.value(v) for v in node.operands])
        for v, x in zip(node.results, made, strict=True):
            self.values.setdefault(v, x)
        return self.values[root]

    def _computed(self, node: Node, operands: list[Val]) -> tuple[Val, ...]:
        b = self.b
        if node.op.family.folds:  # nothing to fold: one step from the identity
            fold, (x,) = Reduction.of(self.fragment, node), operands
            return (canonical(b, fold.combine(b, fold.identity(b, x.lanes), x)),)
        if node.op.family.is_placed:
            with b.at(self.position()):
                return node.op.run_lower(b, operands, node.attrs)
        if node.op.fallible and node.op.fails is not None:
            self.report(node, node.op.fails(b, *operands, *node.attrs))
        return node.op.run_lower(b, operands, node.attrs)


def post_order(value: int, below: Callable[[int], list[int]]) -> list[int]:
    """What `value` needs, operands first, without recursion: chains of ops are long."""
    order: dict[int, None] = {}
    pending = [(value, iter(below(value)))]
    while pending:
        last, rest = pending[-1]
        deeper = next((v for v in rest if v not in order), None)
        if deeper is not None:
            pending.append((deeper, iter(below(deeper))))
        else:
            order[last] = None
            pending.pop()
    return list(order)[:-1]
