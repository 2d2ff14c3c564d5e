"""Equal parts of a program are compiled once: what nothing relates is not joined into kernels of its own kind."""

from __future__ import annotations

import gc
import pickle
from dataclasses import replace
from functools import cache, reduce

import flambeau as fb
import numpy as np
import pytest
import random_graphs
import whole_programs
from flambeau import programs as assembled
from flambeau.compiler import memo, stages
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import _Clustering, cluster
from flambeau.compiler.passes.dead_code import DeadCode
from flambeau.compiler.passes.rewrite import renumber
from flambeau.compiler.passes.simplify import Simplify
from flambeau.compiler.workers import worker
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.runtime import recorder
from support import rounds


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


def micro_batches(n: int) -> Graph:
    """Sums of gradients of a weight, a product each, and of a bias, a sum each, as of `n` losses."""
    b = GraphBuilder()
    matmul, tanh, add = find("matmul"), find("tanh"), find("add")
    weight = b.input(Aval((16, 16), float32))
    total_w, total_b = [], []
    for _ in range(n):
        x = b.input(Aval((16, 16), float32))
        for _ in range(4):
            x = tanh(matmul(x, weight))
        total_w.append(matmul(x, x))
        total_b.append(find("sum")(tanh(x), axes=(0,)))
    b.graph.outputs = [reduce(add, total).id for total in (total_w, total_b)]
    return b.graph


def interleaved(graph: Graph) -> Graph:
    """The same, each sum as soon as its operands are there, as gradients are added up."""
    made, nodes = set(graph.inputs), []
    sums = [n for n in graph.nodes if n.op.name == "add"]
    for node in (n for n in graph.nodes if n.op.name != "add"):
        nodes.append(node)
        made.update(node.results)
        for ready in [n for n in sums if made.issuperset(n.operands)]:
            sums.remove(ready)
            nodes.append(ready)
            made.update(ready.results)
    return renumber(replace(graph, nodes=nodes))


def test_sums_over_many_parts_are_cut_into_equal_kernels():
    def kinds(n: int) -> set[str]:
        return {p.graph.structural_key() for p in cluster(interleaved(micro_batches(n)), Options())}

    parts = cluster(interleaved(micro_batches(120)), Options())
    adding = [
        p for p in parts if sum(n.op.name == "matmul" for n in p.graph.nodes) and p.graph.nodes[-1].op.name == "add"
    ]
    assert len(adding) == 119 and all(sum(n.op.name == "add" for n in p.graph.nodes) == 1 for p in adding)
    assert len(kinds(240)) <= len(kinds(120)) + 1


def test_a_product_that_is_added_has_one_kernel_wherever_sums_are_handed_out():
    """Sums of one, two and four products: the last of each leaves its program, the others do not."""

    def kernels(n: int) -> set[str]:
        b = GraphBuilder()
        total = b.input(Aval((16, 16), float32))
        for _ in range(n):
            x = b.input(Aval((16, 16), float32))
            total = total + find("matmul")(x, x)
        b.graph.outputs = [total.id]
        return {call.source.text for made in stages.run(b.graph, Options()).lowered for call in made.calls}

    assert kernels(1) == kernels(2) == kernels(4)


@cache
def residual_blocks(n: int) -> Graph:
    """A training step of `n` equal blocks, assembled the first time."""
    width = 8

    class Block(fb.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.a, self.b = (
                fb.nn.LayerNorm(width),
                fb.nn.Linear(width, 2 * width),
                fb.nn.Linear(2 * width, width),
            )

        def forward(self, x):
            return x + self.b(fb.nn.functional.gelu(self.a(self.norm(x))))

    def run():
        model = fb.nn.Sequential(*[Block() for _ in range(n)])
        optimizer = fb.optim.Adam(model.parameters(), lr=1e-3)
        (model(fb.ones(4, width)) ** 2).mean().backward()
        optimizer.step()
        fb.flush()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembled, "walker", lambda: None)
        return max(whole_programs.graphs(run), key=lambda graph: len(graph.updates))


def clustered(graph: Graph) -> int:
    """How many answers clustering a program takes."""
    found = _Clustering(graph, True, 200)
    found.run()
    return sum(found.program.memo.worked.values())


def test_equal_parts_are_asked_about_once():
    """What clustering works out grows with the kinds of parts, not with their number."""
    few, many = (interleaved(micro_batches(n)) for n in (20, 60))
    with memo.nothing_kept():
        assert clustered(many) > 2.8 * clustered(few) > 800
    assert clustered(few) == clustered(many) < 60


def test_equal_groups_are_printed_once(monkeypatch):
    """What is remembered of groups goes by their text: of those of a program each is looked up once."""
    printed = []
    monkeypatch.setattr(stages, "print_group", lambda group: printed.append(group) or print_group(group))

    def texts(n: int) -> int:
        printed.clear()
        work = stages.run(interleaved(micro_batches(n)), Options())
        assert len(work.groups) > 4 * n and len({print_group(g) for g in work.groups}) == len(printed) / 2
        return len(printed)

    assert texts(60) <= texts(20) + 2


def lowered(graph: Graph) -> tuple:
    """The plan of a program, and the text of its kernels."""
    program = stages.run(graph, Options()).program
    return program.spec, [kernel.text for kernel in program.kernels], program.errors


def programs(name: str) -> list[Graph]:
    if name == "random":
        return [random_graphs.program(seed, n_nodes=40).graph for seed in range(rounds(6, 40, 200))]
    if name == "blocks":
        return [residual_blocks(2), interleaved(micro_batches(12))]
    return whole_programs.graphs(whole_programs.PROGRAMS[name])


@pytest.mark.parametrize("name", ["random", "blocks", *list(whole_programs.PROGRAMS)[: rounds(2, 4, 4)]])
def test_programs_come_out_the_same_without_a_memory_of_equal_parts(name):
    for graph in programs(name):
        kept = lowered(graph)
        with memo.nothing_kept():
            assert lowered(graph) == kept


def test_what_all_programs_share_is_bounded():
    shared = memo.Shared(3)
    for form in "abcdca":
        assert shared.answer(form, lambda form=form: form * 2).made == form * 2
    assert len(shared) == 3 and shared.worked == 5  # a was forgotten when d came


def test_programs_are_built_and_lowered_without_collections(monkeypatch, tmp_path):
    """Of the time that many small objects take, Python's collector would take a sixth."""
    seen, run = [], stages.run
    monkeypatch.setattr(stages, "run", lambda *args: seen.append(gc.isenabled()) or run(*args))
    x = fb.tensor([1.0, 2.0, 5.0])
    with fb.compiler_options(mode="blocking", dump=str(tmp_path)):  # which no cache has
        assert (x * 3 + x).tolist() == [4.0, 8.0, 20.0]
    b = GraphBuilder()
    b.graph.outputs = [find("exp")(b.input(Aval((3,), float32))).id]
    reply = worker.serve(pickle.dumps(worker.Request("program", b.graph, Options(), 10.0)))
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
