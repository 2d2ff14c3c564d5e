"""A block of rows of a chain of products, folds of rows and elementwise ops, as a program of its own.

In: the graph of a cluster whose products share their rows: scores [*batch, rows, n], what is made of them row by row, products
of that with something else, and products that fold the rows. Out: `BlockProgram`: a graph that makes some rows of one matrix of
the batch, and where its inputs and outputs lie. Its ops are those of the cluster on fewer rows, so its bits are those of the
cluster's ops apart. Raises NoBlocks for what does not go by rows. Next: `kernel.py`, which loops over blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from flambeau.compiler.codegen.access import StridedView, permute, reshape
from flambeau.compiler.codegen.fragment import Fragment
from flambeau.compiler.codegen.nest_rules import Source, is_leaf_source
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find
from flambeau.dialects.size import Size


class NoBlocks(ValueError):
    """A graph that cannot be computed block of rows by block of rows."""


class Feed(NamedTuple):
    """An input of a block. "value": elements of an input of the cluster from `offset` on, plus `batch` times the coordinates in the
    batch, plus `step` times the first row. "row": the number of the first row, plus `offset`; "place": that of its first element,
    among rows of `step`. "sums": what output `value` of the cluster holds so far."""

    kind: str
    value: int = 0
    offset: int = 0
    batch: tuple[int, ...] = ()
    step: int = 0


class Given(NamedTuple):
    """An output of a block: rows of `columns` elements of an output of the cluster, or (`is_sum`) that many for all rows."""

    value: int
    columns: int
    is_sum: bool = False


@dataclass(frozen=True)
class BlockProgram:
    """The program of one block, whose inputs are `feeds` and whose outputs are `given`, in order. Sums come first in both."""

    graph: Graph
    feeds: tuple[Feed, ...]
    given: tuple[Given, ...]

    @property
    def sums(self) -> int:
        return sum(g.is_sum for g in self.given)


class Extent(NamedTuple):
    """What a cluster's products share: the batch, and the rows of its matrices."""

    batch: tuple[int, ...]
    rows: int


def extent(graph: Graph) -> Extent:
    """That of a cluster, which its first product has. Raises NoBlocks."""
    product = next((n for n in graph.nodes if n.op.family.is_product), None)
    if product is None:
        raise NoBlocks("[blocks] there is no product.")
    *batch, rows, _ = graph.avals[product.results[0]].shape
    if any(isinstance(n, Size) for n in (*batch, rows)):
        raise NoBlocks("[blocks] the number of rows is known only when the program runs.")
    return Extent(tuple(n for n in batch if n != 1), rows)


def widest(graph: Graph) -> int:
    """The columns of the widest matrix that a block computes."""
    return max(int(graph.avals[n.results[0]].shape[-1]) for n in graph.nodes if n.op.family.is_product)


def block(graph: Graph, rows: int, known: int = 0) -> BlockProgram:
    """The program of `rows` rows of a cluster's graph. The first `known` of them belong to the block before, too: sums have had
    them. Raises NoBlocks."""
    return _BlockWriter(graph, extent(graph), rows, known).run()


@dataclass
class _Rows:
    """Rows of `columns` elements, or (0) one element per row."""

    value: Value
    columns: int


@dataclass
class _Sum:
    """The sum over all rows so far, `fed` by an input."""

    value: Value
    fed: int


