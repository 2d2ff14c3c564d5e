"""Which plan runs a graph with symbols: variants, the caches, workers, what happens when compiling fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flambeau.compiler import driver, stages
from flambeau.compiler.baseline import one_op, op_plans
from flambeau.compiler.caches import kernel_cache, plan_cache
from flambeau.compiler.export import exporter
from flambeau.compiler.groups import generate
from flambeau.compiler.memo import Shared
from flambeau.compiler.options import Options
from flambeau.compiler.tools import report
from flambeau.compiler.workers import pool
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.cost import nanoseconds
from flambeau.dialects.dtypes import float32, int32
from flambeau.dialects.record import find
from flambeau.dialects.size import symbol
from flambeau.dialects.size_guards import Guard, scope
from flambeau.dialects.size_programs import fits
from flambeau.dialects.size_scopes import current
from flambeau.dialects.verify import verify
from flambeau.runtime import _binding as runtime
from flambeau.runtime.plan_spec import ExprOp
from random_graphs import same_bits
from symbolic import STRICT, check, record

s, t = symbol(0), symbol(1)


def graph_of(hints=(40,), name="neg"):
    return record(lambda x: find("flip")(find(name)(x), axes=(1,)), ((s, 64), float32), hints=hints)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Empty caches, in memory and on disk."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    pool.shutdown()  # workers write to the folder that was theirs when they started; what still waits may start one
    for module in (kernel_cache, plan_cache):
        module.shared.cache_clear()
    forget(monkeypatch)
    yield
    pool.shutdown()
    for module in (kernel_cache, plan_cache):
        module.shared.cache_clear()


def forget(monkeypatch):
    """As in a process that starts with what is on disk."""
    memos = ((driver, "_compiled"), (op_plans, "_plans"), (one_op, "_known"), (report, "_programs"))
    for module, name in memos:
        monkeypatch.setattr(module, name, type(getattr(module, name))())
    for name in ("_groups", "_schedules", "_lowered"):
        monkeypatch.setattr(stages, name, Shared(1024))


@pytest.fixture
def halves(monkeypatch):
    """A compiler that makes one program for each half of the sizes up to a power of two, as thresholds would."""
    kernels = stages.PROGRAM["kernels"]

    def asking(work):
        kernels(work)
        if work.graph.inputs:
            work.graph.avals[work.graph.inputs[0]].shape[0].bit_length()

    monkeypatch.setitem(stages.PROGRAM, "kernels", asking)


@pytest.fixture
def failing(monkeypatch):
    """A compiler that does not handle symbols."""
    kernels = stages.PROGRAM["kernels"]

    def refusing(work):
        if current().hints:
            raise ValueError("[kernels] no symbols, please.")
        kernels(work)

    monkeypatch.setitem(stages.PROGRAM, "kernels", refusing)


def run(executable, n):
    """Run at one size; the result is right."""
    x = np.random.default_rng(n).standard_normal((n, 64)).astype(np.float32)
    (found,) = executable([x], sizes=(n,))
    assert same_bits(np.frombuffer(found, np.float32).reshape(n, 64), -x[:, ::-1])


# ---- variants


def test_a_plan_serves_what_its_guards_allow_and_other_sizes_get_another(fresh, halves):
    executable = driver.compile(graph_of(), STRICT)
    for n in (40, 33, 63):
        run(executable, n)
    assert len(executable.compiled.plans) == 1
    for n in (64, 100, 65, 40):
        run(executable, n)
    assert len(executable.compiled.plans) == 2
    assert executable.ready((40,)) is executable.ready((50,)) is not executable.ready((90,))
    assert all(plan.fits((40,)) != plan.fits((90,)) for plan in executable.compiled.plans)


def test_there_are_only_so_many_plans(fresh, halves):
    executable = driver.compile(graph_of(), STRICT)
    for k in range(1, plan_cache.MOST_VARIANTS + 3):
        run(executable, 2**k)
    assert len(executable.compiled.plans) == plan_cache.MOST_VARIANTS
    assert executable.report.is_full and executable.ready((2**10,)) is None and executable.ready((4,)) is not None
    run(executable, 3)


def test_graphs_recorded_at_different_sizes_share_plans(fresh):
    one, two = driver.compile(graph_of((40,)), STRICT), driver.compile(graph_of((300,)), STRICT)
    assert one.ready((77,)) is two.ready((77,)) is not None


def test_sizes_0_and_1_are_no_values_of_symbols(fresh):
    executable = driver.compile(graph_of(), STRICT)
    run(executable, 40)
    assert executable.ready((1,)) is None
    run(executable, 1)
    run(executable, 0)
    assert len(executable.compiled.plans) == 1


def test_the_number_of_sizes_is_checked(fresh):
    executable = driver.compile(graph_of(), STRICT)
    with pytest.raises(ValueError, match=r"\[run\] the program has 1 symbols, got 0 sizes."):
        executable([np.zeros((40, 64), np.float32)])
    with pytest.raises(ValueError, match=r"\[run\] the program has 1 symbols, got 0 sizes."):
        executable.run_prefix([np.zeros((40, 64), np.float32)])


def test_an_update_takes_the_buffer_of_its_input(fresh):
    graph = record(lambda x: find("exp")(x), ((s, 64), float32), hints=(40,), updates={0: 0})
    executable = driver.compile(graph, STRICT)
    for n in (40, 50):
        buffer = runtime.Buffer.alloc(n * 256)
        np.frombuffer(buffer, np.float32)[:] = 0
        address = buffer.address
        (found,) = executable([buffer], (0,), (n,))
        assert found.address == address and buffer.donated and set(np.frombuffer(found, np.float32)) == {1}


def test_a_failing_op_is_named_whatever_the_sizes(fresh):
    graph = record(lambda x, y: find("int_div")(x + x, y), ((s,), int32), ((s,), int32), hints=(40,))
    executable = driver.compile(graph, STRICT)
    for n in (40, 50):
        with pytest.raises(RuntimeError, match=rf"division by zero .* \({n},\)"):
            executable([np.ones(n, np.int32), np.zeros(n, np.int32)], sizes=(n,))
        assert executable([np.ones(n, np.int32)] * 2, sizes=(n,))


# ---- the baseline tier


def test_the_generic_tier_runs_any_sizes(fresh):
    executable = driver.compile(graph_of(name="exp"), Options(mode="off"))
    wanted = driver.compile(graph_of(name="exp"), STRICT)
    for n in (0, 1, 2, 40, 41):
        x = np.random.default_rng(n).standard_normal((n, 64)).astype(np.float32)
        assert executable.ready((n,)) is None
        assert bytes(executable([x], sizes=(n,))[0]) == bytes(wanted([x], sizes=(n,))[0])


def counted(monkeypatch):
    """The graphs that are planned from now on."""
    planned, run = [], stages.run
    monkeypatch.setattr(stages, "run", lambda graph, *rest: planned.append(graph) or run(graph, *rest))
    return planned


def test_new_sizes_cost_the_generic_tier_no_planning(fresh, monkeypatch):
    planned = counted(monkeypatch)

    def make(x, y):
        e = find("exp")(x)
        return find("exp")(e), find("exp")(find("flip")(e, axes=(0,))), find("log")(y)

    graph = record(make, ((s, 64), float32), ((t, 3, s), float32), hints=(40, 5))
    outcome = check(graph, [(n, m) for n in (40, 41, 300, 2) for m in (5, 64)], Options(mode="off"))
    assert not outcome.plans
    assert {n.op.name for g in planned if g.sizes for n in g.nodes} == {"exp", "log"}
    assert len([g for g in planned if g.sizes]) <= 6


def test_the_generic_tier_takes_extents_that_shrink_to_one_and_to_none(fresh):
    make = lambda x: find("exp")(find("slice")(x, starts=(2,), sizes=(s - 2,), steps=(1,)))  # noqa: E731
    graph = record(make, ((s,), float32), hints=(40,))
    check(graph, [(2,), (3,), (4,), (400,)], Options(mode="off"))


def test_the_generic_tier_compiles_each_size_where_it_must(fresh, failing):
    executable = driver.compile(graph_of(name="exp"), Options(mode="off"))
    wanted = driver.compile(graph_of(name="exp").bind((50,)), STRICT)
    x = [np.ones((50, 64), np.float32)]
    with pytest.warns(RuntimeWarning, match=r"\[exp\] is compiled for each size by itself: .*no symbols, please."):
        found = executable(x, sizes=(50,))
    assert bytes(found[0]) == bytes(wanted(x)[0])
    assert bytes(executable(x, sizes=(50,))[0]) == bytes(wanted(x)[0])


# ---- caches and workers


def test_programs_on_disk_are_found_by_their_guards(fresh, halves, monkeypatch):
    executable = driver.compile(graph_of(), STRICT)
    for n in (40, 90, 300):
        run(executable, n)
    forget(monkeypatch)
    monkeypatch.setattr(stages, "run", None)
    warm = driver.compile(graph_of((7,)), STRICT)
    assert warm.compiled.plans == []
    for n in (290, 33, 120):
        run(warm, n)
    assert warm.report.origin == "disk" and len(warm.compiled.plans) == 3


def test_a_program_is_stored_once_for_the_same_sizes(fresh):
    program, cache = stages.run(graph_of(), STRICT).program, plan_cache.shared()
    name = plan_cache.key(graph_of(), STRICT)
    for _ in range(3):
        cache.insert(name, program, (40,))
    assert cache.variants(name) == [program]


def test_the_key_does_not_know_the_values(fresh):
    assert plan_cache.key(graph_of((40,)), STRICT) == plan_cache.key(graph_of((50,)), STRICT)
    assert plan_cache.key(graph_of((40,)), STRICT) != plan_cache.key(graph_of((40,)).bind((40,)), STRICT)
    assert plan_cache.key(graph_of((40,)), STRICT) != plan_cache.key(graph_of((40,), "exp"), STRICT)


def test_workers_compile_for_sizes_that_come_twice(fresh):
    executable = driver.compile(graph_of(), Options(mode="background", strict_sizes=True))
    run(executable, 40)
    assert executable.wait(60, (55,)) is not None
    run(executable, 70)
    assert executable.report.origin == "worker" and executable.report.tier == "fused"
    assert len(executable.compiled.plans) == 1
    stored = plan_cache.shared().variants(executable.compiled.key)
    there = [path.name for path in plan_cache.shared().store.folder.rglob("*")]
    assert len(stored) == 1 and not stored[0].pinned, (executable.compiled.key, there)


# ---- failures


def test_what_cannot_be_compiled_for_all_sizes_is_compiled_for_those_at_hand(fresh, failing):
    executable = driver.compile(graph_of(), Options(mode="blocking", strict_sizes=False))
    for n in (40, 50, 40):
        run(executable, n)
    assert executable.report.pinned == "[kernels] no symbols, please."
    assert executable.report.plans == [(Guard("==", s - 40),), (Guard("==", s - 50),)]
    assert executable.ready((40,)) is not None


def test_pinned_programs_come_back_from_disk(fresh, failing, monkeypatch):
    options = Options(mode="blocking", strict_sizes=False)
    run(driver.compile(graph_of(), options), 40)
    forget(monkeypatch)
    monkeypatch.setattr(stages, "run", None)
    warm = driver.compile(graph_of((60,)), options)
    run(warm, 40)
    assert warm.report.pinned == "[kernels] no symbols, please."


def test_workers_fall_back_to_the_sizes_at_hand(fresh, monkeypatch):
    submit = pool.Pool.submit

    def failing_for_symbols(self, kind, what, options, done, *args, **kwargs):
        if kind == "program" and what.sizes:
            what = replace(what, outputs=[999])
        return submit(self, kind, what, options, done, *args, **kwargs)

    monkeypatch.setattr(pool.Pool, "submit", failing_for_symbols)
    executable = driver.compile(graph_of(), Options(mode="background", strict_sizes=False))
    run(executable, 40)
    assert executable.wait(60, (40,)) is None, "the first build failed, the second is under way"
    assert executable.wait(60, (40,)) is not None
    run(executable, 40)
    run(executable, 41)
    assert executable.report.pinned and executable.report.plans == [(Guard("==", s - 40),)]
    assert [p.pinned for p in plan_cache.shared().variants(executable.compiled.key)] == [executable.report.pinned]


@pytest.mark.parametrize("strict", [True, False])
def test_sizes_for_which_a_plan_makes_no_sense_run_op_by_op(fresh, monkeypatch, strict):
    plan = stages.PROGRAM["plan"]

    def careless(work):
        plan(work)
        spec = work.program.spec
        if spec.n_symbols:  # the arena has less than no bytes from 50 rows on
            n = len(spec.exprs)
            leaves = ((ExprOp.SYMBOL, 0, 0), (ExprOp.CONST, 49, 0), (ExprOp.CONST, 1 << 20, 0))
            rows = (*leaves, (ExprOp.SUB, n + 1, n), (ExprOp.MUL, n + 3, n + 2))
            work.program = replace(work.program, spec=spec._replace(exprs=spec.exprs + rows, arena_bytes=n + 4))

    monkeypatch.setitem(stages.PROGRAM, "plan", careless)
    executable = driver.compile(graph_of(), Options(mode="blocking", strict_sizes=strict))
    run(executable, 40)
    if strict:
        with pytest.raises(runtime.OtherSizes, match=r"expression .* is -1048576. It must not be negative."):
            run(executable, 50)
    else:
        run(executable, 50)
        assert "is -1048576. It must not be negative. (sizes (50,))" in executable.report.pinned
    run(executable, 41)


@pytest.mark.parametrize("variable", ["1", "0"])
def test_strict_mode_raises_instead(fresh, failing, monkeypatch, variable):
    monkeypatch.setenv("FLAMBEAU_STRICT_SIZES", variable)
    executable = driver.compile(graph_of(), Options(mode="blocking"))
    if variable == "0":
        run(executable, 40)
    else:
        with pytest.raises(ValueError, match=r"\[kernels\] no symbols, please."):
            run(executable, 40)


def test_explain_says_how_sizes_are_served(fresh, halves, failing):
    from flambeau.explain import explain

    executable = driver.compile(graph_of(), Options(mode="blocking", strict_sizes=False))
    for k in range(1, plan_cache.MOST_VARIANTS + 2):
        run(executable, 2**k)
    shown = str(explain())
    assert "for 1 sizes known at run time only, 8 plans; no more are made, other sizes run op by op" in shown
    assert "ONE SIZE ONLY: [kernels] no symbols, please." in shown


# ---- around the compiler


def test_estimates_and_the_reference_take_the_sizes_at_hand():
    graph = record(lambda x: find("exp")(find("neg")(x)), ((s, 64), float32), hints=(40,))
    assert nanoseconds(graph) == nanoseconds(graph.bind((40,))) < nanoseconds(graph.bind((50,)))
    for n, sizes in ((40, ()), (50, (50,))):
        assert np.array_equal(reference.run(graph, [np.zeros((n, 64), np.float32)], sizes)[0], np.ones((n, 64)))
    with pytest.raises(RuntimeError, match=r"its type says float32 of shape \(40, 64\)"):
        reference.run(graph, [np.zeros((50, 64), np.float32)])


def test_exports_have_one_shape():
    assert exporter.problems(graph_of()) == ["1 extents are known at run time only: record the program for one shape"]
    assert not exporter.problems(graph_of().bind((40,)))


def test_verification_looks_at_a_graph_for_all_its_sizes():
    graph = record(lambda x: find("neg")(x), ((s, 64), float32), hints=(40,))
    with scope(graph.sizes, by_form=True) as asked:
        verify(graph)
        assert not asked.guards
        graph.avals[graph.outputs[0]] = Aval((40, 64), float32)
        with pytest.raises(ValueError, match="node 0"):
            verify(graph)


# ---- lowering


def test_what_was_lowered_is_used_again_where_its_guards_hold(fresh, monkeypatch):
    made = []
    generator = generate.code_generator

    def counting(family, kind):
        def cut(cluster):
            rows = cluster.graph.avals[cluster.graph.inputs[0]].shape[0]
            made.append(bool(rows < 100))
            return generator(family, kind)(cluster)

        return cut

    monkeypatch.setattr(generate, "code_generator", counting)
    first = stages.run(graph_of((40,)), STRICT)
    found = [first.program, *(stages.run(graph_of((n,)), STRICT).program for n in (50, 200, 99, 300))]
    assert made == [True] * len(first.clusters) + [False] * len(first.clusters)
    assert [fits(program.spec, (70,)) for program in found] == [True, True, False, True, False]
