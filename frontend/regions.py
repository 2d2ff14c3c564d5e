"""Functions of the user's as regions: what they record, with all they read as inputs, and ops with regions as recorded functions.

In: a Python function on tensors. Out: a `Traced`; `control(op)`, which records the op with `Template`s for its regions: programs
whose sizes are left open, so that one which is met with other sizes is the same. Next: `functions/control.py`, the public
functions; `dialects/region.py`.
"""

from __future__ import annotations

import marshal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flambeau import debug, unread
from flambeau.assembly import Assembly
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import int64
from flambeau.dialects.graph import Graph, Region
from flambeau.dialects.history import strip
from flambeau.dialects.identity import attrs_key
from flambeau.dialects.locks import process_lock
from flambeau.dialects.record import OpRecord, find
from flambeau.dialects.region import at_home, reads, without_dead_code
from flambeau.dialects.size import LEAST, Int
from flambeau.function import builder
from flambeau.placing import apart
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor
from flambeau.sizing import bound

# ---- regions whose sizes are open -----------------------------------------------------------------------------

#: Attributes of ops in which ints are extents.
SIZE_ATTRIBUTES = frozenset({"shape", "sizes", "low", "high", "size"})


def kind_of_attribute(op: OpRecord, name: str) -> str:
    """How an attribute of an op enters a recorded call: its extents may become symbols, unless kernels are made for them."""
    return "size" if name in SIZE_ATTRIBUTES and name not in op.fixed else "static"


_HOLE = "size"


class Unfinished(RuntimeError):
    """Gradients are asked for, within a region, of what the trace around it has not run yet. `vmap` runs that and tries again."""


def check_finished(tensors: Sequence[Tensor]) -> None:
    """Raise `Unfinished` where the histories of tensors are in a trace around the region being recorded, which has not been run."""
    if unread.is_unread() and not _around.has_run and any(recorder.capture_outside(t) for t in tensors):
        raise Unfinished(
            "[vmap] a function that it may run asks for gradients of what was computed outside. Differentiate outside."
        )


class _Around(threading.local):
    has_run = False


_around = _Around()


@contextmanager
def after_running() -> Iterator[None]:
    """What was recorded so far is run, so that regions can go through its history."""
    recorder.flush()
    before, _around.has_run = _around.has_run, True
    try:
        yield
    finally:
        _around.has_run = before


