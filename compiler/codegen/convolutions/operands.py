"""What a cluster with a convolution computes: extents, the two operands, and the epilogue as a list of steps.

In: the cluster's graph (one convolution of operands that lie in memory, elementwise ops on its result). Out: `ConvolutionOperands`.

All three ops are products of matrices, one per group, whose elements are found by tables:

    gives   C [rows, columns]                 k                        A                    B
    y       [o], [n, p]                       (c, r)                   w                    x, at the places that (p, r) meet
    x       [c], [n, q], for each phase       (o, r of the phase)      w                    y, at the places that (q, r) meet
    w       [o], [c, r]                       (n, p)                   y                    x, at the places that (p, r) meet

A phase is the places of x that are alike modulo the stride: they meet the same taps, every (stride / gcd(stride, dilation))-th
of the kernel, so that no element is multiplied by a zero between strides. Nothing here emits code. Next: `cut.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

from flambeau.compiler.codegen.products.operands import Flattener, MatrixAccess, NoProduct, TermOp, TermReader, TermRef
from flambeau.dialects.dtypes import DType, int8, int32, uint8
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.size import Int, Size
from flambeau.dialects.tape.convolution import ROLES, by_role

#: Which of the three tensors an op gives.
GIVES = {name: roles[-1] for name, roles in ROLES.items()}


class Axis(NamedTuple):
    """A spatial axis: extents of x, y and w, and how places of these meet."""

    x: Int
    y: Int
    w: Int
    stride: int
    padding: int
    dilation: int

    @property
    def is_plain(self) -> bool:
        """Whether every place of y meets the one place of x that has its number."""
        return self.w == 1 and self.stride == 1 and self.padding == 0 and self.x == self.y


class Small(NamedTuple):
    """Operands of 8 bits that are only widened: their dtypes in memory, and where the kernel lies: its element (o, c, r...) is at
    `offset` + `strides`."""

    kernel: DType
    map: DType
    offset: Int
    strides: tuple[Int, ...]


@dataclass(frozen=True)
class ConvolutionOperands:
    """`gives` is the tensor that is computed, `a` and `b` are the values of the operands in the roles above. `o` and `c` are
    channels of a group. Epilogue: as in `products.operands.Contraction`; a leaf's batch strides are those of images and of
    groups."""

    gives: str
    dtype: DType
    result: int
    a: int
    b: int
    images: Int
    groups: int
    o: Int
    c: Int
    axes: tuple[Axis, ...]
    small: Small | None = None
    leaves: tuple[MatrixAccess, ...] = ()
    steps: tuple[TermOp, ...] = ()
    outputs: tuple[tuple[int, TermRef, DType], ...] = ()

    @property
    def xs(self) -> Int:
        """Places of a map of x."""
        return prod(a.x for a in self.axes)

    @property
    def ys(self) -> Int:
        return prod(a.y for a in self.axes)

    @property
    def ws(self) -> Int:
        return prod(a.w for a in self.axes)

    @property
    def rows(self) -> Int:
        return self.c if self.gives == "x" else self.o

    @property
    def pixels(self) -> Int:
        """Columns of C that lie side by side in the result."""
        return {"y": self.ys, "x": self.xs, "w": self.c * self.ws}[self.gives]

    @property
    def copies(self) -> Int:
        """How many such rows of pixels the columns are."""
        return 1 if self.gives == "w" else self.images

    @property
    def extents(self) -> tuple[Int, ...]:
        """The result's coordinates: copies, groups, rows of one and their pixels."""
        return self.copies, self.groups, self.rows, self.pixels

    def is_dense(self, x: MatrixAccess) -> bool:
        """Whether an epilogue operand lies exactly as the result does."""
        extents = self.extents
        strides = [prod(extents[k + 1 :]) for k in range(4)]
        dense = tuple(0 if n == 1 else s for n, s in zip(extents, strides, strict=True))
        return x.offset == 0 and (*x.batch, x.row, x.column) == dense

    @property
    def k(self) -> Int:
        """Steps along k; of x, those of all phases together."""
        return {"y": self.c * self.ws, "x": self.o * self.ws, "w": self.images * self.ys}[self.gives]

    @property
    def phases(self) -> int:
        """Classes of columns that meet different taps."""
        return prod(a.stride for a in self.axes) if self.gives == "x" else 1


