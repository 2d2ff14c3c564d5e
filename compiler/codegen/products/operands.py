"""What a contraction cluster computes: its extents, its operands, and the epilogue as a list of steps.

In: the cluster's graph (views and elementwise ops on the operands, one matmul, elementwise ops on its result). Out:
`Contraction`, with batch dimensions joined as far as every operand allows. Nothing here emits code. Next: `cut.py`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Generic, NamedTuple, TypeVar

from flambeau.compiler import families
from flambeau.compiler.codegen.access import StridedView, apply_view, dense
from flambeau.compiler.codegen.products.places import is_fixed, is_step, keeps_places, onto
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import OpRecord

_Read = TypeVar("_Read")


class NoProduct(ValueError):
    """A cluster that is more than one product with elementwise ops around it."""


class MatrixAccess(NamedTuple):
    """Element (batch..., row, column) of an operand lies at `offset + strides . coordinates` of graph input `value`."""

    value: int
    dtype: DType
    offset: Any
    batch: tuple[Any, ...]
    row: Any
    column: Any


class TermRef(NamedTuple):
    """A value of an operand or the epilogue: the product ("acc"), a leaf by number, or an earlier step's result."""

    kind: str  # "acc" | "leaf" | "step"
    number: int = 0


class TermOp(NamedTuple):
    """One elementwise op (or 0-d constant) of an operand or the epilogue."""

    op: OpRecord
    attrs: tuple[Hashable, ...]
    args: tuple[TermRef, ...]


class Factor(NamedTuple):
    """An operand of a product: element (batch..., row, column) is `ref`, computed by `steps` from the `leaves` there."""

    leaves: tuple[MatrixAccess, ...]
    steps: tuple[TermOp, ...]
    ref: TermRef

    @property
    def is_computed(self) -> bool:
        """Whether it is more than a view of memory."""
        return bool(self.steps)

    @property
    def row(self) -> Any:
        """The stride between rows of a view of memory."""
        return self.leaves[0].row

    @property
    def column(self) -> Any:
        return self.leaves[0].column

    @property
    def runs_along_columns(self) -> bool:
        """Whether (most) elements that are adjacent in memory are neighbours in a row."""
        return self._adjacent_columns > 0 and self._adjacent_columns >= self._adjacent_rows

    @property
    def runs_along_rows(self) -> bool:
        return self._adjacent_rows > 0 and self._adjacent_rows >= self._adjacent_columns

    @property
    def _adjacent_columns(self) -> int:
        return sum(x.column == 1 for x in self._matrices)

    @property
    def _adjacent_rows(self) -> int:
        return sum(x.row == 1 for x in self._matrices)

    @property
    def _matrices(self) -> list[MatrixAccess]:
        """The leaves that vary along rows and columns; where there are none, all."""
        return [x for x in self.leaves if x.row and x.column] or list(self.leaves)


@dataclass(frozen=True)
class Contraction:
    """C[batch, m, n] = sum over k of lhs[batch, m, k] * rhs[batch, k, n], then `steps`; `outputs` are (value, ref)."""

    dtype: DType
    result: int
    batch: tuple[Any, ...]
    m: Any
    n: Any
    k: Any
    lhs: Factor
    rhs: Factor
    leaves: tuple[MatrixAccess, ...] = ()
    steps: tuple[TermOp, ...] = ()
    outputs: tuple[tuple[int, TermRef, DType], ...] = ()

    @property
    def batches(self) -> Any:
        return prod(self.batch)

    @property
    def is_vector(self) -> bool:
        """Whether it is a dot or matrix-vector product, whose sums run over the lanes of inner reductions."""
        return self.dtype.is_floating_point and (self.m == 1 or self.n == 1)


@dataclass(frozen=True)
class _Term:
    """An expression over the cluster's inputs and the product; `acc` says whether it depends on the product.

    A leaf has a `layout`, an op its `node`, the product neither.
    """

    kind: str  # "acc" | "leaf" | "op"
    acc: bool = False
    value: int = 0
    layout: StridedView | None = None
    node: Node | None = None
    args: tuple[_Term, ...] = ()


