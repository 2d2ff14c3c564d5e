"""Products whose operands are computed while they are packed, against their meaning to the bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from flambeau.compiler import targets
from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.record import find
from products import bits, expected, lower, random, run, transpose

_TRANSPOSITIONS = list(itertools.product((False, True), repeat=2))


class Case:
    """A product under construction: graph values beside the arrays they stand for."""

    def __init__(self, dtype: str = "float32") -> None:
        self.build, self.dtype, self.arrays = GraphBuilder(), dtypes.by_name(dtype), []

    def input(self, array: np.ndarray) -> Value:
        self.arrays.append(array)
        return self.build.input(Aval(array.shape, dtypes.by_name(array.dtype.name)))

    def stored(self, array: np.ndarray, turned: bool) -> Value:
        """An input that is `array`, which lies transposed in memory if `turned`."""
        return transpose(self.input(np.swapaxes(array, -1, -2))) if turned else self.input(array)

    def centred(self, x: np.ndarray, turned: bool) -> tuple[Value, np.ndarray]:
        """(x - mean) * scale, with a mean per row and a scale per column."""
        mean = random((*x.shape[:-1], 1), x.dtype.name, 3)
        scale = random((x.shape[-1],), x.dtype.name, 4)
        value = self.stored(x, turned) - self.input(mean).expand(x.shape)
        return value * self.input(scale).expand(x.shape), (x - mean) * scale

    def masked(self, x: np.ndarray, turned: bool) -> tuple[Value, np.ndarray]:
        """x where a bool mask of its own holds, times a float64 scalar."""
        mask = random(x.shape, "float32", 5) > 0
        factor = np.float64(0.3)
        number = self.input(factor.reshape(())).cast(self.dtype)
        chosen = find("select")(self.input(mask), self.stored(x, turned), self.build.constant(0.0, self.dtype, x.shape))
        return chosen * number.expand(x.shape), np.where(mask, x, x.dtype.type(0)) * x.dtype.type(factor)

    def run(self, x: Value, y: Value, **how) -> list[np.ndarray]:
        self.build.graph.outputs = [find("matmul")(x, y).id]
        return run(self.build.graph, self.arrays, **how)


def check(shape_a, shape_b, sides="ab", dtype="float32", turned=(False, False), **how):
    """A product whose operands named in `sides` are computed."""
    case = Case(dtype)
    a, b = random(shape_a, dtype, 1), random(shape_b, dtype, 2)
    x, left = case.centred(a, turned[0]) if "a" in sides else (case.stored(a, turned[0]), a)
    y, right = case.masked(b, turned[1]) if "b" in sides else (case.stored(b, turned[1]), b)
    (result,) = case.run(x, y, **how)
    np.testing.assert_array_equal(bits(result), bits(expected(left, right)))


_MATRICES = [(2, 3, 5), (7, 11, 13), (9, 49, 17), (17, 97, 257), (50, 2, 300), (3, 100, 31), (13, 47, 513), (5, 64, 0)]


@pytest.mark.accept("LIN-01")
@pytest.mark.parametrize("m, n, k", _MATRICES)
def test_computed_operands_of_matrices(m, n, k):
    for turned in _TRANSPOSITIONS:
        for sides in ("a", "b", "ab"):
            check((m, k), (k, n), sides, turned=turned)


@pytest.mark.parametrize("m, n, k", [(9, 25, 17), (70, 97, 257)])
def test_computed_operands_of_doubles(m, n, k):
    for turned in _TRANSPOSITIONS:
        check((m, k), (k, n), "ab", "float64", turned)


@pytest.mark.accept("LIN-02")
@pytest.mark.parametrize("batch", [(3,), (2, 3), (2, 1, 3)])
def test_computed_operands_of_batches(batch):
    for turned in _TRANSPOSITIONS:
        check((*batch, 9, 20), (*batch, 20, 50), "ab", turned=turned)
    check((*batch, 1, 20), (*batch, 20, 50))
    check((*batch, 9, 20), (*batch, 20, 1))


def test_a_batch_of_rows_shares_the_right_operand():
    case = Case()
    a, b = random((3, 40, 30), "float32", 1), random((30, 50), "float32", 2)
    x, left = case.centred(a, False)
    (result,) = case.run(x, case.input(b).expand((3, 30, 50)))
    np.testing.assert_array_equal(bits(result), bits(expected(left, np.broadcast_to(b, (3, 30, 50)))))


@pytest.mark.parametrize("k, outputs", [(1, 5), (63, 37), (300, 130), (4097, 5), (300, 600)])
def test_computed_operands_of_vectors(k, outputs):
    for turned in _TRANSPOSITIONS:
        for sides in ("a", "b", "ab"):
            check((1, k), (k, outputs), sides, turned=turned)
            check((outputs, k), (k, 1), sides, turned=turned)
    check((1, k), (k, 1))


def test_computed_integers_wrap():
    case = Case()
    a, b = random((9, 20), "int32", 1), random((20, 30), "int32", 2)
    x, y = case.input(a), case.input(b)
    (result,) = case.run(x * x, y + 1)
    np.testing.assert_array_equal(result, np.matmul(a * a, b + np.int32(1)))


def test_views_between_the_ops_and_the_product():
    """(x * scale) cut into heads, as attention has it; the other operand is turned after it is computed."""
    case = Case()
    q, k, row = (random(s, "float32", i) for i, s in enumerate([(10, 24), (2, 3, 7, 8), (24,)]))
    scaled = case.input(q) * case.input(row).expand(q.shape)
    heads = find("permute")(find("reshape")(scaled, shape=(2, 5, 3, 8)), perm=(0, 2, 1, 3))
    (result,) = case.run(heads, transpose(find("neg")(case.input(k))))
    left = (q * row).reshape(2, 5, 3, 8).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(bits(result), bits(expected(left, np.swapaxes(-k, -1, -2))))


def test_an_epilogue_reads_what_a_prologue_reads():
    case = Case()
    a, b = random((20, 30), "float32", 1), random((30, 30), "float32", 2)
    x = case.input(a)
    result = find("matmul")(find("maximum")(x, x.like(0.0)), case.input(b)) + x
    case.build.graph.outputs = [result.id]
    zero = np.zeros_like(a)
    (got,) = run(case.build.graph, case.arrays)
    np.testing.assert_array_equal(bits(got), bits(expected(np.maximum(a, zero), b) + a))


@pytest.mark.parametrize(
    "change",
    [
        dict(rows=4), dict(rows=12, vectors=2), dict(rows=1, vectors=1), dict(m_block=8, n_block=48),
        dict(m_block=16), dict(grain=1), dict(a_unroll=2), dict(a_lines="column"), dict(a_lines="row"),
    ],
)  # fmt: skip
def test_blocking_changes_no_bit(change):
    lanes = targets.find("host").lanes(4)
    change = dict(change, **({"vectors": 1, "n_block": lanes} if "n_block" in change else {}))
    for turned in _TRANSPOSITIONS:
        check((300, 300), (300, 601), turned=turned, fixed=change, backwards=True)


def test_machines_without_masks_agree():
    if targets.find("host").vector_bytes < 32:
        pytest.skip("this machine cannot run AVX2 code")
    for dtype, turned in itertools.product(("float32", "float64"), _TRANSPOSITIONS):
        check((17, 300), (300, 53), "ab", dtype, turned, target="x86-64-v3")
        check((1, 300), (300, 53), "ab", dtype, turned, target="x86-64-v3")


def test_text_depends_on_extents_by_the_tile_only():
    texts = set()
    for m, n, k in ((64, 512, 784), (512, 10, 256), (33, 97, 1000), (512, 2048, 100)):
        case = Case()
        x, _ = case.centred(random((m, k), "float32", 1), False)
        case.build.graph.outputs = [find("matmul")(x, case.input(random((k, n), "float32", 2))).id]
        lowered = lower(case.build.graph, "x86-64-v4")
        texts.update(call.source.text for call in lowered.calls if not call.spare)
    assert len(texts) == 2, "one for each width of the register tile"
