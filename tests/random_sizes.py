"""Random programs whose extents depend on symbols, valid for all values.

In: a seed. Out: a graph; `arguments` makes its inputs for given sizes. What is random is what `random_graphs.py` does.
"""

from __future__ import annotations

import random

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Size, at_most, symbol
from flambeau.dialects.size_guards import scope
from random_graphs import SPECIAL, _Generator

s, t = symbol(0), symbol(1)
#: With few forms per number of elements, so that values meet in ops.
SHAPES = (
    (),
    (3,),
    (s,),
    (s, 4),
    (4, s),
    (s * 4,),
    (1, s),
    (s, 1),
    (s, t),
    (t, s),
    (s * t,),
    (2, s, 3),
    (t, 1, 3),
    (s + 1, t),
)
HINTS = (9, 5)


def program(seed: int, n_nodes: int) -> Graph:
    """A random program in two symbols, recorded at `HINTS`."""
    with scope(HINTS, by_form=True):
        graph = _Sized(random.Random(seed), False, False, True, SHAPES).program(n_nodes).graph
    graph.sizes = HINTS
    return graph


def arguments(graph: Graph) -> list[np.ndarray]:
    """Inputs for a bound graph, special values among them."""
    rng = np.random.default_rng(len(graph.nodes))
    return [_argument(rng, graph.avals[v]) for v in graph.inputs]


def _argument(rng: np.random.Generator, aval: Aval) -> np.ndarray:
    if not aval.dtype.is_floating_point:
        return rng.integers(0, 2 if aval.dtype.is_bool else 12, aval.shape).astype(aval.dtype.numpy)
    special = np.array(SPECIAL)[rng.integers(0, len(SPECIAL), aval.shape)]
    array = np.where(rng.random(aval.shape) < 0.1, special, rng.normal(0, 2, aval.shape))
    with np.errstate(over="ignore"):
        return np.asarray(array).astype(aval.dtype.numpy)


class _Sized(_Generator):
    """Chooses what does not depend on the values at hand."""

    def input(self, aval: Aval, array: np.ndarray | None = None) -> int:
        value = self.graph.add_input(aval)
        self.values.append(value)
        return value

    def data(self, aval: Aval) -> np.ndarray:
        raise NotImplementedError

    def window(self, name: str, x: int, shape: tuple) -> None:
        if not all(map(_is_large, shape)):
            return
        spans = [self._span(n) for n in shape]
        starts, sizes, steps = (tuple(span[k] for span in spans) for k in range(3))
        if name == "slice":
            self.emit(name, (x,), (starts, sizes, steps))
        else:
            self.emit(name, (x, *map(self.start, starts)), (sizes, steps))

    def _span(self, n) -> tuple:
        if not isinstance(n, Size):
            start = self.rng.randrange(n)
            return start, self.rng.randint(1, n - start), 1
        start, step = self.rng.randint(0, 1), self.rng.randint(1, 3)
        extent = self.rng.choice(((n - start + step - 1) // step, 1, (n - start) // step))
        return start, extent if at_most(1, extent) else 1, step  # nothing is empty: some reductions would refuse it

    def assemble(self) -> None:
        x = self.rng.choice(self.values)
        aval = self.aval(x)
        if not aval.shape:
            return
        name = self.rng.choice(("pad", "concat", "update_slice"))
        if name == "pad":
            low, high = (tuple(self.rng.choice((0, 0, 2)) for _ in aval.shape) for _ in range(2))
            self.emit(name, (x, self.constant(aval.dtype)), (low, high))
        elif name == "concat":
            others = (self.like(x) for _ in range(self.rng.randint(0, 2)))
            self.emit(name, (x, *others), (self.rng.randrange(aval.rank),))
        elif all(map(_is_large, aval.shape)):
            sizes = tuple(n - self.rng.randint(0, 1) for n in aval.shape)
            update = self.input(Aval(sizes, aval.dtype))
            self.emit(name, (x, update, *(self.start(0) for _ in sizes)), ((1,) * aval.rank,))


def _is_large(n) -> bool:
    """At least 2 for all values of the symbols."""
    return at_most(2, n)
