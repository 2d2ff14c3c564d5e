"""Repeats whose groups are copied: what is recognised, that it is what would be formed anew, and that the work does not grow."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from flambeau.compiler import memo, stages
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import _Clustering, cluster
from flambeau.compiler.passes.cluster_copies import Stretch, clean_cut, runs, within
from flambeau.compiler.passes.cluster_groups import OpenGroup
from flambeau.compiler.passes.cluster_order import in_order
from flambeau.dialects.graph import Graph
from test_cluster_prologues import Program, op, stretched
from test_equal_parts import residual_blocks as blocks

LAYER = list(range(30))


@pytest.mark.parametrize(
    "forms, found",
    [
        (LAYER * 3, []),
        (LAYER * 4, [Stretch(0, 30, 120)]),
        ([90, 91, *LAYER * 5, 92], [Stretch(2, 30, 152)]),
        ([*LAYER * 4, *(range(50, 90)), *(range(40, 90)), *LAYER * 6], [Stretch(0, 30, 120), Stretch(210, 30, 390)]),
        ([*LAYER, 90] * 4 + [91], [Stretch(0, 31, 124)]),
        ([*LAYER * 2, 77] * 4, [Stretch(0, 61, 244)]),  # a layer has equal parts, too
        ([*LAYER[:-1], None] * 6, []),  # what has no form is equal to nothing
        ([5] * 500, []),  # no layers
        ([], []),
    ],
)
def test_runs_are_recognised_by_their_forms(forms, found):
    assert runs(forms) == found


def test_a_cut_is_clean_where_no_group_reaches_over_it_a_period_later_neither():
    def group(*nodes: int) -> OpenGroup:
        return OpenGroup(list(nodes), [], {})

    apart = [group(98, 101), group(102, 107), group(108, 111), group(112, 117), group(118, 119)]
    assert clean_cut(100, 10, apart) == 102
    assert clean_cut(100, 10, [*apart, group(50, 103)]) == 108
    assert clean_cut(100, 10, [*apart, group(50, 121)]) is None
    assert clean_cut(100, 10, [*apart, group(1, 99), group(120, 130)]) == 102
    assert within(apart, 112) == apart[3:]
    assert within([*apart, group(107, 118)], 112) is None


def nodes_joined(graph: Graph) -> int:
    """For how many nodes clustering looks for a group to join."""
    found, seen = _Clustering(graph, True, 200), list[int]()
    add = found._add
    found._add = lambda index: seen.append(index) or add(index)
    found.run()
    return len(seen)


def as_clustered(graph: Graph) -> Graph:
    """A program as clustering gets it, in the order that it goes through."""
    work = stages.Compilation(graph, Options())
    for name in stages.ON_PROGRAMS:
        stages.advance(work, name)
    return replace(work.graph, nodes=in_order(work.graph))


def test_groups_of_layers_are_formed_for_some_and_copied_for_the_others():
    few, many = as_clustered(blocks(14)), as_clustered(blocks(20))
    assert nodes_joined(many) == nodes_joined(few) + 6 < len(few.nodes) / 2  # the number that is each layer's own
    with memo.nothing_kept():
        assert nodes_joined(many) > len(many.nodes) / 2


def lowered(graph: Graph) -> tuple:
    program = stages.run(graph, Options()).program
    return program.spec, [kernel.text for kernel in program.kernels]


def test_copies_are_what_would_be_formed():
    kept = lowered(blocks(14))
    with memo.nothing_kept():
        assert lowered(blocks(14)) == kept


def uneven(n: int, odd: int) -> Graph:
    """Equal layers, one of which reads another layer's operand where the others read their own."""
    p = Program()
    w, x = p.input(16, 16), p.input(8, 16)
    first = x
    for k in range(n):
        for _ in range(8):
            h = op("tanh", op("mul", op("add", op("matmul", x, w), x), x))
            x = op("exp", op("matmul", h, w)) + (first if k == odd else x)
    return p.finish(x)


@pytest.mark.parametrize("odd", [-1, 6])
def test_a_layer_that_reads_otherwise_is_formed_anew(odd):
    graph = uneven(9, odd)
    kept = lowered(graph)
    with memo.nothing_kept():
        assert lowered(graph) == kept


def random_layers(seed: int) -> Graph:
    """Equal layers of random ops, which read what the layer before made, add to a sum, and read layers further back."""
    rng, p = random.Random(seed), Program()
    weight, state, total, old = p.input(16, 16), [p.input(8, 16)] * 3, p.input(8, 16), [p.input(8, 16)] * 3
    kinds = ["mul", "add", "tanh", "matmul", "matmul", "mul", "add", "tanh", "total", "old", "state", "sum"]
    recipe = [(rng.choice(kinds), rng.randrange(6), rng.randrange(6)) for _ in range(rng.choice((30, 45, 60)))]
    for _ in range(8):
        values = [*state, *state]
        for kind, one, two in recipe:
            x, y = values[-6:][one], values[-6:][two]
            if kind == "total":
                total = total + x
                continue
            if kind == "matmul":
                made = op(kind, x, weight)
            elif kind == "tanh":
                made = op(kind, x)
            elif kind == "sum":
                made = stretched(op(kind, x, axes=(1,)), x.shape) + y
            elif kind in ("old", "state"):
                made = x + (old[-3] if kind == "old" else state[two % 3])
            else:
                made = op(kind, x, y)
            values.append(made)
        old.append(values[-2])
        state = values[-3:]
    return p.finish(*dict.fromkeys([total, *state]))


def clusters(graph: Graph) -> list[tuple]:
    return [
        (found.operands, found.results, [n.op.name for n in found.graph.nodes]) for found in cluster(graph, Options())
    ]


@pytest.mark.parametrize("seed", [2, 5, 18, 25, 43])
def test_random_layers_have_the_clusters_that_would_be_formed(seed):
    graph = random_layers(seed)
    found = clusters(graph)
    made = set(graph.inputs)
    for operands, results, _ in found:
        assert made.issuperset(operands)
        made.update(results)
    assert made.issuperset(graph.outputs)
    with memo.nothing_kept():
        assert clusters(graph) == found
