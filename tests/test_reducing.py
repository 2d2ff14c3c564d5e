"""Programs are made small as long as they fail, on the values that they had."""

import random_graphs
from flambeau.dialects.reducing import part, reduced


def test_one_op_that_is_at_fault_is_found_in_random_programs():
    found = 0
    for seed in range(40):
        graph, inputs = random_graphs.program(seed, 30, exact=True, fallible=False)
        values = random_graphs.evaluate(graph, inputs)
        read = {v for node in graph.nodes for v in node.operands}
        names = [n.op.name for n in graph.nodes if read.intersection(n.results) or set(n.results) & set(graph.outputs)]
        if not names:
            continue
        name = names[len(names) // 2]

        def fails(small, given, name=name, values=values):
            assert [id(x) for x in given] == [id(values[v]) for v in small.inputs]
            computed = random_graphs.evaluate(small, given)
            assert all(random_graphs.same_bits(computed[v], values[v]) for v in small.outputs)
            return any(n.op.name == name for n in small.nodes)

        whole = part(graph, graph.nodes, graph.outputs)
        if whole is None or not fails(whole, [values[v] for v in whole.inputs]):
            continue
        small, _ = reduced(graph, values, fails)
        producers = {v: n for n in small.nodes for v in n.results}
        assert sum(n.op.name == name for n in small.nodes) == 1
        assert producers[small.outputs[0]] is small.nodes[-1]
        found += len(small.nodes) == 1 or len(graph.nodes) > len(small.nodes)
    assert found > 20


def test_two_ops_that_are_at_fault_together_stay_and_errors_count_as_no():
    graph, inputs = random_graphs.program(3, 30, exact=True, fallible=False)
    values = random_graphs.evaluate(graph, inputs)
    whole = part(graph, graph.nodes, graph.outputs)
    pair = next((a, b) for b in whole.nodes for a in whole.nodes if set(a.results) & set(b.operands))

    def fails(small, given):
        if len(small.nodes) == 1:
            raise RuntimeError("another error")
        return all(any(n.results == p.results for n in small.nodes) for p in pair)

    small, _ = reduced(graph, values, fails)
    assert [n.results for n in small.nodes[:2]] == [p.results for p in pair] or len(small.nodes) <= len(whole.nodes)
    assert fails(small, _)


def test_time_is_bounded_and_no_output_is_no_program():
    graph, inputs = random_graphs.program(5, 30, exact=True, fallible=False)
    values = random_graphs.evaluate(graph, inputs)
    small, given = reduced(graph, values, lambda *_: True, seconds=0.0)
    assert len(given) == len(small.inputs) and small.outputs
    assert part(graph, [], graph.outputs) is None
