"""Equal parts of a program are compiled once: what nothing relates is not joined into kernels of its own kind."""

from __future__ import annotations

import gc
import pickle

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import stages, worker
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.passes.dead_code import DeadCode
from flambeau.compiler.passes.simplify import Simplify
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.runtime import recorder


def first_updates(n: int) -> Graph:
    """What `n` parameters do to state that begins with zeros: each is `beta 0 + g`, squared."""
    b = GraphBuilder()
    beta = b.input(Aval((), float32))
    results = []
    for _ in range(n):
        state = b.constant(0.0, float32).expand((8, 4)) * beta.expand((8, 4)) + b.input(Aval((8, 4), float32))
        results.append(state * state)
    b.graph.outputs = [v.id for v in results]
    return b.graph


def test_first_updates_of_parameters_are_equal_clusters():
    parts = cluster(DeadCode()(Simplify()(first_updates(5))), Options())
    assert len(parts) == 6 and len({p.graph.structural_key() for p in parts}) == 2  # the number, and each update


def numbers(n: int) -> Graph:
    """`n` times three ops on numbers that have nothing to do with each other."""
    b = GraphBuilder()
    add, mul = find("add"), find("mul")
    results = []
    for _ in range(n):
        x, y = b.input(Aval((), float32)), b.input(Aval((), float32))
        results.append(mul(add(x, y), mul(x, x)))
    b.graph.outputs = [v.id for v in results]
    return b.graph


@pytest.mark.parametrize("n", (30, 90))
def test_unrelated_numbers_gather_in_equal_kernels(n):
    parts = cluster(numbers(n), Options())
    assert len(parts) <= n / 10 + 1, "they gather"
    assert len({p.graph.structural_key() for p in parts}) <= 2, "all but the last"


def test_programs_are_built_and_lowered_without_collections(monkeypatch):
    """Of the time that many small objects take, Python's collector would take a sixth."""
    seen, run = [], stages.run
    monkeypatch.setattr(stages, "run", lambda *args: seen.append(gc.isenabled()) or run(*args))
    x = fb.tensor([1.0, 2.0, 5.0])
    with fb.compiler_options(mode="blocking", max_cluster_ops=137):
        assert (x * 3 + x).tolist() == [4.0, 8.0, 20.0]
    b = GraphBuilder()
    b.graph.outputs = [find("exp")(b.input(Aval((3,), float32))).id]
    reply = worker.serve(pickle.dumps(worker.Request("program", b.graph, Options(max_cluster_ops=137), 10.0)))
    assert reply.error is None and seen == [False, False] and gc.isenabled()


def test_an_optimizer_has_its_parameters_run():
    """Else the call that first reads one would cut the first step in two, and what it recomputes would differ from layer to
    layer."""
    parameter = fb.nn.Parameter(fb.ones(3) * 2)
    before = recorder.flush_count()
    optimizer = fb.optim.SGD([parameter], lr=1.0)
    assert recorder.flush_count() == before + 1
    (parameter * 3).sum().backward()
    optimizer.step()
    assert recorder.flush_count() == before + 2
    assert np.array_equal(parameter.detach().numpy(), [-1.0, -1.0, -1.0])
