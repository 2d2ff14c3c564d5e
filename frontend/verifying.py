"""`verify(fn)`: whether what a program computed, fused, is what its ops give one by one, and these what their references say.

In: a function. Out: its result, or an error that names the first op that is wrong, its line and the element. Next:
`watching.py`, `dialects/agreement.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flambeau.declarations import Unsampled, declared
from flambeau.dialects.agreement import Difference, bits_apart, difference
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import exported
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.reducing import reduced
from flambeau.dialects.reference import fitted
from flambeau.programs import compiler, compiler_options, options
from flambeau.runtime import recorder
from flambeau.watching import ProgramRun, Watcher


@declared(free="flambeau", samples=Unsampled("runs a function of the user's"))
def verify(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `fn(*args, **kwargs)` and check all that it computes; what it returns.

    Every program that runs within, forward, backward or update, is run three times: fused, as it would be without this; op by op;
    and on the NumPy references of the ops. Fused and op by op must agree to the bit. An op must give its reference's bits, or be as
    near to it as its record promises. All intermediate values are kept meanwhile, and everything is compiled at once.

    Raises RuntimeError at the first op that is wrong: its name, the line that recorded it, the element and both values. What an op
    of another package computes is checked alike, so this is the way to try one.
    """
    if not callable(fn):
        raise TypeError(f"[verify] `fn` is a {type(fn).__name__}. Pass something to call.")
    verifier = _Verifier(compiler_options(mode="blocking"))
    with verifier:
        result = fn(*args, **kwargs)
        recorder.flush_all()
    if verifier.found is not None:
        raise RuntimeError(f"[verify] {verifier.found}")
    return result


class _Verifier(Watcher):
    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.found: str | None = None  # what is wrong; nothing is checked behind it

    def watch(self, run: ProgramRun, usual: Callable[..., list[Any]]) -> list[Any]:
        outputs = usual()
        if self.found is None:
            values = run.op_by_op()
            self.found = wrong_op(run.graph, values) or wrong_fusion(run, values, outputs)
        return outputs


def wrong_op(graph: Graph, values: dict[int, Any]) -> str | None:
    """The first op whose results are not what its record promises of its operands, in words."""
    for node in graph.nodes:
        if node.op.regions or node.op.effect or not _is_here(graph, (*node.operands, *node.results)):
            continue
        operands = [as_array(values[v], graph.avals[v]) for v in node.operands]
        for v, wanted in zip(node.results, node.op.run_reference(operands, node.attrs), strict=True):
            aval = graph.avals[v]
            found, wanted = as_array(values[v], aval), fitted(wanted, aval, node.op.name)
            where = difference(node.op, operands, node.attrs, found, wanted)
            if where is not None:
                return _told(node, where, found, wanted, "its reference gives")
    return None


def wrong_fusion(run: ProgramRun, values: dict[int, Any], outputs: Sequence[Any]) -> str | None:
    """The first value that is another one when it is computed with others than alone, in words."""
    graph = run.graph
    v = _first_unequal(graph, graph.outputs, values, outputs)
    if v is None:
        return None
    made = {v: node for node in graph.nodes for v in node.results}
    wanted = [u for u in _needed(graph, made, v) if _is_here(graph, [u])]
    everything = compiler().compile(replace(graph, outputs=wanted, updates={}), options())
    again = everything([x for x in run.inputs])
    first = _first_unequal(graph, wanted, values, again)
    v, outputs, names = (first, again, wanted) if first is not None else (v, outputs, graph.outputs)
    found, alone = (as_array(x, graph.avals[v]) for x in (outputs[list(names).index(v)], values[v]))
    where = bits_apart(found, alone)
    assert where is not None
    kernels = ", ".join(run.executable.report.kernels[:4])
    told = _told(made[v], where, found, alone, "op by op it gives")
    return f"{told} The program's kernels: {kernels}.{_shown_small(graph, values)}"


def _shown_small(graph: Graph, values: dict[int, Any]) -> str:
    """Where a small program lies that is another one when fused, if one is found."""

    def fails(small: Graph, inputs: list[Any]) -> bool:
        executable = compiler().compile(small, options())
        fused = executable(inputs)
        alone = executable.run_prefix(inputs, everything=True).values
        return _first_unequal(small, small.outputs, alone, fused) is not None

    small, inputs = reduced(graph, values, fails)
    if not fails(small, inputs):
        return ""
    path = reproducer(small, [as_array(x, small.avals[v]) for v, x in zip(small.inputs, inputs)])
    names = ", ".join(node.op.name for node in small.nodes[:6])
    return f" It takes {len(small.nodes)} ops to show it ({names}): {path}, whose inputs are beside it."


def reproducer(graph: Graph, inputs: Sequence[np.ndarray]) -> str:
    """Write a program as text for `flambeau-opt`, and its inputs as NumPy's .npz; the text's path."""
    report = importlib.import_module("flambeau.compiler.tools.report")
    key = importlib.import_module("flambeau.compiler.caches.identity").graph_key(graph)
    path: str = report.reproducer(graph, key, "This program gives other bits when it is fused.")
    with contextlib.suppress(OSError):
        np.savez(os.path.splitext(path)[0] + ".npz", *map(exported, inputs))
    return path


def _first_unequal(graph: Graph, names: Sequence[int], values: dict[int, Any], found: Sequence[Any]) -> int | None:
    for v, x in zip(names, found, strict=True):
        aval = graph.avals[v]
        if aval.device == CPU and bits_apart(as_array(x, aval), as_array(values[v], aval)) is not None:
            return v
    return None


def _needed(graph: Graph, made: dict[int, Node], v: int) -> list[int]:
    """What `v` is computed from and itself, in order."""
    pending, found = [v], set[int]()
    while pending:
        u = pending.pop()
        if u not in found and u in made:
            found.add(u)
            pending.extend(made[u].operands)
    return [u for node in graph.nodes for u in node.results if u in found]


def _is_here(graph: Graph, values: Sequence[int]) -> bool:
    return all(graph.avals[v].device == CPU for v in values)


def as_array(value: Any, aval: Aval) -> np.ndarray:
    """A look at a Buffer or number as what its type says."""
    if isinstance(value, int | float):
        return np.asarray(value, aval.dtype.numpy)
    if not aval.size:
        return np.empty(aval.shape, aval.dtype.numpy)
    data = np.frombuffer(value, np.uint8, aval.nbytes)
    return data.view(aval.dtype.numpy).reshape(aval.shape)


def _told(node: Node, where: Difference, found: np.ndarray, wanted: np.ndarray, other: str) -> str:
    line = f", recorded at {node.loc}," if node.loc is not None else ""
    return (
        f"{node.op.name}{line} gives {found[where.place]} at {list(where.place)}, {other} {wanted[where.place]}: {where.by}. "
        "Report this as a bug, unless the op is your own."
    )
