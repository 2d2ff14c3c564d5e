"""Orders: stable sorting, the first k and searching, whose results are positions; and what is composed of them."""

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
from flambeau.compiler.tools import report
from flambeau.dialects.record import find

RNG = np.random.default_rng(5)


def both(name, arrays, attrs, **fixed):
    """The result by a schedule with these fields, on one thread and in three parts, is that of the reference."""
    record, machine = find(name), targets.find("host")
    graph = opgen.graph_of(record, arrays, attrs)
    (part,) = cluster(graph, Options())
    cut = generate.cut(generate.group_of(part), machine)
    lowered = cut.lower([choose(unit, machine, fixed) for unit in cut.units], machine)
    wanted = record.reference(*arrays, *attrs.values())
    for parts in (1, 3):
        (found,) = execute.run_lowered(part, lowered, arrays, parts)
        assert found.tobytes() == wanted.tobytes()
    return wanted


def literal(line, descending):
    """Python's sort, which is stable; NaN as the greatest."""
    key = lambda k: (line[k] != line[k], 0 if line[k] != line[k] else line[k])  # noqa: E731
    if descending:
        return sorted(sorted(range(len(line))), key=key, reverse=True)  # keeps the order of equals
    return sorted(range(len(line)), key=key)


SPECIAL = np.array([np.nan, 0.0, -0.0, np.inf, 1.0, -np.inf, 1.0, -0.0, 0.0, -np.nan, np.inf, 5e-324, -5e-324])


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("count", [13, 60])
def test_equals_keep_their_order_and_nan_is_the_greatest(count, descending):
    x = np.resize(SPECIAL, count)
    wanted = both("argsort", [x], {"axis": 0, "descending": descending})
    assert wanted.tolist() == literal(x.tolist(), descending)
    first = both("topk", [x], {"axis": 0, "k": 9, "largest": descending})
    assert first.tolist() == wanted[:9].tolist()


def spread(dtype, shape):
    """Numbers over the whole range of a dtype, with equal ones."""
    if np.dtype(dtype).kind == "f":
        return (RNG.normal(size=shape) * 10.0 ** RNG.integers(-30, 30, shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float32, np.int8])
@pytest.mark.parametrize("shape, axis", [((300,), 0), ((40, 7), 0), ((3, 40), 1)])
def test_keys_that_differ_in_all_bits(dtype, shape, axis):
    x = spread(dtype, shape)
    for descending in (False, True):
        both("argsort", [x], {"axis": axis, "descending": descending})
        both("topk", [x], {"axis": axis, "k": 5, "largest": descending})


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_threads_and_blocks_change_nothing(dtype):
    """Long lines go by blocks, of which some digits are passed over: of all lines, of some, or none."""
    few, many = RNG.integers(0, 9, 33000), RNG.integers(-(1 << 50), 1 << 50, 33000)
    for x in (few, many, few * 0, np.stack([few[:7000], many[:7000]], 1), np.stack([many[:7000], few[:7000]])):
        axis = int(x.ndim == 2 and x.shape[0] == 2)
        both("argsort", [x.astype(dtype)], {"axis": axis, "descending": True}, bits=11, block=3000)


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_the_first_of_lines_that_come_in_any_order(order, k):
    n = 5000
    x = {"random": RNG.permutation(n) // 3, "rising": np.arange(n), "falling": -np.arange(n), "equal": np.ones(n)}[
        order
    ]
    for dtype in (np.float32, np.int64):
        both("topk", [x.astype(dtype)], {"axis": 0, "k": k, "largest": True})
        both("topk", [x.astype(dtype)], {"axis": 0, "k": k, "largest": True}, block=2048)


def test_few_elements_are_kept_beside_the_first_ones():
    """What is sorted for the first few of many is a small part of them: counted by the room that a kernel takes."""
    machine = targets.find("x86-64-v3")
    graph = opgen.graph_of(find("topk"), [np.zeros(1 << 20, np.float32)], {"axis": 0, "k": 100, "largest": True})
    (part,) = cluster(graph, Options())
    cut = generate.cut_cluster(part, machine)
    calls = cut.lower([choose(unit, machine) for unit in cut.units], machine).calls
    assert [int(c.scratch) < 1 << 17 for c in calls] == [True, True]
    assert int(calls[0].n) > 1


