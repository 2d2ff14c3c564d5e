"""The fuzzer's looks at interrupts, lack of memory, compilers in the background and native programs can fail: faults planted in
what they look at are told."""

import dataclasses
import time

import flambeau as fb
import fuzz_upsets
import numpy as np
import pytest
from flambeau.compiler.compiled import Compiled
from flambeau.compiler.export import exporter
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find

#: `twice_` adds to a tensor in two parts: what comes in between leaves it by half.
BY_HALF = ("a1 = data(3, grad=True)", "x2 = a1.detach().sin()", "T.twice_(x2)", "x3 = x2 * 2")


def told(check, tries=60):
    """What a look says, the first time that chance has it say something."""
    return next((what for seed in range(tries) if (what := check(seed)) is not None), None)


@pytest.fixture
def by_half(monkeypatch):
    def twice_(x):
        x.add_(1)
        fb.flush()
        time.sleep(0.002)
        x.mul_(2)
        fb.flush()

    monkeypatch.setattr(fb, "twice_", twice_, raising=False)


def test_what_an_interrupt_leaves_by_half_is_told(by_half):
    what = told(lambda seed: fuzz_upsets.check_interrupts(BY_HALF, seed))
    assert "disturbed, are in no state between them: x2.value" in what


def test_what_is_done_again_after_an_interrupt_is_told(monkeypatch):
    """Its state is that before it, but it is not all of what it did."""
    done = []

    def counting(x):
        fb.flush()
        time.sleep(0.002)
        done.append(1)
        return x * len(done)

    monkeypatch.setattr(fb, "counting", counting, raising=False)

    def check(seed):
        done.clear()
        return fuzz_upsets.check_interrupts(("a1 = data(3, grad=True)", "x2 = T.counting(a1)", "x3 = x2 + 1"), seed)

    assert "x2.value" in told(check)


def test_what_lack_of_memory_leaves_by_half_is_told(by_half):
    what = told(lambda seed: fuzz_upsets.check_memory(BY_HALF, seed))
    assert "disturbed, are in no state between them: x2.value" in what


def test_an_error_of_memory_without_a_line_is_told():
    error = fb.OutOfMemory("[memory] a test refuses 8 bytes.")
    assert "no line of it is named" in fuzz_upsets._message(error, 0, 3)
    error.add_note(f"run at {fuzz_upsets.FILE}:3")
    assert fuzz_upsets._message(error, 0, 3) is None
    assert "no line of it is named" in fuzz_upsets._message(error, 3, 3)
    assert "instead of" in fuzz_upsets._message(MemoryError(), 0, 3)


def difference_of_two():
    graph = Graph()
    x, y = (graph.add_input(Aval((5,), dtypes.float32)) for _ in range(2))
    made = graph.add_node(find("sub"), (x, y), ())
    graph.outputs = graph.add_node(find("exp"), made, ())
    return graph, [np.arange(5, dtype=np.float32), np.ones(5, np.float32)]


class Wrong:
    """A plan that gets its inputs in another order."""

    def __init__(self, plan):
        self.plan = plan

    def run(self, inputs, *options):
        return self.plan.run([*inputs[1:], *inputs[:1]], *options)


def test_a_program_that_is_wrong_once_it_is_compiled_is_told(monkeypatch):
    assert told(lambda seed: fuzz_upsets.check_graph_background(*difference_of_two(), seed), 1) is None
    find_plan = Compiled.find

    def wrong(self, sizes):
        plan = find_plan(self, sizes)
        return None if plan is None else Wrong(plan)

    monkeypatch.setattr(Compiled, "find", wrong)
    what = told(lambda seed: fuzz_upsets.check_graph_background(*difference_of_two(), seed), 3)
    assert "output 0: " in what


@pytest.mark.skipif(fuzz_upsets.HERE is None, reason="needs Linux and a C compiler")
def test_a_native_program_that_is_wrong_is_told(monkeypatch):
    monkeypatch.setattr(fuzz_upsets, "linked_by", lambda name, linked_by=fuzz_upsets.linked_by: linked_by("cc"))
    assert fuzz_upsets.check_export(*difference_of_two(), 0) is None
    write = exporter.write

    def wrong(folder, request, target, executable):
        checked = dataclasses.replace(request, graph=_swapped(request.graph))
        return write(folder, checked, target, executable)

    monkeypatch.setattr(exporter, "write", wrong)
    assert "--check" in fuzz_upsets.check_export(*difference_of_two(), 0)


def _swapped(graph):
    """The same graph, y - x in the place of x - y."""
    nodes = [n._replace(operands=n.operands[::-1]) if n.op.name == "sub" else n for n in graph.nodes]
    return dataclasses.replace(graph, nodes=nodes)
