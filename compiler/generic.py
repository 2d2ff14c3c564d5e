"""The generic tier: a program run op by op, with the same bits as the fused one.

In: a graph and its inputs. Out: `Buffer`s. Where a record's NumPy reference is exact it stands in; every other op is a
one-op program compiled like any other (`link` says how). This tier also names the op that failed: `run_prefix`.
Next: `driver.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flambeau.compiler import foreign
from flambeau.compiler.identity import graph_key
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Node
from flambeau.runtime import _binding as runtime

#: Makes plans of one-op programs.
Link = Callable[[list[Graph]], list[Any]]


@dataclass
class Prefix:
    """What ran before an op failed: values by number, and the op's position and error (None if nothing failed)."""

    values: dict[int, Any] = field(default_factory=dict)
    failed: int | None = None
    error: Exception | None = None


class Interpreter:
    """Runs one graph op by op. Making one compiles the one-op programs that are missing."""

    def __init__(self, graph: Graph, link: Link) -> None:
        self.graph = graph
        self._plans = _link_ops(graph, link)
        self._dead = _last_uses(graph)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs, as Buffers. Raises the failing op's error, with its line."""
        prefix = self.run_prefix(inputs)
        if prefix.error is not None:
            raise prefix.error
        return [prefix.values[v] for v in self.graph.outputs]

    def run_prefix(self, inputs: Sequence[Any], stop: int | None = None, everything: bool = False) -> Prefix:
        """Run the nodes before `stop`, or all of them, until one fails.

        Gives the outputs that exist by then (those that are inputs, too), as Buffers; or `everything` that was computed.
        """
        values = self._bind(inputs)
        wanted = {v for n in self.graph.nodes for v in n.results} if everything else set(self.graph.outputs)
        prefix = Prefix()
        for position, node in enumerate(self.graph.nodes[:stop]):
            try:
                values[node.results[0]] = self._run(position, node, values)
            except Exception as error:
                prefix.failed, prefix.error = position, error
                break
            for v in self._dead[position]:
                if v not in wanted:
                    del values[v]
        prefix.values = {v: to_buffer(x) for v, x in values.items() if v in wanted}
        return prefix

    def _bind(self, inputs: Sequence[Any]) -> dict[int, np.ndarray]:
        avals = self.graph.avals
        if len(inputs) != len(self.graph.inputs):
            raise RuntimeError(
                f"[run] the program has {len(self.graph.inputs)} inputs, got {len(inputs)}. Pass one each."
            )
        return {v: to_array(x, avals[v]) for v, x in zip(self.graph.inputs, inputs)}

    def _run(self, position: int, node: Node, values: dict[int, np.ndarray]) -> np.ndarray:
        operands = [values[v] for v in node.operands]
        aval = self.graph.avals[node.results[0]]
        try:
            plan = self._plans.get(position)
            if plan is None:
                return np.asarray(node.op.reference(*operands, *node.attrs), aval.dtype.numpy)
            (result,) = plan.run([np.ascontiguousarray(x).reshape(x.shape) for x in operands])
            return to_array(result, aval)
        except runtime.KernelFailed as error:
            if node.op.failure is None:
                raise located(error, node) from None
            position_in_result = error.status & ((1 << 48) - 1)
            avals = [self.graph.avals[v] for v in node.operands]
            raise located(node.op.failure(position_in_result, *avals, *node.attrs), node) from None
        except Exception as error:
            raise located(error, node) from None


def located(error: Exception, node: Node) -> Exception:
    """`error` with the line that recorded the op."""
    note = f"recorded at {node.loc}"
    if node.loc is not None and note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


def to_array(value: Any, aval: Aval) -> np.ndarray:
    """A read-only look at a Buffer, array or number as the array it stands for."""
    dtype = aval.dtype.numpy
    if isinstance(value, int | float):
        return np.asarray(value, dtype)
    if isinstance(value, np.ndarray):
        return value.reshape(aval.shape)
    if not aval.size:
        return np.empty(aval.shape, dtype)
    return np.frombuffer(value, dtype, count=aval.size).reshape(aval.shape)


def to_buffer(array: np.ndarray) -> Any:
    """A Buffer with the array's elements, row-major: the very one it looks at where that is all of it, else a copy."""
    owner = array.base
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, runtime.Buffer) and _covers(owner, array):
        return owner
    buffer = runtime.Buffer.alloc(array.nbytes)
    if array.size:
        np.copyto(np.frombuffer(memoryview(buffer), array.dtype, count=array.size).reshape(array.shape), array)
    return buffer


def _covers(buffer: Any, array: np.ndarray) -> bool:
    """Whether the array's elements, row-major, are all of the buffer."""
    return array.flags.c_contiguous and buffer.nbytes == array.nbytes and buffer.address == array.ctypes.data


def _link_ops(graph: Graph, link: Link) -> dict[int, Any]:
    """A plan for each node that needs one, by position; equal ones are made once."""
    singles: dict[str, Graph] = {}
    keys: dict[int, str] = {}
    for position, node in enumerate(graph.nodes):
        if not node.op.exact:
            single = one_op(graph, node)
            keys[position] = graph_key(single)
            singles.setdefault(keys[position], single)
    ours = {k: g for k, g in singles.items() if not foreign.ops(g)}
    plans = dict(zip(ours, link(list(ours.values())), strict=True)) if ours else {}
    plans |= {k: plan for k, g in singles.items() if k not in ours and (plan := _link_foreign(g, link)) is not None}
    return {position: plans[key] for position, key in keys.items() if key in plans}


def _link_foreign(single: Graph, link: Link) -> Any:
    """The plan of a plug-in's op, or None where its lowering does not work: then its reference stands in for good."""
    try:
        return link([single])[0]
    except Exception as error:
        warnings.warn(
            f"[plug-in] {foreign.named(foreign.ops(single))} does not compile: {error} Its NumPy reference runs instead.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def one_op(graph: Graph, node: Node) -> Graph:
    """The program that is just this node, with an input per operand, also where one value is read twice."""
    single = Graph()
    operands = tuple(single.add_input(graph.avals[v]) for v in node.operands)
    result = single.add_value(graph.avals[node.results[0]])
    single.nodes.append(Node(node.op, operands, node.attrs, (result,)))
    single.outputs = [result]
    return single


def _last_uses(graph: Graph) -> list[list[int]]:
    """For each node, the values that nobody needs once it has run."""
    needed = set(graph.outputs)
    dead: list[list[int]] = [[] for _ in graph.nodes]
    for position in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[position]
        for v in (*node.results, *node.operands):
            if v not in needed:
                needed.add(v)
                dead[position].append(v)
    return dead
