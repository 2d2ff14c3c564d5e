"""One semantics below the frontend: fused or op by op, one thread or two, the bits are the same.

Programs of exact ops have the reference's bits too.
"""

import numpy as np
import pytest
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.record import find
from flambeau.runtime import _binding as runtime
from mlp_step import arrays, step
from random_graphs import LARGE, program, same_bits

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

FUSED = Options(mode="blocking")
UNFUSED = Options(mode="blocking", fuse=False)
SMALL_CLUSTERS = Options(mode="blocking", max_cluster_ops=3)
GENERIC = Options(mode="off")


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request):
    before = runtime.get_num_threads()
    runtime.set_num_threads(request.param)
    yield request.param
    runtime.set_num_threads(before)


def run(graph, inputs, options):
    """The outputs as arrays; asserts that the tier that is meant has run."""
    executable = driver.compile(graph, options)
    outputs = executable(inputs)
    assert executable.report.tier == ("generic" if options.mode == "off" else "fused")
    return [to_array(x, graph.avals[v]) for x, v in zip(outputs, graph.outputs, strict=True)]


def assert_equal(graph, wanted, found, what):
    for k, (x, y) in enumerate(zip(wanted, found, strict=True)):
        assert same_bits(x, y), f"{what}: output {k}, {graph.avals[graph.outputs[k]]}"


@pytest.mark.parametrize("seed", range(40))
def test_every_tier_agrees_bitwise(seed, threads):
    graph, inputs = program(seed, n_nodes=20)
    wanted = run(graph, inputs, GENERIC)
    for options in (FUSED, UNFUSED, SMALL_CLUSTERS):
        assert_equal(graph, wanted, run(graph, inputs, options), f"{options}")


@pytest.mark.parametrize("seed", range(5000, 5012))
def test_large_values_agree_bitwise_on_one_thread_and_two(seed):
    graph, inputs = program(seed, n_nodes=20, shapes=LARGE)
    wanted = run(graph, inputs, GENERIC)
    before = runtime.get_num_threads()
    for n in (1, 2, 5):
        runtime.set_num_threads(n)
        try:
            assert_equal(graph, wanted, run(graph, inputs, FUSED), f"{n} threads")
        finally:
            runtime.set_num_threads(before)


@pytest.mark.parametrize("seed", range(1000, 1040))
def test_exact_programs_agree_with_the_reference(seed, threads):
    graph, inputs = program(seed, n_nodes=30, exact=True)
    wanted = reference.run(graph, inputs)
    assert_equal(graph, wanted, run(graph, inputs, FUSED), "fused")
    assert_equal(graph, wanted, run(graph, inputs, GENERIC), "generic")


@pytest.mark.parametrize("seed", range(2000, 2010))
def test_outputs_do_not_depend_on_what_else_is_asked_for(seed):
    """A value is the same whether it is an output alone or among others (and whatever it is then fused with)."""
    graph, inputs = program(seed, n_nodes=20)
    wanted = driver.compile(graph, GENERIC).run_prefix(inputs, everything=True).values
    for node in graph.nodes[::3]:
        (v,) = node.results
        alone = type(graph)(graph.avals, graph.inputs, graph.nodes, [v])
        assert_equal(alone, [to_array(wanted[v], graph.avals[v])], run(alone, inputs, FUSED), node.op.name)


@pytest.mark.parametrize("source", ["constant", "iota"])
def test_a_gather_from_a_source_finds_it_in_memory(source):
    builder = GraphBuilder()
    index = builder.input(Aval((3, 2), int64))
    table = find("iota")(builder=builder, shape=(3, 4), dim=1, dtype=float32)
    table = table if source == "iota" else builder.constant(2.5, float32, (3, 4))
    builder.graph.outputs = [find("gather")(table, index, axis=1).id]
    inputs = [np.array([[1, 0], [2, 3], [3, 1]])]
    wanted = reference.run(builder.graph, inputs)
    assert_equal(builder.graph, wanted, run(builder.graph, inputs, FUSED), source)


def buffers(inputs):
    """Pool buffers with the inputs' bytes."""
    made = []
    for x in inputs:
        buffer = runtime.Buffer.alloc(x.nbytes)
        if x.size:
            np.frombuffer(buffer, x.dtype)[:] = x.ravel()
        made.append(buffer)
    return made


@pytest.mark.parametrize("seed", range(3000, 3030))
def test_donated_inputs_change_nothing_but_where_outputs_lie(seed):
    graph, inputs = program(seed, n_nodes=20)
    plan = driver.compile(graph, FUSED).ready()
    wanted = run(graph, inputs, GENERIC)
    given = buffers(inputs)
    found = plan.run(given, donate=sorted(set(graph.updates.values())))
    assert_equal(graph, wanted, [to_array(x, graph.avals[v]) for x, v in zip(found, graph.outputs)], "donated")
    for k, (buffer, x) in enumerate(zip(given, inputs)):
        if k not in graph.updates.values() and x.size:
            assert np.frombuffer(buffer, np.uint8).tobytes() == x.tobytes(), f"input {k} was overwritten"


def test_a_training_step_agrees_on_all_tiers_over_several_steps(threads):
    layers = (20, 33, 16, 10)
    graph = step(64, layers)
    final = {}
    for options in (GENERIC, FUSED, UNFUSED):
        state = arrays(64, layers)
        losses = []
        for _ in range(4):
            outputs = run(graph, state, options)
            losses.append(outputs[0].copy())
            for k, i in graph.updates.items():
                state[i] = outputs[k].copy()
        final[options] = [*losses, *state]
    for options in (FUSED, UNFUSED):
        assert all(same_bits(x, y) for x, y in zip(final[GENERIC], final[options], strict=True))
    assert final[GENERIC][3] < final[GENERIC][0]


def test_a_training_step_updates_every_parameter_in_place():
    graph = step(64, (20, 33, 16, 10))
    inputs = arrays(64, (20, 33, 16, 10))
    plan = driver.compile(graph, FUSED).ready()
    given = buffers(inputs)
    addresses = [b.address for b in given]
    outputs = plan.run(given, donate=list(graph.updates.values()))
    for k, i in graph.updates.items():
        if graph.avals[graph.outputs[k]].shape:  # not the step count, which a kernel of row values writes anew
            assert given[i].donated and outputs[k].address == addresses[i]


def test_a_training_step_matches_the_reference_to_rounding():
    layers = (20, 33, 16, 10)
    graph, inputs = step(64, layers), arrays(64, layers)
    for x, y in zip(reference.run(graph, inputs), run(graph, inputs, FUSED), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
