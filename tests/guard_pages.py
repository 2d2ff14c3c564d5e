"""Runs generated programs whose every buffer lies between two pages that nobody may touch: a program of its own, since what
touches one ends the process. `test_guard_pages.py` starts it and reads its journal.

    python guard_pages.py FAMILY COUNT [FIRST]

runs cases FIRST.. of COUNT of a family, first with buffers that end at such a page, then with buffers that start at one, and
prints the number of each case before it runs.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

os.environ.setdefault("FLAMBEAU_COMPILE", "blocking")

import execute
import flambeau as fb
import numpy as np
import opgen
import random_graphs
import symbolic
from flambeau.compiler import driver
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.loops.nest import Nest
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.bugs import is_internal, tells_of_bug
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, from_numpy
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import OpRecord, Sample, find
from flambeau.runtime import _binding as runtime
from test_symbolic_records import samples as symbolic_samples
from test_symbolic_records import symbolic_graph

#: Nothing, one, less than a register, one less and one more than a register, a block of 64 lanes, a power of two.
EXTENTS = (0, 1, 2, 3, 7, 15, 17, 31, 33, 63, 65, 127, 255, 257)
#: Of the extents of a program together: convolutions do as much work.
MOST = 1 << 18
LONG = (4095, 4097)
#: Elements of an operand, at most.
LARGEST = 300_000
SHAPES = (
    (), (1,), (0,), (7,), (65,), (257,), (4097,), (3, 0), (0, 5), (17, 3), (2, 65), (63, 1), (1, 255), (7, 17, 3),
    (2, 0, 3), (33, 31), (3, 1, 65),
)  # fmt: skip
#: Attributes that are extents of operands or results.
SHAPED = ("shape", "sizes")
REFUSALS = (RuntimeError, ValueError, IndexError, TypeError)

# ---- records at other extents -----------------------------------------------------------------------------------


#: Records whose samples run on any numbers. A loop of a region may never end on drawn ones.
DRAWN = [record for record in opgen.records() if not (record.regions or record.effect)]


def resized(
    rng: random.Random, record: OpRecord, sample: Sample, extents: Sequence[int] = EXTENTS
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Operands and attributes of a sample with its extents replaced, equal ones by equal ones."""
    new: dict[int, int] = {}

    def extent(n: int) -> int:
        return new.setdefault(
            n, rng.choice(extents if rng.random() < 0.9 or n in new.values() or extents is not EXTENTS else LONG)
        )

    dtype, shapes = rng.choice(record.dtypes), [tuple(map(extent, np.shape(x))) for x in sample.operands]
    if max([0, *map(math.prod, shapes)]) > LARGEST:
        raise ValueError("too large to be quick")
    arrays = [_data(rng, x, shape) for shape, x in zip(shapes, opgen.cast_operands(sample, dtype), strict=True)]
    attrs = {name: tuple(map(extent, x)) if name in SHAPED else x for name, x in sample.attrs.items()}
    return arrays, attrs


