"""Graph passes keep every bit, are idempotent, deterministic and linear; the registry finds them by name."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from counting import calls
from flambeau.compiler.caches.identity import graph_key
from flambeau.compiler.passes import Pass, registry
from flambeau.compiler.passes.cse import CommonSubexpressions
from flambeau.compiler.passes.dead_code import DeadCode
from flambeau.compiler.passes.rewrite import renumber, without_locations
from flambeau.compiler.passes.simplify import Simplify
from flambeau.compiler.passes.transpose_products import TransposeProducts
from flambeau.dialects import entry_points, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import bool_, float32, float64, int32, int64
from flambeau.dialects.graph import Loc
from flambeau.dialects.identity import attrs_key, graph_bytes
from flambeau.dialects.plugins import Offer
from flambeau.dialects.record import find
from random_graphs import program, same_bits

PASSES = [Simplify(), TransposeProducts(), CommonSubexpressions(), DeadCode()]
SEEDS = range(60)


def build(make, *avals, updates=None):
    """The graph of `make`, a function on builder values."""
    builder = GraphBuilder()
    outputs = make(*(builder.input(a) for a in avals))
    builder.graph.outputs = [v.id for v in (outputs if isinstance(outputs, tuple) else (outputs,))]
    return builder.graph


def ops_of(graph):
    return [n.op.name for n in DeadCode()(graph).nodes]


def simplified(make, *avals):
    """Op names left after simplify and dead-code."""
    return ops_of(Simplify()(build(make, *avals)))


def placed(x, low, high, value=0.0):
    """Columns of `value` before and after."""
    return find("pad")(x, x.builder.constant(value, float32), low=(0, low), high=(0, high))


# ---- all passes


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_pass_keeps_every_bit_and_is_idempotent(step, seed):
    graph, inputs = program(seed, n_nodes=40)
    before = graph_bytes(graph)
    result = step(graph)
    assert graph_bytes(graph) == before, "a pass changed its input"
    assert result.updates == graph.updates
    for x, y in zip(reference.run(graph, inputs), reference.run(result, inputs), strict=True):
        assert same_bits(x, y)
    assert graph_bytes(step(result)) == graph_bytes(result)
    assert graph_bytes(step(program(seed, n_nodes=40).graph)) == graph_bytes(result)


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
def test_results_are_numbered_canonically(step):
    graph = step(renumber(program(3, n_nodes=40).graph))
    assert graph_bytes(renumber(graph)) == graph_bytes(graph)


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
def test_work_is_linear(step):
    def chain(n):
        def make(x):
            for _ in range(n):
                x = find("tanh")(x + x.like(2.0)) * x
            return x

        return build(make, Aval((4,), float32))

    def work(graph):
        return calls(lambda: step(graph))

    assert work(chain(2400)) < 12 * work(chain(300))


def work(graph):
    """How many ops compute, without the casts of what is narrow."""
    light = ("constant", "reshape", "broadcast")
    narrow = [n for n in graph.nodes if any(graph.avals[v].dtype.is_narrow for v in (*n.operands, *n.results))]
    return len([n for n in graph.nodes if n.op.name not in light]) - len([n for n in narrow if n.op.name == "cast"])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pipeline_never_adds_work(seed):
    graph, inputs = program(seed, n_nodes=40)
    small = graph
    for step in PASSES:
        small = step(small)
    assert work(small) <= work(graph)
    for x, y in zip(reference.run(graph, inputs), reference.run(small, inputs), strict=True):
        assert same_bits(x, y)


# ---- simplify

F32 = Aval((3, 4), float32)
I32 = Aval((3, 4), int32)
BOOL = Aval((3, 4), bool_)


@pytest.mark.parametrize(
    "make, aval, left",
    [
        (lambda x: x * x.like(1.0), F32, ["canonical_nan"]),
        (lambda x: x.like(1.0) * x, F32, ["canonical_nan"]),
        (lambda x: x / x.like(1.0), F32, ["canonical_nan"]),
        (lambda x: x - x.like(0.0), F32, ["canonical_nan"]),
        (lambda x: x + x.like(-0.0), F32, ["canonical_nan"]),
        (
            lambda x: find("exp")(find("neg")(find("neg")(x)) * x.like(1.0)),
            F32,
            ["exp"],
        ),  # nobody sees which NaN it was
        (lambda x: find("tanh")(x) * x.like(1.0), F32, ["tanh"]),  # canonical anyway: see canonical_nans.py
        (lambda x: x + x.like(0), I32, []),
        (lambda x: find("neg")(find("neg")(x)), F32, ["canonical_nan"]),
        (lambda x: find("not_")(find("not_")(x)), BOOL, []),
        (lambda x: find("abs")(-x), F32, ["abs"]),
        (lambda x: find("maximum")(x, x), F32, ["canonical_nan"]),
        (lambda x: x.cast(float64).cast(float32), F32, ["canonical_nan"]),
        (lambda x: x.cast(float64).cast(int32), F32, ["cast"]),
        (lambda x: x.cast(int64).cast(int32), I32, []),
        (lambda x: x.cast(float32).cast(bool_), BOOL, []),
        (lambda x: find("reshape")(find("reshape")(x, shape=(12,)), shape=(3, 4)), F32, []),
        (lambda x: find("permute")(find("permute")(x, perm=(1, 0)), perm=(1, 0)), F32, []),
        (lambda x: find("flip")(find("flip")(x, axes=(0, 1)), axes=(0,)), F32, ["flip"]),
        (lambda x: find("slice")(x, starts=(0, 0), sizes=(3, 4), steps=(1, 1)), F32, []),
        (lambda x: find("concat")(x, dim=0), F32, []),
        (
            lambda x: placed(x, 4, 0) + placed(x, 0, 4),
            F32,
            ["constant", "reshape", "broadcast", "add", "concat"],  # both halves are x + 0.0
        ),
        (lambda x: find("pad")(x, x.builder.constant(0.0, float32), low=(0, 0), high=(0, 0)), F32, []),
    ],
)
def test_an_exact_identity_is_applied(make, aval, left):
    assert simplified(make, aval) == left


@pytest.mark.parametrize(
    "make, aval, left",
    [
        (lambda x: x + x.like(0.0), F32, "add"),  # -0.0 + 0.0 is 0.0
        (lambda x: x - x.like(-0.0), F32, "sub"),
        (lambda x: x * x.like(0.0), F32, "mul"),  # infinities and NaN
        (lambda x: x - x, F32, "sub"),
        (lambda x: x / x, F32, "div"),
        (lambda x: x.cast(float32).cast(int32), I32, "cast"),  # float32 rounds large integers
        (lambda x: x.cast(int32).cast(float32), F32, "cast"),
        (lambda x: (x + x.like(1.0)) - x.like(1.0), F32, "sub"),
        (lambda x: find("sum")(x, axes=()), F32, "sum"),  # a fold starts from 0.0
        (lambda x: placed(x, 1, 0) + placed(x, 0, 1), F32, "pad"),  # they overlap
        (lambda x: placed(x, 5, 0) + placed(x, 0, 5), F32, "pad"),  # and here is a gap
        (lambda x: placed(x, 4, 0, 1.0) + placed(x, 0, 4, 1.0), F32, "pad"),
    ],
)
def test_what_would_change_bits_is_left_alone(make, aval, left):
    assert left in simplified(make, aval)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_what_lies_side_by_side_among_zeros_becomes_a_concat_to_the_bit(order):
    """Gradients of slices. Where the first two do not meet, they stay."""
    a, b, c = ((4 * k, 8 - 4 * k) for k in order)
    graph = build(lambda x, y, z: placed(x, *a) + placed(y, *b) + placed(z, *c), F32, F32, F32)
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    x[0], x[1, 0], x[1, 1] = -0.0, math.nan, math.inf
    small = DeadCode()(Simplify()(graph))
    assert ("pad" in [n.op.name for n in small.nodes]) == (order == (0, 2, 1))
    inputs = [x, -x, np.flip(x).copy()]
    assert same_bits(reference.run(graph, inputs)[0], reference.run(small, inputs)[0])
    assert graph_bytes(Simplify()(small)) == graph_bytes(small)


def test_constants_fold_to_the_bit_and_minus_zero_stays_a_negation():
    def make(x):
        one_third = x.like(1.0) / x.like(3.0)
        return x * one_third, x.like(0.0) * x.like(-1.0)

    graph = DeadCode()(Simplify()(build(make, F32)))
    values = [n.attrs[0] for n in graph.nodes if n.op.name == "constant"]
    assert np.float32(values[0]) == np.float32(1) / np.float32(3)
    product = reference.run(graph, [np.ones((3, 4), np.float32)])[1]
    assert np.signbit(product).all()


def test_a_selection_by_a_constant_disappears():
    def make(x, y):
        never = x.builder.constant(False, bool_, x.shape)
        return find("select")(never, x, y), find("select")(x.eq(y), x, x)

    graph = build(make, F32, F32)
    result = Simplify()(graph)
    chosen = result.producers()
    assert {chosen[v].op.name for v in result.outputs} == {"canonical_nan"}
    assert [result.inputs.index(*chosen[v].operands) for v in result.outputs] == [1, 0]


def test_a_selection_by_a_negation_swaps():
    graph = Simplify()(build(lambda c, x, y: find("select")(find("not_")(c), x, y), BOOL, F32, F32))
    assert ops_of(graph) == ["select"]
    assert graph.nodes[-1].operands == (0, 2, 1)


def test_a_dynamic_slice_with_constant_starts_becomes_static_and_clamped():
    def make(x):
        start = x.builder.constant(2, int64)
        return find("dynamic_slice")(x, start, start, sizes=(2, 1), steps=(1, 1))

    graph = DeadCode()(Simplify()(build(make, F32)))
    assert [(n.op.name, n.attrs) for n in graph.nodes] == [("slice", ((1, 2), (2, 1), (1, 1)))]


def test_moving_unit_axes_is_a_reshape():
    graph = DeadCode()(Simplify()(build(lambda x: find("permute")(x, perm=(1, 0)), Aval((1, 7), float32))))
    assert [(n.op.name, n.attrs) for n in graph.nodes] == [("reshape", ((7, 1),))]


def test_locations_stay_with_their_ops():
    builder = GraphBuilder()
    x = builder.input(F32)
    builder.loc = Loc("a.py", 1)
    y = find("exp")(x)
    builder.loc = Loc("a.py", 2)
    builder.graph.outputs = [find("neg")(y).id]
    graph = Simplify()(builder.graph)
    assert [str(n.loc) for n in graph.nodes] == ["a.py:1", "a.py:2"]
    assert {n.loc for n in without_locations(graph).nodes} == {None}


# ---- cse


def test_equal_nodes_become_one_and_the_first_line_stays():
    builder = GraphBuilder()
    x, y = builder.input(F32), builder.input(F32)
    builder.loc = Loc("a.py", 1)
    first = x + y
    builder.loc = Loc("a.py", 2)
    second = y + x
    builder.graph.outputs = [(first * second).id]
    graph = CommonSubexpressions()(builder.graph)
    assert [(n.op.name, n.loc.line) for n in graph.nodes] == [("add", 1), ("mul", 2)]


def test_attributes_that_python_calls_equal_stay_apart():
    assert attrs_key((1,)) != attrs_key((True,)) != attrs_key((1.0,))
    assert attrs_key((0.0,)) != attrs_key((-0.0,))
    assert attrs_key((math.nan,)) == attrs_key((float("nan"),))

    def make(x):
        one, true = x.builder.constant(1, int64), x.builder.constant(1.0, float64)
        return one.cast(float32), true.cast(float32)

    assert len([n for n in CommonSubexpressions()(build(make, F32)).nodes if n.op.name == "constant"]) == 2


def test_non_commutative_operands_keep_their_order():
    graph = CommonSubexpressions()(build(lambda x, y: (x - y, y - x), F32, F32))
    assert len(graph.nodes) == 2


# ---- dead code


def test_unread_nodes_go_and_inputs_stay():
    def make(x, y):
        find("exp")(y)
        return x + x

    graph = DeadCode()(build(make, F32, F32))
    assert [n.op.name for n in graph.nodes] == ["add"]
    assert len(graph.inputs) == 2


def test_an_unread_op_that_may_fail_stays():
    def make(x, y):
        find("int_div")(x + x, y)
        find("exp")(x.cast(float32))
        return x

    assert ops_of(build(make, I32, I32)) == ["add", "int_div"]


# ---- identity and registry


def test_a_graph_key_ignores_locations_and_sees_everything_else():
    graph, _ = program(5)
    assert graph_key(graph) == graph_key(without_locations(graph))
    keys = {graph_key(program(seed).graph) for seed in SEEDS}
    assert len(keys) == len(SEEDS)
    assert graph_key(build(lambda x: x * x.like(1.0), F32)) != graph_key(build(lambda x: x * x.like(2.0), F32))


def test_passes_are_found_by_name():
    for step in PASSES:
        assert registry.find(step.name) is type(step)
    assert {"simplify", "cse", "dead-code", "cluster"} <= set(registry.names())
    with pytest.raises(ValueError, match=r"\[passes\] there is no pass named 'simplfy'. Known passes: simplify,"):
        registry.find("simplfy")


class Mine(Pass):
    name = "mine"


def test_other_packages_add_passes_by_entry_point(monkeypatch):
    monkeypatch.setitem(sys.modules, "a_module_with_passes", SimpleNamespace(Mine=Mine))
    offers = (Offer("bad", "theirs 1.0", "builtins:int"), Offer("mine", "theirs 1.0", "a_module_with_passes:Mine"))
    monkeypatch.setattr(entry_points, "offers", lambda group: offers)
    assert registry.find("mine") is Mine
    assert registry.names()[-2:] == ["bad", "mine"]
    assert registry.origins()["mine"] == "theirs 1.0" and registry.origins()["cse"] == "flambeau"
    with pytest.raises(RuntimeError, match=r"pass 'bad' of theirs 1.0 is <class 'int'>. Make it a Pass subclass"):
        registry.find("bad")
