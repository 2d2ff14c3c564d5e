"""The baseline tier: a program run op by op, with the same bits as the fused one.

In: a graph, its inputs and the sizes its symbols stand for. Out: `Buffer`s. Every op is a one-op program compiled like any other
(`one_op.py`), which an `OpList` of the runtime runs without Python. Where a record's NumPy reference is exact, or something else
gives the same bits (`stand_ins.py`), that stands in until the op has been worth a compiler's time. This tier also names the op that
failed: `run_prefix`, where values of the CPU are arrays and others stay in their Buffers. Next: `driver.py`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from flambeau.compiler.baseline.one_op import OneOp, OneOps, OpPlanner
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import exported
from flambeau.dialects.graph import Graph, Node, Region
from flambeau.dialects.reference import fitted
from flambeau.dialects.size_rows import ExprTable
from flambeau.dialects.tape import nan
from flambeau.runtime import _binding as runtime

_BOUND = 8  # sizes for which a program with symbols is kept bound


@dataclass
class Prefix:
    """What ran before an op failed: values by number, and the op's position and error (None if nothing failed)."""

    values: dict[int, Any] = field(default_factory=dict)
    failed: int | None = None
    error: Exception | None = None


class Interpreter:
    """Runs one graph op by op. Making one compiles the one-op programs that are missing for a run at `sizes`."""

    def __init__(self, graph: Graph, link: OpPlanner, sizes: Sequence[int] = (), ops: OneOps | None = None) -> None:
        self.graph = graph
        self._ops = ops or OneOps(graph, link, sizes)
        self._seen = self._ops.seen
        self._dead = _last_uses(graph)
        self._bound: OrderedDict[tuple[int, ...], Graph] = OrderedDict()
        self._link = link
        self._regions: dict[tuple[int, int], Interpreter] = {}  # (node, number of the region), once they have run
        self._callers: dict[int, Callable[..., list[Any]]] = {}  # of ops that had no plan once
        self._list: tuple[int, Any] | None = None  # how many plans there were when it was made, and the list

    def __call__(self, inputs: Sequence[Any], sizes: Sequence[int] = ()) -> list[Any]:
        """The outputs, as Buffers. Raises the failing op's error, with its line."""
        return self.op_list(sizes).run(inputs, sizes)

    def op_list(self, sizes: Sequence[int] = ()) -> Any:
        """The program as an `OpList`, with the plans of ops that there are by now."""
        count = self._ops.count(sizes)
        if self._list is None or self._list[0] != count:
            self._list = count, runtime.uncollected(self._listed, sizes)
        return self._list[1]

    def lent(self, sizes: Sequence[int] = ()) -> Any:
        """The list that has run, for others to run. Where there are more plans by now it asks before it runs again: of what never
        does so, no second list is made."""
        if self._list is None:
            return self.op_list(sizes)
        count, found = self._list
        if count != self._ops.count(sizes):
            found.is_stale = True
        return found

    def _listed(self, sizes: Sequence[int]) -> Any:
        graph, table = self.graph, ExprTable()
        numbers = {v: k for k, v in enumerate(graph.inputs)}
        for v in (v for node in graph.nodes for v in node.results):
            numbers[v] = len(numbers)
        ops, number = [], numbers.__getitem__
        for position, node in enumerate(graph.nodes):
            plan, extents = self._ops.at_hand(position, sizes)
            values = (list(map(number, found)) for found in (node.operands, node.results, self._dead[position]))
            in_c = self._ops.small(position) if plan is None else plan
            call = self._caller(position) if in_c is None else partial(self._call, position)
            ops.append((in_c, call, *values, [table.add(e) for e in extents]))
        outputs = [numbers[v] for v in graph.outputs]
        n_symbols = len(graph.sizes)
        made = runtime.OpList(
            len(numbers), len(graph.inputs), tuple(ops), outputs, self._failure_of, n_symbols, table.exprs
        )
        without = (self._ops.optional(position) for position, op in enumerate(ops) if op[0] is None)
        for program in dict.fromkeys(without):
            if program is not None:
                program.waiting.add(made)
        return made

    def _call(self, position: int, *given: Any) -> list[Any]:
        """Do an op whose plan is for other sizes or operands, given the symbols' values and its operands' Buffers."""
        return self._caller(position)(*given)

    def _caller(self, position: int) -> Callable[..., list[Any]]:
        """What does an op without a plan."""
        call = self._callers.get(position)
        if call is None:
            call = self._callers[position] = self._made_caller(position)
        return call

    def _made_caller(self, position: int) -> Callable[..., list[Any]]:
        program = self._ops.optional(position)
        if program is not None and not self.graph.sizes:
            return self._reference(position, program)

        def call(sizes: Sequence[int], *operands: Any) -> list[Any]:
            start = perf_counter()
            graph = self._at(tuple(sizes))
            avals = [graph.avals[v] for v in graph.nodes[position].operands]
            held = [_held(x, a) for x, a in zip(operands, avals)]
            results = [_given(x) for x in self._run(graph, position, held, sizes)]
            if program is not None:
                program.waiting.seconds += perf_counter() - start
            return results

        return call

    def _reference(self, position: int, program: OneOp) -> Callable[..., list[Any]]:
        """The same for an op of plain extents on its reference, with all that does not change looked up once."""
        graph, node = self.graph, self.graph.nodes[position]
        avals = [graph.avals[v] for v in node.operands]
        readers = [(a.shape, a.dtype.numpy, a.size) for a in avals]
        results = [(graph.avals[v], v in self._seen) for v in node.results]
        run, attrs = self._ops.stand_in(position, node), node.attrs
        name, is_single = node.op.name, node.op.is_single

        def call(sizes: Sequence[int], *operands: Any) -> list[Any]:
            start = perf_counter()
            try:
                arrays = [
                    np.frombuffer(x, dtype, size).reshape(shape) if size else np.empty(shape, dtype)
                    for x, (shape, dtype, size) in zip(operands, readers)
                ]
                made = run(*arrays, *attrs)
                found = []
                for x, (aval, is_seen) in zip((made,) if is_single else made, results, strict=True):
                    array = fitted(x, aval, name)
                    found.append(_given(nan.canonical_nan.reference(array) if is_seen else array))
            except Exception as error:
                raise _failure(graph, node, error) from None
            program.waiting.seconds += perf_counter() - start
            return found

        return call

    def run_prefix(
        self, inputs: Sequence[Any], stop: int | None = None, everything: bool = False, sizes: Sequence[int] = ()
    ) -> Prefix:
        """Run the nodes before `stop`, or all of them, until one fails.

        Gives the outputs that exist by then (those that are inputs, too), as Buffers; or `everything` that was computed.
        """
        graph = self._at(tuple(sizes))
        values = _read_inputs(graph, inputs)
        wanted = {v for n in graph.nodes for v in n.results} if everything else set(graph.outputs)
        prefix = Prefix()
        for position, node in enumerate(graph.nodes[:stop]):
            try:
                operands = [values[v] for v in node.operands]
                values.update(zip(node.results, self._run(graph, position, operands, sizes), strict=True))
            except Exception as error:
                prefix.failed, prefix.error = position, error
                break
            for v in self._dead[position]:
                if v not in wanted:
                    del values[v]
        prefix.values = {v: _kept(x) for v, x in values.items() if v in wanted}
        return prefix

    def _at(self, sizes: tuple[int, ...]) -> Graph:
        """The graph with these values for its symbols."""
        if not self.graph.sizes:
            return self.graph
        found = self._bound.get(sizes)
        if found is None:
            found = self._bound[sizes] = self.graph.bind(sizes)
            if len(self._bound) > _BOUND:
                self._bound.popitem(last=False)
        return found

    def _run(self, graph: Graph, position: int, operands: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
        node = graph.nodes[position]
        results = [graph.avals[v] for v in node.results]
        if node.op.run is not None and graph.device(node) == CPU:  # elsewhere its plan moves it here
            return self._control(position, node, operands, sizes)
        try:
            found = self._ops.find(position, sizes)
            if found is None:
                made = self._ops.stand_in(position, node)(*operands, *node.attrs)
                made = (made,) if node.op.is_single else made
                arrays = [fitted(x, a, node.op.name) for x, a in zip(made, results, strict=True)]
                seen = [v in self._seen for v in node.results]
                return [nan.canonical_nan.reference(x) if s else x for x, s in zip(arrays, seen)]
            plan, symbols = found
            buffers = plan.run([_given(x) for x in operands], symbols)
            return [_held(x, aval) for x, aval in zip(buffers, results, strict=True)]
        except Exception as error:
            raise _failure(graph, node, error) from None

    def _failure_of(self, position: int, error: Exception, sizes: Sequence[int]) -> Exception:
        """The exception of an op whose plan failed with `error`."""
        if not isinstance(error, Exception):
            return error
        graph = self._at(tuple(sizes))
        return _failure(graph, graph.nodes[position], error)

    def _control(
        self, position: int, node: Node, operands: Sequence[np.ndarray], sizes: Sequence[int]
    ) -> list[np.ndarray]:
        """An op with regions, each of which is run like a program."""

        def call(region: Region, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            number = next(k for k, r in enumerate(node.regions) if r is region)
            buffers = self._region(position, number, sizes)([_given(x) for x in arrays], sizes)
            return [to_array(x, aval) for x, aval in zip(buffers, region.outputs, strict=True)]

        assert node.op.run is not None
        return [np.asarray(x) for x in node.op.run(call, *operands, *node.attrs)]

    def _region(self, position: int, number: int, sizes: Sequence[int]) -> Interpreter:
        found = self._regions.get((position, number))
        if found is None:
            region = self.graph.nodes[position].regions[number]
            graph = replace(region.graph, sizes=self.graph.sizes)
            found = self._regions[position, number] = Interpreter(graph, self._link, sizes)
        return found


def _failure(graph: Graph, node: Node, error: Exception) -> Exception:
    """What a user is told of `error` in an op."""
    if isinstance(error, runtime.KernelFailed) and node.op.failure is not None:
        avals = [graph.avals[v] for v in node.operands]
        error = node.op.failure(error.status & ((1 << 48) - 1), *avals, *node.attrs)
    elif isinstance(error, MemoryError):
        error = out_of_memory(error)
    return located(error, node)


def out_of_memory(error: MemoryError) -> Exception:
    """What NumPy or Python says when memory runs out, as the error that the pool raises."""
    said = str(error).rstrip(".") or "there is no memory left"
    return runtime.OutOfMemory(f"[memory] {said[:1].lower()}{said[1:]}. Free tensors or use smaller ones.")


def _held(value: Any, aval: Aval) -> Any:
    """What stands for a value while the program runs: an array, or the Buffer itself on another device."""
    return to_array(value, aval) if aval.device == CPU else value


def _given(value: Any) -> Any:
    """A value that is held, as a plan takes it."""
    if not isinstance(value, np.ndarray):
        return value
    return exported(value if value.flags.c_contiguous else np.ascontiguousarray(value))


def _kept(value: Any) -> Any:
    """A value that is held, as a Buffer."""
    return to_buffer(value) if isinstance(value, np.ndarray) else value


def _read_inputs(graph: Graph, inputs: Sequence[Any]) -> dict[int, Any]:
    if len(inputs) != len(graph.inputs):
        raise RuntimeError(f"[run] the program has {len(graph.inputs)} inputs, got {len(inputs)}. Pass one each.")
    return {v: _held(x, graph.avals[v]) for v, x in zip(graph.inputs, inputs)}


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
        return (value if value.dtype == dtype else value.view(dtype)).reshape(aval.shape)
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
    array = exported(array)
    buffer = runtime.Buffer.alloc(array.nbytes)
    if array.size:
        np.copyto(np.frombuffer(memoryview(buffer), array.dtype, count=array.size).reshape(array.shape), array)
    return buffer


def _covers(buffer: Any, array: np.ndarray) -> bool:
    """Whether the array's elements, row-major, are all of the buffer."""
    return array.flags.c_contiguous and buffer.nbytes == array.nbytes and buffer.address == array.ctypes.data


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
