"""Derivatives that are recorded op by op in Python, remembered: the calls of the last time are made again, and nothing worked out.

In: what the derivative is asked of, in the current trace. Out: its `Replay`, if the trace was in the same state with the same sizes
before: a state of the recorder's trie says what the trace has computed, so that the same calls follow. Hooks, anomaly mode, views
by index, and histories of other traces are worked out anew each time. Next: `along_history.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flambeau import anomaly, regions, tensor_hooks
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.locks import process_lock
from flambeau.dialects.record import OpRecord
from flambeau.dialects.region import without_dead_code
from flambeau.dialects.size import Int
from flambeau.function import builder
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor

_MOST = 512  # replays
_LONGEST = 4096  # calls of one

_known: dict[tuple[Any, ...], Replay] = {}
_lock = process_lock()


class RecordedCall(NamedTuple):
    """One recorded call: `function([values], *attrs)`, where values are numbered as they came to be; of one op, or of None where
    it is something else."""

    function: Callable[..., Any]
    op: OpRecord | None
    operands: tuple[int, ...]
    attrs: tuple[Any, ...]


class Replay(NamedTuple):
    """The calls of a derivative. Its values are those of `slots` (of numbers, where so), then the given tensors, then results."""

    slots: tuple[tuple[int, bool], ...]
    calls: tuple[RecordedCall, ...]
    outputs: tuple[int | None, ...]
    program: regions.Template | None = None
    may_fail: bool = False

    def sources(self) -> list[Tensor]:
        """The values of the slots, while the trace is held."""
        return [
            regions.number(recorder.trace_scalar(slot)) if is_number else recorder.tensor_for_slot(slot)
            for slot, is_number in self.slots
        ]

    def run(self, values: list[Tensor]) -> list[Tensor | None]:
        """Make the calls again, as one where that may be; `values` are the sources and the given tensors."""
        if self.program is not None:
            found = iter(_calls[self.may_fail](values, self.program, self.program.sizes))
            return [None if k is None else next(found) for k in self.outputs]
        for function, _, operands, attrs in self.calls:
            made = function([values[k] for k in operands], *attrs)
            if type(made) is tuple:
                values.extend(made)
            else:
                values.append(made)
        return [None if k is None else values[k] for k in self.outputs]


class Log:
    """What a derivative does while it is worked out. It holds its tensors, so that each is told by where it lies."""

    def __init__(self) -> None:
        self._slots: list[tuple[int, bool]] = []
        self._sources: list[Tensor] = []
        self._results: list[Tensor] = []
        self._made: list[tuple[Callable[..., Any], OpRecord | None, list[Tensor], tuple[Any, ...]]] = []

    def source(self, slot: int, is_number: bool, tensor: Tensor) -> None:
        self._slots.append((slot, is_number))
        self._sources.append(tensor)

    def call(
        self, function: Callable[..., Any], op: OpRecord | None, operands: list[Tensor], attrs: tuple[Any, ...]
    ) -> Any:
        """Make a call, and note it."""
        made = function(operands, *attrs)
        self._made.append((function, op, operands, attrs))
        self._results.extend(made if type(made) is tuple else (made,))
        return made

    def replay(self, given: Sequence[Tensor | None], found: Sequence[Tensor | None]) -> Replay | None:
        """The calls, by which `found` came from the sources and `given`; None where that is not all that went in."""
        values = [*self._sources, *(t for t in given if t is not None), *self._results]
        number = {id(t): k for k, t in reversed(list(enumerate(values)))}
        needed = [*(t for _, _, operands, _ in self._made for t in operands), *(t for t in found if t is not None)]
        if len(self._made) > _LONGEST or any(id(t) not in number for t in needed):
            return None
        calls = [
            RecordedCall(f, op, tuple([number[id(t)] for t in operands]), attrs)
            for f, op, operands, attrs in self._made
        ]
        outputs = tuple([None if t is None else number[id(t)] for t in found])
        made = Replay(tuple(self._slots), tuple(calls), outputs)
        inputs, shown = values[: len(values) - len(self._results)], [k for k in outputs if k is not None]
        is_one = all(op is not None for _, op, _, _ in self._made) and all(map(_is_plain, values))
        is_one &= len(set(shown)) == len(shown) > 0 and min(shown) >= len(inputs)
        return _as_one(made, inputs) if is_one else made


def _is_plain(x: Tensor) -> bool:
    """Whether one call computes x as several do: narrow dtypes are rounded once in a call, and regions lie on the CPU."""
    return x._place == CPU and not x.dtype.is_narrow


def _as_one(replay: Replay, inputs: Sequence[Tensor]) -> Replay:
    """The calls as a program, whose sizes are open."""
    b = GraphBuilder()
    values = [b.input(Aval(tuple(t.shape), t.dtype)) for t in inputs]
    for _, op, operands, attrs in replay.calls:
        assert op is not None
        values.extend(b.emit_all(op, [values[k] for k in operands], attrs))
    b.graph.outputs = [values[k].id for k in replay.outputs if k is not None]
    graph = without_dead_code(b.graph)
    may_fail = any(node.may_fail for node in graph.nodes)
    return replay._replace(program=regions.Template(regions.Region(graph)), may_fail=may_fail)


def _rule(operands: list[Value], program: regions.Template, sizes: tuple[Int, ...]) -> list[Value]:
    graph, b = program.filled(iter(sizes)).graph, builder()
    known = dict(zip(graph.inputs, operands, strict=True))
    for node in graph.nodes:
        known.update(zip(node.results, b.emit_all(node.op, [known[v] for v in node.operands], node.attrs), strict=True))
    return [known[v] for v in graph.outputs]


_PARAMETERS = tuple(
    (name, kind, REQUIRED, False) for name, kind in (("operands", "tensors"), ("program", "static"), ("sizes", "size"))
)
#: A derivative as one recorded call, by whether something in it may fail.
_calls = {flag: Function("derivative", _PARAMETERS, "pure", _rule, fallible=flag) for flag in (False, True)}


class _Seen(NamedTuple):
    """A tensor's view, told by which one it is: views are made once for all tensors that are seen so."""

    view: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Seen) and self.view is other.view

    def __hash__(self) -> int:
        return id(self.view)


def key(
    kind: str, outputs: Sequence[Tensor], inputs: Sequence[Tensor], given: Sequence[Tensor | None], n: int | None
) -> Any:
    """What says, with the trace as it is now, which calls a derivative records; None where something else has a say."""
    if anomaly.is_on() or tensor_hooks.meets(outputs):
        return None
    shown = [recorder.view_info(t) for t in (*outputs, *inputs)]
    views = tuple([None if view is None else _Seen(view) for view, _, _ in shown])
    roots = tuple([recorder.import_history(t) for t in outputs])
    targets = tuple([recorder.known_history(t) for t in inputs])
    state = recorder.trace_key()
    if state is None or recorder.trace_marks() or any(starts for _, _, starts in shown):
        return None
    numbers = tuple(recorder.trace_scalars().items()) if any(views) else ()  # which views are of the same elements
    types = tuple([None if t is None else (t.shape, t.dtype, t._place) for t in given])
    return kind, n, roots, targets, views, numbers, types, recorder.get_mode(), state


def known(asked: Any) -> Replay | None:
    return None if asked is None else _known.get(asked)


def remember(asked: Any, replay: Replay | None) -> None:
    if replay is None:
        return
    with _lock:
        if len(_known) >= _MOST:
            _known.pop(next(iter(_known)))
        _known[asked] = replay
