"""Orders: stable sorting, the first k and searching, whose results are positions; and what is composed of them."""

import execute
import numpy as np
import opgen
import pytest
from flambeau.compiler import targets
from flambeau.compiler.groups import generate
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster
from flambeau.compiler.schedules.choose import choose
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


@pytest.mark.parametrize("right", [False, True])
def test_searches_say_where_values_belong(right):
    x = np.sort(RNG.integers(0, 40, (3, 57)), 1).astype(np.float32)
    values = RNG.integers(-2, 43, (3, 21)).astype(np.float32)
    found = both("searchsorted", [x, values], {"axis": 1, "right": right})
    side = "right" if right else "left"
    assert [row.tolist() for row in found] == [np.searchsorted(a, v, side).tolist() for a, v in zip(x, values)]
    nan = both("searchsorted", [x[0], np.array([np.nan], np.float32)], {"axis": 0, "right": right})
    assert nan.tolist() == [57]
