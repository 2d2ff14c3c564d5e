"""Plans: run by a simulator on a stub code generator, they give the reference's bits whatever is donated.

The simulator executes a `PlanSpec` on byte arrays, so a temporary that overlaps a live value, a wrong donation or a
wrong order shows up as a wrong result.
"""

import random
from dataclasses import replace
from itertools import product
from unittest import mock

import numpy as np
import pytest
from counting import calls
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.compiler.passes.rewrite import renumber
from flambeau.compiler.plans import waves
from flambeau.compiler.plans.arena import Arena, aligned
from flambeau.compiler.plans.plan import build
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, int32, int64
from flambeau.dialects.graph import Graph, Node
from flambeau.dialects.record import find
from flambeau.runtime.plan_spec import KERNEL_COPY, KERNEL_WAVE, ExprOp, OutMode, RefKind
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import program, same_bits

# ---- a stub code generator: one call per node, or one per cluster


def clusters_of(graph: Graph, rng: random.Random, sizes=(1, 2, 5)) -> list[Cluster]:
    """Runs of consecutive nodes."""
    made, start = [], 0
    while start < len(graph.nodes):
        nodes = graph.nodes[start : start + rng.choice(sizes)]
        start += len(nodes)
        inside = {v for n in nodes for v in n.results}
        operands = list(dict.fromkeys(v for n in nodes for v in n.operands if v not in inside))
        later = {v for n in graph.nodes[start:] for v in n.operands} | set(graph.outputs)
        results = [v for n in nodes for v in n.results if v in later or n.op.fallible]
        fragment = Graph(list(graph.avals), operands, list(nodes), results)
        made.append(Cluster("loops", renumber(fragment), tuple(operands), tuple(results)))
    return made


