"""Random programs with symbols: at all sizes the bits of the programs bound to them, fused and op by op, from text too."""

from __future__ import annotations

import random_sizes
import symbolic
from flambeau.compiler.options import Options
from flambeau.dialects.irdl import parse_graph, print_graph
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = [(9, 5), (2, 2), (2, 7), (17, 3), (5, 5), (64, 9), (3, 65)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 20))
def test_random_programs_give_the_same_bits_at_all_sizes(seed, nodes):
    graph = random_sizes.program(seed, nodes)
    symbolic.check(graph, SIZES, inputs=random_sizes.arguments)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 10))
def test_random_programs_give_the_same_bits_op_by_op(seed, nodes):
    graph = random_sizes.program(seed, nodes)
    symbolic.check(graph, SIZES, Options(mode="off"), inputs=random_sizes.arguments)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 20))
def test_random_programs_survive_being_written(seed, nodes):
    graph = random_sizes.program(seed, nodes)
    back = parse_graph(print_graph(graph))
    assert back.sizes == graph.sizes
    for what in ("inputs", "outputs"):
        assert [str(back.avals[v]) for v in getattr(back, what)] == [str(graph.avals[v]) for v in getattr(graph, what)]
    text = print_graph(back)
    assert print_graph(parse_graph(text)) == text
    symbolic.check(back, SIZES[:3], inputs=random_sizes.arguments)
