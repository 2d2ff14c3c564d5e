"""Programs whose sizes are known at run time only: the bits of the programs bound to each size, from few plans."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import symbolic
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.record import find
from flambeau.dialects.size import repr_of, symbol

s, t = symbol(0), symbol(1)

SIZES = [(n,) for n in (2, 3, 5, 8, 17, 63, 64, 65, 100, 257, 1000, 4095, 4096, 4097)]
SMALL = SIZES[:11]
PAIRS = [(2, 3), (3, 5), (4, 64), (7, 65), (2, 2), (2, 1000)]


def transposed(x):
    rank = len(x.shape)
    return find("permute")(x, perm=(*range(rank - 2), rank - 1, rank - 2))


def kept(op: str, x):
    """A reduction over the last axis, stretched back."""
    unit = (*x.shape[:-1], 1)
    return find("reshape")(find(op)(x, axes=(len(unit) - 1,)), shape=unit).expand(x.shape)


def softmax(x):
    e = find("exp")(x - kept("max", x))
    return e / kept("sum", e)


def mean(x, *axes: int):
    return find("sum")(x, axes=axes) / math.prod(x.shape[a] for a in axes)


def layer_norm(x):
    centred = x - kept("sum", x) / x.shape[-1]
    return centred * find("rsqrt")(kept("sum", centred * centred) / (x.shape[-1] - 1) + 1e-5)


def row(x, shape):
    return find("reshape")(x, shape=(1,) * (len(shape) - 1) + x.shape).expand(shape)


def linear(x, w, b):
    y = find("matmul")(x, transposed(w))
    return find("tanh")(y + row(b, y.shape)) * 2.0


def decode(q, k, v, new_k, new_v):
    k, v = find("concat")(k, new_k, dim=2), find("concat")(v, new_v, dim=2)
    scores = find("matmul")(q, transposed(k)) * 0.25
    return find("matmul")(softmax(scores), v), k, v


def attention(x, wq, wk, wv, mask):
    flat = find("reshape")(x, shape=(s * t, 64))

    def heads(w):
        return find("permute")(find("reshape")(find("matmul")(flat, w), shape=(s, t, 4, 16)), perm=(0, 2, 1, 3))

    scores = find("matmul")(heads(wq), transposed(heads(wk))) * 0.25
    causal = find("slice")(mask, starts=(0,) * 4, sizes=(1, 1, t, t), steps=(1,) * 4).expand(scores.shape)
    mixed = find("matmul")(softmax(scores + causal), heads(wv))
    return find("reshape")(find("permute")(mixed, perm=(0, 2, 1, 3)), shape=(s, t, 64))


def padded(x):
    filled = find("pad")(find("flip")(x, axes=(0,)), x.builder.constant(1.0, float32), low=(0, 1), high=(2, x.shape[0]))
    return filled, find("sum")(filled, axes=(1,))


def differences(x):
    def part(start):
        return find("slice")(x, starts=(0, start), sizes=(4, s - 1), steps=(1, 1))

    return find("sum")(part(1) - part(0), axes=(0,))


def embedding(w, index):
    rows = find("reshape")(index, shape=(s, 1)).expand((s, 16))
    return find("gather")(w, rows, axis=0) * 2.0, find("scatter_add")(w, rows, find("gather")(w, rows, axis=0), axis=0)


def generated(seed, offset, x):
    bits = find("random_bits")(seed, offset, shape=(s, 8))
    count = find("iota")(shape=(s, 8), dim=0, dtype=float32, builder=x.builder)
    return bits, count + x, x * s


def cached(q, cache_k, cache_v, k, v, position):
    """Attention to the first elements of caches of fixed size, after new ones are written to them."""
    zero = q.builder.constant(0, int64)
    starts = (zero, zero, position, zero)
    keys, values = (find("update_slice")(c, x, *starts, steps=(1,) * 4) for c, x in ((cache_k, k), (cache_v, v)))

    def part(x):
        return find("dynamic_slice")(x, *[zero] * 4, sizes=(1, 8, s, 16), steps=(1,) * 4)

    scores = find("matmul")(q, transposed(part(keys))) * 0.25
    return find("matmul")(softmax(scores), part(values)), keys, values


def rotated(x, cosines):
    """Half of a rotary embedding."""

    def half(start):
        return find("slice")(x, starts=(0, 0, 0, start), sizes=(s, 2, t, 8), steps=(1,) * 4)

    turned = find("concat")(-half(8), half(0), dim=3)
    part = find("slice")(cosines, starts=(0, 0), sizes=(t, 16), steps=(1, 1))
    return turned * find("reshape")(part, shape=(1, 1, t, 16)).expand(x.shape) + x


def triangle(x):
    i, j = (find("iota")(shape=(s, s), dim=d, dtype=int64, builder=x.builder) for d in (0, 1))
    return softmax(find("select")(i >= j, x, x.like(-1e9))), find("matmul")((i >= j).cast(float32), x)


def rounded_up(x):
    zero = x.builder.constant(0.0, float32)
    return find("sum")(find("pad")(x, zero, low=(0, 0), high=(0, -x.shape[1] % 8)), axes=(0,))


def last(x, position):
    zero = x.builder.constant(0, int64)
    return find("dynamic_slice")(x, zero, position, zero, sizes=(4, 1, 16), steps=(1,) * 3) + 1.0


PROGRAMS: dict[str, tuple[Callable, list, list, int]] = {
    "elementwise": (lambda x, b: find("tanh")(x) + row(b, x.shape), [((s, 64), float32), ((64,), float32)], SIZES, 1),
    "softmax of fixed rows": (softmax, [((s, 100), float32)], SIZES, 1),
    "softmax": (softmax, [((7, s), float32)], SIZES, 3),
    "softmax of squares": (softmax, [((2, s, s), float32)], SMALL, 2),
    "mean of all": (lambda x: mean(x, 0, 1), [((s, 64), float32)], SIZES, 2),
    "mean of columns": (lambda x: mean(x, 0), [((s, 64), float32)], SIZES, 2),
    "mean of symbolic columns": (lambda x: mean(x, 0), [((100, s), float32)], SIZES, 2),
    "mean over many columns": (lambda x: mean(x, 0), [((100, s, 32), float32)], SIZES, 1),
    "mean of rows": (lambda x: mean(x, 1), [((64, s), float32)], SIZES, 3),
    "layer norm": (layer_norm, [((s, t, 64), float32)], PAIRS, 1),
    "layer norm of symbolic rows": (layer_norm, [((5, s), float32)], SIZES, 3),
    "transpose": (lambda x: transposed(x) + 1.0, [((s, 64), float32)], SIZES, 1),
    "heads": (
        lambda x: find("permute")(find("reshape")(x, shape=(s, t, 4, 16)), perm=(0, 2, 1, 3)) * 2.0,
        [((s * t, 64), float32)],
        PAIRS,
        1,
    ),
    "pad and flip": (padded, [((s, 5), float32)], SIZES, 3),
    "differences": (differences, [((4, s), float32)], SIZES, 3),
    "positions": (lambda x: find("argmax")(x, axes=(1,)), [((5, s), float32)], SIZES, 3),
    "embedding": (embedding, [((7, 16), float32), ((s,), int64)], SIZES, 1),
    "sources": (generated, [((), int64), ((), int64), ((s, 8), float32)], SIZES, 1),
    "linear": (linear, [((s, 64), float32), ((48, 64), float32), ((48,), float32)], SIZES, 1),
    "gradient of weights": (
        lambda x, y: find("matmul")(transposed(x), y),
        [((s, 64), float32), ((s, 48), float32)],
        SIZES,
        1,
    ),
    "scores": (
        lambda q, k: find("matmul")(q, transposed(k)) * 0.125,
        [((2, 3, s, 16), float32), ((2, 3, s, 16), float32)],
        SMALL,
        1,
    ),
    "decoding": (
        decode,
        [((2, 3, 1, 16), float32), *[((2, 3, s, 16), float32)] * 2, *[((2, 3, 1, 16), float32)] * 2],
        SIZES,
        3,
    ),
    "decoding into a cache": (
        cached,
        [((1, 8, 1, 16), float32), *[((1, 8, 1024, 16), float32)] * 2, *[((1, 8, 1, 16), float32)] * 2, ((), int64)],
        [(n,) for n in (5, 2, 17, 64, 65, 1000, 1024)],
        2,
    ),
    "rotary embedding": (rotated, [((s, 2, t, 16), float32), ((1024, 16), float32)], PAIRS, 1),
    "triangle": (triangle, [((s, s), float32)], SMALL, 2),
    "padding to multiples": (rounded_up, [((3, s), float32)], SIZES, 2),
    "last element": (last, [((4, s, 16), float32), ((), int64)], SMALL, 1),
    "attention": (
        attention,
        [((s, t, 64), float32), *[((64, 64), float32)] * 3, ((1, 1, 1024, 1024), float32)],
        PAIRS,
        2,
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_bits_are_those_of_the_bound_program(name):
    make, inputs, sizes, plans = PROGRAMS[name]
    outcome = symbolic.check(symbolic.record(make, *inputs, hints=sizes[2]), sizes)
    assert len(outcome.plans) <= plans
    assert outcome.pins == [] or name == "differences"  # one of 2 leaves an axis of 1


def test_sizes_that_an_op_demands_to_be_equal_become_one():
    u = symbol(2)

    def both(x, y, z):
        return find("sum")((x + y) * find("reshape")(z, shape=(s, 8)), axes=(1,))

    graph = symbolic.record(both, ((s, 8), float32), ((t, 8), float32), ((u,), float32), hints=(5, 5, 40))
    outcome = symbolic.check(graph, [(n, n, 8 * n) for n in (5, 7, 300)])
    (guards,) = outcome.plans
    assert {repr_of(g.size) for g in guards if g.relation == "=="} == {"-s0 + s1", "8*s1 - s2"}


def test_a_size_that_must_be_a_multiple_is_one():
    def paired(x):
        halves = find("reshape")(x, shape=(s // 4, 4, 8))
        return find("sum")(halves * 2.0, axes=(1,)), find("tanh")(x)

    graph = symbolic.record(paired, ((s, 8), float32), hints=(40,))
    outcome = symbolic.check(graph, [(n,) for n in (40, 8, 12, 400, 4096)])
    (guards,) = outcome.plans
    assert [repr_of(g.size) for g in guards if g.relation == "=="] == ["32*((s0) // (4)) - 8*s0"]