@pytest.mark.accept("RED-19")
@pytest.mark.parametrize("right", [False, True])
def test_searches_say_where_values_belong(right):
    x = np.sort(RNG.integers(0, 40, (3, 57)), 1).astype(np.float32)
    values = RNG.integers(-2, 43, (3, 21)).astype(np.float32)
    found = both("searchsorted", [x, values], {"axis": 1, "right": right})
    side = "right" if right else "left"
    assert [row.tolist() for row in found] == [np.searchsorted(a, v, side).tolist() for a, v in zip(x, values)]
    nan = both("searchsorted", [x[0], np.array([np.nan], np.float32)], {"axis": 0, "right": right})
    assert nan.tolist() == [57]


# ---- what is composed of them


@pytest.mark.accept("RED-16", "RED-17")
def test_gradients_go_to_the_places_of_what_was_taken():
    x = fb.tensor([3.0, 1.0, 3.0, 2.0], requires_grad=True)
    weights = fb.tensor([1.0, 2.0, 3.0, 4.0])
    (g,) = fb.autograd.grad((x.sort().values * weights).sum(), [x])
    assert g.tolist() == [3.0, 1.0, 4.0, 2.0]
    (g,) = fb.autograd.grad((x.topk(2).values * weights[:2]).sum(), [x])
    assert g.tolist() == [1.0, 0.0, 2.0, 0.0]
    (g,) = fb.autograd.grad(x.median(), [x])
    assert g.tolist() == [0.0, 0.0, 0.0, 1.0]
    (g,) = fb.autograd.grad((x.sort(descending=True).values ** 2 * weights).sum(), [x], create_graph=True)
    (h,) = fb.autograd.grad((g**2).sum(), [x])
    assert h.tolist() == [24.0, 128.0, 96.0, 144.0]


def test_what_comes_back_is_named():
    x = fb.tensor([[2.0, 1.0], [0.0, 5.0]])
    for name, found in (("sort", x.sort()), ("topk", x.topk(1)), ("kthvalue", x.kthvalue(1)), ("mode", x.mode())):
        assert found.values is found[0] and found.indices is found[1]
        assert f"return_types.{name}(" in repr(found)
    hist, edges = fb.histogram(x, 2)
    assert hist.tolist() == [3.0, 1.0] and edges.tolist() == [0.0, 2.5, 5.0]


@pytest.mark.accept("RED-14")
def test_medians_and_modes_of_ties_and_nans():
    nan = float("nan")
    x = fb.tensor([[1.0, nan, 1.0, 0.0], [2.0, 2.0, 0.0, 0.0], [nan, nan, nan, nan]])
    values, indices = x.median(1)
    assert [v != v for v in values.tolist()] == [True, False, True] and indices.tolist() == [1, 3, 0]
    values, indices = x.nanmedian(1)
    assert values.tolist()[:2] == [1.0, 0.0] and indices.tolist()[:2] == [0, 3]
    values, indices = x[:2].mode(1)
    assert values.tolist() == [1.0, 0.0] and indices.tolist() == [2, 3]


def test_quantiles_beside_numpys():
    x = RNG.normal(size=(5, 11))
    q = np.array([0.0, 0.13, 0.5, 1.0])
    for how in ("linear", "lower", "higher", "midpoint", "nearest"):
        for axis in (None, 0, 1):
            found = fb.quantile(fb.tensor(x), fb.tensor(q), axis, interpolation=how).numpy()
            np.testing.assert_allclose(found, np.quantile(x, q, axis, method=how), rtol=1e-14)
    x[2, 3] = np.nan
    found = fb.nanquantile(fb.tensor(x), 0.4, 1).numpy()
    np.testing.assert_allclose(found, np.nanquantile(x, 0.4, 1), rtol=1e-14)
    assert np.isnan(fb.quantile(fb.tensor(x), 0.4, 1).numpy()).tolist() == [False, False, True, False, False]