class Stub:
    """Lowers clusters to calls whose text is a number; `run` says what the number computes."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.nodes = rng, []

    def lower(self, cluster: Cluster) -> Lowered:
        graph, lowered = cluster.graph, Lowered()
        temps = {}
        for node in graph.nodes:
            result = node.results[0]
            if node.op.name == "reshape" and self.rng.random() < 0.7:
                lowered.aliases[result] = node.operands[0]
        for result in (v for node in graph.nodes for v in node.results):
            if result in lowered.aliases:
                continue
            if result not in graph.outputs and self.rng.random() < 0.5 and result not in lowered.aliases.values():
                temps[result] = len(lowered.temps)
                lowered.temps.append(graph.avals[result].nbytes)
        for node in graph.nodes:
            if node.results[0] in lowered.aliases:
                continue
            if node.op.name in ("update_slice", "scatter_add") and self.rng.random() < 0.7:
                lowered.calls.append(self.copy(graph, node, lowered.aliases, temps))
                node = node._replace(operands=(node.results[0], *node.operands[1:]))
            lowered.calls.append(self.call(graph, node, lowered.aliases, temps))
        return lowered

    def copy(self, graph, node, aliases, temps) -> KernelCall:
        """What starts an op that changes a part of its first operand."""
        shape = graph.avals[node.operands[0]].shape
        reshape = Node(find("reshape"), node.operands[:1], (shape,), node.results)
        return replace(self.call(graph, reshape, aliases, temps), copies=(1, 0))

    def call(self, graph, node, aliases, temps) -> KernelCall:
        def operand(value):
            while value in aliases:
                value = aliases[value]
            return Operand("temp", temps[value]) if value in temps else Operand("value", value)

        avals = [graph.avals[v] for v in (*node.operands, *node.results)]
        self.nodes.append((node, avals))
        operands = tuple(operand(v) for v in (*node.operands, *node.results))
        first, last = len(node.operands), len(operands) - 1
        pairs = ()
        if node.op.family.is_pointwise:
            pairs = tuple((r, p) for r in range(first, last + 1) for p in range(first) if avals[p] == avals[r])
        if node.op.fallible:
            operands = (*operands, Operand("status"))
        text = f"{len(self.nodes) - 1}"
        writes = tuple(range(first, last + (2 if node.op.fallible else 1)))
        return KernelCall(KernelSource(text, node.op.name), operands, (7,), 1, 1, writes, 0, pairs, node.op.fallible)


# ---- a simulator of the runtime


class Simulator:
    """Runs a program's spec on byte arrays. `donated` are inputs whose buffers outputs may take. What may run side by side runs
    one after the other, the last one first if `backwards`."""

    def __init__(self, made, stub: Stub, inputs, donated=(), backwards=False) -> None:
        self.spec, self.kernels, self.stub, self.backwards = made.spec, made.kernels, stub, backwards
        self.inputs = [np.frombuffer(bytearray(x.tobytes() + bytes(8)), np.uint8) for x in inputs]
        self.donated = set(donated)
        self.arena = np.full(self.expr(made.spec.arena_bytes), 0xA5, np.uint8)
        self.outputs = [self.output(*o) for o in made.spec.outputs]

    def expr(self, index: int) -> int:
        op, a, _ = self.spec.exprs[index]
        assert op == ExprOp.CONST
        return a

    def output(self, mode, source, size):
        if mode == OutMode.INPUT:
            return self.inputs[source]
        if mode == OutMode.OUTPUT:
            return None
        if mode in (OutMode.UPDATE, OutMode.REPLACE) and source in self.donated:
            return self.inputs[source]
        if mode == OutMode.UPDATE:
            return self.inputs[source].copy()
        return np.full(self.expr(size), 0x5A, np.uint8)

    def memory(self, kind, index, offset):
        block = {RefKind.INPUT: self.inputs, RefKind.OUTPUT: self.outputs}.get(kind)
        return (self.arena if block is None else block[index])[self.expr(offset) :]

    def steps(self):
        steps = list(self.spec.steps)
        while steps:
            step, *steps = steps
            if step[0] != KERNEL_WAVE:
                yield step
                continue
            count = self.expr(step[5][0])
            yield from steps[:count][:: -1 if self.backwards else 1]
            steps = steps[count:]

    def run(self):
        for kernel, _, _, _, refs, dims in self.steps():
            memory = [None if ref[0] == RefKind.STATUS else self.memory(*ref) for ref in refs]
            if kernel == KERNEL_COPY:
                size = self.expr(dims[0])
                memory[0][:size] = memory[1][:size]
                continue
            node, avals = self.stub.nodes[int(self.kernels[kernel].text)]
            arrays = [m[: a.nbytes].copy().view(a.dtype.numpy).reshape(a.shape) for m, a in zip(memory, avals)]
            first = len(node.operands)
            results = node.op.run_reference(arrays[:first], node.attrs)
            for k, (result, aval) in enumerate(zip(results, avals[first:], strict=True), first):
                made = np.asarray(result, aval.dtype.numpy)
                memory[k][: aval.nbytes] = np.frombuffer(made.tobytes(), np.uint8)
        for k, (mode, source, _) in enumerate(self.spec.outputs):
            if mode == OutMode.OUTPUT:
                self.outputs[k] = self.outputs[source]
        return self.outputs


def check(graph: Graph, inputs, seed: int, sizes=(1, 2, 5)):
    """Build a plan for the graph and compare what it computes, donating nothing and donating all it may."""
    rng = random.Random(seed)
    stub = Stub(rng)
    made = build(graph, [(c, stub.lower(c)) for c in clusters_of(graph, rng, sizes)])
    check_rules(made)
    expected = reference.run(graph, inputs)
    for donated, backwards in product(((), range(len(inputs))), (False, True)):
        outputs = Simulator(made, stub, inputs, donated, backwards).run()
        for x, y in zip(expected, outputs, strict=True):
            assert same_bits(x, y[: x.nbytes].view(x.dtype).reshape(x.shape))
    return made


def check_rules(made):
    """What the runtime demands of every plan."""
    spec = made.spec
    size = lambda e: spec.exprs[e][1]  # noqa: E731
    may_fail = [k for k, step in enumerate(spec.steps) if any(ref[0] == RefKind.STATUS for ref in step[4])]
    assert spec.n_fallible == max(may_fail, default=-1) + 1  # nothing that need not run early does
    moved = {k for k, (mode, _, _) in enumerate(spec.outputs) if mode in (OutMode.UPDATE, OutMode.REPLACE)}
    for position, (kernel, _, _, _, refs, _) in enumerate(spec.steps):
        assert kernel < spec.n_kernels
        for kind, index, offset in refs:
            if kind == RefKind.ARENA:
                assert size(offset) % 64 == 0 and size(offset) < max(size(spec.arena_bytes), 1)
            assert not (position < spec.n_fallible and kind == RefKind.OUTPUT and index in moved)
    sources = [s for mode, s, _ in spec.outputs if mode in (OutMode.UPDATE, OutMode.REPLACE)]
    assert len(sources) == len(set(sources))
    assert not set(sources) & {s for mode, s, _ in spec.outputs if mode == OutMode.INPUT}


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 40))
def test_a_plan_computes_what_the_program_means(seed, nodes):
    graph, inputs = program(seed, n_nodes=nodes)
    check(graph, inputs, seed)


def every_wave():
    """All steps are worth running beside others."""
    return mock.patch.multiple(waves, nanoseconds=lambda graph: 1000, WAKE_NS=1)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(2, 40))
def test_steps_that_may_run_side_by_side_run_in_any_order(seed, nodes):
    graph, inputs = program(seed, n_nodes=nodes)
    with every_wave():
        check(graph, inputs, seed)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 9)), max_size=60))
def test_the_arena_never_overlaps_live_blocks(blocks):
    arena, live = Arena(), []
    for time, (size, life) in enumerate(blocks):
        for block in [b for b in live if b[2] <= time]:
            arena.give(block[0], block[1])
            live.remove(block)
        offset = arena.take(size)
        assert offset % 64 == 0 and offset + size <= arena.size
        for other, length, _ in live:
            assert offset + aligned(size) <= other or other + aligned(length) <= offset
        live.append((offset, size, time + life))
    for offset, size, _ in live:
        arena.give(offset, size)
    total = arena.size
    assert not total or (arena.take(total) == 0 and arena.size == total)  # one hole is left


@pytest.mark.accept("DEV-09")
def test_the_arena_reuses_memory():
    builder = GraphBuilder()
    x = builder.input(Aval((1024,), float32))
    for _ in range(50):
        x = find("flip")(x, axes=(0,))
    builder.graph.outputs = [x.id]
    made = check(builder.graph, [np.arange(1024, dtype=np.float32)], 0, sizes=(1,))
    assert made.spec.exprs[made.spec.arena_bytes][1] == 2 * 4096


def test_elementwise_chains_work_in_place():
    builder = GraphBuilder()
    x = builder.input(Aval((1024,), float32))
    for _ in range(50):
        x = find("neg")(x)
    builder.graph.outputs = [x.id]
    made = check(builder.graph, [np.arange(1024, dtype=np.float32)], 0, sizes=(1,))
    assert made.spec.exprs[made.spec.arena_bytes][1] == 4096


# ---- donation

A = Aval((4,), float32)
X = np.array([1, 2, 3, 4], np.float32)


def modes(make, *avals, updates, inputs=None, sizes=(1,)):
    builder = GraphBuilder()
    outputs = make(*(builder.input(a) for a in avals))
    builder.graph.outputs = [v.id for v in outputs]
    builder.graph.updates = updates
    made = check(builder.graph, inputs or [X * (k + 1) for k in range(len(avals))], 0, sizes)
    return [(mode, source) for mode, source, _ in made.spec.outputs], made


@pytest.mark.accept("DEV-15")
def test_an_elementwise_update_is_done_in_place():
    assert modes(lambda p, g: (p - g,), A, A, updates={0: 0})[0] == [(OutMode.UPDATE, 0)]


def test_an_update_waits_for_the_last_reader():
    def make(p, g):
        new = p - g
        return new, find("flip")(p, axes=(0,))

    found, made = modes(make, A, A, updates={0: 0})
    assert found == [(OutMode.UPDATE, 0), (OutMode.NEW, 0)]
    assert [made.kernels[s[0]].label for s in made.spec.steps] == ["flip", "sub"]


def test_an_update_that_others_wait_for_is_not_postponed():
    def make(p, g):
        new = p - g
        return new, find("flip")(p, axes=(0,)) * find("flip")(new, axes=(0,))

    assert modes(make, A, A, updates={0: 0})[0][0] == (OutMode.NEW, 0)


def test_a_value_read_across_elements_is_not_overwritten():
    assert modes(lambda p: (find("flip")(p, axes=(0,)),), A, updates={0: 0})[0] == [(OutMode.NEW, 0)]


def test_a_buffer_that_is_no_longer_read_is_replaced():
    make = lambda p: (find("flip")(find("neg")(p), axes=(0,)),)  # noqa: E731
    assert modes(make, A, updates={0: 0})[0] == [(OutMode.REPLACE, 0)]


def test_two_parameters_that_swap_keep_both_values():
    found, _ = modes(lambda p, q: (find("neg")(q), find("neg")(p)), A, A, updates={0: 0, 1: 1})
    assert OutMode.UPDATE not in [m for m, _ in found]


@pytest.mark.accept("DEV-15")
def test_an_input_that_is_also_an_output_is_not_donated():
    found, _ = modes(lambda p, g: (p - g, p), A, A, updates={0: 0})
    assert found == [(OutMode.NEW, 0), (OutMode.INPUT, 0)]


def test_outputs_that_are_one_value_share_it():
    def make(p, g):
        new = p - g
        return new, new, find("reshape")(p, shape=(2, 2))

    found, _ = modes(make, A, A, updates={1: 1})
    assert found[:2] == [(OutMode.UPDATE, 1), (OutMode.OUTPUT, 0)]


def test_a_0d_input_that_is_an_output_is_copied():
    found, made = modes(lambda s: (s,), Aval((), float32), updates={}, inputs=[np.float32(3).reshape(())])
    assert found == [(OutMode.NEW, 0)]
    assert [s[0] for s in made.spec.steps] == [KERNEL_COPY]


def update_rows(x, u):
    start = x.builder.constant(0, int64)
    return find("update_slice")(x, u, start, steps=(1,))


def always(monkeypatch):
    monkeypatch.setattr(random.Random, "random", lambda self: 0.1)


def test_a_write_to_a_part_of_a_donated_buffer_copies_nothing(monkeypatch):
    always(monkeypatch)
    found, made = modes(
        lambda x, u: (update_rows(x, u),), A, Aval((2,), float32), updates={0: 0}, inputs=[X, X[:2] * 5]
    )
    assert found == [(OutMode.UPDATE, 0)]
    assert [made.kernels[s[0]].label for s in made.spec.steps] == ["constant", "update_slice"]


def test_a_write_to_a_part_of_a_temporary_copies_nothing(monkeypatch):
    always(monkeypatch)
    make = lambda x, u: (update_rows(x * x, u),)  # noqa: E731
    _, made = modes(make, A, Aval((2,), float32), updates={}, inputs=[X, X[:2] * 5])
    assert [made.kernels[s[0]].label for s in made.spec.steps] == ["mul", "constant", "update_slice"]


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_copies_left_out_of_the_fallible_part_are_not_counted_in_it(monkeypatch, copies):
    always(monkeypatch)

    def make(x, u):
        for _ in range(copies):
            x = update_rows(x * x, u)
        index = find("reshape")(x.builder.constant(0, int64), shape=(1,))
        return (find("gather")(x, index, axis=0),)

    _, made = modes(make, A, Aval((2,), float32), updates={}, inputs=[X, X[:2] * 5])
    labels = [made.kernels[s[0]].label for s in made.spec.steps]
    assert labels.count("update_slice") == copies and labels[-1] == "gather"
    assert made.spec.n_fallible == len(labels)


def test_a_write_to_a_part_of_a_value_that_is_still_needed_copies_it(monkeypatch):
    always(monkeypatch)

    def make(x, u):
        y = x * x
        return update_rows(y, u), find("neg")(y)

    _, made = modes(make, A, Aval((2,), float32), updates={0: 0}, inputs=[X, X[:2] * 5])
    assert "reshape" in [made.kernels[s[0]].label for s in made.spec.steps]


# ---- the fallible part


def test_fallible_steps_come_first_and_touch_no_updated_buffer():
    i = Aval((4,), int32)

    def make(p, x, y):
        new = p - p.like(1.0)
        return new, find("int_div")(x + x, y)

    inputs = [X, np.arange(4, dtype=np.int32), np.full(4, 3, np.int32)]
    found, made = modes(make, A, i, i, updates={0: 0}, inputs=inputs)
    labels = [made.kernels[s[0]].label for s in made.spec.steps]
    assert labels[: made.spec.n_fallible] == ["add", "int_div"]
    assert found == [(OutMode.UPDATE, 0), (OutMode.NEW, 0)]
    assert made.errors == ("int_div",)


def test_a_fallible_update_gets_a_buffer_of_its_own():
    i = Aval((4,), int32)
    inputs = [np.arange(4, dtype=np.int32), np.full(4, 3, np.int32)]
    assert modes(lambda x, y: (find("int_div")(x, y),), i, i, updates={0: 0}, inputs=inputs)[0] == [(OutMode.NEW, 0)]


def test_error_codes_count_the_fallible_ops_of_all_steps():
    i = Aval((4,), int32)

    def make(x, y):
        return (find("int_rem")(find("int_div")(x, y), y),)

    _, made = modes(make, i, i, updates={}, inputs=[np.arange(4, dtype=np.int32), np.full(4, 3, np.int32)])
    assert made.errors == ("int_div", "int_rem")
    assert [made.spec.exprs[s[5][-1]][1] for s in made.spec.steps] == [1, 2]


def test_work_is_linear_in_the_number_of_steps():
    def work(n):
        builder = GraphBuilder()
        x = builder.input(A)
        for _ in range(n):
            x = find("flip")(x + x, axes=(0,))
        builder.graph.outputs = [x.id]
        rng = random.Random(0)
        stub = Stub(rng)
        pairs = [(c, stub.lower(c)) for c in clusters_of(builder.graph, rng, (1,))]
        return calls(lambda: build(builder.graph, pairs))

    assert work(1600) < 12 * work(200)


def test_an_operand_mismatch_is_refused():
    graph = Graph()
    x = graph.add_input(A)
    (y,) = graph.add_node(find("neg"), [x])
    graph.outputs = [y]
    bad = Cluster("loops", graph, (), (y,))
    with pytest.raises(ValueError):
        build(graph, [(bad, Lowered())])
