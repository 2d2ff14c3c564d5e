"""The emulated fused multiply-add and contraction order, which compiled matmuls are compared with bit by bit."""

from fractions import Fraction

import contraction_order
import numpy as np
import opgen
import pytest
from flambeau.dialects.record import find


def hard_operands(dtype) -> list[np.ndarray]:
    """Random ones, and ones where the product nearly cancels the addend or hangs on a rounding boundary."""
    generator = np.random.default_rng(12)
    x, y, z = (generator.normal(size=400) for _ in range(3))
    scale = 10.0 ** generator.integers(-6, 6, 400)
    x, y, z = x.astype(dtype), y.astype(dtype), (z * scale).astype(dtype)
    eps = np.finfo(dtype).eps
    near = (-(x.astype(np.float64) * y)).astype(dtype)
    halfway = np.full(400, 1.0, dtype), (1.0 + generator.integers(-4, 5, 400) * eps).astype(dtype)
    return [
        np.concatenate(parts) for parts in ((x, x, halfway[1]), (y, y, halfway[1]), (z, near, halfway[0] * eps / 2))
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_rounds_once(dtype) -> None:
    """Against exact rational arithmetic: no neighbour is nearer, and a tie goes to the even one."""
    x, y, z = hard_operands(dtype)
    results = contraction_order.fma(x, y, z)
    plain = x * y + z
    for a, b, c, result in zip(x.tolist(), y.tolist(), z.tolist(), results, strict=True):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        below, above = np.nextafter(result, dtype(-np.inf)), np.nextafter(result, dtype(np.inf))
        distance = abs(Fraction(float(result)) - exact)
        assert distance <= abs(Fraction(float(below)) - exact) and distance <= abs(Fraction(float(above)) - exact)
        if distance in (abs(Fraction(float(below)) - exact), abs(Fraction(float(above)) - exact)):
            assert int(result.view({4: np.int32, 8: np.int64}[result.itemsize])) % 2 == 0, "ties go to even"
    assert np.any(results != plain), "the operands do not tell an fma from two roundings"


@pytest.mark.accept("LIN-01", "LIN-02")
def test_order_is_within_the_accepted_error() -> None:
    record = find("matmul")
    for case in opgen.cases(record, narrow=False):
        assert opgen.compare(record, case, contraction_order.matmul(*case.arrays)) is None


def test_long_products_cross_blocks_and_chunks() -> None:
    """A literal reading, element by element, of one output of each kind."""
    generator = np.random.default_rng(13)
    a, b = generator.normal(size=(2, 4200)).astype(np.float32), generator.normal(size=(4200, 2)).astype(np.float32)
    fma = contraction_order.fma
    blocks = []
    for start in range(0, 4200, 256):
        chain = np.float32(0)
        for k in range(start, min(start + 256, 4200)):
            chain = fma(a[0, k], b[k, 1], chain)
        blocks.append(chain)
    total = blocks[0]
    for block in blocks[1:]:
        total = total + block
    assert contraction_order.matmul(a, b)[0, 1] == total
    lanes = np.zeros((2, 64), np.float32)
    for k in range(4200):
        lanes[k // 4096, k % 64] = fma(a[0, k], b[k, 1], lanes[k // 4096, k % 64])
    for width in (32, 16, 8, 4, 2, 1):
        lanes = lanes[:, :width] + lanes[:, width:]
    assert contraction_order.matmul(a[:1], b)[0, 1] == lanes[0, 0] + lanes[1, 0]
