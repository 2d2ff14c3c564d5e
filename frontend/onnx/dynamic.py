"""Sizes that are known only when a file is run: how the caller names them, and a recording in which they are symbols.

In: `dynamic_axes` or `dynamic_shapes`, as PyTorch's `onnx.export` takes them. Out: a `SizedTrace`: a graph with symbols, and what
each of these is. The recorder makes symbols of what differs from call to call (`flambeau.sizing`), so the model is recorded a few
times at other sizes, without running. Next: `builder.py`, which writes symbols.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
from flambeau import exporting
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, Size, repr_of, same, substitute, symbol, symbols
from flambeau.dialects.size_guards import scope
from flambeau.runtime.recorder import Tensor
from flambeau.sizing import assembled, relation

#: By what the sizes of the example are multiplied in each recording but the last; the symbols take turns. Two recordings make
#: symbols, the next ones show how other sizes follow from them, and the last one counts.
_FACTORS = ((2, 3, 5, 7, 4), (3, 7, 2, 4, 5), (5, 2, 7, 3, 6), (7, 5, 3, 2, 6))
_REHEARSALS = 5
#: The least size of the last one: smaller ones are often equal to another number by chance.
_LEAST_LAST = 11
_ATTEMPTS = 3


class SizeNames(NamedTuple):
    """By input, and by output where they are named: dimension -> what its size is called."""

    inputs: list[dict[int, str]]
    outputs: dict[str, dict[int, str]]


class SizedTrace(NamedTuple):
    """`places[i]`: the input and the dimension of which symbol i is the size, and its name. `numbers`: by input of the graph that
    is a number, the size that it is. `inputs`: those of the recording."""

    trace: exporting.Trace
    places: dict[int, tuple[int, int, str]]
    numbers: dict[int, Int]
    inputs: list[np.ndarray]


# ---- what the caller says ------------------------------------------------------------------------------------


def size_names(
    axes: Any, shapes: Any, inputs: Sequence[str], outputs: Iterable[str], parameters: Sequence[str]
) -> SizeNames:
    """What the caller's `dynamic_axes` or `dynamic_shapes` say of the inputs (of these names, or of these parameters), and of
    the outputs. Raises ValueError for both, for other names, and for what is no dimension's name; TypeError for other forms."""
    if axes and shapes:
        raise ValueError("[onnx.export] got dynamic_axes and dynamic_shapes. Give one of them.")
    found = SizeNames([{} for _ in inputs], {})
    places = {**dict(zip(parameters, range(len(inputs)))), **dict(zip(inputs, range(len(inputs))))}
    for name, said in _by_name(axes or shapes, inputs).items():
        if name in places:
            found.inputs[places[name]] |= _dimensions(name, said)
        elif name in outputs and axes:
            found.outputs[name] = _dimensions(name, said)
        else:
            raise ValueError(
                f"[onnx.export] '{name}' has dynamic sizes, but the inputs are {', '.join(inputs)}. Name one of them."
            )
    return found


def _by_name(said: Any, inputs: Sequence[str]) -> dict[str, Any]:
    if isinstance(said, Mapping):
        return dict(said)
    if not isinstance(said, (tuple, list)) or len(said) > len(inputs):
        raise TypeError(f"[onnx.export] dynamic sizes are {said!r}. Give a dict by input, or one entry for each.")
    return dict(zip(inputs, said))


def _dimensions(name: str, said: Any) -> dict[int, str]:
    """Of one input: dimension -> name, "" where it has none."""
    if said is None:
        return {}
    if isinstance(said, Mapping):
        return {int(d): _called(name, d, each) for d, each in said.items() if each is not None}
    if isinstance(said, (tuple, list)) and all(isinstance(d, int) for d in said):
        return dict.fromkeys(said, "")
    if isinstance(said, (tuple, list)):
        return {d: _called(name, d, each) for d, each in enumerate(said) if each is not None}
    raise TypeError(
        f"[onnx.export] the dynamic sizes of '{name}' are {said!r}. Give dimensions, or a dict of their names."
    )


def _called(name: str, dimension: Any, said: Any) -> str:
    found = said if isinstance(said, str) else getattr(said, "__name__", None)
    if not isinstance(found, str):
        raise TypeError(f"[onnx.export] dimension {dimension} of '{name}' is called {said!r}. Give a name, or None.")
    return found


