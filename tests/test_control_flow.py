"""Ops with regions through every part: what runs, gradients, tiers, changing sizes, what is recorded and compiled, errors."""

import os
import signal
import threading

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.dialects import irdl
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import bool_, float32, int64
from flambeau.dialects.graph import Region
from flambeau.dialects.record import find
from flambeau.dialects.region import build
from flambeau.dialects.verify import verify
from flambeau.nn import Linear
from flambeau.runtime import recorder
from flambeau.runtime._binding import Plan
from flambeau.runtime.plan_spec import KERNEL_BRANCH, KERNEL_COPY, KERNEL_JUMP, PlanSpec

MODES = ["off", "blocking"]
ROWS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def grown(h, w):
    return (h @ w).tanh().sum() * 0.5, h.exp()


def shrunk(h, w):
    return (h - 1).square().sum() + w.sum(), h * w.sum()


def by_python(pred, *args):
    return (grown if bool(pred) else shrunk)(*args)


def by_cond(pred, *args):
    return fb.cond(pred, grown, shrunk, args)


def derivatives(choose, limit):
    """Values, first and second derivatives."""
    x, w = fb.tensor(ROWS, requires_grad=True), fb.tensor(ROWS.T.copy() + 0.3, requires_grad=True)
    h = x * 2 + 1
    y, z = choose(h.sum() > limit, h, w)
    first = fb.autograd.grad((y * z).sum(), [x, w], create_graph=True)
    second = fb.autograd.grad(sum(g.square().sum() for g in first), [x, w])
    return [t.detach().numpy() for t in (y, z, *first)], [t.detach().numpy() for t in second]


@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize("mode", MODES)
def test_cond_gives_what_a_python_if_gives_and_derivatives(mode, limit):
    """Second derivatives are added up in another order: what reaches an operand within a branch is added up there."""
    with fb.compiler_options(mode=mode):
        found, wanted = derivatives(by_cond, limit), derivatives(by_python, limit)
    assert [x.tobytes() for x in found[0]] == [x.tobytes() for x in wanted[0]]
    for x, y in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


def test_a_training_step_through_cond_is_one_program_and_is_recorded_again_without_misses():
    model, x = Linear(4, 3), fb.tensor(ROWS)

    def step():
        h = model(x)
        loss = fb.cond(h.sum() > 0, lambda h: h.square().mean(), lambda h: (h * model.weight.sum()).mean(), (h,))
        loss.backward()
        assert recorder.flush_count() == before, "nothing was read, so nothing has run"
        grads = [p.grad.tolist() for p in model.parameters()]
        model.zero_grad()
        return grads

    model(x).tolist()  # parameters are there
    before = recorder.flush_count()
    first = step()
    before = recorder.flush_count()
    assert step() == first
    stats, before = recorder.stats(), recorder.flush_count()
    assert step() == first
    assert recorder.stats()["misses"] == stats["misses"] and recorder.stats()["builds"] == stats["builds"]


@pytest.mark.parametrize("mode", MODES)
def test_only_the_chosen_branch_runs_and_its_errors_name_its_line(mode):
    table, at = fb.tensor([1.0, 2.0]), fb.tensor([0, 7])
    with fb.compiler_options(mode=mode):
        pick = lambda flag: fb.cond(flag, lambda: table[at] * 2, lambda: table + 1)  # noqa: E731
        assert pick(table.sum() < 0).tolist() == [2.0, 3.0]
        with pytest.raises(IndexError, match=r"is out of range for size 2[\s\S]*test_control_flow.py"):
            pick(table.sum() > 0).tolist()


def test_branches_may_nest_and_read_views_shared_memory_and_numbers():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = fb.from_numpy(array)
    x = fb.tensor([1.0, 2.0, 3.0])

    def outer(row, limit, scale):
        return fb.cond(row.sum() > limit, lambda r: r * shared[1] + scale, lambda r: r - x[0], (row,))

    for limit, scale in ((1, 0.5), (1, 2.5), (40, 2.5)):
        found = fb.cond(x.sum() > 5, lambda: outer(x * shared[0] + shared[0, :1], limit, scale), lambda: x)  # noqa: B023
        by_hand = x.numpy() * array[0] + array[0, :1]
        by_hand = by_hand * array[1] + scale if by_hand.sum() > limit else by_hand - 1
        assert found.tolist() == by_hand.tolist()
    array[:] = 1
    assert fb.cond(x.sum() > 5, lambda: x * shared[0], lambda: x).tolist() == [1.0, 2.0, 3.0]