@dataclass
class TermReader(Generic[_Read]):
    """Reads a cluster around its head, the one op that has loops of its own: all that is computed, as terms. Raises NoProduct."""

    graph: Graph
    terms: dict[int, _Term] = field(default_factory=dict)
    head: Node | None = None

    def read(self) -> _Read:
        for v in self.graph.inputs:
            self.terms[v] = _Term("leaf", value=v, layout=dense(self.graph.avals[v].shape))
        for node in self.graph.nodes:
            self.terms[node.results[0]] = self._term(node)
        if self.head is None:
            raise NoProduct("[gemm] the cluster has no product. Give it to another code generator.")
        return self.found(self.head)

    def found(self, head: Node) -> _Read:
        """What the cluster computes."""
        raise NotImplementedError

    def _term(self, node: Node) -> _Term:
        args = tuple(self.terms[v] for v in node.operands)
        if self.head is None and families.rules(node.op).is_head:
            self.head = node
            return _Term("acc", acc=True)
        if node.op.family.is_view and is_fixed(node):
            return _view(node, args[0])
        if is_step(self.graph, node):
            return _Term("op", any(a.acc for a in args), node=node, args=args)
        raise NoProduct(f"[gemm] a contraction cluster cannot hold {node.op.name}. Put it into another cluster.")


class _ContractionReader(TermReader[Contraction]):
    def found(self, matmul: Node) -> Contraction:
        result, avals = matmul.results[0], self.graph.avals
        shape, k = avals[result].shape, avals[matmul.operands[0]].shape[-1]
        lhs, rhs = (self._operand(v) for v in matmul.operands)
        flat = Flattener(self.graph, shape)
        outputs = tuple((v, flat.ref(self.terms[v]), avals[v].dtype) for v in self.graph.outputs)
        return Contraction(
            avals[result].dtype, result, shape[:-2], shape[-2], shape[-1], k, lhs, rhs,
            tuple(flat.leaves), tuple(flat.steps), outputs,
        )  # fmt: skip

    def _operand(self, v: int) -> Factor:
        if self.terms[v].acc:
            raise ValueError("[gemm] an operand depends on the product. Compute it in a cluster of its own.")
        flat = Flattener(self.graph, self.graph.avals[v].shape)
        ref = flat.ref(self.terms[v])
        return Factor(tuple(flat.leaves), tuple(flat.steps), ref)


@dataclass
class Flattener:
    """Turns terms into steps and leaves, each distinct one once."""

    graph: Graph
    shape: tuple[Any, ...]
    leaves: list[MatrixAccess] = field(default_factory=list)
    steps: list[TermOp] = field(default_factory=list)
    known: dict[_Term, TermRef] = field(default_factory=dict)

    def ref(self, term: _Term) -> TermRef:
        found = self.known.get(term)
        if found is None:
            found = self.known[term] = self._make(term)
        return found

    def _make(self, term: _Term) -> TermRef:
        if term.layout is not None:
            return self._leaf(_access(self.graph, term.value, self._onto(term.layout)))
        if term.node is None:
            return TermRef("acc")
        step = TermOp(term.node.op, term.node.attrs, tuple(self.ref(a) for a in term.args))
        self.steps.append(step)
        return TermRef("step", len(self.steps) - 1)

    def _onto(self, layout: StridedView) -> StridedView:
        found = onto(layout, self.shape)
        if found is None:
            raise NoProduct("[gemm] an epilogue operand is not affine in the product's coordinates.")
        return found

    def _leaf(self, access: MatrixAccess) -> TermRef:
        if access not in self.leaves:
            self.leaves.append(access)
        return TermRef("leaf", self.leaves.index(access))


def read(graph: Graph) -> Contraction:
    """The contraction that a cluster's graph computes. Raises NoProduct for a graph that is none."""
    return _join_batches(_ContractionReader(graph).read())


