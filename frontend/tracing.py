"""`trace(fn)(*args)`: what a call records, as readable Python with types.

In: a function and arguments. Out: text, one line for each primitive op: what it is applied to, the type of its result, and the line
of the user's that recorded it. Nothing is run, and nothing is left behind. Next: `regions.py`, `dialects/graph.py`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flambeau import regions, trees
from flambeau.capture import modules_of
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph, Node, Region
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

_WIDTH = 60  # of what stands before a comment
_INDENT = "    "


class Tracing:
    """A function whose calls print what they record, and return nothing; `text(*args)` gives what they print."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        print(self.text(*args, **kwargs))

    def text(self, *args: Any, **kwargs: Any) -> str:
        """What `fn(*args, **kwargs)` records, as a function in Python. Raises RuntimeError where the call does something else than
        compute and draw random numbers: reads a value, or changes a tensor from outside; TypeError unless it returns tensors, alone
        or nested."""
        found = regions.trace("trace", lambda: self._fn(*args, **kwargs), (), draws=True)
        labels = _labels(self._fn, args, kwargs)
        name = getattr(self._fn, "__name__", type(self._fn).__name__)
        return "\n".join(
            _ProgramText(found.graph).function(_identifier(name), [_read(r, labels) for r in found.reads], "")
        )


def _labels(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Tensor, str]]:
    """The tensors that have names: arguments, and those of modules."""
    try:
        given = inspect.signature(fn).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        given = {**{f"arg{k}": x for k, x in enumerate(args)}, **kwargs}
    found: list[tuple[Tensor, str]] = []
    for name, value in given.items():
        tensors = [x for x in trees.leaves(value) if isinstance(x, Tensor)]
        one = len(tensors) == 1 and tensors[0] is value
        found += [(x, name if one else f"{name}_{k}") for k, x in enumerate(tensors)]
    for path, module in modules_of(fn):
        found += [(x, _identifier(f"{path}{name}")) for name, x in vars(module).items() if isinstance(x, Tensor)]
    return found


def _identifier(name: str) -> str:
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return plain if plain[:1].isidentifier() else f"_{plain}"


def _read(read: Any, labels: Sequence[tuple[Tensor, str]]) -> str | Any:
    """The name of a tensor that is read, "" where it has none; or the number."""
    if not isinstance(read, Tensor):
        return repr(read)
    return next((name for x, name in labels if x is read or recorder.same_storage(x, read)), "")


class _ProgramText:
    """Names of values, and lines of text. Numbers stand where they are used; what only lays one out for its use is not shown."""

    def __init__(self, graph: Graph, outer: _ProgramText | None = None) -> None:
        self.graph, self.names = graph, dict[int, str]()
        self.taken: set[str] = outer.taken if outer else set()
        self._numbers: set[int] = set()  # values that are one number, however they are shaped
        self._laid_out = _laid_out(graph)

    def new(self, wish: str) -> str:
        """A name that none has yet: this one, or with a count."""
        found = next(
            name for name in (wish, *(f"{wish}_{k}" for k in range(1, len(self.taken) + 2))) if name not in self.taken
        )
        self.taken.add(found)
        return found

    def function(self, name: str, reads: Sequence[str], indent: str) -> list[str]:
        """The graph as a function. `reads` says of each input what it is called, "" where it has no name, or what number it is."""
        parameters = []
        for v, read in zip(self.graph.inputs, reads, strict=True):
            aval = self.graph.avals[v]
            if not aval.shape:
                self._numbers.add(v)
            if read and not read.isidentifier():
                self.names[v] = read
            else:
                self.names[v] = self.new(read or f"x{v}")
                parameters.append(f"{self.names[v]}: {typed(aval)}")
        body = [line for node in self.graph.nodes for line in self.lines(node, indent + _INDENT)]
        results = ", ".join(self.names[v] for v in self.graph.outputs)
        return [f"{indent}def {name}({', '.join(parameters)}):", *body, f"{indent}{_INDENT}return {results}"]

    def lines(self, node: Node, indent: str) -> Iterator[str]:
        """A node, after the graphs that it runs; nothing for one that is not shown."""
        hidden = self._hidden(node)
        if hidden is not None:
            self.names[node.results[0]] = hidden
            return
        arguments = [self.names[v] for v in node.operands]
        for name, attribute in zip(node.op.attrs, node.attrs, strict=False):
            if isinstance(attribute, Region):
                called = self.new(name)
                inner = _ProgramText(attribute.graph, self)
                yield from inner.function(called, [""] * len(attribute.graph.inputs), indent)
                arguments.append(f"{name}={called}")
            else:
                arguments.append(f"{name}={_shown(attribute)}")
        self.names.update({v: self.new(f"t{v}") for v in node.results})
        made = ", ".join(self.names[v] for v in node.results)
        types = ", ".join(typed(self.graph.avals[v]) for v in node.results)
        line = f"  {os.path.basename(node.loc.file)}:{node.loc.line}" if node.loc else ""
        call = f"{node.op.name}({', '.join(arguments)})"
        yield _commented(f"{indent}{made} = {call}" if made else f"{indent}{call}", types + line)

    def _hidden(self, node: Node) -> str | None:
        """What a node is written as where it has no line: a number, or what it leaves as it is."""
        name, avals = node.op.name, self.graph.avals
        if name == "constant":
            self._numbers.update(node.results)
            return None if avals[node.results[0]].shape else _shown(node.attrs[node.op.attrs.index("value")])
        operand = self.names.get(node.operands[0], "") if len(node.operands) == 1 else ""
        is_number = bool(operand) and node.operands[0] in self._numbers
        if is_number and name in _LAYS_OUT:
            self._numbers.update(node.results)
        if name == "cast" and is_number and not operand.isidentifier():
            self._numbers.update(node.results)
            return operand
        is_same = name == "reshape" and avals[node.operands[0]] == avals[node.results[0]]
        return operand if is_same or (is_number and node.results[0] in self._laid_out) else None


_LAYS_OUT = ("reshape", "broadcast")


def _laid_out(graph: Graph) -> set[int]:
    """Reshaped and broadcast values that only elementwise ops use, which broadcast by themselves."""
    found = {n.results[0] for n in graph.nodes if n.op.name in _LAYS_OUT} - set(graph.outputs)
    for node in reversed(graph.nodes):
        is_layout = node.op.name in _LAYS_OUT and node.results[0] in found
        if not node.op.family.is_pointwise and not is_layout:
            found.difference_update(node.operands)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, DType):
        return value.name
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def _commented(text: str, comment: str) -> str:
    return f"{text:{_WIDTH}}  # {comment}".rstrip(" #")


def typed(aval: Aval) -> str:
    """A type, as `float32[2, 3]`, and `float32[()]` of a number."""
    place = "" if aval.device == CPU else f" on {aval.device}"
    return f"{aval.dtype.name}[{', '.join(map(str, aval.shape)) or '()'}]{place}"
