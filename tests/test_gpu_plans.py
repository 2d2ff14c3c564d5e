"""Plans for GPUs: launches whose grids are expressions of sizes, memory shared in place as on CPUs, the bits of the CPU's plans.

In: programs recorded with symbols. They run in the simulator of the gpu dialect, and some as PTX in its interpreter.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import execute
import gpu_plans
import gpu_simulator
import numpy as np
import pytest
import symbolic
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.dialects.dtypes import float32, float64
from flambeau.dialects.graph import Graph
from flambeau.dialects.plan import parse_plan, print_plan
from flambeau.dialects.record import find
from flambeau.dialects.size import symbol
from flambeau.dialects.size_programs import fits
from flambeau.runtime import _binding as runtime
from flambeau.runtime.plan_spec import LAUNCH_FIELDS, ExprOp, OutMode
from gpu_programs import interpret
from test_ptx import assert_same_bits
from test_symbolic_kernels import layer_norm, linear, mean, softmax, transposed

s, t = symbol(0), symbol(1)
GPU = Options(target="sm_90")


def built(graph: Graph) -> Program:
    return stages.run(graph, GPU).program


def typed(graph: Graph, outputs) -> list[np.ndarray]:
    avals = [graph.avals[v] for v in graph.outputs]
    return [x.view(a.dtype.numpy).reshape(a.shape) for x, a in zip(outputs, avals, strict=True)]


def check(graph: Graph, sizes, execute_launch=gpu_simulator.run) -> list[Program]:
    """Run at all sizes, each on the first plan that serves it, or on a new one; compare with the CPU's bits."""
    plans: list[Program] = []
    for values in sizes:
        program = next((p for p in plans if fits(p.spec, values)), None)
        if program is None:
            program = built(replace(graph, sizes=values))
            plans.append(program)
        bound = graph.bind(values)
        arrays = symbolic.arguments(bound)
        found = typed(bound, gpu_plans.run(program, arrays, execute_launch, values))
        assert_same_bits(found, execute.run_graph(bound, arrays, Options()))
    return plans


