"""`scan`, `map`, `fori_loop`, `switch`: values and gradients of both orders, nests, `vmap`, lengths that change, errors, export."""

import platform
import subprocess

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from flambeau.dialects.region import build
from flambeau.nn import Module, Parameter
from flambeau.runtime import recorder
from flambeau.runtime.plan_spec import KERNEL_COUNT, KERNEL_MOVE

MODES = ["off", "blocking"]


def numbers(*shape):
    count = int(np.prod(shape))
    return (np.sin(np.arange(count) * 1.7) * 0.8).astype(np.float32).reshape(shape)


def leaves(*arrays):
    return [fb.tensor(x, requires_grad=True) for x in arrays]


def unrolled(function, carry, xs, reverse=False):
    """What `scan` is to compute, turn by turn."""
    n = xs.shape[0]
    given = [None] * n
    for t in reversed(range(n)) if reverse else range(n):
        carry, given[t] = function(carry, xs[t])
    return carry, fb.stack(given)


def derivatives(compute, inputs):
    """The value, first and second derivatives."""
    total = compute(*inputs)
    first = fb.autograd.grad(total, inputs, create_graph=True)
    second = fb.autograd.grad(sum((g * g).sum() for g in first), inputs, allow_unused=True)
    return [x if x is None else x.detach().numpy() for x in (total, *first, *second)]


def agree(found, wanted):
    for x, y in zip(found, wanted, strict=True):
        if x is not None or y is not None:
            np.testing.assert_allclose(0 * y if x is None else x, 0 * x if y is None else y, rtol=3e-4, atol=3e-5)


def layer(w, b):
    def step(h, x):
        h = (x + h @ w.T + b).tanh()
        return h, h * x

    return step


@pytest.mark.accept("GRB-10", "GRB-12")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_has_values_and_gradients_of_the_loop_turn_by_turn(mode, reverse):
    def total(run):
        def compute(w, b, h, xs):
            last, given = run(layer(w, b), h, xs, reverse=reverse)
            return (last * last).sum() + (given * given).sum()

        return compute

    inputs = leaves(numbers(3, 3), numbers(3), numbers(2, 3), numbers(5, 2, 3))
    with fb.compiler_options(mode=mode):
        agree(derivatives(total(fb.scan), inputs), derivatives(total(unrolled), inputs))


def test_scan_is_that_of_formulas():
    xs, h = numbers(6, 3), numbers(3)
    last, given = fb.scan(lambda h, x: (h * 0.5 + x, h.sum()), fb.tensor(h), fb.tensor(xs))
    sums = []
    for x in xs:
        sums.append(h.sum())
        h = h * np.float32(0.5) + x
    np.testing.assert_allclose(last.numpy(), h, rtol=1e-6)
    np.testing.assert_allclose(given.numpy(), sums, rtol=1e-5)
    last, given = fb.scan(
        lambda h, x: (h * 0.5 + x, h * x), fb.ones(3), fb.arange(12.0).reshape(3, 4), dim=-1, reverse=True
    )
    assert last.tolist() == [1.4375, 8.9375, 16.4375]  # as PyTorch's does
    assert given.tolist() == [[0, 3.75, 7, 3], [39.5, 48.75, 45, 7], [135, 141.75, 115, 11]]
    with pytest.raises(
        RuntimeError, match=r"\[scan\] a result of shape \(\) for each turn cannot be stacked along dim 1"
    ):
        fb.scan(lambda h, x: (h + x, h.sum()), fb.ones(3), fb.ones(3, 4), dim=1)


@pytest.mark.accept("GRB-10")
@pytest.mark.parametrize("mode", MODES)
def test_another_length_compiles_no_more_and_records_no_more(mode):
    def step(n):
        w, b, h, xs = leaves(numbers(3, 3), numbers(3), numbers(2, 3), numbers(n, 2, 3))
        last, given = fb.scan(layer(w, b), h, xs)
        ((last * last).sum() + given.sum()).backward()
        return w.grad.tolist(), xs.grad.tolist()

    with fb.compiler_options(mode=mode):
        for n in (4, 5, 6):
            step(n)
        before = recorder.stats()
        found = [step(n) for n in (7, 19, 3)]
        after = recorder.stats()
        assert (after["builds"], after["misses"]) == (before["builds"], before["misses"])
        assert found[1] == step(19)


