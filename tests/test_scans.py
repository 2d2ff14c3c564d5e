"""Scans: running sums, products and extremes, the recurrence behind their gradients, and what is composed of them."""

import execute
import flambeau as fb
import numpy as np
import opgen
import pytest
from flambeau.compiler import targets
from flambeau.compiler.groups import generate
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.schedules.choose import choose
from flambeau.dialects.record import find

RNG = np.random.default_rng(3)
NAMES = ("cumsum", "cumprod", "cummax", "cummin")


def literal(name, x):
    """Along the last axis, in Python: what is met so far."""
    step = {
        "cumsum": lambda a, b: a + b,
        "cumprod": lambda a, b: a * b,
        "cummax": lambda a, b: a if a > b or a != a else b,
        "cummin": lambda a, b: a if a < b or a != a else b,
    }[name]
    result = x.copy()
    for line in result.reshape(-1, x.shape[-1]):
        for k in range(1, len(line)):
            line[k] = step(line[k - 1], line[k])
    return result


@pytest.mark.accept("RED-13")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_beside_other_ways_to_compute_the_same(name, dim):
    x = RNG.integers(-2, 3, (4, 6, 5)) if name == "cumprod" else RNG.integers(-50, 50, (4, 6, 5))
    for dtype in (np.int64, np.float64):
        found = getattr(fb, name)(fb.tensor(x.astype(dtype)), dim)
        values = found if name in ("cumsum", "cumprod") else found.values
        wanted = np.moveaxis(literal(name, np.moveaxis(x.astype(dtype), dim, -1).copy()), -1, dim)
        np.testing.assert_array_equal(values.numpy(), wanted)


def test_the_order_is_that_of_blocks_and_their_prefixes():
    x = RNG.normal(size=2500).astype(np.float32)
    blocks = [np.add.accumulate(x[k : k + 1024]) for k in (0, 1024, 2048)]
    before = np.float32(blocks[0][-1])
    wanted = [blocks[0], before + blocks[1], np.float32(before + blocks[1][-1]) + blocks[2]]
    assert fb.tensor(x).cumsum(0).numpy().tobytes() == np.concatenate(wanted).tobytes()


@pytest.mark.parametrize("name", [*NAMES, "recurrence"])
@pytest.mark.parametrize("shape, axis", [((2500,), 0), ((3, 1030, 11), 1), ((2, 3000), 1), ((9, 33), 0), ((6, 10), 1)])
def test_threads_and_buffers_taken_over_change_no_bit(name, shape, axis):
    record = find(name)
    arrays = [RNG.normal(size=shape).astype(np.float32) for _ in range(2 if name == "recurrence" else 1)]
    for reverse in (False, True):
        graph = opgen.graph_of(record, arrays, {"axis": axis, "reverse": reverse})
        wanted = record.reference(*arrays, axis, reverse)
        for parts, in_place in ((1, False), (3, True)):
            (found,) = execute.run_graph(graph, arrays, Options(), parts, in_place)
            assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("columns, chains", [(3, 1), (17, 3), (100, 4), (1, 4)])
def test_no_vector_of_lines_beside_each_other_is_without_a_line(columns, chains):
    machine = targets.find("x86-64-v3")
    graph = opgen.graph_of(find("cumsum"), [np.zeros((50, columns), np.float32)], {"axis": 0, "reverse": False})
    (part,) = cluster(graph, Options())
    (unit,) = generate.cut_cluster(part, machine).units
    assert choose(unit, machine).chains == chains


def test_positions_are_those_of_the_last_of_equal_ones_and_of_the_last_nan():
    x = fb.tensor([2.0, 1.0, 2.0, float("nan"), 5.0, float("nan"), 1.0])
    assert x.cummax(0).indices.tolist() == [0, 0, 2, 3, 3, 5, 5]
    assert x.cummin(0).indices.tolist() == [0, 1, 1, 3, 3, 5, 5]
    values, indices = fb.tensor([True, False, True]).cummin(0)
    assert values.tolist() == [True, False, False]
    assert indices.tolist() == [0, 1, 1]
    assert "return_types.cummin(" in repr(x.cummin(0))