def test_unique_beside_numpys():
    x = RNG.integers(0, 4, (9, 3))
    values, where, many = fb.unique(fb.tensor(x), return_inverse=True, return_counts=True)
    wanted = np.unique(x, return_inverse=True, return_counts=True)
    for a, b in zip((values, where, many), wanted, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.reshape(a.shape))
    for dim in (0, 1):
        values, where, many = fb.unique(fb.tensor(x), return_inverse=True, return_counts=True, dim=dim)
        wanted = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
        for a, b in zip((values, where, many), wanted, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.reshape(a.shape))
    values, many = fb.unique_consecutive(fb.tensor([1, 1, 2, 2, 2, 1]), return_counts=True)
    assert values.tolist() == [1, 2, 1] and many.tolist() == [2, 3, 1]


def test_counts_that_change_compile_a_bounded_number_of_programs():
    with fb.compiler_options(mode="blocking"):
        for n in range(1, 9):
            _changing(n)
        before = report.programs()
        for n in range(9, 40):
            _changing(n)
        new = [p for p in report.programs() if not any(p is known for known in before)]
    assert len(new) <= 4


def _changing(n):
    """Unique elements and counts of them: `n` of each."""
    x = fb.tensor(np.arange(200) % n)
    assert fb.unique(x).tolist() == list(range(n))
    assert fb.bincount(x).numel() == n


def test_counts_beside_numpys():
    x, w = RNG.integers(0, 9, 50), RNG.normal(size=50)
    np.testing.assert_array_equal(fb.bincount(fb.tensor(x), minlength=12).numpy(), np.bincount(x, minlength=12))
    np.testing.assert_array_equal(fb.bincount(fb.tensor(x), fb.tensor(w)).numpy(), np.bincount(x, w))
    np.testing.assert_array_equal(fb.histc(fb.tensor(w), 7, -1, 1).numpy(), np.histogram(w, 7, (-1, 1))[0])
    edges = np.array([-1.0, -0.25, 0.5, 2.0])
    for density in (False, True):
        found = fb.histogram(fb.tensor(w), fb.tensor(edges), density=density).hist.numpy()
        np.testing.assert_allclose(found, np.histogram(w, edges, density=density)[0], rtol=1e-14)
    assert fb.isin(fb.tensor(x), fb.tensor(x[:3])).tolist() == np.isin(x, x[:3]).tolist()
    many = np.arange(0, 90, 3)
    assert fb.isin(fb.tensor(x), fb.tensor(many), invert=True).tolist() == np.isin(x, many, invert=True).tolist()


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda x: x.sort(2), IndexError, r"\[sort\] dim 2 is out of range"),
        (lambda x: x.argsort("x"), TypeError, r"\[argsort\] dim is 'x'"),
        (lambda x: x.topk(9), RuntimeError, r"\[topk\] k is 9, and dimension 1 has 3 elements"),
        (lambda x: x.topk(1.5), TypeError, r"\[topk\] k is 1.5, a float"),
        (lambda x: x.kthvalue(0), RuntimeError, r"\[kthvalue\] k is 0"),
        (lambda x: x[:, :0].median(1), IndexError, r"\[median\] dimension 1 of shape \(2, 0\) is empty"),
        (lambda x: x.long().quantile(0.5), RuntimeError, r"\[quantile\] input has dtype"),
        (
            lambda x: x.quantile(fb.tensor([0.5, 2.0])).tolist(),
            RuntimeError,
            r"\[quantile\] q\[1\] is out of range",
        ),
        (lambda x: fb.searchsorted(x, x.double()), RuntimeError, r"\[searchsorted\] values are"),
        (lambda x: fb.bincount(fb.tensor([3, -2])), RuntimeError, r"\[bincount\] input has -2"),
        (lambda x: fb.histc(x * float("inf"), 3), RuntimeError, r"\[histc\] the range .* is not finite"),
        (lambda x: fb.histogram(x, fb.tensor([1.0])), RuntimeError, r"\[histogram\] bins are"),
    ],
)
def test_refusals(wrong, error, text):
    x = fb.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    with pytest.raises(error, match=text):
        wrong(x)