def completed(named: SizeNames, inputs: Sequence[np.ndarray], names: Sequence[str]) -> SizeNames:
    """Dimensions from 0 on, all with names: those without are one size where they are the same dimension and as large.

    Raises ValueError for dimensions that an input does not have, and where one name stands for two sizes."""
    sizes: dict[str, int] = {}
    shared: dict[tuple[int, int], str] = {}
    found: list[dict[int, str]] = []
    for array, label, said in zip(inputs, names, named.inputs):
        made = {}
        for d, name in said.items():
            if not -array.ndim <= d < array.ndim:
                raise ValueError(f"[onnx.export] '{label}' has no dimension {d}: it has {array.ndim}.")
            d, n = d % array.ndim, array.shape[d]
            made[d] = name or shared.setdefault((d, n), f"{label}_dim_{d}")
            if sizes.setdefault(made[d], n) != n:
                raise ValueError(
                    f"[onnx.export] '{made[d]}' is {sizes[made[d]]} and {n} in the example. Give it one size."
                )
        found.append(made)
    return SizeNames(found, named.outputs)


# ---- recording -----------------------------------------------------------------------------------------------


def record(
    model: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    named: SizeNames,
    labels: Sequence[str],
    problems: Callable[[SizedTrace], list[str]],
) -> SizedTrace:
    """The model with symbols for the named sizes. Raises RuntimeError where it holds for the sizes of the example only."""
    lacks: list[str] = []
    for attempt in range(_ATTEMPTS):
        *before, last = (_rehearsed(model, *resized(inputs, named, turn, attempt)) for turn in range(_REHEARSALS + 1))
        places, lacks = _places(last.trace, named, labels)
        others = _of_other_runs(last.trace, places)
        lacks += _unknown(last.trace.graph, {*places, *others})
        if not lacks:
            break
    else:
        raise RuntimeError("[onnx.export] the model fixes sizes that are to be dynamic:" + _listed(lacks))
    values = [n if i in others else symbol(i) for i, n in enumerate(last.trace.graph.sizes)]
    graph = last.trace.graph.bind(values)
    graph.sizes = last.trace.graph.sizes
    numbers, lacks = _numbers(last, before, places)
    found = SizedTrace(last.trace._replace(graph=graph), places, numbers, last.inputs)
    lacks = _other_steps(last, before[-1]) or lacks + _other_tensors(last, before[-1]) + problems(found)
    if lacks:
        raise RuntimeError("[onnx.export] the model cannot be written with these sizes:" + _listed(lacks))
    return found


def _listed(lacks: Sequence[str]) -> str:
    return "".join(f"\n  - {lack}" for lack in dict.fromkeys(lacks))


class Rehearsal(NamedTuple):
    """A recording at these sizes, by name; nothing was computed."""

    inputs: list[np.ndarray]
    sizes: dict[str, int]
    trace: exporting.Trace

    def number(self, ordinal: int) -> Any:
        """One of the numbers that the call took; None where there are not so many."""
        found = (s for s, k in zip(self.trace.sources, self.trace.numbers) if k == ordinal)
        return next((s.item() for s in found if isinstance(s, np.ndarray)), None)


def _rehearsed(model: Callable[..., Any], inputs: list[np.ndarray], sizes: dict[str, int]) -> Rehearsal:
    try:
        return Rehearsal(inputs, sizes, exporting.record(model, inputs, lambda graph: [], assembled, compute=False))
    except Exception as error:
        said = ", ".join(f"{name} = {n}" for name, n in sizes.items())
        raise RuntimeError(f"[onnx.export] the model does not take other sizes. With {said}: {error}") from error