def _view(node: Node, term: _Term) -> _Term:
    if term.acc:
        if not keeps_places(node):
            raise NoProduct(f"[gemm] {node.op.name} of a product's result. Put it into another cluster.")
        return term
    if term.layout is not None:
        layout = apply_view(node, term.layout)
        if layout is None or layout.dynamic:
            raise NoProduct(f"[gemm] {node.op.name} of an operand is not affine. Compute it in a cluster of its own.")
        return replace(term, layout=layout)
    return replace(term, args=tuple(_view(node, a) for a in term.args))


def _access(graph: Graph, value: int, layout: StridedView) -> MatrixAccess:
    strides = tuple(0 if extent == 1 else s for extent, s in zip(layout.shape, layout.strides, strict=True))
    return MatrixAccess(value, graph.avals[value].dtype, layout.offset, strides[:-2], strides[-2], strides[-1])


# ---- fewer dimensions -----------------------------------------------------------------------------------------


def _join_batches(c: Contraction) -> Contraction:
    """Drop unit batch dimensions, join those that run on in every operand, and fold the last one into M where the
    right operand does not vary over it (not for vectors: a product's order of sums depends on M and N)."""
    left, right = len(c.lhs.leaves), len(c.lhs.leaves) + len(c.rhs.leaves)
    accesses = [*c.lhs.leaves, *c.rhs.leaves, *c.leaves]
    of_rhs = range(left, right)
    dims: list[list[Any]] = []
    for extent, *strides in zip(c.batch, *(a.batch for a in accesses), strict=True):
        if extent == 1:
            continue
        if dims and all(outer == extent * inner for outer, inner in zip(dims[-1][1], strides, strict=True)):
            dims[-1] = [dims[-1][0] * extent, strides]
        else:
            dims.append([extent, strides])
    m, rows = c.m, [a.row for a in accesses]
    while dims and not c.is_vector and (folded := _fold(m, rows, of_rhs, *dims[-1])):
        m, rows = folded
        dims.pop()
    columns = list(zip(*(strides for _, strides in dims), strict=True)) or [()] * len(accesses)
    joined = [
        a._replace(batch=tuple(b), row=a.row if k in of_rhs else r)
        for k, (a, b, r) in enumerate(zip(accesses, columns, rows, strict=True))
    ]
    return replace(
        c,
        batch=tuple(e for e, _ in dims),
        m=m,
        lhs=c.lhs._replace(leaves=tuple(joined[:left])),
        rhs=c.rhs._replace(leaves=tuple(joined[left:right])),
        leaves=tuple(joined[right:]),
    )


def _fold(
    m: int, rows: Sequence[int], of_rhs: range, extent: int, strides: Sequence[int]
) -> tuple[int, list[int]] | None:
    """M and the row strides after folding a batch dimension into the rows; None where some operand forbids it."""
    shared = all(strides[k] == 0 for k in of_rhs)
    if m == 1:
        return (extent, list(strides)) if shared else None
    runs_on = all(s == m * row for k, (s, row) in enumerate(zip(strides, rows, strict=True)) if k not in of_rhs)
    return (m * extent, list(rows)) if shared and runs_on else None


def unit_of_rhs(c: Contraction) -> str:
    """The direction in which B's elements are adjacent; a computed B is brought into the one that tiles read."""
    if c.rhs.is_computed:
        return "neither"
    return "column" if c.rhs.column == 1 or c.n == 1 else "row" if c.rhs.row == 1 or c.k == 1 else "neither"


def unit_of_lhs(c: Contraction) -> str:
    """The direction in which elements of an A in memory are adjacent."""
    if c.lhs.is_computed:
        return "neither"
    return "column" if c.lhs.column == 1 else "row" if c.lhs.row == 1 else "neither"


def lines_of(factor: Factor) -> str:
    """The lines that most leaves of a computed operand run along, "row" or "column"; "none" if it only lies in memory."""
    if not factor.is_computed:
        return "none"
    return "row" if factor.runs_along_columns or not factor.runs_along_rows else "column"
