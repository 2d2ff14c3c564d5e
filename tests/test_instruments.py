"""`verify`, `find_nan` and `profile`: what looks at programs while they run."""

import math
import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import flambeau as fb
import numpy as np
import pytest
import workers
from flambeau.compiler import stages
from flambeau.compiler.driver import compile
from flambeau.dialects.agreement import difference
from flambeau.dialects.record import find
from flambeau.nn import functional as F

HERE = __file__


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    yield from workers.without(tmp_path, monkeypatch)


def line():
    """The number of the line that calls this."""
    return sys._getframe(1).f_lineno


def made_step(width=16):
    fb.manual_seed(0)
    model = fb.nn.Sequential(fb.nn.Linear(8, width), fb.nn.GELU(), fb.nn.Dropout(0.2), fb.nn.Linear(width, 3))
    optimizer = fb.optim.AdamW(model.parameters())
    x, y = fb.randn(32, 8), fb.randint(0, 3, (32,))

    def step():
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---- verify ---------------------------------------------------------------------------------------------------


@pytest.mark.accept("VER-01")
@pytest.mark.parametrize("mode", ["blocking", "background", "off"])
def test_a_right_program_gives_what_it_gives_unwatched(mode):
    plain = made_step()
    wanted = [plain() for _ in range(4)]
    watched = made_step()
    with fb.compiler_options(mode=mode):
        assert [fb.verify(watched) for _ in range(3)] == wanted[:3]
    assert watched() == wanted[3]


def test_arguments_are_passed_and_results_returned():
    assert fb.verify(lambda a, *, b: (a * b).tolist(), fb.arange(3), b=2) == [0, 2, 4]
    with pytest.raises(TypeError, match=r"\[verify\] `fn` is a int"):
        fb.verify(3)


@contextmanager
def meaning(name, reference):
    """Have a record say that it means something else."""
    record = find(name)
    before = record.reference
    object.__setattr__(record, "reference", reference)
    try:
        yield
    finally:
        object.__setattr__(record, "reference", before)


def test_an_op_that_is_not_what_its_reference_says_is_named():
    with meaning("tanh", lambda x: np.tanh(x) + np.where(x == 3, np.float32(1e-3), np.float32(0))):
        where = line() + 2
        with pytest.raises(RuntimeError) as told:
            fb.verify(lambda: (fb.tensor([[1.0, 2.0], [3.0, 4.0]]).tanh() * 2).exp().sum().item())
    assert f"tanh, recorded at {HERE}:{where}" in str(told.value)
    assert "at [1, 0], its reference gives 0.996" in str(told.value) and "ulp apart" in str(told.value)


FACTORS = {
    "infinities": (1.0, -2.0, math.inf),
    "NaNs": (0.5, math.nan, 3.0),
    "numbers that overflow": (3e38, 2.0, -3e38),
    "numbers that vanish": (3e-20, 1.7e-22, -2.3e-21),
}


@pytest.mark.accept("VER-01")
@pytest.mark.parametrize("numbers", FACTORS)
def test_products_of_any_numbers_are_what_their_references_give(numbers):
    x = fb.tensor(np.resize(np.float32(FACTORS[numbers]), (1, 4, 9, 9)), requires_grad=True)
    w = fb.tensor(np.resize(np.float32(FACTORS[numbers])[::-1], (4, 1, 3, 3)), requires_grad=True)

    def step():
        y = F.conv2d(x, w, padding=1, groups=4)
        z = F.softmax(y[0] @ x[0], -1) @ x[0]
        return fb.autograd.grad(z.sum() + y.sum(), (x, w))

    for found in fb.verify(step):
        assert found.shape[-1] in (3, 9)


@pytest.mark.parametrize("found, wanted", [(np.inf, 2), (2, np.nan), (np.nan, np.inf), (-np.inf, np.inf)])
def test_what_is_no_number_is_beside_nothing_else(found, wanted):
    factors = np.ones((1, 2), np.float32), np.ones((2, 1), np.float32)
    found, wanted = (np.full((1, 1), x, np.float32) for x in (found, wanted))
    told = difference(find("matmul"), factors, (), found, wanted)
    assert told is not None and told.by == "the error inf is above its bound"
    assert difference(find("matmul"), factors, (), wanted, wanted) is None


def test_a_program_that_is_another_one_when_fused_is_told_with_its_kernels(fresh, monkeypatch):
    simplify = stages.PROGRAM["simplify"]

    def wrong(work):
        simplify(work)
        if sum(n.op.name == "sub" for n in work.graph.nodes) and len(work.graph.nodes) > 1:
            work.graph.nodes = [n._replace(op=find("add")) if n.op.name == "sub" else n for n in work.graph.nodes]

    monkeypatch.setitem(stages.PROGRAM, "simplify", wrong)
    where = line() + 2
    with pytest.raises(RuntimeError) as told:
        fb.verify(lambda: ((fb.ones(3) * fb.arange(3.0)).sub(fb.ones(3)) * 3).tolist())
    text = str(told.value)
    path = re.search(r"It takes 2 ops to show it \(.*sub.*\): (\S+), whose inputs", text)
    assert path, text
    assert '"tape.sub"' in Path(path[1]).read_text() and len(np.load(path[1].replace(".mlir", ".npz"))) >= 2
    assert f"sub, recorded at {HERE}:{where}, gives 1.0 at [0], op by op it gives -1.0: bits differ" in text
    assert "kernels" in text


