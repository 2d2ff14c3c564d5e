"""Groups after upstream's passes are compiled: the reader takes what these leave, and kernels give the same bits."""

from dataclasses import replace

import execute
import group_checks
import group_interpreter
import numpy as np
import opgen
import pytest
import random_graphs
from flambeau.compiler import targets
from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import generate, reading
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.form import Body, BodyOp, Generic, Group, GroupError
from flambeau.compiler.groups.replay import replay
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.passes.legalise_complex import LegaliseComplex
from flambeau.compiler.passes.legalise_dtypes import LegaliseDtypes
from flambeau.compiler.passes.on_groups import check
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import REAL, float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import REGISTRY, find
from support import rounds

HOST = targets.find("host")
FUSE = "linalg-fuse-elementwise-ops,canonicalize,cse"
#: What upstream does to a fold of one element, whose loops are all parallel, is refused: it goes on in the same body.
FUSED_FOLD = "[flambeau.fold] its value goes to"
#: So is what is left of a gather that was fused into all its readers: a nest without results, for its check has an effect.
CHECK_ALONE = "it checks and gives nothing"
#: Records whose groups upstream's passes change in ways of their own: what these fold, move out of bodies and regions, and fuse.
CHANGED = (
    "argmax",
    "argmin",
    "gather",
    "flip",
    "iota",
    "matmul",
    "scatter_add",
    "scatter_max",
    "int_div",
    "int_rem",
    "sum",
)


def clusters(graph: Graph) -> list[Cluster]:
    found = cluster(LegaliseDtypes()(LegaliseComplex()(graph)), Options())
    return [c for c in found if not generate.is_empty(c.graph) and generate.steps_of(c) is None]


def passed(group: Group, pipeline: str) -> Group:
    reading.parse("module {}")  # loads the dialects
    module = mlir.parse(print_group(group))
    mlir.run(module, f"builtin.module(func.func({pipeline}))")
    (after,) = reading.read(module).values()
    check(group, after)
    return replace(after, sizes=group.sizes)


def run(part: Cluster, group: Group, arrays: list[np.ndarray]) -> list[bytes] | str:
    """The bits of the results, or what failed."""
    try:
        return [x.tobytes() for x in execute.run_lowered(part, execute.lower_group(group, HOST), arrays)]
    except (IndexError, ZeroDivisionError, RuntimeError) as error:
        return repr(error)


def compiles_as_before(part: Cluster, pipeline: str) -> None:
    with group_checks.scope():
        group = from_cluster(part.graph)
        try:
            after = passed(group, pipeline)
        except mlir.MlirError as error:
            assert FUSED_FOLD in str(error)
            return
        except GroupError as error:
            assert CHECK_ALONE in str(error)
            return
        texts = [[c.source.text for c in execute.lower_group(g, HOST).calls] for g in (group, after)]
        if texts[0] != texts[1]:
            arrays = group_interpreter.inputs_of(group, ())
            assert run(part, after, arrays) == run(part, group, arrays)


@pytest.mark.parametrize("pipeline", ["canonicalize", FUSE])
@pytest.mark.parametrize("name", CHANGED)
def test_samples_compile_after_upstreams_passes(name, pipeline):
    cases = [
        case for case in opgen.cases(REGISTRY[name], narrow=False) if all(a.dtype in REAL for a in case.graph.avals)
    ]
    for case in cases[:: max(1, len(cases) // rounds(3, 12, 1000))]:
        for part in clusters(case.graph):
            compiles_as_before(part, pipeline)


@pytest.mark.parametrize("seed", range(rounds(4, 40, 400)))
def test_random_programs_compile_after_upstreams_passes(seed):
    for part in clusters(random_graphs.program(seed).graph):
        compiles_as_before(part, FUSE)


# ---- what is made of places is what the body says, whoever has written it ---------------------------------------------


def _gathering() -> Group:
    """table[index], of which a body gives the element and nothing else."""
    b = GraphBuilder()
    table, index = (b.input(aval) for aval in (Aval((5,), float32), Aval((3,), int64)))
    b.graph.outputs = [find("gather")(table, index, axis=0).id]
    (part,) = clusters(b.graph)
    return from_cluster(part.graph)


def rewritten(group: Group, change) -> Group:
    """The group with another body in its one nest."""
    (op,) = [op for op in group.ops if isinstance(op, Generic)]
    return replace(group, ops=tuple(replace(op, body=change(op.body)) if o is op else o for o in group.ops))


def test_a_gather_at_another_place_is_refused():
    """One further than the index that is checked."""

    def moved(body: Body) -> Body:
        at = next(k for k, op in enumerate(body.ops) if op.name == "arith.select")
        number = body.numbers()[at]
        one = BodyOp("arith.constant", (), "1", ("i64",))
        more = BodyOp("arith.addi", (number, number + 1), None, ("i64",))
        later = [op._replace(operands=tuple(shifted(x, number) for x in op.operands)) for op in body.ops[at + 1 :]]
        return body._replace(
            ops=(*body.ops[: at + 1], one, more, *later), results=tuple(shifted(x, number) for x in body.results)
        )

    def shifted(x: int, number: int) -> int:
        return x if x < number else x + 2

    with pytest.raises(GroupError, match="generators gather at one index, as it is"):
        replay(rewritten(_gathering(), moved))


def test_what_is_done_with_a_gathered_element_is_computed():
    def negated(body: Body) -> Body:
        more = BodyOp("arith.negf", body.results, None, ("f32",))
        return body._replace(ops=(*body.ops, more), results=(len(body.value_types()),))

    group = rewritten(_gathering(), negated)
    table, index = np.arange(5, dtype=np.float32), np.array([4, 0, 2])
    graph = replay(group).graph
    part = Cluster("loops", graph, tuple(graph.inputs), tuple(graph.outputs))
    (found,) = execute.run_lowered(part, execute.lower_group(group, HOST), [table, index])
    np.testing.assert_array_equal(found, [-4, 0, -2])