def gradient(f, *arrays):
    """Of a weighted sum of the results."""
    operands = [fb.tensor(a, requires_grad=True) for a in arrays]
    value = f(*operands)
    weights = fb.tensor(np.linspace(-1, 2, value.numel()).reshape(value.shape))
    first = fb.autograd.grad((value * weights).sum(), operands, create_graph=True)
    return [g.detach().numpy() for g in first]


def differences(f, *arrays):
    weights = None
    found = []
    for k, a in enumerate(arrays):
        slope = np.zeros_like(a)
        for at in np.ndindex(a.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [x.copy() for x in arrays]
                moved[k][at] += step
                value = f(*map(fb.tensor, moved)).numpy()
                weights = np.linspace(-1, 2, value.size).reshape(value.shape)
                ends.append((value * weights).sum())
            slope[at] = (ends[0] - ends[1]) / 2e-6
        found.append(slope)
    return found


@pytest.mark.accept("RED-13")
@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_gradients_beside_zeros_and_ties(zeros):
    x = RNG.uniform(0.5, 1.5, (3, 6))
    x[1, [1, 3, 4][:zeros]] = 0.0
    for f in (lambda x: x.cumprod(1), lambda x: x.cumprod(0), lambda x: (x.cumprod(1) ** 2).cumsum(0)):
        np.testing.assert_allclose(gradient(f, x)[0], differences(f, x)[0], atol=1e-6)
    ties = fb.tensor([1.0, 3.0, 3.0, 2.0], requires_grad=True)
    (g,) = fb.autograd.grad(ties.cummax(0).values.sum(), [ties])
    assert g.tolist() == [1.0, 1.0, 2.0, 0.0]


def test_second_derivatives_with_a_look_in_between():
    x = RNG.uniform(0.5, 1.5, (2, 5))
    x[0, 2] = 0.0

    def first(x, look):
        x = fb.tensor(x, requires_grad=True)
        y = x.cumprod(1)
        if look:
            y.sum().item()
        (g,) = fb.autograd.grad((y * y).sum(), [x], create_graph=True)
        if look:
            g.sum().item()
        (h,) = fb.autograd.grad((g * g).sum(), [x])
        return g.detach().numpy(), h.numpy()

    plain, looked = first(x, False), first(x, True)
    assert [a.tobytes() for a in plain] == [a.tobytes() for a in looked]
    slope = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at], down[at] = x[at] + 1e-6, x[at] - 1e-6
        slope[at] = ((first(up, False)[0] ** 2).sum() - (first(down, False)[0] ** 2).sum()) / 2e-6
    np.testing.assert_allclose(plain[1], slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_logcumsumexp_is_stable(scale):
    x = RNG.normal(size=(4, 40)) * scale
    wanted = np.logaddexp.accumulate(x, 1)
    np.testing.assert_allclose(fb.tensor(x).logcumsumexp(1).numpy(), wanted, rtol=1e-12)
    inf = float("inf")
    found = fb.tensor([-inf, -inf, -1000.0, 5.0, -inf, inf, 1.0]).logcumsumexp(0)
    np.testing.assert_allclose(found.numpy(), [-inf, -inf, -1000.0, 5.0, 5.0, inf, inf])
    if scale == 1.0:
        np.testing.assert_allclose(
            gradient(lambda x: x.logcumsumexp(1), x[:1, :6])[0],
            differences(lambda x: x.logcumsumexp(1), x[:1, :6])[0],
            atol=1e-6,
        )


def test_lengths_that_change():
    """From one block to several and back: the sizes of a program that was compiled once."""
    for n in (1, 5, 1024, 1025, 3000, 8, 2049, 4097):
        data = RNG.normal(size=n).astype(np.float32)
        x = fb.tensor(data, requires_grad=True)
        y = x.cumsum(0)
        y.sum().backward()
        assert y.detach().numpy().tobytes() == find("cumsum").reference(data, 0, False).tobytes()
        np.testing.assert_array_equal(x.grad.numpy(), np.arange(n, 0, -1))


def test_refusals():
    for name in (*NAMES, "logcumsumexp"):
        with pytest.raises(IndexError, match="dim 1 is out of range"):
            getattr(fb.zeros(3), name)(1)
    with pytest.raises(RuntimeError, match="logcumsumexp"):
        fb.tensor([1, 2]).logcumsumexp(0)
