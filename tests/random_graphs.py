"""Random programs over all records, with inputs: what the tests of passes, plans and tiers run on.

In: a seed. Out: `Program(graph, inputs)`: small shapes, all dtypes, values shared between ops, some of them dead.
"""

from __future__ import annotations

import functools
import math
import random
from typing import NamedTuple

import flambeau.dialects.tape  # noqa: F401
import numpy as np
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Loc
from flambeau.dialects.record import REGISTRY, find

SHAPES = ((), (1,), (5,), (67,), (3, 4), (4, 3), (1, 4), (3, 1), (2, 3, 4), (1, 70), (130, 2), (0, 3), (9, 67))
#: Large enough that parallel loops are cut into several chunks, and reductions too.
LARGE = ((70001,), (300, 257), (2, 40000), (40000, 2), (17, 33, 129), (1, 300), (300, 1), (257, 300))
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, math.inf, -math.inf, math.nan, 1e-40, 3e38, 7.0)
DIVISIONS = ("int_div", "int_rem")


class Program(NamedTuple):
    graph: Graph
    inputs: list[np.ndarray]


def program(
    seed: int,
    n_nodes: int = 25,
    exact: bool = False,
    fallible: bool = True,
    special: bool = True,
    shapes=SHAPES,
    moving: bool = False,
) -> Program:
    """A random program. `exact`: only ops whose NumPy reference is exact; `fallible=False`: none that can fail; `moving`: some
    inputs are updated by what is made of themselves."""
    return _Generator(random.Random(seed), exact, fallible, special, shapes).program(n_nodes, moving)


def evaluate(graph: Graph, inputs: list[np.ndarray]) -> dict[int, np.ndarray]:
    """Every value of the program by the records' references."""
    values = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        results = node.op.run_reference([values[v] for v in node.operands], node.attrs)
        for v, result in zip(node.results, results, strict=True):
            values[v] = np.asarray(result, graph.avals[v].dtype.numpy)
    return values


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal shapes, types and bits; any NaN equals any other."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    if not dtypes.is_inexact(x):
        return bool(np.array_equal(x, y))
    if np.iscomplexobj(x):
        return same_bits(x.real, y.real) and same_bits(x.imag, y.imag)
    bits = x.view(f"u{x.itemsize}") == y.view(f"u{x.itemsize}")
    return bool(np.all(bits | (np.isnan(x) & np.isnan(y))))


