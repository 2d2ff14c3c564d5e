"""Fusion groups of clusters: bodies say what lowerings do, groups go through MLIR and back, and generators that get nothing
else make the same kernels."""

import itertools
import subprocess
import sys

import execute
import group_checks
import numpy as np
import opgen
import pytest
import random_graphs
import random_sizes
import whole_programs
from flambeau.compiler import stages, targets
from flambeau.compiler.codegen.body_record import BodyRecord
from flambeau.compiler.codegen.loops.nest import Writer
from flambeau.compiler.codegen.values import Val, spell_number
from flambeau.compiler.groups import bodies, form, generate, weights
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.form import PARALLEL, identity_map
from flambeau.compiler.groups.play import number
from flambeau.compiler.groups.replay import replay
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.passes.legalise_complex import LegaliseComplex
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import NUMERIC, SUPPORTED, by_mlir
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import REGISTRY, find
from flambeau.dialects.size_scopes import within
from support import rounds

ELEMENTWISE = sorted(name for name, record in REGISTRY.items() if record.family.is_pointwise)
HOST = targets.find("host")


def parts(graph: Graph, through_mlir: bool = False, **options) -> tuple[stages.Compilation, list[Cluster]]:
    """A program's clusters; use them inside of `work.asked`."""
    work = stages.Compilation(graph, Options(mode="blocking", through_mlir=through_mlir, **options))
    with within(work.asked):
        for name in itertools.takewhile(lambda name: name != "linalg", stages.PROGRAM):
            stages.advance(work, name)
    return work, work.clusters


# ---- bodies -------------------------------------------------------------------------------------------------------


def signatures(name: str) -> dict[tuple, tuple]:
    """(operand types, attributes) -> (attributes, result type) of an elementwise record."""
    found = {}
    for case in opgen.cases(REGISTRY[name], narrow=False):
        (node,) = case.graph.nodes
        if any(aval.dtype.is_complex for aval in case.graph.avals):
            continue
        types = tuple(case.graph.avals[v].dtype.mlir for v in node.operands)
        found[types, repr(node.attrs)] = node.attrs, tuple(case.graph.avals[v].dtype.mlir for v in node.results)
    return found


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_bodies_say_what_lowerings_do(name):
    """Played on scalars, vectors and both side by side, a body writes the text of the lowering."""
    record = REGISTRY[name]
    for (types, _), (attrs, results) in signatures(name).items():
        body = bodies.elementwise(record, attrs, types, results, 0 if record.fallible else None)
        for lanes in itertools.product((1, 8), repeat=len(types)):
            values = [Val(f"%x{k}", t, n) for k, (t, n) in enumerate(zip(types, lanes, strict=True))]
            texts = []
            for op, more in ((record, attrs), (played(body), ())):
                b = Writer()
                if op.fails is not None:
                    op.fails(b, *values, *more)
                op.lower(b, *values, *more)
                texts.append(b.source("").text)
            assert texts[0] == texts[1], (types, lanes)


def played(body):
    """The op that a body replays to."""
    builder = form.GroupBuilder()
    avals = [Aval((5,), by_mlir(t)) for t in body.types]
    inputs = [(builder.input(aval), identity_map(1)) for aval in avals[: -len(body.results)]]
    results = [(aval, identity_map(1), None) for aval in avals[-len(body.results) :]]
    outputs = builder.generic((PARALLEL,), (5,), tuple(inputs), tuple(results), body)
    (node,) = replay(builder.build(outputs)).graph.nodes
    return node.op


def test_a_body_is_made_once():
    record = REGISTRY["tanh"]
    first, second = (bodies.elementwise(record, (), ("f32",), ("f32",), None) for _ in range(2))
    assert first is second
    assert bodies.elementwise(record, (), ("f64",), ("f64",), None) != first


def test_zeros_and_numbers_that_python_takes_for_equal_have_bodies_of_their_own():
    record = REGISTRY["check_range"]
    made = {
        low: bodies.elementwise(record, (low, 4, "f", "x", "t", "RuntimeError"), ("f32",), ("f32",), 0)
        for low in (0.0, 1.0)
    }
    assert bodies.elementwise(record, (-0.0, 4, "f", "x", "t", "RuntimeError"), ("f32",), ("f32",), 0) != made[0.0]


@pytest.mark.parametrize("element", ["i1", "i8", "i32", "i64", "f16", "bf16", "f32", "f64"])
def test_literals_are_read_as_they_are_spelled(element):
    floats = (0.0, -0.0, 1.5, -2.0, float("inf"), float("-inf"), float("nan"))
    integers = (0, 1, -1, 127, -128)
    for value in (True, False) if element == "i1" else integers if element.startswith("i") else floats:
        literal = spell_number(value, element)
        assert spell_number(number(literal, element), element) == literal


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_bodies_weigh_what_records_do(name):
    """Whichever operands are captured: generators choose the same unrolling with and without names."""
    for (types, _), (attrs, results) in signatures(name).items():
        code = 0 if REGISTRY[name].fallible else None
        body = bodies.elementwise(REGISTRY[name], attrs, types, results, code)
        is_packed = any(by_mlir(t).is_stored_only for t in (*types, *results))  # by many ops: unlike names say
        if (
            body.ops and not is_packed
        ):  # nothing weighs as much as the lightest that may do it: `abs` of what has no sign
            assert weights.weight(body) == REGISTRY[name].weight, (types, attrs)