@pytest.mark.accept("GRB-16")
@pytest.mark.parametrize("mode", MODES)
def test_loops_without_turns_hand_on_what_they_begin_with(mode):
    with fb.compiler_options(mode=mode):
        h, w = leaves(numbers(3), numbers(3))
        last, given = fb.scan(lambda h, x: (h * w + x, h.sum()), h, fb.zeros(0, 3))
        assert last.tolist() == h.tolist() and given.shape == (0,)
        gradients = fb.autograd.grad((last * last).sum(), [h, w])
        assert gradients[0].tolist() == (2 * h).tolist() and gradients[1].tolist() == [0, 0, 0]
        assert fb.fori_loop(3, 3, lambda i, x: x + i, h).tolist() == h.tolist()
        assert fb.map(lambda x: x * 2, fb.zeros(0, 2)).shape == (0, 2)


@pytest.mark.parametrize("mode", MODES)
def test_loops_nest_in_loops_and_in_branches(mode):
    def inner(run, w):
        def step(h, x):
            last, given = run(lambda c, r: (c * w + r.sin(), c * r), h, x)
            return fb.cond(last.sum() > 0, lambda: (last * 0.5, given.sum(0)), lambda: (last + 1, given.prod(0)))

        return step

    def total(run):
        def compute(w, h, xs):
            last, given = run(inner(run, w), h, xs)
            return (last * given).sum()

        return compute

    inputs = leaves(numbers(2), numbers(2), numbers(4, 3, 2))
    with fb.compiler_options(mode=mode):
        agree(derivatives(total(fb.scan), inputs), derivatives(total(unrolled), inputs))


def test_a_batch_of_loops_is_a_loop():
    w, h, xs = leaves(numbers(3, 3), numbers(4, 3), numbers(4, 5, 3))
    step = layer(w, fb.zeros(3))

    def one(run):
        return lambda h, x: run(step, h, x)

    mapped = fb.vmap(one(fb.scan))(h, xs)
    wanted = [fb.stack(column) for column in zip(*[unrolled(step, h[k], xs[k]) for k in range(4)], strict=True)]
    agree([x.detach().numpy() for x in mapped], [x.detach().numpy() for x in wanted])
    agree(*[[g.numpy() for g in fb.autograd.grad((x[0] * x[1].sum(1)).sum(), [w, h, xs])] for x in (mapped, wanted)])
    same = fb.vmap(lambda x: fb.scan(lambda c, y: (c + y, x * 2), fb.zeros(3), xs[0])[1])(fb.tensor([1.0, 2.0]))
    assert same.tolist() == [[2.0] * 5, [4.0] * 5]


def test_tangents_pass_loops():
    w, h, xs = fb.tensor(numbers(3)), fb.tensor(numbers(3)), fb.tensor(numbers(4, 3))

    def compute(run):
        return lambda w, h, xs: run(lambda c, x: ((c * w).sin() + x, c * x), h, xs)

    directions = fb.ones(3), fb.tensor(numbers(3)), xs * 2
    found, wanted = (fb.func.jvp(compute(run), (w, h, xs), directions) for run in (fb.scan, unrolled))
    for mine, theirs in zip(found, wanted, strict=True):
        agree([x.numpy() for x in mine], [x.numpy() for x in theirs])


@pytest.mark.parametrize("mode", MODES)
def test_what_is_carried_may_change_places_and_stand_still(mode):
    def step(carry, x):
        a, b, count = carry
        return (b, a + b * x, count + 1), (a, count)

    a, b, xs = leaves(numbers(2), numbers(2), numbers(4, 2))
    with fb.compiler_options(mode=mode):
        (first, second, count), (given, counts) = fb.scan(step, (a, b, fb.tensor(3)), xs)
        gradients = fb.autograd.grad((first * second).sum() + given.sum(), [a, b, xs])
        x, y, all_ = a, b, []
        for t in range(4):
            all_.append(x)
            x, y = y, x + y * xs[t]
        agree(
            [g.numpy() for g in gradients], [g.numpy() for g in fb.autograd.grad((x * y + sum(all_)).sum(), [a, b, xs])]
        )
    assert count.item() == 7 and counts.tolist() == [3, 4, 5, 6]


