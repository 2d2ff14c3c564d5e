"""A batch of calls of any op, and of its gradient, gives the stack of single calls.

Generated from the records' samples: each op written into a `BatchBuilder` with every choice of operands that differ from call to
call, run on the reference, against a loop.
"""

import functools
import itertools

import numpy as np
import opgen
import pytest
from flambeau.dialects import reference
from flambeau.dialects.batching import BatchBuilder, replayed
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import is_inexact
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import Kind, NoGradient
from support import rounds

N = 3
RECORDS = [r for r in opgen.records() if r.family.name not in (Kind.SOURCE, Kind.HOST_CALL, Kind.REFERENCE_CALL)]


def batched(graph: Graph, many: tuple[bool, ...], n: int = N) -> Graph:
    """The program for a batch: inputs with a batch where `many` says so, all outputs with one."""
    b = GraphBuilder()
    builder = BatchBuilder(b, n)
    inputs = []
    for v, is_many in zip(graph.inputs, many, strict=True):
        aval = graph.avals[v]
        inputs.append(builder.value(b.input(aval._replace(shape=(n, *aval.shape)) if is_many else aval), is_many))
    b.graph.outputs = [builder.whole(x).id for x in replayed(builder, graph, inputs)]
    return b.graph


def calls(arrays: list[np.ndarray], many: tuple[bool, ...]) -> list[list[np.ndarray]]:
    """The operands of N calls: those of the sample, in another order where they may differ."""
    return [[_other(x, k) if m else x for x, m in zip(arrays, many, strict=True)] for k in range(N)]


def _other(x: np.ndarray, k: int) -> np.ndarray:
    if x.ndim:
        return np.roll(x, k)
    return x ^ (k == 1) if x.dtype == bool else np.asarray(x + x.dtype.type(k))


def check(graph: Graph, arrays: list[np.ndarray], many: tuple[bool, ...]) -> bool:
    """False where one of the calls raises by itself: what a sample's operands in another order may be."""
    given = calls(arrays, many)
    whole = [np.stack([g[k] for g in given]) if m else arrays[k] for k, m in enumerate(many)]
    try:
        expected = [np.stack(x) for x in zip(*(reference.run(graph, g) for g in given), strict=True)]
    except (IndexError, RuntimeError):
        assert any(node.op.fallible for node in graph.nodes)
        return False
    found = reference.run(batched(graph, many), whole)
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        if is_inexact(y):
            np.testing.assert_allclose(x, y, rtol=1e-12 if x.dtype == np.float64 else 1e-5, atol=1e-12)
        else:
            np.testing.assert_array_equal(x, y)
    return True


@functools.cache
def cases(record):
    """Calls of an op in its first dtype, those with few elements first; one per shape."""
    known = list(opgen.cases(record, narrow=False)) or opgen.cases(record)  # of complex numbers only
    found = [c for c in known if sum(x.size for x in c.arrays) < 500]
    first = {tuple(x.shape for x in c.arrays): c for c in reversed(found)}
    return sorted(first.values(), key=lambda c: (-min([9, *(x.size for x in c.arrays)]), sum(x.size for x in c.arrays)))


def choices(n: int):
    return [many for many in itertools.product((False, True), repeat=n) if any(many)]


@pytest.mark.accept("AG-15")
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_batch_of_calls_gives_what_single_calls_give(record):
    tried = [
        check(case.graph, case.arrays, many)
        for case in cases(record)[: rounds(3, 10, 1000)]
        for many in choices(len(case.arrays))[-8:]
    ]
    assert any(tried)


@pytest.mark.accept("AG-15")
@pytest.mark.parametrize("record", [r for r in RECORDS if not isinstance(r.vjp, NoGradient)], ids=str)
def test_a_batch_of_gradients_gives_what_single_gradients_give(record):
    """Per-sample gradients: also of operands that are the same for all calls."""
    differentiable = [c for c in cases(record) if c.sample.gradient and is_inexact(c.arrays[-1])]
    for case in differentiable[: rounds(1, 3, 1000)]:
        wrt = [v for v in case.graph.inputs if case.graph.avals[v].dtype.is_inexact]
        graph = opgen.gradient_graph(case.graph, wrt)
        seeds = [np.ones(case.graph.avals[v].shape, case.graph.avals[v].dtype.numpy) for v in case.graph.outputs]
        for many in choices(len(case.arrays))[-4:]:
            check(graph, [*case.arrays, *seeds], (*many, *[False] * len(seeds)))


#: Records whose batch is a loop, with the reason; none today.
LOOPED: dict[str, str] = {}


@pytest.mark.accept("AG-15")
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_batch_takes_as_many_ops_whatever_its_size(record):
    """No loop over the samples: a batch of 11 is as many ops as one of 3, for calls and for gradients."""
    (*_, case) = cases(record)[:1]
    graphs = [case.graph]
    if case.sample.gradient and is_inexact(case.arrays[-1]) and not isinstance(record.vjp, NoGradient):
        graphs.append(
            opgen.gradient_graph(case.graph, [v for v in case.graph.inputs if case.graph.avals[v].dtype.is_inexact])
        )
    for graph in graphs:
        for many in choices(len(case.arrays))[-4:]:
            every = (*many, *[False] * (len(graph.inputs) - len(many)))
            few, more = (batched(graph, every, n) for n in (3, 11))
            assert (len(few.nodes) == len(more.nodes)) != (record.name in LOOPED), many
