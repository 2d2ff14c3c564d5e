"""An ONNX graph in the making, and the table of what writes our primitive ops.

In: a recorded graph's nodes, one after the other. Out: nodes and initializers. Three things keep files small: what is made of
constants alone is computed here (`OnnxBuilder.known`), a stretched operand of an elementwise op stays as it is (ONNX stretches
itself: `OnnxBuilder.unstretched`), and a reshape to the same shape is no node. Next: `writing/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Node
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
    """`names[v]` is what value v of the recorded graph is called, `known[v]` its array where that is constant."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: dict[int, str] = {}
        self.known: dict[int, np.ndarray] = {}
        self.unstretched: dict[int, int] = {}  # a broadcast's result: its operand
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[tuple, str] = {}
        self._count = 0

    # ---- values ----------------------------------------------------------------------------------------------

    def aval(self, v: int) -> Aval:
        return self.graph.avals[v]

    def shape(self, v: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self.graph.avals[v].shape)

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
        return f"v{self._count}"

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
        return self.constant(np.array([int(v) for v in values], np.int64))

    def like(self, v: int, number: Any) -> str:
        """A number in the dtype of a value."""
        return self.constant(np.array(number, self.aval(v).dtype.numpy))

    def cast(self, name: str, dtype: Any) -> str:
        return self.node("Cast", name, to=number_of(dtype))

    def reshaped(self, name: str, shape: Sequence[int]) -> str:
        more = {"allowzero": 1} if 0 in shape else {}
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
        if node.regions or node.op.effect or any(np.prod(self.shape(v)) > _MOST_FOLDED for v in node.results):
            return is_source and self._wide_source(node)
        found = node.op.reference(*(self.known[v] for v in node.operands), *node.attrs)
        self.known.update(zip(node.results, found if isinstance(found, tuple) else (found,)))
        return True

    def _wide_source(self, node: Node) -> bool:
        """A long iota is a short one, stretched."""
        (result,), (shape, dim, dtype) = node.results, node.attrs
        along = [n if d == dim else 1 for d, n in enumerate(shape)]
        row = self.constant(np.arange(shape[dim]).astype(dtype.numpy).reshape(along))
        self.names[result] = self.node("Expand", row, self.ints(shape))
        return True