def resized(
    inputs: Sequence[np.ndarray], named: SizeNames, turn: int, attempt: int = 0
) -> tuple[list[np.ndarray], dict[str, int]]:
    """The example with other sizes, multiples of its own, by repeating it; and the sizes by name. In the last turn no two are
    equal, nor equal to a fixed size of an input, nor to one of a turn before."""
    examples = {n: max(a.shape[d], 1) for a, said in zip(inputs, named.inputs) for d, n in said.items()}
    taken = {n for a, said in zip(inputs, named.inputs) for d, n in enumerate(a.shape) if d not in said}
    sizes: dict[str, int] = {}
    for k, (name, size) in enumerate(examples.items()):
        rehearsed = [size * factor for factor in _FACTORS[k % len(_FACTORS)]]
        first = -(-_LEAST_LAST // size)
        free = (size * n for n in count(first) if size * n not in {*taken, *rehearsed})
        last = next(islice(free, attempt, None))
        taken.add(last)
        sizes[name] = [*rehearsed, last][turn]
    made = []
    for array, said in zip(inputs, named.inputs):
        for d, name in said.items():
            array = np.take(array, np.arange(sizes[name]) % max(array.shape[d], 1), axis=d)
        made.append(array)
    return made, sizes


# ---- what was recorded ---------------------------------------------------------------------------------------


def _places(
    trace: exporting.Trace, named: SizeNames, labels: Sequence[str]
) -> tuple[dict[int, tuple[int, int, str]], list[str]]:
    """What each symbol is, and which dimensions have none, a sentence each."""
    places: dict[int, tuple[int, int, str]] = {}
    fixed = []
    for v, source in zip(trace.graph.inputs, trace.sources):
        if not isinstance(source, int):
            continue
        for d, name in named.inputs[source].items():
            size = trace.graph.avals[v].shape[d]
            index = next((i for i in symbols(size) if same(size, symbol(i))), None)
            if index is None:
                fixed.append(
                    f"dimension {d} of '{labels[source]}' ('{name}') has one size only, or follows from others"
                )
            else:
                places.setdefault(index, (source, d, name))
    return places, fixed


def _of_other_runs(trace: exporting.Trace, places: Mapping[int, Any]) -> set[int]:
    """Symbols for sizes of weights, and of inputs where they are not to be dynamic: the recorder has met others."""
    shapes = (trace.graph.avals[v].shape for v in trace.graph.inputs)
    return {i for shape in shapes for size in shape for i in symbols(size) if same(size, symbol(i))} - {*places}


def _unknown(graph: Graph, known: set[int]) -> list[str]:
    """Sizes that are neither: the model makes them of others in a way that the recorder does not find."""
    if all(symbols(aval.shape) <= known for aval in graph.avals):
        return []
    return ["it computes a size in Python that is no sum, multiple or product of dynamic ones, such as x.shape[1] // 2"]


def _numbers(
    last: Rehearsal, before: Sequence[Rehearsal], places: Mapping[int, tuple[int, int, str]]
) -> tuple[dict[int, Int], list[str]]:
    """Numbers that change with the sizes, as sizes, and a sentence for each that is none."""
    order = sorted(places)
    now, *then = ([each.sizes[places[i][2]] for i in order] for each in (last, *before))
    found: dict[int, Int] = {}
    lacks = []
    for v, ordinal in zip(last.trace.graph.inputs, last.trace.numbers):
        values = [] if ordinal is None else [each.number(ordinal) for each in (last, *before)]
        if len({*values}) < 2:
            continue
        whole = all(value is not None and value == int(value) for value in values)
        expr = relation(int(values[0]), list(map(int, values[1:])), now, then) if whole else None
        if isinstance(expr, Size):
            found[v] = substitute(expr, [symbol(i) for i in order])
        else:
            lacks.append(
                f"it computes with a number ({values[0]} here) that Python makes of a dynamic size: make it with tensors"
            )
    return found, lacks


def _other_steps(last: Rehearsal, before: Rehearsal) -> list[str]:
    """Whether the model is another one at other sizes, as far as two recordings tell."""
    ops = [[node.op.name for node in each.trace.graph.nodes] for each in (last, before)]
    if ops[0] == ops[1] and len(last.trace.sources) == len(before.trace.sources):
        return []
    return ["it does other things at other sizes: no loop or branch in Python may depend on them"]


def _other_tensors(last: Rehearsal, before: Rehearsal) -> list[str]:
    """Tensors that the model brings along which are larger at other sizes."""
    return [
        f"it makes a tensor in Python ({label}) whose size depends on a dynamic one: make it with flambeau's functions"
        for label, a, b in zip(last.trace.names, last.trace.sources, before.trace.sources)
        if isinstance(a, Tensor) and isinstance(b, Tensor) and tuple(a.shape) != tuple(b.shape)
    ]


def asked(found: SizedTrace) -> Any:
    """A scope in which the sizes of the recording answer questions."""
    return scope(found.trace.graph.sizes, by_form=True)


def dimensions(
    shape: Sequence[Int], places: Mapping[int, tuple[int, int, str]], called: Mapping[int, str]
) -> list[int | str]:
    """The sizes of an output as a file states them: numbers, names, or expressions of names."""
    found: list[int | str] = []
    for d, size in enumerate(shape):
        if isinstance(size, Size):
            text = re.sub(r"\bs(\d+)\b", lambda m: places[int(m[1])][2], repr_of(size))
            found.append(called.get(d) or text)
        else:
            found.append(size)
    return found