def extents_of_result(gives: str, shape: tuple[Int, ...], groups: int) -> tuple[Int, ...]:
    """A result of this shape as `ConvolutionOperands.extents`."""
    images, channels, places = (1, shape[0], shape[1:]) if gives == "w" else (shape[0], shape[1], shape[2:])
    return images, groups, channels // groups, prod(places)


def read(graph: Graph) -> ConvolutionOperands:
    """What a cluster's graph computes. Raises NoProduct where that is more than one convolution."""
    return _ConvolutionReader(graph).read()


class _ConvolutionReader(TermReader[ConvolutionOperands]):
    """Reads the ops around a convolution."""

    def found(self, head: Node) -> ConvolutionOperands:
        graph, avals = self.graph, self.graph.avals
        gives = GIVES[head.op.name]
        small = self._small(head)
        first, second = (self.terms[v].args[0].value if small else self._in_memory(v) for v in head.operands)
        _, stride, padding, dilation, groups = head.attrs
        x, w, y = by_role(head.op.name, [avals[v].shape for v in (*head.operands, *head.results)])
        extents = zip(x[2:], y[2:], w[2:], stride, padding, dilation, strict=True)
        c = ConvolutionOperands(
            gives, avals[head.results[0]].dtype, head.results[0], second, first, x[0], groups,
            w[0] // groups, w[1], _plane(extents) if small else _joined([Axis(*e) for e in extents]), small,
        )  # fmt: skip
        flat = Flattener(graph, extents_of_result(gives, avals[head.results[0]].shape, groups))
        outputs = tuple((v, flat.ref(self.terms[v]), avals[v].dtype) for v in graph.outputs)
        return replace(c, leaves=tuple(flat.leaves), steps=tuple(flat.steps), outputs=outputs)

    def _small(self, head: Node) -> Small | None:
        """Operands that are 8-bit integers in memory, and nothing but widened. Raises NoProduct where these cannot be read."""
        terms = [self.terms[v] for v in head.operands]
        if not any(t.node is not None for t in terms):
            return None
        sources = [t.args[0] for t in terms if t.node is not None and t.node.op.name == "cast"]
        dtypes = [self.graph.avals[t.value].dtype for t in sources if t.layout is not None]
        if GIVES[head.op.name] != "y" or len(dtypes) != 2 or dtypes[1] is not int8 or dtypes[0] not in (int8, uint8):
            raise NoProduct("[convolution] an operand is computed. Store it first.")
        map, kernel = (t.layout for t in sources)
        if map is None or kernel is None or self.graph.avals[head.results[0]].dtype is not int32:
            raise NoProduct("[convolution] an operand is computed. Store it first.")
        lies = (
            map.is_identity and not kernel.dynamic and len(kernel.shape) <= 4 and not isinstance(kernel.shape[1], Size)
        )
        if not lies or (kernel.strides[1] != 1 and kernel.shape[1] != 1):
            raise NoProduct(
                "[convolution] channels of a kernel of 8-bit integers do not lie side by side. Store it wide first."
            )
        return Small(dtypes[1], dtypes[0], kernel.offset, kernel.strides)

    def _in_memory(self, v: int) -> int:
        """The graph's input that an operand is, element by element."""
        layout = self.terms[v].layout
        if layout is None or not layout.is_identity:
            raise NoProduct("[convolution] an operand does not lie in memory in order. Store it first.")
        return self.terms[v].value


def _plane(extents: Iterable[tuple[Any, ...]]) -> tuple[Axis, ...]:
    """Rows and columns; of one axis these are columns."""
    axes = [Axis(*e) for e in extents]
    return (Axis(1, 1, 1, 1, 0, 1), *axes) if len(axes) == 1 else tuple(axes)


def _joined(axes: list[Axis]) -> tuple[Axis, ...]:
    """Axes that only count places are one with their neighbour of that sort: a kernel of one place has one axis."""
    found: list[Axis] = []
    for axis in axes:
        if found and found[-1].is_plain and axis.is_plain:
            found[-1] = found[-1]._replace(x=found[-1].x * axis.x, y=found[-1].y * axis.y)
        else:
            found.append(axis)
    wide = [a for a in found if not (a.is_plain and a.x == 1)]
    return tuple(wide or found[:1])