# ---- clusters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_samples_of_records_have_groups(name):
    cases = list(opgen.cases(REGISTRY[name], narrow=False))
    for case in cases[:: max(1, len(cases) // rounds(4, 16, 1000))]:
        for part in cluster(LegaliseComplex()(case.graph), Options()):
            if not generate.is_empty(part.graph):
                group_checks.check(part, HOST)


@pytest.mark.parametrize("seed", range(rounds(3, 20, 200)))
def test_random_programs_have_groups(seed):
    plain, sized = random_graphs.program(seed).graph, random_sizes.program(seed, 20)
    for graph, options in ((plain, {}), (plain, {"fuse": False}), (sized, {})):
        work, clusters = parts(graph, **options)
        with within(work.asked):
            for part in clusters:
                if not generate.is_empty(part.graph):
                    group_checks.check(part, HOST)


def test_generators_get_nothing_but_bodies():
    """What computes is scalar code; records that are left say where elements lie, or are whole loops of their own."""
    nodes = []
    for seed in range(5):
        work, clusters = parts(random_graphs.program(seed).graph)
        with within(work.asked):
            nodes += [n for part in clusters for n in replay(from_cluster(part.graph)).graph.nodes]
    assert any(isinstance(n.op, BodyRecord) for n in nodes)
    for node in nodes:
        assert isinstance(node.op, BodyRecord) or node.op.lower is None or node.op.name in ("constant", "iota"), node


def test_sizes_are_asked_no_more_than_without_groups():
    for seed in range(4):
        work, clusters = parts(random_sizes.program(seed, 20))
        for part in clusters:
            with within(work.asked), group_checks.scope() as direct:
                execute.lower_cut(generate.cut_cluster(part, HOST), HOST)
            with within(work.asked), group_checks.scope() as through:
                execute.lower(part, HOST)
            assert through.guards == direct.guards


# ---- through MLIR -------------------------------------------------------------------------------------------------


def kernels(graph: Graph, through_mlir: bool) -> list[list[str]]:
    work, _ = parts(graph, through_mlir)
    with within(work.asked):
        for stage in ("linalg", "schedule", "kernels"):
            stages.advance(work, stage)
    return [
        [group_checks.with_constants_in_order(call.source.text) for call in lowered.calls] for lowered in work.lowered
    ]


@pytest.mark.parametrize("name", list(whole_programs.PROGRAMS)[: rounds(2, 4, 4)])
def test_programs_have_the_same_kernels_through_mlir(name):
    graphs = whole_programs.graphs(whole_programs.PROGRAMS[name])
    made = [kernels(graph, through_mlir=False) for graph in graphs]
    assert [kernels(graph, through_mlir=True) for graph in graphs] == made
    assert any(text for program in made for texts in program for text in texts)


@pytest.mark.parametrize("seed", range(rounds(2, 10, 100)))
def test_random_programs_have_the_same_kernels_through_mlir(seed):
    for graph in (random_graphs.program(seed).graph, random_sizes.program(seed, 20)):
        assert kernels(graph, through_mlir=True) == kernels(graph, through_mlir=False)


def test_the_option_runs_what_mlir_hands_back(monkeypatch):
    """A group that comes back changed gives other results: nothing else reaches the code generator."""
    import flambeau as fb

    x = np.linspace(-2, 2, 7, dtype=np.float32)
    with fb.compiler_options(mode="blocking", through_mlir=True):
        assert (fb.tensor(x) + 3.0).tolist() == (x + 3).tolist()
        monkeypatch.setattr(
            generate, "print_group", lambda group: print_group(group).replace("arith.addf", "arith.subf")
        )
        assert (fb.tensor(x[:5]) + 3.0).tolist() == (x[:5] - 3).tolist()


def test_without_the_option_mlir_is_not_asked():
    """Not before kernels are lowered themselves."""
    subprocess.run([sys.executable, "-c", WITHOUT_MLIR], check=True, timeout=120)


WITHOUT_MLIR = """
import sys
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import float32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

graph = Graph()
x = graph.add_input(Aval((5,), float32))
graph.outputs = list(graph.add_node(find("exp"), [x]))
work = stages.Compilation(graph, Options())
for stage in list(stages.PROGRAM)[:-1]:
    stages.advance(work, stage)
assert work.lowered[0].calls
assert not {"torch_mlir", "mlir", "flambeau.compiler.groups.reading"} & set(sys.modules)
"""


def test_records_whose_code_is_the_same_weigh_the_same():
    """So a body's weight is that of its code, whichever record it is compared with first. Code of no ops is that of casts to the
    same dtype, which nobody writes, and of `abs` of what has no sign."""
    found = {}
    for dtype in SUPPORTED:
        for name, record in weights.LIGHT.items():
            for code in weights._codes(name, dtype.mlir):
                found.setdefault(code, set()).add(record.weight)
    assert len(found) > 50 and all(len(known) == 1 for code, known in found.items() if code)


@pytest.mark.parametrize("dtype", NUMERIC, ids=repr)
def test_rows_of_places_are_folded_in_all_dtypes(dtype):
    b = GraphBuilder()
    b.graph.outputs = [find("sum")(find("iota")(shape=(300, 257), dim=0, dtype=dtype, builder=b), axes=(1,)).id]
    work, clusters = parts(b.graph)
    with within(work.asked):
        for part in clusters:
            group_checks.check(part, HOST)