@pytest.mark.accept("GRB-10", "GRB-11", "T-23")
@pytest.mark.parametrize("mode", MODES)
def test_fori_loop_counts_and_has_gradients(mode):
    x = fb.tensor([2.0, 3.0], requires_grad=True)
    with fb.compiler_options(mode=mode):
        y = fb.fori_loop(1, 4, lambda i, y: y * x + i, x)
        assert y.tolist() == [((2 * 2 + 1) * 2 + 2) * 2 + 3, ((3 * 3 + 1) * 3 + 2) * 3 + 3]
        (g,) = fb.autograd.grad(y.sum(), [x])
        assert g.tolist() == [4 * 8 + 3 * 4 * 0 + 2 * 2 * 1 + 2, 4 * 27 + 2 * 3 * 1 + 2]
        until = fb.fori_loop(0, fb.tensor(5), lambda i, y: y + i, fb.tensor(1))
        assert until.item() == 11
        until = fb.fori_loop(0, fb.tensor(2), lambda i, y: y * x, x)
        assert fb.autograd.grad(until.sum(), x)[0].tolist() == [12.0, 27.0]


# ---- branches

BRANCHES = [lambda x: x * 2, lambda x: x.exp(), lambda x: x - x.mean(), lambda x: x * x]


@pytest.mark.accept("GRB-14")
@pytest.mark.parametrize("mode", MODES)
def test_switch_runs_the_branch_of_its_index(mode):
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    with fb.compiler_options(mode=mode):
        for k in range(-1, 6):
            own = BRANCHES[min(max(k, 0), 3)]
            found, wanted = fb.switch(fb.tensor(k), BRANCHES, x), own(x)
            assert found.tolist() == wanted.tolist() == fb.switch(k, BRANCHES, x).tolist()
            agree(
                derivatives(lambda x, k=k: (fb.switch(fb.tensor(k), BRANCHES, x) ** 2).sum(), [x]),
                derivatives(lambda x, f=own: (f(x) ** 2).sum(), [x]),
            )
        failing = [lambda x: x, lambda x: x[fb.tensor([9, 9])]]
        assert fb.switch(fb.tensor(0), failing, x).tolist() == [1.0, 2.0]
        with pytest.raises(IndexError, match="out of range for size 2"):
            fb.switch(fb.tensor(1), failing, x).tolist()


@pytest.mark.accept("GRB-15", "T-10")
@pytest.mark.parametrize("mode", MODES)
def test_a_switch_for_each_row_says_what_its_branches_see(mode):
    x, index = fb.tensor(numbers(5, 3), requires_grad=True), [2, 0, 2, 1, 3]

    def each(x):
        return fb.stack([BRANCHES[k](x[n]) for n, k in enumerate(index)])

    def whole(x):
        found = [f(x) for f in BRANCHES]
        return fb.stack([found[k][n] for n, k in enumerate(index)])

    def rows(x):
        mean = x[[0, 2]].mean()
        return fb.stack([x[n] - mean if k == 2 else BRANCHES[k](x[n]) for n, k in enumerate(index)])

    with fb.compiler_options(mode=mode):
        for meaning, wanted in (("each", each), ("all", whole), ("rows", rows)):
            found = lambda x, m=meaning: fb.switch(fb.tensor(index), BRANCHES, x, per_sample=m)  # noqa: E731
            agree([found(x).detach().numpy()], [wanted(x).detach().numpy()])
            agree(*[[fb.autograd.grad((f(x) ** 2).sum(), [x])[0].numpy()] for f in (found, wanted)])
        called = []
        fb.switch(fb.tensor([1, 1]), [lambda x: called.append(0) or x, lambda x: x], x[:2], per_sample="rows").tolist()
        assert not called, "nobody chose it"


# ---- what is refused