@dataclass
class _BlockWriter:
    graph: Graph
    extent: Extent
    rows: int
    known: int = 0
    feeds: dict[tuple[Feed, tuple[int, ...], Any], Value] = field(default_factory=dict)
    made: dict[int, _Rows] = field(default_factory=dict)
    sums: dict[int, _Sum] = field(default_factory=dict)
    whole: dict[int, Value] = field(default_factory=dict)  # matrices that are computed
    of_rows: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.b = GraphBuilder()
        self.fragment = Fragment(self.graph)
        if not self.fragment.is_affine or self.rows < 2:
            raise NoBlocks("[blocks] a view is not affine, or a block has less than two rows.")

    def run(self) -> BlockProgram:
        for node in self.fragment.members:
            if not node.op.family.is_pointwise:
                self._node(node)
        for v in self.graph.outputs:
            self._make(v)
        return self._finish()

    def _finish(self) -> BlockProgram:
        known = {v.id: feed for (feed, _, _), v in self.feeds.items()}
        sums = [v for v in self.graph.outputs if v in self.sums]
        others = [v for v in self.graph.outputs if v not in self.sums]
        if any(v not in self.made for v in others):
            raise NoBlocks("[blocks] an output does not go by rows.")
        fed = [self.sums[v].fed for v in sums]
        if len(set(fed)) < len(fed) or len(fed) < len({s.fed for s in self.sums.values()}):
            raise NoBlocks("[blocks] a sum over the rows is no output, or two of them.")
        graph = self.b.graph
        graph.inputs = [*fed, *(v for v in graph.inputs if v not in fed)]
        graph.outputs = [*(self.sums[v].value.id for v in sums), *(self.made[v].value.id for v in others)]
        feeds = [Feed("sums", v) for v in sums] + [known[v] for v in graph.inputs[len(sums) :]]
        given = [Given(v, prod(self.sums[v].value.shape), True) for v in sums]
        given += [Given(v, self.made[v].columns or 1) for v in others]
        return BlockProgram(graph, tuple(feeds), tuple(given))

    # ---- ops ---------------------------------------------------------------------------------------------------

    def _make(self, root: int) -> None:
        """Elementwise ops are computed once somebody reads them, who says whether they go by rows."""
        node = self.fragment.member_of.get(root)
        if node is not None and node.op.family.is_pointwise and root not in self.made and root not in self.sums:
            self._node(node)

    def _node(self, node: Node) -> None:
        self.b.loc = node.loc
        if node.may_fail or node.has_effect or len(node.results) > 1:
            raise NoBlocks(f"[blocks] {node.op.name} may fail.")
        if node.op.family.is_product:
            self._product(node)
        elif node.op.family.folds:
            self._fold(node)
        elif node.op.name == "random_bits":
            self._random(node)
        elif node.op.family.is_pointwise:
            self._points(node)
        else:
            raise NoBlocks(f"[blocks] {node.op.name} does not go by rows.")

    def _points(self, node: Node) -> None:
        (result,) = node.results
        roots = [self.fragment.sources[v].root for v in node.operands]
        for root in roots:
            self._make(root)
        if any(r in self.sums for r in roots):
            return self._on_sum(node, roots)
        columns = self._columns(self.graph.avals[result].shape)
        self._set(node, [self._read(self.fragment.sources[v], columns) for v in node.operands], columns)

    def _on_sum(self, node: Node, roots: list[int]) -> None:
        """Which NaN a sum is may be said of every sum on the way to it; nothing else can be."""
        if node.op.name != "canonical_nan" or not self.fragment.sources[node.operands[0]].layout.is_identity:
            raise NoBlocks(f"[blocks] {node.op.name} of a sum over the rows.")
        before = self.sums[roots[0]]
        self.sums[node.results[0]] = _Sum(self.b.emit(node.op, (before.value,), node.attrs), before.fed)

    def _fold(self, node: Node) -> None:
        (operand,), (axes, *_) = node.operands, node.attrs
        shape = self.graph.avals[operand].shape
        columns = self._columns(shape)
        if not columns or tuple(axes) != (len(shape) - 1,):
            raise NoBlocks("[blocks] a fold is none of the columns.")
        (x,) = (self._read(self.fragment.sources[operand], columns),)
        made = self.b.emit(node.op, (x,), ((1,), *node.attrs[1:]))
        self.made[node.results[0]] = _Rows(made, 0)

    def _random(self, node: Node) -> None:
        """Element i has counter `offset` + i, and a block begins at an i of its own."""
        shape = self.graph.avals[node.results[0]].shape
        columns = self._columns(shape)
        seed, offset = (self._scalar(self.fragment.sources[v]) for v in node.operands)
        place = self._feed(Feed("place", step=columns or 1), (), int64)
        made = self.b.emit(node.op, (seed, offset + place), (self._shape(columns),))
        self.made[node.results[0]] = _Rows(made, columns)

    def _set(self, node: Node, operands: list[Value], columns: int) -> None:
        self.made[node.results[0]] = _Rows(self.b.emit(node.op, operands, node.attrs), columns)

    def _product(self, node: Node) -> None:
        left, right = (self.fragment.sources[v] for v in node.operands)
        *batch, m, n = self.graph.avals[node.results[0]].shape
        k = self.graph.avals[node.operands[0]].shape[-1]
        if 1 in (m, n, k) or tuple(x for x in batch if x != 1) != self.extent.batch:
            raise NoBlocks("[blocks] a product is one of vectors, or of other matrices.")
        by_rows = self._is_made_of_rows(left.root)
        if (by_rows and not left.layout.is_identity) or (not by_rows and self._is_made_of_rows(right.root)):
            return self._folded_rows(node, left, right, (m, n, k))
        if m != self.extent.rows:
            raise NoBlocks("[blocks] a product has other rows, or needs all of them.")
        found = self.b.emit(node.op, (self._read(left, k), self._matrix(right, k, n)), ())
        self.made[node.results[0]] = _Rows(found, n)

    def _folded_rows(self, node: Node, left: Source, right: Source, extents: tuple[int, int, int]) -> None:
        """The sums over rows, added to those of the blocks before: the blocks of an order are blocks of rows."""
        m, n, k = extents
        if k != self.extent.rows:
            raise NoBlocks("[blocks] a product folds something else than rows.")
        layout = reshape(left.layout, (*self.extent.batch, m, k))
        if layout is None:
            raise NoBlocks("[blocks] a factor is not affine.")
        rank = len(self.extent.batch)
        across = permute(layout, (*range(rank), rank + 1, rank))
        x, y = (self._new(v) for v in (self._read(Source(left.root, across), m), self._read(right, n)))
        part = self.b.emit(node.op, (find("permute")(x, perm=(1, 0)), y), ())
        fed = self.b.input(part.aval)
        self.sums[node.results[0]] = _Sum(fed + part, fed.id)

    def _new(self, x: Value) -> Value:
        """The rows that sums have not had."""
        if not self.known:
            return x
        return find("slice")(x, starts=(self.known, 0), sizes=(self.rows - self.known, x.shape[1]), steps=(1, 1))

    # ---- operands ----------------------------------------------------------------------------------------------

    def _columns(self, shape: tuple[int, ...]) -> int:
        """The columns of rows in this shape, or 0 for one element per row."""
        rows = prod(self.extent.batch) * self.extent.rows
        if prod(shape) == rows:
            return 0
        if not shape or prod(shape[:-1]) != rows or isinstance(shape[-1], Size):
            raise NoBlocks(f"[blocks] a value of shape {shape} does not go by rows.")
        return shape[-1]

    def _shape(self, columns: int) -> tuple[int, ...]:
        return (self.rows, columns) if columns else (self.rows,)

    def _read(self, source: Source, columns: int) -> Value:
        """The block's part of a value."""
        root, layout = source
        self._make(root)
        if root in self.sums:
            raise NoBlocks("[blocks] a sum over the rows is read by rows.")
        if root in self.made:
            return self._member(self.made[root], layout, columns)
        node = self.fragment.producers.get(root)
        if node is not None and is_leaf_source(node):
            return self._leaf(node, layout, columns)
        whole = (*self.extent.batch, self.extent.rows, *([columns] if columns else []))
        found = self._affine(layout, whole)
        strides = found.strides if columns else (*found.strides, 0)
        *batch, row, column = strides
        x = self._window(root, found.offset, tuple(batch), row, (row, column), (self.rows, columns or 1))
        return x if columns else find("reshape")(x, shape=(self.rows,))

    def _member(self, made: _Rows, layout: StridedView, columns: int) -> Value:
        if made.columns == columns and layout.is_identity:
            return made.value
        over = reshape(layout, (prod(self.extent.batch) * self.extent.rows, columns)) if columns else None
        if made.columns or over is None or over.strides != (1, 0) or over.offset or over.dynamic:
            raise NoBlocks("[blocks] what was made of rows is read in another order.")
        return find("reshape")(made.value, shape=(self.rows, 1)).expand((self.rows, columns))

    def _leaf(self, node: Node, layout: StridedView, columns: int) -> Value:
        """A constant, or numbers of rows or columns."""
        if node.op.name == "constant":
            return self.b.emit(node.op, (), node.attrs).expand(self._shape(columns))
        *_, dtype = node.attrs
        over = reshape(layout, (*self.extent.batch, self.extent.rows, columns)) if columns else None
        if over is None or any(over.strides[:-2]) or over.dynamic or dtype is not int64:
            raise NoBlocks("[blocks] positions other than those of rows and columns.")
        shape, (row, column), offset = (self.rows, columns), over.strides[-2:], over.offset
        first: Value | None = None
        if row == 1:  # the text of the block does not depend on which rows these are
            first, offset = self._feed(Feed("row", offset=offset), (), int64), 0
        elif row:
            first = self._feed(Feed("row"), (), int64)
        x = None
        for dim, stride in ((0, row), (1, column)):
            if stride:
                along = find("iota")(shape=shape, dim=dim, dtype=int64, builder=self.b)
                along = along + first.expand(shape) if first is not None and not dim else along
                along = along if stride == 1 else along * stride
                x = along if x is None else x + along
        if x is None:
            return self.b.constant(offset, int64, shape)
        return x + offset if offset else x

    def _scalar(self, source: Source) -> Value:
        if source.root not in self.graph.inputs or source.layout.size != 1 or source.layout.dynamic:
            raise NoBlocks("[blocks] a number is computed where it is read.")
        none = (0,) * len(self.extent.batch)
        return self._feed(Feed("value", source.root, source.layout.offset, none), (), self._dtype(source.root))

    def _is_made_of_rows(self, root: int) -> bool:
        """Whether a value depends on a product, or on what was drawn for rows."""
        node = self.fragment.member_of.get(root)
        if node is None or not node.op.family.is_pointwise:
            return node is not None
        if root not in self.of_rows:
            self.of_rows[root] = any(self._is_made_of_rows(self.fragment.sources[v].root) for v in node.operands)
        return self.of_rows[root]

    def _matrix(self, source: Source, rows: int, columns: int) -> Value:
        """A matrix that all blocks read. What computes it does so for each: rows share that, as they share reading it."""
        root, layout = source
        node = self.fragment.producers.get(root)
        if node is not None and node.op.name == "constant":
            return self.b.emit(node.op, (), node.attrs).expand((rows, columns))
        found = self._affine(layout, (*self.extent.batch, rows, columns))
        *batch, row, column = found.strides
        if root in self.graph.inputs:
            return self._window(root, found.offset, tuple(batch), 0, (row, column), (rows, columns))
        if layout.is_identity and self.graph.avals[root].shape[-2:] == (rows, columns):
            return self._computed(root, rows, columns)
        dense = self.graph.avals[root].shape[-2:] == (columns, rows) and not found.offset
        if not dense or found.strides != (*_batch_strides(self.extent.batch, rows * columns), 1, rows):
            raise NoBlocks("[blocks] a factor is computed in another order than it is read.")
        return find("permute")(self._computed(root, columns, rows), perm=(1, 0))

    def _computed(self, root: int, rows: int, columns: int) -> Value:
        node = self.fragment.member_of.get(root)
        if node is None or not node.op.family.is_pointwise or node.may_fail or self._is_made_of_rows(root):
            raise NoBlocks("[blocks] a factor is computed where it is read.")
        if root not in self.whole:
            operands = [self._matrix(self.fragment.sources[v], rows, columns) for v in node.operands]
            self.whole[root] = self.b.emit(node.op, operands, node.attrs)
        return self.whole[root]

    def _affine(self, layout: StridedView, shape: tuple[int, ...]) -> StridedView:
        """A layout of memory over these coordinates."""
        if layout.size == 1 or (layout.is_uniform and layout.size != prod(shape)):
            found: StridedView | None = layout._replace(shape=shape, strides=(0,) * len(shape))
        elif layout.is_uniform:
            found = layout._replace(shape=shape, strides=(0,) * len(shape))
        else:
            found = reshape(layout, shape)
        if found is None or found.dynamic or any(isinstance(s, Size) or s < 0 for s in (found.offset, *found.strides)):
            raise NoBlocks("[blocks] an operand is not affine in batch, rows and columns.")
        return found

    def _window(
        self,
        root: int,
        offset: int,
        batch: tuple[int, ...],
        step: int,
        strides: tuple[int, int],
        shape: tuple[int, int],
    ) -> Value:
        """A matrix with these strides: a part of a dense one, which is all that the block knows of the memory."""
        if root not in self.graph.inputs:
            raise NoBlocks("[blocks] an operand does not lie in memory.")
        (m, n), (row, column) = shape, strides
        feed, dtype, cut = Feed("value", root, offset, batch, step), self._dtype(root), find("slice")
        if not row and not column:
            return self._feed(feed, (), dtype).expand(shape)
        if not column:
            x = self._feed(feed, (m, row), dtype)
            return cut(x, starts=(0, 0), sizes=(m, 1), steps=(1, 1)).expand(shape)
        if not row:
            x = cut(self._feed(feed, (n, column), dtype), starts=(0, 0), sizes=(n, 1), steps=(1, 1))
            return find("reshape")(x, shape=(1, n)).expand(shape)
        turned = column > row
        (long, short), (outer, inner) = ((n, m), (column, row)) if turned else ((m, n), (row, column))
        if outer % inner or outer // inner < short:
            raise NoBlocks("[blocks] rows of an operand overlap.")
        x = self._feed(feed, (long, outer // inner, inner), dtype)
        x = cut(x, starts=(0, 0, 0), sizes=(long, short, 1), steps=(1, 1, 1))
        x = find("reshape")(x, shape=(long, short))
        return find("permute")(x, perm=(1, 0)) if turned else x

    def _dtype(self, root: int) -> Any:
        return self.graph.avals[root].dtype

    def _feed(self, feed: Feed, shape: tuple[int, ...], dtype: Any) -> Value:
        key = (feed, shape, dtype)
        if key not in self.feeds:
            self.feeds[key] = self.b.input(Aval(shape, dtype))
        return self.feeds[key]


def _batch_strides(batch: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Those of matrices of `size` elements side by side."""
    return tuple(size * prod(batch[d + 1 :]) for d in range(len(batch)))
