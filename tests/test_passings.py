"""How gradients pass a call, for every record: the steps of a backward call by call compute what `autodiff.vjp` does, to the bit.

The trace is made by hand: a record's op is called twice on the same leaves, whose cotangents so have several terms, in an order.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
import opgen
import pytest
from flambeau.call_derivatives import is_plain
from flambeau.call_gradients import Asked, call_by_call
from flambeau.dialects import reference
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.dialects.size_guards import scope

CASES = 3  # of each record
DIFFERENTIABLE = [r for r in opgen.records() if callable(r.vjp) and r.name not in ("stop_gradient", "graft")]


class Payload(NamedTuple):
    name: str
    graph: Graph
    cost: int = 0


def cases(record):
    """Those whose result is one that gradients pass."""
    fitting = (c for c in opgen.cases(record) if c.sample.gradient and is_plain(c.graph) and not c.graph.sizes)
    return islice((c for c in fitting if [c.graph.avals[v].dtype.is_inexact for v in c.graph.outputs] == [True]), CASES)


def total(aval):
    graph = Graph()
    graph.outputs = [*graph.add_node(find("add"), [graph.add_input(aval), graph.add_input(aval)])]
    return graph


def by_calls(case, gradient):
    """The gradients of op(x...) + op(x...), through the steps of a trace that calls it twice."""
    op, n = case.graph, len(case.arrays)
    avals = [op.avals[v] for v in op.inputs]
    result, sum_of = op.avals[op.outputs[0]], total(op.avals[op.outputs[0]])
    leaves = [n + k for k, a in enumerate(avals) if a.dtype.is_inexact]
    read = tuple([(n + k if n + k in leaves else k, None, ()) for k in range(n)])
    at, given = 2 * n, 2 * n + 3

    def call(graph, operands, slot):
        return "call", Payload("call", graph), operands, (slot,), (-1,), None, None

    export = [("input", k, a.shape, a.dtype, False, False, a.device) for k, a in enumerate(avals)]
    export += [("leaf", slot, slot - n) for slot in leaves]
    export += [call(op, read, at), call(op, read, at + 1), call(sum_of, ((at, None, ()), (at + 1, None, ())), at + 2)]
    export += [("input", given, result.shape, result.dtype, False, False, result.device)]
    with scope(()):
        found = call_by_call(
            Asked(export, (at + 2, None, ()), (given, None, ()), [(s, None) for s in leaves], False, (), None)
        )
    assert found is not None, case.id
    deferred, types = found
    values = {**dict(enumerate(case.arrays)), given: gradient}
    forward = [(op, tuple([r[0] - n if r[0] >= n else r[0] for r in read]), (slot,)) for slot in (at, at + 1)]
    for graph, operands, results in [*forward, *deferred.take()]:
        values.update(zip(results, reference.run(graph, [values[v] for v in operands]), strict=True))
    there = iter(deferred.results)
    assert set(deferred.freed) <= {at, at + 1, at + 2}
    return {s - n: values[next(there)] for s, t in zip(leaves, types, strict=True) if t is not None}


def in_one_piece(case, gradient, wrt):
    whole = Graph()
    inputs = [whole.add_input(case.graph.avals[v]) for v in case.graph.inputs]
    twice = [whole.inline(case.graph, inputs)[0] for _ in range(2)]
    whole.outputs = [*whole.add_node(find("add"), twice)]
    return reference.run(opgen.gradient_graph(whole, [inputs[k] for k in wrt]), [*case.arrays, gradient])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("record", DIFFERENTIABLE, ids=lambda r: r.name)
def test_steps_compute_what_the_rule_says(record):
    for case in cases(record):
        aval = case.graph.avals[case.graph.outputs[0]]
        gradient = np.random.default_rng(7).uniform(-1, 1, aval.shape).astype(aval.dtype.numpy)
        found = by_calls(case, gradient)
        wanted = in_one_piece(case, gradient, list(found))
        for k, value in zip(found, wanted, strict=True):
            assert found[k].tobytes() == value.tobytes(), (case.id, k)


def test_most_records_have_cases():
    assert sum(any(True for _ in cases(r)) for r in DIFFERENTIABLE) > 0.8 * len(DIFFERENTIABLE)
