"""A batch of calls at once: every op of a program on values that have one more axis, the batch, in front.

In: ops on values of a `BatchBuilder`, of which some differ from call to call (`is_batched`) and others are the same for all. Out:
ops on the values with their batch, emitted with another builder. What an op becomes is a rule of its family, a form of the op and
no loop; what depends on nothing that differs stays as it is. A program is batched by writing it into such a builder, its gradient
by having `autodiff.vjp` write into one. Next: `batching_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from flambeau.dialects.builder import Builder, Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.family import Family
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.size import Int


@dataclass(frozen=True)
class BatchedOp:
    """One op of a batch of `n` calls: `xs` are the operands in builder `b`, with their batch where `many` says so."""

    b: Builder
    op: OpRecord
    xs: tuple[Value, ...]
    many: tuple[bool, ...]
    attrs: tuple[Any, ...]
    n: Int

    def front(self, k: int) -> Value:
        """Operand `k` with its batch; the same for all calls, if it has none."""
        x = self.xs[k]
        return x if self.many[k] else repeated(x, self.n)

    def fronted(self) -> list[Value]:
        """All operands, each with its batch."""
        return [self.front(k) for k in range(len(self.xs))]

    def emit(self, operands: Sequence[Value], attrs: tuple[Any, ...]) -> tuple[Value, ...]:
        """The op on such operands."""
        return self.b.emit_all(self.op, operands, attrs)


def repeated(x: Value, n: Int) -> Value:
    """`x` for each of `n` calls: [n, *shape]."""
    return x.expand((n, *x.shape))


class BatchBuilder(Builder):
    """Emits with `inner` what all of `n` calls compute. The `id` of its values is a value of that one.

    Random numbers are the same for all calls, unless `base` says where their stream began: the offset, a value of `inner`. Ops
    without operands are computed where `inner` says.
    """

    def __init__(self, inner: Builder, n: Int) -> None:
        self.inner, self.n, self.device = inner, n, inner.device
        self.base: Value | None = None

    def value(self, inner: Value, many: bool) -> Value:
        """A value of `inner` as one of this builder; `many`: its first axis is the batch."""
        return Value(self, inner, inner.aval._replace(shape=inner.shape[1:]) if many else inner.aval)

    @staticmethod
    def is_batched(x: Value) -> bool:
        """Whether a value of this builder differs from call to call."""
        return len(x.id.shape) > len(x.shape)

    def whole(self, x: Value) -> Value:
        """The value of `inner` with its batch, repeated if it has none."""
        return x.id if self.is_batched(x) else repeated(x.id, self.n)

    def emit_all(self, op: OpRecord, operands: Sequence[Value], attrs: tuple[Any, ...]) -> tuple[Value, ...]:
        self.inner.loc = self.loc
        many = tuple([self.is_batched(x) for x in operands])
        xs = tuple([x.id for x in operands])
        with self.inner.on(self.device):
            call = BatchedOp(self.inner, op, xs, many, attrs, self.n)
            if self.base is not None and op.name == "random_bits":
                return tuple([self.value(r, True) for r in _drawn(call, self.base)])
            if not any(many):
                return tuple([self.value(r, False) for r in self.inner.emit_all(op, xs, attrs)])
            return tuple([self.value(r, True) for r in rule_of(op)(call)])


def _drawn(call: BatchedOp, base: Value) -> tuple[Value, ...]:
    """Random bits that differ from call to call: what lies k numbers behind the stream's first one for a single call begins k n
    behind it for n of them."""
    if any(call.many):
        raise NotImplementedError("[vmap] a seed differs from call to call. Draw from one generator, or draw before.")
    seed, offset = call.xs
    return call.emit([seed, base + (offset - base) * call.n], ((call.n, *call.attrs[0]),))


def rule_of(op: OpRecord) -> Callable[[BatchedOp], Sequence[Value]]:
    """What a batch of an op's calls becomes. Raises NotImplementedError where its family has no rule."""
    from flambeau.dialects import batching_rules  # that module imports this one

    family = op.family
    rule = batching_rules.OF_OPS.get(op.name) or _offered(family)
    if rule is None:
        raise NotImplementedError(
            f"[vmap] there is no rule for a batch of {op.name} ({family.name}). Call it on the whole batch, or in a loop."
        )
    return rule


def _offered(family: Family) -> Callable[[BatchedOp], Sequence[Value]] | None:
    """The rule of a family all of whose ops are batched alike."""
    if not family.batch:
        return None
    module, _, name = family.batch.partition(":")
    return getattr(import_module(module), name)


def replayed(
    builder: BatchBuilder, graph: Graph, inputs: Sequence[Value], bases: Mapping[int, Value] | None = None
) -> list[Value]:
    """What a program, of the CPU's types, gives for `inputs`, values of `builder`. `bases`: position of a `random_bits` among its
    nodes -> where its stream began, for numbers that differ from call to call."""
    known = dict(zip(graph.inputs, inputs, strict=True))
    for k, node in enumerate(graph.nodes):
        builder.loc = node.loc
        builder.base = bases.get(k) if bases else None
        results = builder.emit_all(node.op, [known[v] for v in node.operands], node.attrs)
        known.update(zip(node.results, results, strict=True))
    builder.base = None
    return [known[v] for v in graph.outputs]


def constant(b: Builder, number: int) -> Value:
    """A position as an operand."""
    return b.constant(number, int64)


def moved(x: Value, source: int, target: int) -> Value:
    """`x` with an axis put elsewhere."""
    axes = [k for k in range(len(x.shape)) if k != source]
    axes.insert(target, source)
    return x if axes == list(range(len(axes))) else find("permute")(x, perm=tuple(axes))