class _Generator:
    def __init__(self, rng: random.Random, exact: bool, fallible: bool, special: bool, shapes) -> None:
        self.rng, self.exact, self.fallible, self.special, self.shapes = rng, exact, fallible, special, shapes
        self.graph = Graph()
        self.arrays: list[np.ndarray] = []
        self.values: list[int] = []
        self.moves: list[tuple[int, int]] = []  # a value, and the number of the input that it is the next state of
        self.beside: list[int] = []  # what was made on the way, and is handed out with it
        self.line = 0

    def program(self, n_nodes: int, moving: bool = False) -> Program:
        for _ in range(self.rng.randint(2, 5)):
            self.input(Aval(self.rng.choice(self.shapes), self.rng.choice(dtypes.ORDERED)))
        makers = [self.elementwise] * 5 + [self.view] * 3 + [self.reduction, self.source, self.assemble, self.matmul]
        makers += [self.index, self.rows, self.moments]
        makers += [self.moved, self.chained] * (len(makers) // 3 if moving else 0)
        while len(self.graph.nodes) < n_nodes:
            self.rng.choice(makers)()
        made = [v for n in self.graph.nodes for v in n.results]
        self.graph.outputs = self.rng.sample(made, min(len(made), self.rng.randint(1, 5)))
        self.graph.outputs += self.beside
        if self.rng.random() < 0.3:
            self.graph.outputs.append(self.rng.choice([*self.graph.outputs, *self.graph.inputs]))
        self.updates()
        return Program(self.graph, self.arrays)

    def updates(self) -> None:
        free = list(range(len(self.graph.inputs)))
        self.rng.shuffle(free)
        for value, i in self.moves:
            if i in free:
                self.graph.updates[len(self.graph.outputs)] = i
                self.graph.outputs.append(value)
                free.remove(i)
        for k, v in enumerate(self.graph.outputs):
            if k in self.graph.updates:
                continue
            for i in free:
                if self.graph.avals[self.graph.inputs[i]] == self.graph.avals[v] and self.rng.random() < 0.7:
                    self.graph.updates[k] = i
                    free.remove(i)
                    break

    # ---- values

    def input(self, aval: Aval, array: np.ndarray | None = None) -> int:
        self.arrays.append(self.data(aval) if array is None else array)
        value = self.graph.add_input(aval)
        self.values.append(value)
        return value

    def data(self, aval: Aval) -> np.ndarray:
        numbers = np.random.default_rng(self.rng.getrandbits(32))
        if aval.dtype.is_bool:
            return numbers.random(aval.shape) < 0.5
        if aval.dtype.is_integer:
            array = numbers.integers(-9, 10, aval.shape)
            rare = np.array((0, 1, 2**31 - 1))
            array = np.where(numbers.random(aval.shape) < 0.4, rare[numbers.integers(0, 3, aval.shape)], array)
        else:
            array = numbers.normal(0, 2, aval.shape)
            chosen = np.array(SPECIAL)[numbers.integers(0, len(SPECIAL), aval.shape)]
            array = np.where(numbers.random(aval.shape) < (0.2 if self.special else 0), chosen, array)
        with np.errstate(over="ignore"):
            return np.asarray(array).astype(aval.dtype.numpy)

    def indices(self, shape: tuple[int, ...], extent: int) -> np.ndarray:
        return np.random.default_rng(self.rng.getrandbits(32)).integers(0, extent, shape)

    def emit(self, name: str, operands: tuple[int, ...], attrs: tuple = ()) -> int | None:
        op = find(name)
        if (self.exact and not op.exact) or (op.fallible and not self.fallible):
            return None
        self.line += 1
        results = self.graph.add_node(op, operands, attrs, Loc("program.py", self.line))
        self.values += results
        return results[0]

    def aval(self, value: int) -> Aval:
        return self.graph.avals[value]

    def any(self, wanted=lambda aval: True) -> int | None:
        found = [v for v in self.values if wanted(self.aval(v))]
        return self.rng.choice(found) if found else None

    def like(self, value: int) -> int:
        """A value of the same type: another one, often; else a new input or a constant."""
        if self.rng.random() < 0.15:
            scalar = self.constant(self.aval(value).dtype)
            return self.expand(scalar, self.aval(value).shape)
        found = self.any(lambda aval: aval == self.aval(value))
        return found if found != value or self.rng.random() < 0.5 else self.input(self.aval(value))

    def constant(self, dtype: dtypes.DType) -> int:
        if dtype.is_complex:
            part = dtypes.float32 if dtype == dtypes.complex64 else dtypes.float64
            return self.emit("complex", (self.constant(part), self.constant(part)))
        number = self.rng.choice((0, 1, 2, -1 if dtype.least < 0 else 3))
        value = bool(number) if dtype.is_bool else float(number) if dtype.is_floating_point else number
        return self.emit("constant", (), (value, dtype))

    def expand(self, scalar: int, shape: tuple[int, ...]) -> int:
        if not shape:
            return scalar
        return self.emit("broadcast", (self.emit("reshape", (scalar,), ((1,) * len(shape),)),), (shape,))

    # ---- ops

    def elementwise(self) -> None:
        x = self.rng.choice(self.values)
        names = [n for n, op in REGISTRY.items() if op.family.is_pointwise and self.aval(x).dtype in op.dtypes]
        name = self.rng.choice([n for n in names if n not in DIVISIONS])
        if name == "cast":
            self.emit("cast", (x,), (self.rng.choice(dtypes.ORDERED),))
        elif name == "select":
            y = self.like(x)
            self.emit(name, (self.emit("eq", (x, self.like(x))), x, y))
        elif find(name).attrs == ():
            self.emit(name, (x, *(self.like(x) for _ in range(_arity(name) - 1))))

    def division(self, x: int) -> None:
        aval = self.aval(x)
        divisor = np.where(self.data(aval) == 0, 3, self.data(aval)).astype(aval.dtype.numpy)
        divisor[divisor == 0] = 1
        self.emit(self.rng.choice(DIVISIONS), (x, self.input(aval, divisor)))

    def view(self) -> None:
        x = self.rng.choice(self.values)
        shape = self.aval(x).shape
        name = self.rng.choice(("reshape", "permute", "broadcast", "slice", "dynamic_slice", "flip"))
        if name == "reshape":
            self.emit(
                name,
                (x,),
                (self.rng.choice([s for s in (*self.shapes, (1, *shape)) if math.prod(s) == math.prod(shape)]),),
            )
        elif name == "permute":
            self.emit(name, (x,), (tuple(self.rng.sample(range(len(shape)), len(shape))),))
        elif name == "broadcast":
            self.emit(name, (x,), (tuple(self.rng.choice((1, 3)) if n == 1 else n for n in shape),))
        elif name == "flip":
            self.emit(name, (x,), (tuple(a for a in range(len(shape)) if self.rng.random() < 0.5),))
        else:
            self.window(name, x, shape)

    def window(self, name: str, x: int, shape: tuple[int, ...]) -> None:
        spans = []
        for n in shape:
            start, step = (self.rng.randrange(n), self.rng.randint(1, 3)) if n else (0, 1)
            spans.append(
                (start, self.rng.randint(0 if not n else 1, max(1, (n - start + step - 1) // step)) if n else 0, step)
            )
        starts, sizes, steps = (tuple(s[k] for s in spans) for k in range(3))
        if name == "slice":
            self.emit(name, (x,), (starts, sizes, steps))
        elif not self.exact or find(name).exact:
            at = [self.start(s) for s in starts]
            self.emit(name, (x, *at), (sizes, steps))

    def start(self, value: int) -> int:
        if self.rng.random() < 0.5:
            return self.emit("constant", (), (value, dtypes.int64))
        return self.input(Aval((), dtypes.int64), np.asarray(value + self.rng.choice((0, 0, 1, -1)), np.int64))

    def reduction(self) -> None:
        x = self.rng.choice(self.values)
        aval = self.aval(x)
        ops = [op for op in REGISTRY.values() if op.family.folds and aval.dtype in op.dtypes]
        if not ops or 0 in aval.shape:
            return
        op = self.rng.choice(ops)
        axes = tuple(a for a in range(aval.rank) if self.rng.random() < 0.6)
        if op.name in ("argmax", "argmin") and len(axes) not in (1, aval.rank):
            axes = axes[:1] or (0,)
        self.emit(op.name, (x,), (axes,))

    def rows(self) -> None:
        """A softmax along one axis, perhaps its logarithm, perhaps an element picked from every row."""
        x = self.any(lambda a: a.rank >= 1 and a.dtype in dtypes.FLOATING and a.size > 0)
        if x is None or self.exact:
            return
        axis = self.rng.randrange(self.aval(x).rank)
        result = self.softmax(x, axis)
        if self.fallible and self.rng.random() < 0.5:
            self.picked(result, axis)
        self.emit("mul", (result, self.like(result)))

    def softmax(self, x: int, axis: int) -> int:
        """Or its logarithm."""
        shape = self.aval(x).shape
        shifted = self.emit("sub", (x, self.stretched(self.emit("max", (x,), ((axis,),)), shape, axis)))
        powers = self.emit("exp", (shifted,))
        total = self.stretched(self.emit("sum", (powers,), ((axis,),)), shape, axis)
        return self.emit(*self.rng.choice((("div", (powers, total)), ("sub", (shifted, self.emit("log", (total,)))))))

    def picked(self, x: int, axis: int) -> int:
        """An element of every row."""
        aval = self.aval(x)
        shape = tuple(1 if a == axis else n for a, n in enumerate(aval.shape))
        index = self.input(Aval(shape, dtypes.int64), self.indices(shape, aval.shape[axis]))
        return self.emit("gather", (x, index), (axis,))

    def moved(self) -> None:
        """The next state of an input, made of itself."""
        every = enumerate(self.graph.inputs)
        found = [(k, v) for k, v in every if (a := self.aval(v)).rank and a.size and a.dtype in dtypes.FLOATING]
        if not found or self.exact:
            return
        at, x = self.rng.choice(found)
        y = self.group(x, self.rng.randrange(self.aval(x).rank))
        if y != x:
            self.moves.append((y, at))

    def chained(self) -> None:
        """Groups of ops between products and scans, whose memory they may take over."""
        x = self.any(lambda a: a.rank >= 2 and a.size and a.dtype in dtypes.FLOATING)
        if x is None or self.exact:
            return
        axis = self.rng.choice((-1, -1, 0)) % self.aval(x).rank
        for _ in range(self.rng.randint(1, 2)):
            x = self.group(self.by_itself(x), axis)
        self.beside.append(self.by_itself(x))

    def by_itself(self, x: int) -> int:
        """The same shape, by an op that no group of others takes in."""
        aval = self.aval(x)
        if self.rng.random() < 0.4:
            return self.emit("cumsum", (x,), (self.rng.randrange(aval.rank), False))
        square = Aval((*aval.shape[:-2], aval.shape[-1], aval.shape[-1]), aval.dtype)
        return self.emit("matmul", (x, self.input(square)))

    def group(self, x: int, axis: int) -> int:
        """What a few ops make of a value: element by element, row by row, of what its rows have elsewhere. Some of what they make
        of rows is handed out."""
        y, kinds = x, ("alone", "beside", "beside", "rows", "folded", "folded", "picked" if self.fallible else "folded")
        for kind in self.rng.choices(kinds, k=self.rng.randint(2, 5)):
            if kind == "alone":
                y = self.emit(self.rng.choice(("tanh", "neg", "abs", "sigmoid")), (y,))
            elif kind == "beside":
                y = self.emit(
                    self.rng.choice(("add", "sub", "mul", "maximum")), (y, self.rng.choice((x, self.like(y))))
                )
            elif kind == "rows":
                y = self.softmax(y, axis)
            else:
                unit = self.picked(y, axis) if kind == "picked" else self.emit("max", (y,), ((axis,),))
                if self.rng.random() < 0.5:
                    self.beside.append(unit)
                else:
                    y = self.emit("sub", (y, self.stretched(unit, self.aval(y).shape, axis)))
        return y

    def stretched(self, value: int, shape: tuple[int, ...], axis: int) -> int:
        unit = tuple(1 if a == axis else n for a, n in enumerate(shape))
        return self.emit("broadcast", (self.emit("reshape", (value,), (unit,)),), (shape,))

    def moments(self) -> None:
        """An optimizer's update: a decayed sum, and a value moved by it."""
        x = self.any(lambda a: a.dtype in dtypes.FLOATING)
        if x is None:
            return
        aval = self.aval(x)
        old, gradient = self.input(aval), self.like(x)
        rate = self.expand(self.emit("constant", (), (0.5, aval.dtype)), aval.shape)
        new = self.emit("add", (self.emit("mul", (old, rate)), gradient))
        self.emit("sub", (x, self.emit("mul", (new, rate))))

    def source(self) -> None:
        shape = self.rng.choice(self.shapes)
        if self.rng.random() < 0.4:
            self.constant(self.rng.choice(dtypes.ORDERED))
        elif shape and self.rng.random() < 0.6:
            self.emit("iota", (), (shape, self.rng.randrange(len(shape)), self.rng.choice(dtypes.NUMERIC)))
        else:
            seed = self.input(Aval((), dtypes.int64))
            self.emit("random_bits", (seed, self.start(5)), (shape,))

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
            self.emit(
                name, (x, *(self.like(x) for _ in range(self.rng.randint(0, 2)))), (self.rng.randrange(aval.rank),)
            )
        else:
            sizes = tuple(self.rng.randint(0, n) for n in aval.shape)
            update = self.input(Aval(sizes, aval.dtype))
            self.emit(name, (x, update, *(self.start(0) for _ in sizes)), ((1,) * aval.rank,))

    def matmul(self) -> None:
        x = self.any(lambda a: a.rank >= 2 and a.dtype in dtypes.NUMERIC)
        if x is None:
            return
        aval = self.aval(x)
        n = self.rng.choice((1, 3, 17))
        y = self.any(lambda a: a == Aval((*aval.shape[:-2], aval.shape[-1], n), aval.dtype))
        self.emit(
            "matmul", (x, self.input(Aval((*aval.shape[:-2], aval.shape[-1], n), aval.dtype)) if y is None else y)
        )

    def index(self) -> None:
        x = self.rng.choice(self.values)
        aval = self.aval(x)
        if not aval.rank or 0 in aval.shape:
            return
        if aval.dtype in dtypes.NUMERIC and self.rng.random() < 0.3:
            name = self.rng.choice(("cumsum", "cumprod", "cummax", "cummin"))
            self.emit(name, (x,), (self.rng.randrange(aval.rank), self.rng.random() < 0.5))
            return
        if not self.fallible:
            return
        if aval.dtype.is_integer and self.rng.random() < 0.4:
            self.division(x)
            return
        axis = self.rng.randrange(aval.rank)
        shape = tuple(self.rng.choice((1, 3, n)) if a == axis else n for a, n in enumerate(aval.shape))
        index = np.array([self.rng.randrange(aval.shape[axis]) for _ in range(math.prod(shape))], np.int64).reshape(
            shape
        )
        at = self.input(Aval(shape, dtypes.int64), index)
        picked = self.emit("gather", (x, at), (axis,))
        if aval.dtype in dtypes.NUMERIC and picked is not None:
            self.emit("scatter_add", (x, at, picked), (axis,))


@functools.cache
def _arity(name: str) -> int:
    """How many operands an elementwise op takes, from its first good sample."""
    return next(len(s.operands) for s in find(name).samples() if s.error is None)
