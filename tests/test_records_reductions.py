"""The order in which reductions fold: the vectorised reference against a literal reading of docs/architecture.md."""

import itertools
import math

import numpy as np
import opgen
import pytest
from flambeau.dialects import reference
from flambeau.dialects.record import find
from flambeau.dialects.tape.reduction_order import is_inner

STEP = {"sum": np.add, "prod": np.multiply}
IDENTITY = {"sum": 0.0, "prod": 1.0}

SHAPES_AND_AXES = [
    *(((n,), (0,)) for n in (0, 1, 2, 3, 63, 64, 65, 127, 128, 4095, 4096, 4097, 8192, 8193, 12289, 20500)),
    *(((n, 3), (0,)) for n in (0, 1, 2, 63, 64, 65, 128, 129, 200, 4097)),
    *(((2, n), (1,)) for n in (1, 5, 64, 65, 100, 4097)),
    *(((3, 50, 2, 45), axes) for r in range(1, 5) for axes in itertools.combinations(range(4), r)),
    *(((70, 1, 3, 1), axes) for axes in ((0,), (1,), (2,), (3,), (0, 2), (0, 3), (0, 1, 2, 3))),
    *(((1, 1), axes) for axes in ((), (0,), (0, 1))),
    *(((), ()), ((5,), ()), ((5, 70), (0, 1))),
]


