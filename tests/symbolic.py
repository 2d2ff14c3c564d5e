"""Runs a graph with symbols at many sizes, and compares it bit for bit with the same graph bound to each of them.

In: what makes a program of builder values (`record`), or a graph; sizes. Out: nothing, or a failed assertion that names the
sizes; `Outcome`, which says how many plans that took. Used by tests of everything that handles sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import DType
from flambeau.dialects.graph import Graph
from flambeau.dialects.size_guards import Guard, scope
from flambeau.runtime import _binding as runtime
from random_graphs import same_bits

STRICT = Options(mode="blocking", strict_sizes=True)

#: Shapes in symbols and ints, with the dtype.
Shape = tuple[tuple[Any, ...], DType]


class Outcome(NamedTuple):
    """What running a graph with symbols took: the executable, and the guards of each of its plans."""

    executable: driver.Executable
    plans: list[tuple[Guard, ...]]

    @property
    def pins(self) -> list[Guard]:
        """Guards that leave a single value."""
        return [g for plan in self.plans for g in plan if g.relation == "=="]


def record(
    make: Callable[..., Any], *inputs: Shape, hints: Sequence[int], updates: dict[int, int] | None = None
) -> Graph:
    """The graph of `make`, recorded at `hints`: it gets a value per input, whose shapes may hold `symbol(i)`s, and gives one
    value or a tuple. Raises AssertionError where recording alone depends on the sizes, unless `hints` satisfy that."""
    with scope(hints):
        builder = GraphBuilder()
        values = [builder.input(Aval(shape, dtype)) for shape, dtype in inputs]
        made = make(*values)
    graph = builder.graph
    graph.outputs = [v.id for v in (made if isinstance(made, tuple) else (made,))]
    graph.updates = updates or {}
    graph.sizes = tuple(hints)
    return graph


def arguments(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """An array per input of a graph without symbols: normal numbers, small ints, coins."""
    rng = np.random.default_rng(seed)
    return [_argument(rng, graph.avals[v]) for v in graph.inputs]


def _argument(rng: np.random.Generator, aval: Aval) -> np.ndarray:
    dtype = aval.dtype.numpy
    if dtype.kind == "f":
        return rng.standard_normal(aval.shape).astype(dtype)
    return rng.integers(0, 2, aval.shape).astype(dtype)


def check(
    graph: Graph,
    sizes: Iterable[Sequence[int]],
    options: Options = STRICT,
    inputs: Callable[[Graph], list[np.ndarray]] = arguments,
) -> Outcome:
    """Run `graph` at all `sizes` (one tuple of the symbols' values each) and compare with the bound graphs' programs, updating
    inputs in place, too, where the graph may.
    `inputs` makes the arrays for a bound graph; in strict mode (the default) no plan may be for one size only because
    compiling it for more failed."""
    executable = driver.compile(graph, options)
    concrete = Options(mode="blocking", target=options.target, fuse=options.fuse)
    for values in sizes:
        bound = graph.bind(values)
        arrays = inputs(bound)
        wanted = driver.compile(bound, concrete)(arrays)
        _compare(bound, wanted, executable(arrays, sizes=values), f"at sizes {tuple(values)}")
        if graph.updates:
            donated = executable(list(map(buffer, arrays)), tuple(set(graph.updates.values())), values)
            _compare(bound, wanted, donated, f"at sizes {tuple(values)}, updated in place")
    return Outcome(executable, executable.report.plans)


def _compare(bound: Graph, wanted: Sequence[Any], found: Sequence[Any], when: str) -> None:
    for k, (v, x, y) in enumerate(zip(bound.outputs, wanted, found, strict=True)):
        aval = bound.avals[v]
        assert same_bits(to_array(x, aval), to_array(y, aval)), f"output {k} differs {when}"


def buffer(array: np.ndarray) -> runtime.Buffer:
    """A buffer of the pool with the array's elements."""
    made = runtime.Buffer.alloc(array.nbytes)
    if array.size:
        np.frombuffer(made, array.dtype, count=array.size)[:] = array.reshape(-1)
    return made