def test_a_turn_only_computes():
    x, total = fb.tensor([1.0, 2.0], requires_grad=True), fb.zeros(2)
    xs = fb.ones(3, 2)

    def attempt(function):
        with pytest.raises(RuntimeError) as found:
            fb.scan(function, x, xs)
        return str(found.value)

    assert "[scan] a function that it may run reads a value" in attempt(lambda h, y: (h * y.sum().item(), y))
    assert "[scan] a function that it may run changes a tensor from outside" in attempt(lambda h, y: (total.add_(y), y))
    assert "[scan] a function that it may run draws random numbers" in attempt(lambda h, y: (h + fb.rand(2), y))
    assert "[scan] the function carries on float64 of shape (2,) for float32" in attempt(lambda h, y: (h.double(), y))
    assert total.tolist() == [0, 0]
    assert fb.scan(lambda h, y: (h + y, None), x, xs)[0].tolist() == [4.0, 5.0], "after failures all goes on"


def test_effects_of_turns_are_in_order(capfd):
    fb.scan(lambda h, x: (fb.debug.print("{}", x), (h + x, h))[1], fb.tensor(0.0), fb.tensor([1.0, 2.0]))[0].tolist()
    assert capfd.readouterr().out.split() == ["1.0", "2.0"]


# ---- the program


def test_a_plan_goes_through_slices_where_they_lie():
    row, rows = Aval((5,), float32), Aval((7, 5), float32)
    b = GraphBuilder()
    body = build([row, row], lambda h, x: [h * 0.5 + x, h * x, h + 1])
    found = find("scan")(b.input(row), b.input(rows), carried=1, sliced=1, size=0, reverse=False, body=body)
    b.graph.outputs = [found[0].id, found[1].id]
    work = stages.run(b.graph, Options(mode="blocking"))
    steps = [s[0] for s in work.program.spec.steps]
    assert steps.count(KERNEL_MOVE) == 4 and steps.count(KERNEL_COUNT) == 1
    (node,) = [n for n in work.graph.nodes if n.op.name == "scan"]
    assert len(node.results) == 2, "what nobody reads is not stacked"


class Loops(Module):
    """A scan of a cell, and a loop until a condition."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(fb.tensor(numbers(3, 3)))

    def forward(self, xs):
        last, given = fb.scan(layer(self.w, fb.zeros(3)), fb.zeros(2, 3), xs)
        (halved,) = fb.while_loop(lambda y: y.abs().sum() > 0.1, lambda y: (y * 0.5,), (last,))
        return given, halved


@pytest.mark.accept("GRB-12")
def test_exported_loops_run_without_python(tmp_path):
    model, xs = Loops(), fb.tensor(numbers(4, 2, 3))
    target = f"{platform.machine()}-linux"
    made = fb.export(model, (xs,), tmp_path / "loops", target=target, executable=True)
    raw = subprocess.run([made.executable], input=xs.numpy().tobytes(), stdout=subprocess.PIPE, check=True).stdout
    with fb.no_grad():
        assert raw == b"".join(x.numpy().tobytes() for x in model(xs))


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_complex_numbers_pass_loops(reverse):
    def turn(c, x):
        return c * fb.exp(1j * x) + x, (c * c.conj()).real

    def turn_by_turn(c, xs):
        given = [None] * len(xs)
        for i in reversed(range(len(xs))) if reverse else range(len(xs)):
            c, given[i] = turn(c, xs[i])
        return c, fb.stack(given)

    found = []
    for loop in (lambda c, xs: fb.scan(turn, c, xs, reverse=reverse), turn_by_turn):
        c = fb.tensor([1 + 2j, 0.5 - 1j], dtype=fb.complex128, requires_grad=True)
        xs = fb.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
        last, given = loop(c, xs)
        first = fb.autograd.grad((last * last).imag.sum() + (given**2).sum(), [c, xs], create_graph=True)
        second = fb.autograd.grad((first[0] * first[0].conj()).real.sum() + (first[1] ** 2).sum(), [c, xs])
        found.append([last, given, *first, *second])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-9)
    assert all(a.abs().sum().item() > 0 for a in found[0][2:])