def pairwise(parts: list, step) -> np.ndarray:
    while len(parts) > 1:
        pairs = [step(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]
        parts = pairs + ([parts[-1]] if len(parts) % 2 else [])
    return parts[0]


def literal_fold(elements: np.ndarray, inner: bool, step, identity) -> np.ndarray:
    """One output from its elements in row-major order, element by element."""
    if len(elements) == 0:
        return identity
    partial = []
    if not inner:
        for start in range(0, len(elements), 64):
            chain = identity
            for x in elements[start : start + 64]:
                chain = step(chain, x)
            partial.append(chain)
        return pairwise(partial, step)
    for start in range(0, len(elements), 4096):
        lanes = [identity] * 64
        for i, x in enumerate(elements[start : start + 4096]):
            lanes[i % 64] = step(lanes[i % 64], x)
        for width in (32, 16, 8, 4, 2, 1):
            lanes = [step(lanes[j], lanes[j + width]) for j in range(width)]
        partial.append(lanes[0])
    return pairwise(partial, step)


def literal_reduction(name: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    wide = [axis for axis, n in enumerate(x.shape) if n != 1]
    inner = bool(wide) and wide[-1] in axes
    result = np.empty([x.shape[axis] for axis in kept], x.dtype)
    identity = x.dtype.type(IDENTITY[name])
    for index in np.ndindex(*result.shape):
        where = [slice(None)] * x.ndim
        for axis, i in zip(kept, index, strict=True):
            where[axis] = i
        result[index] = literal_fold(x[tuple(where)].ravel(), inner, STEP[name], identity)
    return result


def reduced(name: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    (result,) = reference.run(opgen.graph_of(find(name), [x], {"axes": axes}), [x])
    return result


@pytest.mark.accept("RED-01", "RED-02", "RED-05")
@pytest.mark.parametrize("name", ["sum", "prod"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reference_folds_in_the_stated_order(name: str, dtype) -> None:
    generator = np.random.default_rng(3)
    for shape, axes in SHAPES_AND_AXES:
        x = generator.uniform(-2, 2, shape).astype(dtype) if name == "sum" else generator.uniform(0.9, 1.1, shape)
        x = np.asarray(x, dtype)
        expected, result = literal_reduction(name, x, axes), reduced(name, x, axes)
        assert opgen.same_bits(result, expected), (shape, axes)


def test_the_order_shows() -> None:
    """The comparison above can fail: a plain left-to-right sum has other bits."""
    x = np.random.default_rng(0).uniform(-1, 1, 4099).astype(np.float32)
    plain = np.float32(0)
    for value in x:
        plain += value
    assert plain != reduced("sum", x, (0,))


@pytest.mark.parametrize("order", ["C", "F"])
def test_order_does_not_depend_on_memory_layout(order: str) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (67, 131)).astype(np.float32)
    for axes in ((0,), (1,), (0, 1)):
        assert opgen.same_bits(reduced("sum", np.asarray(x, order=order), axes), reduced("sum", x, axes))


def test_a_fold_starts_from_the_identity() -> None:
    x = np.array([[-0.0]], np.float32)
    for axes in ((), (0,), (1,), (0, 1)):
        assert not np.signbit(reduced("sum", x, axes)).any()


@pytest.mark.parametrize("shape", [(7,), (5, 67), (3, 4, 131), (1, 9, 1), (4, 0)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_reductions_agree_with_numpy(shape, dtype) -> None:
    x = np.random.default_rng(2).integers(-(2**31), 2**31 - 1, shape).astype(dtype)
    for axes in [(), *((axis,) for axis in range(len(shape))), tuple(range(len(shape)))]:
        assert np.array_equal(reduced("sum", x, axes), np.sum(x, axes, dtype))
        assert np.array_equal(reduced("prod", x, axes), np.prod(x, axes, dtype))
        assert np.array_equal(reduced("any", x > 0, axes), np.any(x > 0, axes))
        assert np.array_equal(reduced("all", x > 0, axes), np.all(x > 0, axes))
        if x.size:
            assert np.array_equal(reduced("max", x, axes), np.max(x, axes))
            assert np.array_equal(reduced("min", x, axes), np.min(x, axes))


@pytest.mark.accept("RED-06")
def test_extremes_of_floats() -> None:
    x = np.array([[0.0, -0.0, -0.0], [-0.0, 0.0, -1.0], [np.nan, 1.0, np.inf], [-np.inf, -np.inf, -np.inf]])
    greatest, least = reduced("max", x, (1,)), reduced("min", x, (1,))
    assert opgen.same_bits(greatest, np.array([0.0, 0.0, np.nan, -np.inf]))
    assert opgen.same_bits(least, np.array([-0.0, -1.0, np.nan, -np.inf]))
    y = np.random.default_rng(4).normal(size=(4, 5000))
    assert np.array_equal(reduced("max", y, (1,)), y.max(1)) and np.array_equal(reduced("min", y, (0,)), y.min(0))


@pytest.mark.accept("RED-09")
def test_positions_are_of_the_first_extreme() -> None:
    x = np.array([[1.0, 3.0, 3.0, 0.0], [np.nan, 9.0, np.nan, -1.0], [-0.0, 0.0, -0.0, 0.0]])
    assert reduced("argmax", x, (1,)).tolist() == [1, 0, 0]
    assert reduced("argmin", x, (1,)).tolist() == [3, 0, 0]
    assert reduced("argmax", x, (0, 1)) == 4 and reduced("argmax", x, (0, 1)).dtype == np.int64
    assert reduced("argmin", np.array([[5, 2], [2, 2]]), (0, 1)) == 1
    assert reduced("argmax", np.zeros((3, 0)), (0,)).shape == (0,)


def test_sum_is_accurate() -> None:
    """Within 4 eps sqrt(K) of the sum of magnitudes, against exact summation."""
    x = np.random.default_rng(5).uniform(-1, 1, (3, 20011)).astype(np.float32)
    for row, result in zip(x, reduced("sum", x, (1,)), strict=True):
        bound = 4 * np.finfo(np.float32).eps * math.sqrt(len(row)) * float(np.abs(row).sum(dtype=np.float64))
        assert abs(math.fsum(row.tolist()) - float(result)) <= bound


def test_inner_looks_past_unit_dimensions() -> None:
    assert is_inner((4, 5), (1,)) and not is_inner((4, 5), (0,))
    assert is_inner((4, 1), (0,)) and not is_inner((4, 1), (1,))
    assert not is_inner((1, 1), (0, 1)) and not is_inner((), ())
