"""Cases generated from the op records: every good sample, in every dtype the record accepts, as a one-op graph.

`cases(record)` yields `Case`s to run on the reference, compiled, on any tier. `compare` holds results to the record:
bit for bit where it says exact, else within its ulp. `graph_of` and `gradient_graph` build graphs to differentiate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import contraction_order
import flambeau.dialects.tape  # noqa: F401
import numpy as np
from flambeau.dialects import autodiff, reference
from flambeau.dialects.agreement import difference, same_bits, ulp_distance  # noqa: F401
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import DType, from_numpy, is_inexact
from flambeau.dialects.graph import Graph, Loc
from flambeau.dialects.record import REGISTRY, OpRecord, Sample
from flambeau.dialects.tape.elementwise import saturate

LOC = Loc("model.py", 12)


class Case(NamedTuple):
    """One call: `graph` has the op as its only node and its result as its only output."""

    id: str
    graph: Graph
    arrays: list[np.ndarray]
    sample: Sample


def records() -> list[OpRecord]:
    return [REGISTRY[name] for name in sorted(REGISTRY)]


def cast_operands(sample: Sample, dtype: DType) -> list[np.ndarray]:
    """The sample's operands with data (float64) cast to `dtype`, magnitudes where that has no sign; C-contiguous."""
    arrays = map(np.asarray, sample.operands)
    if dtype.is_complex and sample.numbers is not None:
        return [
            np.require(x.astype(dtype.numpy) if x.dtype == np.complex128 else x, requirements="C")
            for x in sample.numbers
        ]
    if dtype.is_complex:
        arrays = (mixed(x, k) if x.dtype == np.float64 else x for k, x in enumerate(map(np.asarray, sample.operands)))
        with np.errstate(over="ignore"):
            return [
                np.require(x.astype(dtype.numpy) if x.dtype == np.complex128 else x, requirements="C") for x in arrays
            ]
    if dtype.is_integer and not dtype.is_signed:
        arrays = (np.abs(x) if x.dtype == np.float64 else x for x in arrays)
    return [np.require(saturate(x, dtype) if x.dtype == np.float64 else x, requirements="C") for x in arrays]


def mixed(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Complex numbers whose parts are the elements of `x`, in its order and in another one."""
    made = np.empty(x.shape, np.complex128)
    made.real, made.imag = x, np.random.default_rng([seed, x.size]).permutation(x.ravel()).reshape(x.shape)
    return made


def has_data(sample: Sample) -> bool:
    return any(np.asarray(x).dtype == np.float64 for x in sample.operands)


def graph_of(record: OpRecord, arrays: list[np.ndarray], attrs: dict) -> Graph:
    graph = Graph()
    operands = [graph.add_input(Aval(tuple(x.shape), from_numpy(x.dtype))) for x in arrays]
    graph.outputs = list(graph.add_node(record, operands, tuple(attrs[name] for name in record.attrs), LOC))
    return graph


def cases(record: OpRecord, narrow: bool = True) -> Iterator[Case]:
    """Every good sample in every dtype. `narrow=False`: without the narrow and the complex ones, which no code generator computes
    in: passes turn them into others (see `test_narrow_dtypes.py`, `test_complex.py`). What differs from others in its
    width alone is met in the first sample."""
    dtypes = [d for d in record.dtypes if narrow or not (d.is_narrow or d.is_complex)]
    usual = [d for d in dtypes if d.has_classes or not d.is_integer]
    for number, sample in enumerate(record.samples()):
        if sample.error is not None:
            continue
        fixed = not has_data(sample)
        for dtype in dtypes[:1] if fixed else dtypes:
            arrays = cast_operands(sample, dtype)
            shapes = ",".join("x".join(map(str, x.shape)) or "scalar" for x in arrays)
            label = f"{record.name}-{number}-{'fixed' if fixed else dtype.name}-{shapes}"
            graph = graph_of(record, arrays, sample.attrs)
            if narrow or not any(a.dtype.is_complex for a in graph.avals):
                yield Case(label, graph, arrays, sample)
        dtypes = dtypes if fixed else usual


def compare(record: OpRecord, case: Case, *results: np.ndarray) -> str | None:
    """None when the results are what the record promises for this case, else what is wrong."""
    wanted = reference.run(case.graph, case.arrays)
    faults = (_compare(record, case, *pair) for pair in zip(results, wanted, strict=True))
    return next(filter(None, faults), None)


def _compare(record: OpRecord, case: Case, result: np.ndarray, expected: np.ndarray) -> str | None:
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return f"{case.id}: got {result.dtype} {result.shape}, expected {expected.dtype} {expected.shape}"
    found = difference(record, case.arrays, case.graph.nodes[0].attrs, result, expected)
    if found is None:
        return None
    got, wanted = (x[found.place] for x in (result, expected))
    operands = [x[found.place] for x in case.arrays if x.shape == expected.shape]
    return f"{case.id}: {got!r} at {found.place}, not {wanted!r}, of {operands}: {found.by}"


def gradient_graph(forward: Graph, wrt: list[int]) -> Graph:
    """From the forward's inputs and its outputs' cotangents to the cotangents of `wrt` (zeros where nothing flows)."""
    builder = GraphBuilder()
    inputs = [builder.input(forward.avals[v]) for v in forward.inputs]
    values = dict(zip(forward.inputs, inputs, strict=True))
    cts: dict[int, Value] = {}
    for v in forward.outputs:  # a value may be an output several times
        ct = builder.input(forward.avals[v])
        cts[v] = cts[v] + ct if v in cts else ct
    found = autodiff.vjp(builder, forward, values, cts, wrt)
    missing = [values[v].like(0) if ct is None else ct for v, ct in zip(wrt, found, strict=True)]
    builder.graph.outputs = [ct.id for ct in missing]
    return builder.graph


def exact_result(record: OpRecord, case: Case) -> np.ndarray | None:
    """What compiled code must give to the bit; None for approximations, which the record bounds."""
    if record.name == "matmul" and not np.iscomplexobj(case.arrays[0]):
        return contraction_order.matmul(*case.arrays)
    (expected,) = reference.run(case.graph, case.arrays)
    return expected if record.exact or not is_inexact(expected) else None