def test_gradients_stop_where_a_branch_says_so():
    x = fb.tensor([2.0, 3.0], requires_grad=True)

    def partly(x):
        with fb.no_grad():
            still = x * x
        return x * still + x.detach() * x

    (g,) = fb.autograd.grad(fb.cond(fb.tensor(True), partly, lambda x: x, (x,)).sum(), [x])
    assert g.tolist() == [4 + 2, 9 + 3]
    (g,) = fb.autograd.grad(fb.cond(fb.tensor(False), lambda x: x * 1, lambda x: x.detach() * 1, (x,)).sum(), [x])
    assert g.tolist() == [0, 0]


def weighed(x):
    return (x.softmax(-1) * x.mean(1, keepdim=True)).sum(-1)


@pytest.mark.parametrize("mode", MODES)
def test_sizes_that_change_cost_a_bounded_number_of_programs(mode):
    def gradient(n, choose):
        x = fb.tensor(np.linspace(-1, 1, 3 * n, dtype=np.float32).reshape(3, n), requires_grad=True)
        (g,) = fb.autograd.grad(choose(x).sum(), [x])
        return g.tolist()

    def chosen(x):
        return fb.cond(x.mean() > -9, weighed, lambda x: x[:, 0], (x,))

    with fb.compiler_options(mode=mode):
        wanted = {n: gradient(n, weighed) for n in (*range(70, 76), *range(80, 86))}
        assert all(gradient(n, chosen) == wanted[n] for n in range(70, 76))
        before = recorder.stats()
        assert all(gradient(n, chosen) == wanted[n] for n in range(80, 86))
        after = recorder.stats()
    assert (after["builds"], after["misses"]) == (before["builds"], before["misses"])


# ---- loops


@pytest.mark.accept("T-23")
@pytest.mark.parametrize("mode", MODES)
def test_a_loop_runs_as_often_as_its_condition_says_and_compiles_once(mode):
    x = fb.tensor(ROWS)
    with fb.compiler_options(mode=mode):
        built = None
        for times in (3, 0, 1, 20):
            limit = fb.tensor(times)
            i, y = fb.while_loop(
                lambda i, y, n=limit: i < n, lambda i, y: (i + 1, (y * x).sin() + x), (fb.tensor(0), x)
            )
            assert i.item() == times
            expected = x
            for _ in range(times):
                expected = (expected * x).sin() + x
            count = recorder.stats()["builds"]
            assert y.tolist() == expected.tolist()
            if built is not None and times:
                assert count <= built + 2, "another trip count compiled more than the comparison"
            built = recorder.stats()["builds"]


@pytest.mark.parametrize("mode", MODES)
def test_what_a_loop_carries_may_change_places_and_errors_in_it_name_the_line(mode):
    table = fb.tensor([10.0, 20.0, 30.0])
    with fb.compiler_options(mode=mode):
        a, b, _ = fb.while_loop(
            lambda a, b, i: i < 3, lambda a, b, i: (b, a + b, i + 1), (fb.tensor(1), fb.tensor(1), fb.tensor(0))
        )
        assert (a.item(), b.item()) == (3, 5)
        walk = lambda n: fb.while_loop(  # noqa: E731
            lambda i, s: i < n, lambda i, s: (i + 1, s + table[i.reshape(1)].sum()), (fb.tensor(0), fb.tensor(0.0))
        )[1]
        assert walk(3).item() == 60
        with pytest.raises(IndexError, match=r"is out of range for size 3[\s\S]*test_control_flow.py"):
            walk(5).item()


# ---- what is refused


def refused(function, *args):
    with pytest.raises((RuntimeError, TypeError)) as found:
        function(*args)
    return str(found.value)