def _data(rng: random.Random, like: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of the type of `like`; integers may be good as indices, or not."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    if not like.shape:
        return like
    if like.dtype.kind == "f":
        return numbers.standard_normal(shape).astype(like.dtype)
    if like.dtype.kind == "b":
        return numbers.random(shape) < 0.5
    bound = max(1, min(shape, default=1))
    good = numbers.integers(0, bound, shape)
    return np.where(numbers.random(shape) < rng.choice((0, 0, 0.02)), 2**40, good).astype(like.dtype)


def viewed(rng: random.Random, builder: GraphBuilder, array: np.ndarray) -> tuple[Value, np.ndarray]:
    """An input from which a view gives a value of the array's shape, and what is passed for it."""
    dtype, shape = from_numpy(array.dtype), array.shape
    axes = tuple(range(len(shape)))
    how = rng.choice(("itself", "itself", "flip", "permute", "slice", "broadcast")) if shape else "itself"
    if how == "flip":
        return find("flip")(builder.input(Aval(shape, dtype)), axes=axes), array
    if how == "permute":
        perm = tuple(rng.sample(axes, len(axes)))
        inner = tuple(shape[perm.index(a)] for a in axes)
        passed = np.ascontiguousarray(np.transpose(array, np.argsort(perm)))
        return find("permute")(builder.input(Aval(inner, dtype)), perm=perm), passed.reshape(inner)
    if how == "slice":
        steps = tuple(rng.choice((1, 2)) for _ in axes)
        starts = tuple(rng.choice((0, 1)) for _ in axes)
        whole = tuple(a + max(0, (n - 1) * s + 1) for n, s, a in zip(shape, steps, starts, strict=True))
        passed = np.zeros(whole, array.dtype)
        passed[tuple(slice(a, None, s) for a, s in zip(starts, steps, strict=True))] = array
        return find("slice")(builder.input(Aval(whole, dtype)), starts=starts, sizes=shape, steps=steps), passed
    if how == "broadcast":
        axis = rng.choice(axes)
        unit = (*shape[:axis], 1, *shape[axis + 1 :])
        passed = np.zeros(unit, array.dtype) if not shape[axis] else np.take(array, [0], axis)
        return find("broadcast")(builder.input(Aval(unit, dtype)), shape=shape), np.ascontiguousarray(passed)
    return builder.input(Aval(shape, dtype)), array


def folded(rng: random.Random, x: Value) -> Value:
    """The value itself, or a reduction of it."""
    names = [n for n in ("sum", "prod", "max", "any", "argmax") if x.aval.dtype in find(n).dtypes]
    if not names or rng.random() < 0.4:
        return x
    axes = tuple(a for a in range(len(x.shape)) if rng.random() < 0.6)
    name = rng.choice(names)
    return find(name)(x, axes=axes[:1] if name == "argmax" else axes)


def record_program(seed: int, extents: Sequence[int] = EXTENTS) -> tuple[Graph, list[np.ndarray]] | None:
    """A record's op between views and a reduction, at drawn extents; None where its rule refuses them."""
    rng = random.Random(seed)
    indexing = [r for r in opgen.records() if r.fallible and "axis" in r.attrs]
    record = rng.choice(indexing if rng.random() < 0.3 else DRAWN)
    sample = rng.choice([s for s in record.samples() if s.error is None])
    builder = GraphBuilder()
    try:
        arrays, attrs = resized(rng, record, sample, extents)
        given = [viewed(rng, builder, x) for x in arrays]
        if not given:
            return opgen.graph_of(record, arrays, attrs), arrays
        results = builder.emit_all(record, [v for v, _ in given], tuple(attrs[name] for name in record.attrs))
        if results[0].aval.size > LARGEST:
            return None
        builder.graph.outputs = [folded(rng, result).id for result in results]
    except REFUSALS:
        return None
    return builder.graph, [x for _, x in given]


# ---- the families -----------------------------------------------------------------------------------------------


def kernels(seed: int, side: str) -> None:
    """One program of a record, kernel by kernel: every operand, temporary and scratch area stands alone."""
    made = record_program(seed)
    if made is not None:
        execute.Memory.at = side
        options = Options(fuse=seed % 4 != 0)
        attempt(lambda: execute.run_graph(*made, options, parts=1 + 2 * (seed % 2), in_place=seed % 3 == 0))


def clusters(seed: int, side: str) -> None:
    """A random program, kernel by kernel."""
    graph, arrays = random_graphs.program(seed, n_nodes=8, shapes=SHAPES)
    execute.Memory.at = side
    attempt(lambda: execute.run_graph(graph, arrays, Options(), parts=1 + 2 * (seed % 2), in_place=seed % 3 == 0))


def plans(seed: int, side: str) -> None:
    """A program by the plan runner, on either tier, with inputs that outputs may take, on one thread or two."""
    made = record_program(seed) if seed % 2 else random_graphs.program(seed, n_nodes=12, shapes=SHAPES)
    if made is not None:
        graph, arrays = made
        runtime.set_num_threads(1 + seed % 2)
        runtime.set_memory_guard(side)
        executable = driver.compile(graph, Options(mode="off" if seed % 5 == 0 else "blocking"))
        attempt(lambda: executable(list(map(symbolic.buffer, arrays)), tuple(set(graph.updates.values()))))


def sizes(seed: int, side: str) -> None:
    """A record's op on extents that are known at run time only."""
    rng = random.Random(seed)
    record = rng.choice(DRAWN)
    good = symbolic_samples(record)
    if not good:
        return
    graph, asked = symbolic_graph(record, rng.choice(good))
    runtime.set_memory_guard(side)
    executable = driver.compile(graph, Options(mode="blocking", strict_sizes=False))
    drawn = (tuple(rng.choice(EXTENTS[2:]) for _ in graph.sizes) for _ in range(60))
    drawn = (values for values in drawn if math.prod(values) <= MOST)
    # others are another recording, or have operands that fill the memory
    recorded = (
        values
        for values in drawn
        if all(guard.holds(values) for guard in asked) and max(a.nbytes for a in graph.bind(values).avals) <= 64 * MOST
    )
    for values in islice(recorded, 3):
        buffers = list(map(symbolic.buffer, symbolic.arguments(graph.bind(values), seed)))
        attempt(partial(executable, buffers, sizes=values))


def functions(seed: int, side: str) -> None:
    """A public function that reads through indices, with its gradient, at drawn extents."""
    rng = random.Random(seed)
    runtime.set_memory_guard(side)
    runtime.set_num_threads(1 + seed % 2)
    rows, columns, picks = (rng.choice(EXTENTS) for _ in range(3))
    data = np.random.default_rng(seed)
    x = fb.tensor(data.standard_normal((rows, columns)).astype(rng.choice(("f4", "f8"))), requires_grad=True)
    bound = rows + rng.choice((0, 0, 0, 1))
    at = fb.tensor(data.integers(0, max(bound, 1), (picks,)))
    wide = fb.tensor(data.integers(0, max(bound, 1), (picks, columns)))
    call = rng.choice(
        (
            lambda: x.index_select(0, at), lambda: x[at], lambda: x.gather(0, wide[:rows]), lambda: x.gather(1, wide.T),
            lambda: fb.nn.functional.embedding(at, x), lambda: x.scatter_add(0, wide[:rows], x[:picks]),
            lambda: x.index_add(0, at[:rows], x[:picks]), lambda: x.T[:, at], lambda: x[at, :1], lambda: x.flip(0)[at],
            lambda: fb.nn.functional.cross_entropy(x, (at % max(columns, 1))[:rows]), lambda: x[at][:, at[:columns] * 0],
            lambda: fb.where(x > 0, x, 0.0)[at], lambda: (x @ x.T)[at], lambda: x.exp().gather(0, wide[:rows]),
        )
    )  # fmt: skip
    fold = rng.choice(
        (lambda y: y.sum(), lambda y: y.sum(0), lambda y: y.prod(), lambda y: y * 2, lambda y: y.mean(-1))
    )

    def run() -> None:
        with fb.compiler_options(mode="off" if seed % 4 == 0 else "blocking"):
            y = fold(call())
            y.tolist()
            (g,) = fb.autograd.grad((y * y).sum(), [x], create_graph=True)
            g.tolist()
            fb.autograd.grad((g * g).sum(), [x])[0].tolist()

    attempt(run)


def attempt(run: Callable[[], Any]) -> None:
    """Run, and let it refuse what it is given."""
    try:
        run()
    except (*REFUSALS, AttributeError, NotImplementedError) as error:
        if is_internal(error) or tells_of_bug(error) or str(error).startswith("[compile]"):
            raise


# ---- faults on purpose ------------------------------------------------------------------------------------------


def _touching(offset: int, written: bool) -> Callable[[], None]:
    """A kernel that reads or writes `offset` elements from where its operand of seven elements starts."""

    def run() -> None:
        b = Emitter()
        x = b.const(0.0, "f32") if written else b.load(b.buffer(0), offset, "f32")
        b.store(x, b.buffer(0), offset if written else 0)
        kernel, memory = execute.compiled(b.source("faulty")), execute.Memory(28)
        pointers = np.array([memory.address], np.uint64)
        kernel(pointers.ctypes.data, 0, 0, 1, 0)

    return run


def _reading_nothing() -> None:
    """The reduction of an empty operand as it once was: it read what its rows would share."""
    Nest.is_empty = False
    builder = GraphBuilder()
    x = find("sum")(builder.input(Aval((2, 0), float32)), axes=(1,))
    builder.graph.outputs = [x.id]
    execute.run_graph(builder.graph, [np.empty((2, 0), np.float32)], Options())


#: What shows on which side.
FAULTS = (
    ("end", _touching(7, False)), ("end", _touching(7, True)), ("start", _touching(-1, False)),
    ("start", _touching(-1, True)), ("end", _reading_nothing), ("start", _reading_nothing),
)  # fmt: skip


def faulty(seed: int, side: str) -> None:
    """A fault on purpose ends its process."""
    wanted, fault = FAULTS[seed % len(FAULTS)]
    if side != wanted:
        return
    execute.Memory.at = side
    child = os.fork()
    if child == 0:
        fault()
        os._exit(0)
    ended = os.WTERMSIG(os.waitpid(child, 0)[1])
    assert ended == signal.SIGSEGV, f"fault {seed} with guards at the {side}: ended by signal {ended}"


FAMILIES = {f.__name__: f for f in (kernels, clusters, plans, sizes, functions, faulty)}

if __name__ == "__main__":
    family, count, *first = sys.argv[1:]
    for seed in range(int(first[0]) if first else 0, int(count)):
        print(seed, flush=True)
        for side in ("end", "start"):
            FAMILIES[family](seed, side)
