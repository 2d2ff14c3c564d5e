"""The graph that `simplify` writes: what made each value, and what is known of it.

In: a graph and rules. Out: the graph by which they are applied to one node after the other. Next: `simplify.py`, the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.compiler.passes.rewrite import Copy
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.tape.nan import canonical_nan, handed_on, leaving, moves


class Match(NamedTuple):
    """A node being rewritten, on the new graph's numbers."""

    op: OpRecord
    operands: tuple[int, ...]
    attrs: tuple[Any, ...]


class Rewrite(Copy):
    """The graph being written, what made its values, and which values are one constant, or one element, repeated. `rules`
    by name of op, and `others` for elementwise ones that have none."""

    def __init__(self, source: Graph, rules: dict[str, tuple[Rule, ...]], others: tuple[Rule, ...]) -> None:
        super().__init__(source)
        self._rules, self._others = rules, others
        self.made: dict[int, Match] = {}
        self.splats: dict[int, Any] = {}
        self.repeated: dict[int, int] = {}  # a value that repeats one element: the value of size 1 that has it
        self._known: dict[tuple, int] = {}
        self._calls: dict[tuple, int] = {}
        self._device = CPU  # of what is being emitted
        self._leaving = leaving(source)

    def aval(self, value: int) -> Aval:
        return self.graph.avals[value]

    def once(self, node: Node) -> int:
        """What a node of one result becomes: asked once for equal nodes, of which half of a training step's are."""
        (result,), operands = node.results, self.operands(node)
        aval, call = self.source.avals[result], Match(node.op, operands, node.attrs)
        if node.has_effect or result in self._leaving:  # what leaves may be made canonical, see `_without_op`
            return self.emit(node, call, aval)
        form = node.op.name, operands, self.attrs_key(node), aval.device
        if form not in self._calls:
            self._calls[form] = self.emit(node, call, aval, form)
        return self._calls[form]

    def emit(self, at: Node, call: Match, aval: Aval | None = None, form: tuple | None = None) -> int:
        """Simplify `call` until no rule applies, and append what is left, unless it is there. Returns the value that is its result,
        which has the type `aval`, where that is given; `form` tells the call from others."""
        self._device = self.source.avals[at.results[0]].device
        while True:
            for rule in self._rules.get(call.op.name, self._others if call.op.family.is_pointwise else ()):
                found = rule(self, call)
                if found is not None:
                    break
            else:
                return self._written(at, call, aval, form)
            if isinstance(found, int):
                return self._without_op(at, call, found)
            if isinstance(found, Splat):
                return self.splat(at, found.value, found.aval)
            if isinstance(found, SplatCall):
                return self._repeat(at, found)
            call = self._call(at, found) if isinstance(found, Nested) else found
            aval = form = None

    def _written(self, at: Node, call: Match, aval: Aval | None, form: tuple | None) -> int:
        """What a call gives that no rule applies to: calls that rules have made equal are one, as if they had been so before."""
        if at.has_effect or call.op.fallible:
            return self._append(at, call, self._minus_zero(call), aval)
        form = form or (call.op.name, call.operands, attrs_key(call.attrs), self._device)
        if form not in self._calls:
            self._calls[form] = self._append(at, call, self._minus_zero(call), aval)
        return self._calls[form]

    def _repeat(self, at: Node, found: SplatCall) -> int:
        """The op on single elements, stretched."""
        reshape, rank = find("reshape"), len(found.shape)
        numbers = tuple([self.emit(at, Match(reshape, (v,), ((),))) for v in found.call.operands])
        number = self.emit(at, found.call._replace(operands=numbers))
        unit = self.emit(at, Match(reshape, (number,), ((1,) * rank,)))
        return self.emit(at, Match(find("broadcast"), (unit,), (found.shape,)))

    def _call(self, at: Node, found: Nested) -> Match:
        """The call, whose operands are made first."""
        operands = []
        for x in found.operands:
            if isinstance(x, Nested):
                operands.append(self.emit(at, self._call(at, x)))
            else:
                operands.append(self.splat(at, x.value, x.aval) if isinstance(x, Splat) else x)
        return Match(found.op, tuple(operands), found.attrs)

    def _without_op(self, at: Node, call: Match, value: int) -> int:
        """The value that an op is left out for. Where that leaves the program and is no result of an op that computes, its
        NaNs may be any: the op would have made them canonical."""
        if (
            at.results[0] not in self._leaving
            or moves(call.op)
            or not self.aval(value).dtype.is_floating_point
            or not self.is_moved(value)
        ):
            return value
        return self.emit(at, Match(canonical_nan, (value,), ()))

    def is_moved(self, value: int) -> bool:
        """Whether some element of the value comes from an input and was only moved."""
        pending = [value]
        while pending:
            v = pending.pop()
            call = self.made.get(v)
            if call is None and v not in self.splats:
                return True
            if call is not None and (passed := handed_on(call.op, call.operands)):
                pending.extend(v for v in passed if self.aval(v).dtype.is_floating_point)
        return False

    def splat(self, at: Node, value: Any, aval: Aval) -> int:
        """A constant repeated over a shape, where `at` is: constant, reshaped to the rank, broadcast; each written once."""
        key = (attrs_key((value, aval.dtype)), aval.shape, self._device)
        if key not in self._known:
            if not aval.shape:
                call = Match(find("constant"), (), (value, aval.dtype))
            elif aval.size == 1:
                call = Match(find("reshape"), (self.splat(at, value, Aval((), aval.dtype)),), (aval.shape,))
            else:
                unit = self.splat(at, value, Aval((1,) * aval.rank, aval.dtype))
                call = Match(find("broadcast"), (unit,), (aval.shape,))
            self._known[key] = self._append(at, call, value)
        return self._known[key]

    def _minus_zero(self, call: Match) -> float | None:
        """-0.0 if that is what the result is everywhere: there is no such constant, it stays a negated 0.0."""
        value = self.splats.get(call.operands[0]) if call.operands else None
        if call.op.name == "neg" and value is not None and isinstance(value, float) and same(value, 0.0):
            return -0.0
        return value if call.op.family.is_view and value is not None and negative_zero(value) else None

    def _append(self, at: Node, call: Match, splat: Any = None, aval: Aval | None = None) -> int:
        if aval is None:
            (aval,) = call.op.infer_results([self.aval(v) for v in call.operands], call.attrs, self._device)
        (result,) = self.append(at, call.op, call.operands, call.attrs, [aval])
        self.made[result] = call
        if call.op.name in ("reshape", "broadcast") and aval.size != 1:
            (x,) = call.operands
            if (one := self.repeated.get(x, x if self.aval(x).size == 1 else None)) is not None:
                self.repeated[result] = one
        if splat is not None:
            self.splats[result] = splat
        return result


class Splat(NamedTuple):
    """A rule's answer: the result is `value` everywhere."""

    value: Any
    aval: Aval


class SplatCall(NamedTuple):
    """A rule's answer: the result is one element everywhere, that of `call`, whose operands have size 1."""

    call: Match
    shape: tuple[Any, ...]


class Nested(NamedTuple):
    """A rule's answer: a call of values, of constants, and of what further calls give."""

    op: OpRecord
    operands: tuple[int | Splat | Nested, ...]
    attrs: tuple[Any, ...]


Answer = int | Match | Splat | SplatCall | Nested | None
Rule = Callable[[Rewrite, Match], Answer]


def same(value: float, wanted: float) -> bool:
    """Whether two numbers are equal, signs of zeros included."""
    return value == wanted and math.copysign(1.0, value) == math.copysign(1.0, wanted)


def negative_zero(value: Any) -> bool:
    """Whether a number is -0.0, of which there is no constant."""
    return value == 0 and math.copysign(1.0, value) < 0