def test_loops_effects_and_changing_sizes_are_verified():
    seen = []

    def loop(n):
        x = fb.ones(n)
        (total,) = fb.while_loop(lambda a: a.sum() < 100, lambda a: (a * 2,), (x,))
        fb.debug.callback(lambda a: seen.append(float(a.sum())), total)
        return total.sum().item()

    assert [fb.verify(loop, n) for n in (3, 4, 5, 6, 7)] == [192, 128, 160, 192, 112]
    fb.debug.effects_barrier()
    assert seen == [192, 128, 160, 192, 112]  # once each


# ---- find_nan -------------------------------------------------------------------------------------------------


@pytest.mark.accept("ERR-05", "T-19")
def test_the_op_that_makes_an_infinity_is_named_though_it_is_masked_later():
    x = fb.tensor([[1.0, 0.0], [2.0, 3.0]])
    where = line() + 2
    with pytest.raises(RuntimeError) as told, fb.find_nan():
        y = x.log()
        print(fb.where(x > 0, y, 0).sum().item())
    assert str(told.value) == (
        f"[find_nan] log, recorded at {HERE}:{where}, makes -inf at [0, 1] of 0.0. Look at what it gets there."
    )
    assert y.tolist()[0] == [0.0, -float("inf")]  # nothing is lost


@pytest.mark.accept("ERR-05")
def test_gradients_are_looked_at_and_masks_may_be_infinite():
    def loss(x):
        return (x.sqrt() * 0).sum()

    x = fb.tensor([4.0, 0.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"\[find_nan\] div, recorded at .*makes (nan|inf) at \[1\]"), fb.find_nan():
        loss(x).backward()
        x.grad.tolist()
    scores = fb.zeros(2, 3)
    with fb.find_nan():
        masked = scores.masked_fill(fb.tensor([[True, False, False], [False, False, True]]), -float("inf"))
        assert masked.softmax(1).tolist() == [[0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]
    with fb.find_nan(infinity=False):
        assert fb.tensor(0.0).log().item() == -float("inf")
        with pytest.raises(RuntimeError, match=r"\[find_nan\] sub.* makes nan"):
            (fb.tensor(0.0).log() - fb.tensor(0.0).log()).item()


def test_what_is_finite_is_computed_as_ever_and_the_end_of_the_block_looks():
    with fb.find_nan():
        assert made_step()() == made_step()()
    with pytest.raises(RuntimeError, match=r"\[find_nan\] exp"), fb.find_nan():
        kept = fb.tensor(1000.0).exp()
    assert kept.item() == float("inf")


# ---- profile --------------------------------------------------------------------------------------------------


@pytest.mark.accept("PRO-01", "PRO-04")
@pytest.mark.parametrize("mode", ["blocking", "background"])
def test_time_is_told_by_kernel_and_line(mode):
    x, w = fb.randn(64, 96), fb.randn(96, 32)
    x.sum().item(), w.sum().item()
    with fb.compiler_options(mode=mode):
        began = time.perf_counter()
        with fb.profile() as p:
            for _ in range(4):
                where = line() + 1
                ((x @ w).relu() + 1).sum().item()
        spent = time.perf_counter() - began
    (product,) = (r for r in p.rows if "matmul" in r.ops)
    assert product.calls == 4 and product.flops >= 2 * 64 * 96 * 32
    assert product.lines == (f"{HERE}:{where}",)
    assert product.bytes >= 4 * (64 * 96 + 96 * 32)
    assert 0 < sum(r.seconds for r in p.rows) <= p.seconds <= spent
    assert p.rows == sorted(p.rows, key=lambda r: -r.seconds) and all(r.limit >= 0 for r in p.rows)
    assert p.peak_bytes >= 4 * (64 * 96 + 96 * 32)
    text = str(p)
    assert "matmul" in text and f"test_instruments.py:{where}" in text and "ms in kernels" in text


def test_profiled_steps_have_the_same_bits_memory_and_programs():
    plain = made_step()
    wanted = [plain() for _ in range(5)]
    profiled = made_step()
    with fb.profile() as p:
        assert [profiled() for _ in range(4)] == wanted[:4]
    assert {n for r in p.rows for n in r.lines if n.startswith(HERE)}
    assert max(r.calls for r in p.rows) >= 4
    assert profiled() == wanted[4]


def test_loops_changing_sizes_and_nothing_at_all_are_profiled():
    with fb.profile() as p:
        pass
    assert p.rows == [] and "0 ms in kernels" in str(p)
    with fb.profile() as p:
        for n in (10, 11, 12, 13, 14, 15):
            fb.while_loop(lambda a: a.sum() < 1000, lambda a: (a * 2,), (fb.ones(n),))[0].sum().item()
    assert any("while_loop" in r.ops for r in p.rows) and str(p)
    with fb.compiler_options(mode="off"), fb.profile() as p:
        assert fb.ones(3).sum().item() == 3


@pytest.mark.runtime
def test_times_of_a_plan_take_an_integer_per_step():
    from flambeau.dialects.aval import Aval
    from flambeau.dialects.builder import GraphBuilder
    from flambeau.dialects.dtypes import float32

    b = GraphBuilder()
    x = b.input(Aval((2000, 300), float32))
    b.graph.outputs = [find("sum")(find("exp")(x), axes=(1,)).id]
    plan = compile(b.graph).ready()
    times = np.zeros(plan.steps, np.int64)
    data = np.ones((2000, 300), np.float32)
    plan.run([data], times=times)
    once = times.copy()
    plan.run([data], (), (), None, times)
    assert plan.steps >= 1 and (once > 0).any() and (times >= once).all() and times.sum() > once.sum()
    with pytest.raises(ValueError, match=r"\[plan\] `times` has"):
        plan.run([data], times=np.zeros(plan.steps + 1, np.int64))
    with pytest.raises(TypeError, match=r"`notes` is no list"):
        plan.run([data], notes=())
