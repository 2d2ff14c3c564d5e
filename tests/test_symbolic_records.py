"""The records' rules and vjps on sizes that are known at run time only: they give what they give on ints, and ask nothing
that would leave a single size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import opgen
import pytest
import symbolic
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import DType, float64, from_numpy
from flambeau.dialects.graph import Graph, Region
from flambeau.dialects.record import OpRecord, Sample
from flambeau.dialects.size import Int, hint, symbol
from flambeau.dialects.size_guards import Guard, scope
from flambeau.regions import Template

RECORDS = opgen.records()
DIFFERENTIABLE = [r for r in RECORDS if callable(r.vjp)]
#: Attributes that are shapes: their extents are those of operands, or extents of their own.
SHAPES = ("shape", "sizes")
#: The gradient of a product is a tree that depends on how many factors there are.
PINNING = ("prod",)
#: Their last axis has the two parts of numbers, as that of ops on complex numbers in memory has.
PARTS = ("fourier_complex", "fourier_to_real", "view_as_complex")


def dtype_of(record: OpRecord) -> DType:
    return float64 if float64 in record.dtypes else record.dtypes[0]


class Symbols:
    """A symbol for every distinct extent of at least 2."""

    def __init__(self, sample: Sample, dtype: DType, parts: bool = False) -> None:
        self.arrays = opgen.cast_operands(sample, dtype)
        self.hints: list[int] = []
        self.shapes = [tuple(self.extent(n) for n in x.shape) for x in self.arrays]
        if parts:
            self.shapes = [
                (*shape[:-1], 2) if x.dtype.kind == "f" else shape
                for x, shape in zip(self.arrays, self.shapes, strict=True)
            ]
        self.total = math.prod(self.shapes[0]) if self.shapes else 1

    def extent(self, n: int) -> Int:
        if n < 2:
            return n
        if n not in self.hints:
            self.hints.append(n)
        return symbol(self.hints.index(n))

    def attribute(self, name: str, value: Any) -> Any:
        """A shape in symbols; an extent that holds all of the operand's elements is their number. A region with symbols for its
        extents."""
        if isinstance(value, Region):
            template = Template(value)
            return template.filled(iter([self.extent(n) for n in template.sizes]))
        if name not in SHAPES:
            return value
        with scope([*self.hints, *(n for n in value if n >= 2)]):
            whole = hint(self.total)
        return tuple(self.total if n == whole and n not in self.hints else self.extent(n) for n in value)


def symbolic_graph(record: OpRecord, sample: Sample) -> tuple[Graph, tuple[Guard, ...]]:
    """A sample's call with symbols for its extents, and what recording it asked."""
    made = Symbols(sample, dtype_of(record), record.name in PARTS or sample.attrs.get("complex", False))
    attrs = tuple(made.attribute(name, sample.attrs[name]) for name in record.attrs)
    graph = Graph()
    with scope(made.hints) as asked:
        operands = [
            graph.add_input(Aval(shape, from_numpy(x.dtype))) for shape, x in zip(made.shapes, made.arrays, strict=True)
        ]
        graph.outputs = list(graph.add_node(record, operands, attrs, opgen.LOC))
    graph.sizes = tuple(made.hints)
    return graph, asked.guards


def samples(record: OpRecord) -> list[Sample]:
    """Good samples with an extent to vary, one per combination of shapes and attributes."""
    found: dict[Any, Sample] = {}
    for s in record.samples():
        shapes = tuple(np.shape(x) for x in s.operands)
        varied = [n for shape in shapes for n in shape] + [n for a in SHAPES for n in s.attrs.get(a, ())]
        if s.error is None and any(n >= 2 for n in varied) and _is_expressible(record, s):
            found.setdefault((shapes, tuple(s.attrs.items())), s)
    return list(found.values())


