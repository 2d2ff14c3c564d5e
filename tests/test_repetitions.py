"""Random programs that are run again cause no compilation after their third repetition, by the recorder's counts."""

import warnings

import flambeau as fb
import numpy as np
import pytest
import random_derivatives
import random_graphs
import random_training
from flambeau.function import builder
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function
from support import rounds

#: What a step that was seen before adds nothing to: calls that are no hits, programs, kinds of traces.
COUNTS = ("misses", "builds", "programs", "patterns", "states")


@pytest.fixture(autouse=True)
def compiled_at_once():
    with fb.compiler_options(mode="blocking"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random programs overflow and divide by zero
        yield


def counted(step):
    """(what `step` gives, what it added to the recorder's counts)."""
    recorder.flush()
    before = recorder.stats()
    found = step()
    recorder.flush()
    after = recorder.stats()
    return found, {name: after[name] - before[name] for name in ("hits", *COUNTS)}


def check_settled(step):
    """Three repetitions compile what they need; two more nothing, though they record as many calls. Gives what the last found,
    and its hits."""
    first = [counted(step)[1] for _ in range(3)]
    for _ in range(2):
        found, added = counted(step)
        assert {name: added[name] for name in COUNTS} == dict.fromkeys(COUNTS, 0)
        assert added["hits"] == first[-1]["hits"] + first[-1]["misses"]
    return found, added["hits"]


def function_of(node):
    """A function of tensors that records one op of a graph."""
    names = [f"x{k}" for k in range(len(node.operands))]

    def rule(**given):
        return builder().emit_all(node.op, [given[name] for name in names], node.attrs)

    return Function(node.op.name, tuple((name, "tensor", REQUIRED, False, ()) for name in names), "pure", rule)


@pytest.mark.parametrize("seed", range(rounds(3, 8, 80)))
def test_random_graphs(seed):
    graph, inputs = random_graphs.program(seed, 20, exact=True, fallible=False)
    functions = [function_of(node) for node in graph.nodes]

    def step():
        values = {v: fb.tensor(x) for v, x in zip(graph.inputs, inputs, strict=True)}
        for call, node in zip(functions, graph.nodes, strict=True):
            results = call(*(values[v] for v in node.operands))
            values |= zip(node.results, results if isinstance(results, tuple) else (results,), strict=True)
        return [values[v].numpy() for v in graph.outputs]

    wanted = random_graphs.evaluate(graph, inputs)
    arrays, hits = check_settled(step)
    assert hits >= len(graph.nodes)
    for v, found in zip(graph.outputs, arrays, strict=True):
        assert random_graphs.same_bits(found, np.asarray(wanted[v]))


@pytest.mark.parametrize("seed", range(rounds(3, 8, 80)))
def test_random_training_programs(seed):
    program = random_training.generate(seed, fb, 20)
    check_settled(lambda: random_training.run(program, fb))


@pytest.mark.parametrize("seed", range(rounds(3, 8, 80)))
def test_random_derivatives(seed):
    program = random_derivatives.generate(seed, 10)
    (outcomes, _), hits = check_settled(lambda: random_derivatives.run(program, fb))
    assert hits > 0 and any(not error for _, error in outcomes)