class Template:
    """A region, but for its sizes: equal where nothing else differs. A static argument of recorded functions."""

    __slots__ = ("key", "region", "sizes")

    def __init__(self, region: Region) -> None:
        found: list[int] = []
        self.region = region
        self.key = _skeleton(region.graph, found)
        self.sizes = tuple(found)

    def filled(self, sizes: Iterator[Int]) -> Region:
        """The region with other sizes, as many as `sizes` of them. Its ops' rules ask about them."""
        return _filled(self.region, sizes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _skeleton(graph: Graph, found: list[int]) -> bytes:
    def hole(size: int) -> str:
        found.append(size)
        return _HOLE

    shapes = [(_changed(graph.avals[v].shape, hole), graph.avals[v].dtype.name) for v in graph.inputs]
    nodes = []
    for node in graph.nodes:
        attrs = _open(node.op, node.attrs, hole, lambda region: _skeleton(region.graph, found))
        nodes.append((node.op.name, node.operands, attrs_key(attrs), node.results))
    return marshal.dumps((tuple(shapes), tuple(nodes), tuple(graph.outputs)), 2)


def _filled(region: Region, sizes: Iterator[Int]) -> Region:
    source, made = region.graph, Graph()

    def size(_: int) -> Int:
        return next(sizes)

    ids = {}
    for v in source.inputs:
        aval = source.avals[v]
        ids[v] = made.add_input(Aval(_changed(aval.shape, size), aval.dtype))
    for node in source.nodes:
        attrs = _open(node.op, node.attrs, size, lambda inner: _filled(inner, sizes))
        results = made.add_node(node.op, [ids[v] for v in node.operands], attrs, node.loc)
        ids.update(zip(node.results, results, strict=True))
    made.outputs = [ids[v] for v in source.outputs]
    return Region(made)


def _open(op: OpRecord, attrs: tuple, size: Callable[[int], Any], inner: Callable[[Region], Any]) -> tuple:
    """An op's attributes with sizes changed. A constant may be one: the count that a mean divides by."""
    made = []
    for name, x in zip(op.attrs, attrs):
        if isinstance(x, Region):
            made.append(inner(x))
        elif kind_of_attribute(op, name) == "size":
            made.append(_changed(x, size))
        elif op.name == "constant" and name == "value" and type(x) in (int, float) and LEAST <= x == x // 1 < 2**31:
            n = size(int(x))
            made.append(type(x)(n) if type(n) is int else n)
        else:
            made.append(x)
    return tuple(made)


def _changed(x: Any, size: Callable[[int], Any]) -> Any:
    if type(x) is tuple:
        return tuple([_changed(i, size) for i in x])
    return size(x) if type(x) is int and x >= LEAST else x


# ---- ops with regions, recorded -------------------------------------------------------------------------------

_functions: dict[str, Function] = {}


def control(op: OpRecord) -> Function:
    """The recorded function that is one op with regions: of the operands, the attributes in order with templates for regions, and
    the templates' sizes, all together."""
    found = _functions.get(op.name)
    if found is None:

        def rule(operands: list[Value], sizes: tuple[Int, ...], **attrs: Any) -> tuple[Value, ...]:
            left = iter(sizes)
            given = tuple(attrs[n].filled(left) if n in op.regions else attrs[n] for n in op.attrs)
            return builder().emit_all(op, operands, given)

        attributes = [(n, kind_of_attribute(op, n), REQUIRED, False) for n in op.attrs]
        params = (("operands", "tensors", REQUIRED, False), *attributes, ("sizes", "size", REQUIRED, False))
        found = _functions[op.name] = Function(op.name, params, "pure", rule, fallible=True)
    return found


def record(op: OpRecord, operands: Sequence[Tensor], attrs: Sequence[Any]) -> tuple[Tensor, ...]:
    """The results of an op with regions on tensors."""
    given = [Template(a) if isinstance(a, Region) else a for a in attrs]
    sizes = tuple(n for t in given if isinstance(t, Template) for n in t.sizes)
    return control(op)(list(operands), *given, sizes)


# ---- recording a function -------------------------------------------------------------------------------------


@dataclass
class Traced:
    """What a function recorded: `graph` of the values `reads` (tensors from outside, and numbers), and what it returned, in which
    `results` stood for its outputs. `program` has the same graph, as it was recorded."""

    program: _Program
    graph: Graph
    reads: list[Any]
    returned: Any
    results: list[Tensor]
    has_effect: bool  # then the token of its last effect is one more output
    drawn: dict[Any, int]  # stream of random numbers -> how many it drew: they are still to be drawn

    def with_token(self, token: Tensor) -> None:
        """One more output, which it has not got: the token, as it comes in."""
        if not self.has_effect:
            self.reads.append(token)
            self.graph.outputs.append(self.graph.add_input(Aval((), int64)))


class _Region(Assembly):
    """The trace of a region: a leaf is its value, gradients go to the input. It is a value of its own, as in any trace: those that
    a gradient refers to are numbered so."""

    def _leaf(self, offset, provided, slot, data) -> None:
        super()._leaf(offset, provided, slot, data)
        if data is not None:
            leaf = self.graph.nodes[-1]
            shape = self.graph.avals[leaf.results[0]].shape
            self.graph.nodes[-1] = leaf._replace(op=find("reshape"), attrs=(shape,))


def trace(
    name: str, function: Callable[..., Any], arguments: Sequence[Any], token: Tensor | None = None, draws: bool = False
) -> Traced:
    """Record `function(*arguments)` without running it. Raises RuntimeError where it does something else than compute (it may draw
    random numbers, if `draws`), TypeError unless it returns tensors, alone or nested in tuples, lists and dicts. Its effects come
    after `token`."""
    token = debug.token() if token is None else token
    recorder.region_begin(name)
    unread.begin()
    try:
        if draws:
            recorder.region_draws()
        with debug.apart(token) as last:
            returned = function(*arguments)
        results = list(tensors(name, returned))
        slots = [recorder.slot_for_tensor(r.clone()) for r in (*results, *last)]
        program = _program(name, slots, results)
        known = {**dict(recorder.region_inputs()), **recorder.trace_scalars()}
        drawn = recorder.region_drawn()
    finally:
        unread.end()
        recorder.region_end()
    found = [known[s] for s in program.inputs]
    _refuse_moves(name, found, results)
    return Traced(program, program.copied(), found, returned, results, bool(last), drawn)


class _Program:
    """What a region computes: its graph, and the slots that are its inputs."""

    def __init__(self, graph: Graph, inputs: Sequence[int]) -> None:
        self.graph, self.inputs = graph, inputs

    @cached_property
    def template(self) -> Template:
        return Template(Region(self.graph))

    def copied(self) -> Graph:
        return Graph(list(self.graph.avals), list(self.graph.inputs), list(self.graph.nodes), list(self.graph.outputs))


_MOST = 512
_programs: dict[tuple[Any, ...], _Program] = {}
_lock = process_lock()


def _program(name: str, slots: Sequence[int], results: Sequence[Tensor]) -> _Program:
    """The program of the region being recorded that computes these slots, assembled where the trace was never in this state. One
    that may fail is assembled each time, for its lines."""
    asked = (recorder.trace_key(), tuple(slots), recorder.get_mode())
    found = _programs.get(asked)
    if found is not None:
        return found
    export = bound(recorder.trace_export())
    has_history = _has_history(export)
    if has_history and any(r.requires_grad for r in results):
        raise RuntimeError(
            f"[{name}] a function that it may run asks for gradients of what was computed outside. Differentiate outside."
        )
    assembly = _Region(export)
    graph = Graph(
        assembly.graph.avals,
        [assembly.slots[s] for s in assembly.inputs],
        assembly.graph.nodes,
        [assembly.slots[s] for s in slots],
    )
    made = _Program(without_dead_code(at_home(strip(graph) if has_history else graph)), assembly.inputs)
    if asked[0] is not None and not has_history and not any(node.may_fail for node in made.graph.nodes):
        with _lock:
            if len(_programs) >= _MOST:
                _programs.pop(next(iter(_programs)))
            _programs[asked] = made
    return made


def _refuse_moves(name: str, read: Sequence[Any], results: Sequence[Tensor]) -> None:
    """The results of an op with regions lie where its operands do."""
    tensors = [x for x in read if isinstance(x, Tensor)]
    places = dict.fromkeys([*(x._place for x in tensors if x._place != CPU or x.ndim), *(r._place for r in results)])
    if len(places) > 1:
        raise apart(name, places)


def _has_history(export: Sequence[tuple]) -> bool:
    """Whether gradients were asked for of what was computed outside. Their values are as others; they have no history here."""
    return any(entry[0] in ("segment", "link", "backward") for entry in export)


def tensors(name: str, x: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts, in order."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, (tuple, list, dict)):
        for item in x.values() if isinstance(x, dict) else x:
            yield from tensors(name, item)
    else:
        raise TypeError(
            f"[{name}] a function that it may run gives a {type(x).__name__}. Give tensors, alone or in tuples, lists and dicts."
        )


def rebuilt(x: Any, found: Iterator[Tensor]) -> Any:
    """The same nesting, of other tensors."""
    if isinstance(x, Tensor):
        return next(found)
    if isinstance(x, dict):
        return type(x)((k, rebuilt(v, found)) for k, v in x.items())
    made = [rebuilt(v, found) for v in x]
    return type(x)(*made) if hasattr(x, "_fields") else type(x)(made)


def joined(traced: Sequence[Traced], first: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[Region]]:
    """The regions of several functions with inputs in common: tensors of `first`, then what any of them reads; and these."""
    operands: list[Tensor] = list(first)
    places = []
    for t in traced:
        used = reads(Region(t.graph))
        places.append([_place(x, operands) if r else None for x, r in zip(t.reads, used, strict=True)])
    return operands, [_region(t.graph, at, operands) for t, at in zip(traced, places, strict=True)]


def _place(read: Any, operands: list[Tensor]) -> int:
    """Where an operand is, added if it is none yet."""
    if not isinstance(read, Tensor):
        operands.append(number(read))
        return len(operands) - 1
    for k, known in enumerate(operands):
        if recorder.view_info(known)[0] is None and recorder.same_storage(known, read):
            if read.requires_grad:
                operands[k] = read
            return k
    operands.append(read)
    return len(operands) - 1


def _region(graph: Graph, at: Sequence[int | None], operands: Sequence[Tensor]) -> Region:
    """The graph with an input for each of the operands."""
    made = Graph(list(graph.avals), [], graph.nodes, graph.outputs)
    own = {k: v for k, v in zip(at, graph.inputs, strict=True) if k is not None}
    for k, x in enumerate(operands):
        made.inputs.append(own[k] if k in own else made.add_value(Aval(tuple(x.shape), x.dtype)))
    return Region(without_dead_code(made))


#: A Python number as a 0-d tensor.
number = Function(
    "number", (("value", "operand", REQUIRED, False),), "pure", lambda value: find("reshape")(value, shape=())
)