def _is_expressible(record: OpRecord, s: Sample) -> bool:
    """Whether no extent is made of others but a reshape's, if it is that of all elements: 12 as 2 * 3 * 2 is a fact about 12 only,
    as are 12 channels in 2 groups of 6."""
    if record.name != "reshape":
        return s.attrs.get("groups", 1) == 1
    shape = np.shape(s.operands[0])
    return all(n < 2 or n in shape or n == math.prod(shape) for n in s.attrs["shape"])


def pins(guards: tuple[Guard, ...]) -> list[Guard]:
    return [g for g in guards if g.relation == "=="]


def concrete(record: OpRecord, sample: Sample) -> Graph:
    return opgen.graph_of(record, opgen.cast_operands(sample, dtype_of(record)), sample.attrs)


@pytest.mark.parametrize("record", [r for r in RECORDS if samples(r)], ids=str)
def test_rules_give_the_types_of_the_bound_call_and_pin_nothing(record: OpRecord) -> None:
    for sample in samples(record):
        graph, guards = symbolic_graph(record, sample)
        bound = graph.bind(graph.sizes)
        assert bound.avals == concrete(record, sample).avals
        assert bound.nodes[0].attrs == tuple(sample.attrs[name] for name in record.attrs)
        assert pins(guards) == []


@pytest.mark.parametrize("record", DIFFERENTIABLE, ids=str)
def test_vjps_give_the_cotangents_of_the_bound_call_and_pin_nothing(record: OpRecord) -> None:
    ran = 0
    for sample in samples(record):
        graph, _ = symbolic_graph(record, sample)
        wrt = [v for v in graph.inputs if graph.avals[v].dtype.is_inexact]
        if not wrt or not graph.avals[graph.outputs[0]].dtype.is_inexact:
            continue
        with scope(graph.sizes) as asked:
            gradient = opgen.gradient_graph(graph, wrt)
        expected = opgen.gradient_graph(concrete(record, sample), wrt)
        bound = gradient.bind(graph.sizes)
        assert [bound.avals[v] for v in bound.outputs] == [expected.avals[v] for v in expected.outputs]
        cts = cotangents(expected, graph)
        if record.name == "eig":  # refuses those that depend on the phases of its vectors
            cts = [ct * 0 for ct in cts]
        arrays = [*opgen.cast_operands(sample, dtype_of(record)), *cts]
        with np.errstate(all="ignore"):
            found, wanted = reference.run(bound, arrays), reference.run(expected, arrays)
        assert all(opgen.same_bits(x, y) for x, y in zip(found, wanted, strict=True))
        assert record.name in PINNING or pins(asked.guards) == []
        ran += 1
    assert ran or record.name in ("cast", "stop_gradient", "graft")


def cotangents(gradient: Graph, forward: Graph) -> list[np.ndarray]:
    extra = gradient.inputs[len(forward.inputs) :]
    avals = [gradient.avals[v] for v in extra]
    return [np.asarray(np.random.default_rng(5).uniform(-1, 1, a.shape)).astype(a.dtype.numpy) for a in avals]


#: Elementwise ops all go the same way through the compiler.
SOME = ("check_index", "int_div", "cast", "select")
COMPILED = [r for r in RECORDS if (not r.family.is_pointwise or r.name in SOME) and samples(r)]


@pytest.mark.parametrize("record", COMPILED, ids=str)
def test_compiled_bits_are_those_of_the_bound_call(record: OpRecord) -> None:
    for sample in sorted(samples(record), key=lambda s: -sum(np.ndim(x) for x in s.operands))[:3]:
        graph, guards = symbolic_graph(record, sample)
        sizes = [graph.sizes, *(tuple(f(n) for n in graph.sizes) for f in (lambda n: n + 1, lambda n: 2 * n))]
        valid = [values for values in sizes if all(g.holds(values) for g in guards)]
        outcome = symbolic.check(graph, valid, inputs=_positive)
        assert outcome.pins == []


def _positive(graph: Graph) -> list[np.ndarray]:
    """Ones among integers: in range as indices, and good to divide by."""
    arrays = symbolic.arguments(graph)
    return [np.ones_like(x) if x.dtype.kind in "iu" else x for x in arrays]
