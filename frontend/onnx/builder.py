"""An ONNX graph in the making, and the table of what writes our primitive ops.

In: a recorded graph's nodes, one after the other. Out: nodes and initializers. Three things keep files small: what is made of
constants alone is computed here (`OnnxBuilder.known`), a stretched operand of an elementwise op stays as it is (ONNX stretches
itself: `OnnxBuilder.unstretched`), and a reshape to the same shape is no node. Sizes with symbols (`dynamic.py`) are computed from
the shapes of the inputs; what needs the value of one pins it, which is then said. Next: `writing/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.size import Int, Size, is_static
from flambeau.dialects.size_rows import GREATER, QUOTIENT
from flambeau.onnx.package import number_of, onnx

#: Constants of up to so many elements are computed when the file is written.
_MOST_FOLDED = 4096

#: (builder, node) -> the names of its results.
Writer = Callable[["OnnxBuilder", Node], "str | tuple[str, ...]"]
WRITERS: dict[str, Writer] = {}


def writes(*ops: str) -> Callable[[Writer], Writer]:
    """A decorator: this function writes these primitive ops."""

    def define(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(ops, writer))
        return writer

    return define


class Unwritten(Exception):
    """A variant of an op that ONNX has no nodes for; the message says which."""


class OnnxBuilder:
    """`names[v]` is what value v of the recorded graph is called, `known[v]` its array where that is constant, `symbols[i]` the
    input and the dimension of which symbol i is the size."""

    def __init__(self, graph: Graph, symbols: Mapping[int, tuple[str, int]] | None = None, prefix: str = "v") -> None:
        self.graph, self.symbols, self._prefix = graph, symbols or {}, prefix
        self.names: dict[int, str] = {}
        self.known: dict[int, np.ndarray] = {}
        self.unstretched: dict[int, int] = {}  # a broadcast's result: its operand
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple, str] = {}
        self._sizes: dict[Size, str] = {}
        self._count = 0

    # ---- values ----------------------------------------------------------------------------------------------

    def aval(self, v: int) -> Aval:
        return self.graph.avals[v]

    def shape(self, v: int) -> tuple[Any, ...]:
        return self.graph.avals[v].shape

    def name(self, v: int) -> str:
        """What a value is called; a constant or a stretched value becomes a node when somebody asks."""
        if v not in self.names:
            if v in self.known:
                self.names[v] = self.constant(self.known[v])
            else:
                operand = self.name(self.unstretched[v])
                self.names[v] = self.node("Expand", operand, self.ints(self.shape(v)))
        return self.names[v]

    def array(self, v: int, what: str) -> np.ndarray:
        """A constant's array. Raises Unwritten for another value."""
        if v not in self.known:
            raise Unwritten(f"with {what} that is computed")
        return self.known[v]

    # ---- nodes -----------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}"

    def within(self, graph: Graph) -> OnnxBuilder:
        """A builder of a graph inside this one, which may read what is known so far."""
        return OnnxBuilder(graph, self.symbols, f"{self.fresh()}_")

    def several(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> tuple[str, ...]:
        """A node with so many results."""
        results = tuple(self.fresh() for _ in range(count))
        self.nodes.append(
            onnx().helper.make_node(kind, list(inputs), list(results), name=f"{kind}_{results[0]}", **attributes)
        )
        return results

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one result."""
        return self.several(kind, inputs, 1, **attributes)[0]

    def initializer(self, array: np.ndarray, name: str) -> str:
        self.initializers.append(onnx().numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def constant(self, array: np.ndarray) -> str:
        """A constant, which is no initializer: those are parameters. Equal ones are one."""
        array = np.asarray(array)
        key = (array.dtype.str, str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            value = onnx().numpy_helper.from_array(np.array(array, order="C"))
            self._constants[key] = self.node("Constant", value=value)
        return self._constants[key]

    def ints(self, values: Any) -> str:
        """A vector of sizes."""
        parts: list[str] = []
        for is_size, found in groupby(values, lambda v: isinstance(v, Size)):
            run = list(found)
            parts += map(self.size, run) if is_size else [self.constant(np.array([int(v) for v in run], np.int64))]
        if not parts:
            return self.constant(np.zeros(0, np.int64))
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def number(self, n: Int) -> str:
        """A size as a scalar."""
        return self.node("Squeeze", self.size(n)) if isinstance(n, Size) else self.constant(np.array(n, np.int64))

    def count(self, n: Int) -> str:
        """0, 1, ... below n."""
        if not isinstance(n, Size):
            return self.constant(np.arange(n))
        return self.node("Range", self.number(0), self.number(n), self.number(1))

    def size(self, size: Size) -> str:
        """A size with symbols, as a vector of one."""
        if size not in self._sizes:
            total = ""
            for monomial, c in size.terms:
                product = "" if c == 1 and monomial else self.ints([c])
                for atom in monomial:
                    factor = self._atom(atom)
                    product = self.node("Mul", product, factor) if product else factor
                total = self.node("Add", total, product) if total else product
            self._sizes[size] = total
        return self._sizes[size]

    def _atom(self, atom: Any) -> str:
        """A symbol; a quotient, rounded down, where ONNX's rounds to 0; the greater or the lesser of two."""
        if atom.symbol >= 0:
            name, dimension = self.symbols[atom.symbol]
            return self.node("Shape", name, start=dimension, end=dimension + 1)
        x, y = (self.ints([part]) for part in atom.parts)
        if atom.symbol == QUOTIENT:
            return self.node("Div", self.node("Sub", x, self.node("Mod", x, y)), y)
        return self.node("Max" if atom.symbol == GREATER else "Min", x, y)

    def like(self, v: int, number: Any) -> str:
        """A number in the dtype of a value."""
        return self.constant(np.array(number, self.aval(v).dtype.numpy))

    def cast(self, name: str, dtype: Any) -> str:
        return self.node("Cast", name, to=number_of(dtype))

    def reshaped(self, name: str, shape: Sequence[Int]) -> str:
        """The one size that has symbols, if it is the only one, is left to ONNX."""
        fixed = {n for n in shape if not isinstance(n, Size)}
        if sum(isinstance(n, Size) for n in shape) == 1 and fixed.isdisjoint((0, -1)):
            shape = [-1 if isinstance(n, Size) else n for n in shape]
        more = {"allowzero": 1} if 0 in fixed else {}
        return self.node("Reshape", name, self.ints(shape), **more)

    # ---- the graph -------------------------------------------------------------------------------------------

    def add(self, node: Node) -> None:
        """One node of the recorded graph. Raises Unwritten for what ONNX lacks."""
        if self._folded(node):
            return
        if node.op.name == "broadcast":
            self._stretched(node)
            return
        if node.op.name not in WRITERS:
            raise Unwritten("")
        found = WRITERS[node.op.name](self, node)
        self.names.update(zip(node.results, (found,) if isinstance(found, str) else found))

    def _stretched(self, node: Node) -> None:
        (operand,), (result,) = node.operands, node.results
        if self.shape(operand) == self.shape(result):
            self.names[result] = self.name(operand)
        else:
            self.unstretched[result] = operand

    def _folded(self, node: Node) -> bool:
        """Whether the results are constants, and small ones."""
        is_source = not node.operands and node.op.name in ("constant", "iota")
        if not is_source and (not node.operands or any(v not in self.known for v in node.operands)):
            return False
        is_fixed = is_static(node.attrs) and all(is_static(self.shape(v)) for v in node.results)
        if (
            node.regions
            or node.op.effect
            or not is_fixed
            or any(self.aval(v).size > _MOST_FOLDED for v in node.results)
        ):
            return is_source and self._source(node)
        found = node.op.reference(*(self.known[v] for v in node.operands), *node.attrs)
        self.known.update(zip(node.results, found if isinstance(found, tuple) else (found,)))
        return True

    def _source(self, node: Node) -> bool:
        """A number that is a size; a long iota, which is a short one, stretched."""
        (result,) = node.results
        if node.op.name == "constant":
            value, dtype = node.attrs
            self.names[result] = self.cast(self.number(value), dtype)
            return True
        shape, dim, dtype = node.attrs
        along = [n if d == dim else 1 for d, n in enumerate(shape)]
        if is_static(shape[dim]):
            row = self.constant(np.arange(shape[dim]).astype(dtype.numpy).reshape(along))
        else:
            row = self.reshaped(self.cast(self.count(shape[dim]), dtype), along)
        self.names[result] = self.node("Expand", row, self.ints(shape))
        return True