@pytest.mark.parametrize("mode", MODES)
def test_an_endless_loop_can_be_interrupted(mode):
    """As one of Python's; and what nobody waits for any more is not run again."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with fb.compiler_options(mode=mode):
            x = fb.tensor([1.0, 2.0])
            (y,) = fb.while_loop(lambda v: v.sum() > 0, lambda v: (v * 1.0,), (x,))
            timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                y.tolist()
            timer.join()
            del y
            assert (x + 1).tolist() == [2.0, 3.0]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_branch_only_computes():
    x, total = fb.tensor([1.0, 2.0], requires_grad=True), fb.zeros(2)
    flag, leaked = fb.tensor(True), []

    def attempt(then):
        return refused(lambda: fb.cond(flag, then, lambda: x))

    assert "[cond] a function that it may run changes a tensor from outside in place" in attempt(lambda: total.add_(x))
    assert "[cond] a function that it may run draws random numbers" in attempt(lambda: fb.rand(2))
    assert "[cond] a function that it may run reads a value" in attempt(lambda: x * (x.sum() * 2).item())
    assert "sets the gradient of a tensor from outside" in attempt(lambda: (x * x).sum().backward() or x)
    fb.cond(flag, lambda: leaked.append(x * 2) or leaked[0], lambda: x).tolist()
    assert "[cond] this tensor was computed by a function that it may run" in refused(leaked[0].tolist)
    assert total.tolist() == [0, 0] and x.grad is None
    assert fb.cond(flag, lambda: x * x, lambda: x).tolist() == [1.0, 4.0], "after failures all goes on"


# ---- the program


def program(rule, *inputs):
    b = GraphBuilder()
    b.graph.outputs = [v.id for v in rule(*map(b.input, inputs))]
    return b.graph


FLAG, X = Aval((), bool_), Aval((5,), float32)


def cond_of(then, otherwise):
    return program(lambda p, x: find("cond")(p, x, then=build([X], then), otherwise=build([X], otherwise)), FLAG, X)


def test_passes_walk_into_regions():
    graph = cond_of(lambda x: [find("exp")(x) + find("exp")(x) * 1], lambda x: [x])
    twice = sum(n.op.name == "exp" for _, n in graph.walk())
    work = stages.run(graph, Options(mode="blocking"))
    assert twice == 2 and sum(n.op.name == "exp" for _, n in work.graph.walk()) == 1
    assert not [n for _, n in work.graph.walk() if n.op.name == "constant"], "x * 1 is x"


def test_equal_conds_are_one_and_other_ones_are_not():
    def rule(p, x):
        def pick(k):
            then = build([X], lambda x: [x * k])
            return find("cond")(p, x, then=then, otherwise=build([X], lambda x: [x]))[0]

        return [pick(2) + pick(2) + pick(-0.0) + pick(0.0)]

    work = stages.run(program(rule, FLAG, X), Options(mode="blocking"))
    assert sum(n.op.name == "cond" for n in work.graph.nodes) == 3


def test_a_plan_branches_and_a_loop_writes_what_it_carries_in_place():
    plan = stages.run(cond_of(lambda x: [x + 1], lambda x: [x * 2]), Options(mode="blocking")).program.spec
    assert [s[0] for s in plan.steps] == [KERNEL_BRANCH, 0, KERNEL_JUMP, 1]
    types = [Aval((), int64), X]
    loop = program(
        lambda i, x: find("while_loop")(
            i, x, goes_on=build(types, lambda i, x: [i < 3]), body=build(types, lambda i, x: [i + 1, x * x])
        ),
        *types,
    )
    steps = [s[0] for s in stages.run(loop, Options(mode="blocking")).program.spec.steps]
    assert steps[:2] == [KERNEL_COPY] * 2 and steps.count(KERNEL_COPY) == 2 and steps[-1] == KERNEL_JUMP


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("kernel", "refs", "skip"), [(KERNEL_JUMP, (), 2), (KERNEL_JUMP, (), -2), (KERNEL_BRANCH, ((4, 0, 1),), 0)]
)
def test_a_plan_whose_jumps_lead_astray_is_refused(kernel, refs, skip):
    exprs = ((0, skip, 0), (0, 0, 0), (0, 1, 0))
    step = (kernel, 2, 2, 1, refs, (0,))
    spec = PlanSpec(0, (), (), exprs, (step,), 0, 1, b"", 0)
    with pytest.raises(ValueError, match=r"\[plan\] step 0 (skips -?2 steps|copies or clears)"):
        Plan(tuple(spec), ())


def test_regions_are_compared_by_what_they_compute():
    one, other = (build([X], lambda x, k=k: [x * k]) for k in (0.0, -0.0))
    assert one == Region(one.graph) and hash(one) == hash(build([X], lambda x: [x * 0.0])) and one != other


def test_the_verifier_finds_a_region_that_reads_what_it_does_not_define():
    graph = cond_of(lambda x: [x + 1], lambda x: [x])
    region = graph.nodes[0].regions[0].graph
    region.nodes[-1] = region.nodes[-1]._replace(operands=(0, 99))
    with pytest.raises(
        ValueError, match=r"in a region of node 0 \(cond\), node \d \(add\) reads 99, which is not defined"
    ):
        verify(graph)


def test_text_of_a_nest_of_regions_comes_back_the_same():
    def inner(x):
        return list(
            find("cond")(
                x.builder.constant(True, bool_),
                x,
                then=build([X], lambda x: [x - 1]),
                otherwise=build([X], lambda x: [x]),
            )
        )

    graph = cond_of(
        inner,
        lambda x: [
            find("concat")(
                find("slice")(x, starts=(1,), sizes=(4,), steps=(1,)),
                find("slice")(x, starts=(0,), sizes=(1,), steps=(1,)),
                dim=0,
            )
        ],
    )
    text = irdl.print_graph(graph)
    assert irdl.print_graph(irdl.parse_graph(text)) == text