FEW, MANY, ROWS = (3, 33, 257), (2, 64, 65, 130, 600), (2, 64, 4097, 9000)
#: What to compute, its operands, at which sizes, and of how many plans: those of one fold serve up to twice as many parts.
PROGRAMS = {
    "elementwise": ((lambda x, y: find("exp")(x) + y.expand(x.shape)), [((s, 5), float32), ((5,), float32)], FEW, 1),
    "column": ((lambda x, y: x * y.expand(x.shape)), [((7, s), float32), ((7, 1), float32)], FEW, 1),
    "softmax": (softmax, [((3, s), float32)], ROWS, 3),
    "columns": ((lambda x: mean(x, 0)), [((s, 5), float32)], MANY, 4),
    "transposed": ((lambda x: transposed(x) * 2.0), [((s, 35), float32)], FEW, 1),
    "product": (linear, [((s, 30), float32), ((20, 30), float32), ((20,), float32)], FEW, 1),
    "long product": ((lambda x, y: find("matmul")(x, y)), [((5, s), float64), ((s, 6), float64)], (64, 257, 300), 2),
    "dot": ((lambda x, y: find("matmul")(x, y)), [((1, s), float32), ((s, 3), float32)], ROWS, 3),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_plan_of_launches_serves_many_sizes(name):
    """Few plans: how many parts a fold has is known up to a factor of two, all else is an expression."""
    make, inputs, sizes, most = PROGRAMS[name]
    graph = symbolic.record(make, *inputs, hints=(40,))
    assert len(check(graph, [(n,) for n in sizes])) <= most
    check(graph, [(sizes[0],), (65,)], partial(interpret, "sm_90"))


def feed_forward(x, w1, b1, w2):
    """Two products with what is around them, a softmax of rows and a mean of columns."""
    hidden = linear(x, w1, b1)
    return softmax(find("matmul")(hidden, w2)), mean(hidden * hidden, 0)


def test_a_plan_of_several_launches_is_read_and_written_as_text():
    inputs = [((s, 30), float32), ((20, 30), float32), ((20,), float32), ((20, t), float32)]
    (program,) = check(symbolic.record(feed_forward, *inputs, hints=(40, 50)), [(40, 50), (3, 200)])
    assert len(program.spec.steps) == len(program.kernels) == 5
    assert all(len(step) == LAUNCH_FIELDS for step in program.spec.steps)
    grids = [[program.spec.exprs[e][0] != ExprOp.CONST for e in step[1]] for step in program.spec.steps]
    assert [True, True, False] in grids and [True, False, False] in grids  # a product's and a softmax's
    assert parse_plan(print_plan(program.spec)) == program.spec


# ---- in place -------------------------------------------------------------------------------------------------


def matmul(x, y):
    return find("matmul")(x, y)


SQUARE = [((33, 33), float32)] * 3
#: What a step makes of its first operand, whose memory it may write to: whether it does.
UPDATES = {
    "elementwise": (lambda x, y, z: x - y * 0.5, True),
    "stretched beside it": (lambda x, y, z: x * mean(y, 1).expand((33, 33)), True),
    "rows": (lambda x, y, z: softmax(x), True),
    "rows of another's": (lambda x, y, z: layer_norm(y) * x, True),
    "columns": (lambda x, y, z: (y * 2.0, y + x, mean(y, 0)), True),
    "epilogue": (lambda x, y, z: matmul(y, z) + x, True),
    "transposed": (lambda x, y, z: x + transposed(x), False),
    "transposed tiles": (lambda x, y, z: transposed(x) * 2.0, False),
    "flipped": (lambda x, y, z: x + find("flip")(x, axes=(0,)), False),
    "a factor": (lambda x, y, z: matmul(x, y) + x, False),
    "stretched itself": (lambda x, y, z: y + find("slice")(x, starts=(0, 0), sizes=(33, 1), steps=(1, 1)).expand((33, 33)), False),
    "converted": (lambda x, y, z: x.cast(float64), False),
}  # fmt: skip


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("execute_launch", [gpu_simulator.run, partial(interpret, "sm_90")], ids=["mlir", "ptx"])
def test_launches_write_in_place_where_every_element_is_read_by_its_own_thread(name, execute_launch):
    make, in_place = UPDATES[name]
    graph = symbolic.record(make, *SQUARE, hints=(), updates={0: 0})
    program = built(graph)
    assert (program.spec.outputs[0][0] == OutMode.UPDATE) is in_place
    arrays = symbolic.arguments(graph)
    wanted = execute.run_graph(graph, arrays, Options())
    assert_same_bits(typed(graph, gpu_plans.run(program, arrays, execute_launch)), wanted)
    donated = [x.copy() for x in arrays]
    found = gpu_plans.run(program, donated, execute_launch, donate=(0,))
    assert np.shares_memory(found[0], donated[0]) is in_place
    assert_same_bits(typed(graph, found), wanted)
    alone = [kernel.text.count("llvm.noalias") for kernel in program.kernels]
    refs = [len(step[-2]) for step in program.spec.steps]
    assert (alone != refs) is in_place  # what overlaps, or may, does not claim to be alone


def test_a_temporary_is_overwritten_by_the_launch_that_reads_it_last():
    """The softmax of scores lies where the scores were; a kernel that nothing shares memory in says so."""
    attention = lambda q, k, v: matmul(softmax(matmul(q, k)), v)  # noqa: E731
    graph = symbolic.record(attention, *SQUARE, hints=())
    program = built(graph)
    ((op, nbytes, _),) = [program.spec.exprs[program.spec.arena_bytes]]
    assert op == ExprOp.CONST and nbytes == -(-33 * 33 * 4 // 64) * 64
    alone = [kernel.text.count("llvm.noalias") for kernel in program.kernels]
    assert alone == [3, 0, 3]
    arrays = symbolic.arguments(graph)
    found = typed(graph, gpu_plans.run(program, arrays, gpu_simulator.run))
    assert_same_bits(found, execute.run_graph(graph, arrays, Options()))


# ---- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.runtime
def test_the_runtime_of_cpus_refuses_launches():
    program = built(symbolic.record(softmax, ((4, 5), float32), hints=()))
    with pytest.raises(ValueError, match=r"\[plan\] step 0 is a launch on a GPU"):
        runtime.Plan(tuple(program.spec), (1,))


def test_grids_that_may_become_too_large_are_guarded():
    """One launch along z per matrix: at most 65535 of them."""
    graph = symbolic.record(lambda x: transposed(x) * 2.0, ((s, 2, 3), float32), hints=(40,))
    spec = built(graph).spec
    assert fits(spec, (65535,)) and not fits(spec, (65536,))
    with pytest.raises(ValueError, match=r"needs a grid of \(1, 1, 65536\) blocks"):
        built(replace(graph, sizes=(65536,)))
