"""Sizes known at run time only: arithmetic, certain answers, guards."""

from __future__ import annotations

import pickle
import random

import pytest
from flambeau.dialects import size as sizes
from flambeau.dialects import size_equations, size_guards
from flambeau.dialects.size import Size, evaluate, repr_of, substitute, symbol
from flambeau.dialects.size_guards import scope
from flambeau.dialects.size_rows import program
from flambeau.dialects.size_text import parse
from flambeau.runtime.plan_spec import ExprOp

s, t = symbol(0), symbol(1)


def test_arithmetic_has_one_normal_form():
    assert (s * 64 + t) * 2 == t * 2 + s * 128
    assert s - s == 0 and isinstance(s - s, int)
    assert (s * t + s) // s == t + 1
    assert (s * 64 + 3) // 64 == s and (s * 64 + 130) // 64 == s + 2
    assert (s * 4 - 12) // (s - 3) == 4 and (s * 4 - 12) % (s - 3) == 0
    assert s * 12 % 4 == 0 and s // s == 1
    assert (s * 4 - 4) // (s - 1) == 4 and (s * t - t + s - 1) // (s - 1) == t + 1 and (s * t - s) % (t - 1) == 0
    assert sizes.symbols((s * t // 3, "x", (2,))) == {0, 1} and not sizes.is_static((1, (s,)))


def test_sizes_of_dictionaries_ask_nothing():
    """Python hashes -1 and -2 alike; a lookup must not compare the two."""
    assert hash(-s) != hash(-2 * s)
    assert {-s: "one", -2 * s: "two", s: "three"}[-2 * s] == "two"


def random_size(rng: random.Random, depth: int, s, t):
    """An expression of s and t: the same one of sizes and of ints, from the same state of `rng`."""
    if not depth:
        return rng.choice([s, t, rng.randint(0, 9)])
    a, b = random_size(rng, depth - 1, s, t), random_size(rng, depth - 1, s, t)
    match rng.randrange(6):
        case 0:
            return a + b
        case 1:
            return a - b
        case 2:
            return a * b
        case 3:
            return a // rng.randint(1, 5)
        case 4:
            return a // (s + rng.randint(-1, 3))
        case _:
            return a % rng.randint(1, 5)


def run(rows, values):
    found = []
    for op, a, b in rows:
        found.append(
            {
                ExprOp.CONST: lambda a, b: a,
                ExprOp.SYMBOL: lambda a, b: values[a],
                ExprOp.ADD: lambda a, b: found[a] + found[b],
                ExprOp.MUL: lambda a, b: found[a] * found[b],
                ExprOp.FLOORDIV: lambda a, b: found[a] // found[b],
                ExprOp.MIN: lambda a, b: min(found[a], found[b]),
                ExprOp.MAX: lambda a, b: max(found[a], found[b]),
            }[op](a, b)
        )
    return found[-1]


@pytest.mark.parametrize("seed", range(200))
def test_arithmetic_agrees_with_ints(seed):
    rng = random.Random(seed)
    values = (rng.randint(2, 50), rng.randint(2, 50))
    plain = rng.getstate()
    size = random_size(rng, 4, s, t)
    rng.setstate(plain)
    expected = random_size(rng, 4, *values)
    assert evaluate(size, values) == expected
    assert substitute(size, values) == expected and isinstance(substitute(size, values), int)
    if isinstance(size, Size):
        assert run(program(size), values) == expected
        assert repr_of(parse(repr_of(size))) == repr_of(size)
        assert pickle.loads(pickle.dumps(size)) == size and hash(size) == hash(parse(repr_of(size)))


def test_what_is_certain_needs_no_guard():
    with scope((5, 7)) as asked:
        assert s > 1 and s != 1 and s != 0 and s * t >= 4 and s + 3 != 2 and s // 2 >= 1 and bool(s)
        assert s * 64 == 64 * s and (s, t) == (s, t) and s + t >= s
    assert asked.guards == ()


def test_answers_come_from_the_hints_and_are_noted():
    with scope((5, 7)) as asked:
        assert s != t and s < t and s == 5 and int(s + 1) == 6 and f"{t}" == "7" and [0] * s == [0] * 5
        assert max(s, t) == 7
    for values, holds in (((5, 7), True), ((5, 8), False), ((6, 7), False)):
        assert all(g.holds(values) for g in asked.guards) == holds
    with scope((5, 7)) as asked:
        assert s < 8
    assert [g.holds((7, 9)) for g in asked.guards] == [True] and [g.holds((8, 9)) for g in asked.guards] == [False]
    with scope((100, 2)) as asked:
        assert s.bit_length() == 7
    assert [all(g.holds((v, 2)) for g in asked.guards) for v in (63, 64, 127, 128)] == [False, True, True, False]


def test_what_follows_from_a_guard_needs_none():
    with scope((5, 7)) as asked:
        assert s * 2 - 1 >= 5 and s >= 3 and s + 1 > 3 and not s * 3 < 9 and s - 2 != 0 and (s == 2) is False
        assert t < 10 and t * 2 <= 18 and t != 10
    assert len(asked.guards) == 2
    with scope((5, 7)) as asked:
        assert s + t == 12 and s + t >= 12 and s * 2 + t * 2 < 25
    assert len(asked.guards) == 1


def test_by_form_sizes_are_equal_only_for_all_values():
    with scope((64, 4), by_form=True) as asked:
        assert s != 64 and (s == 64) is False and s * t != 256 and bool(s - 64) and s * 64 == 64 * s
        assert (s, 64) != (64, s) and s not in (64, t * 16)
        assert asked.guards == ()
        assert s < 65 and not s < 64
    assert len(asked.guards) == 2


def test_extremes_are_expressions():
    assert sizes.minimum(s, s + 1) == s and sizes.maximum(1, s) == s and sizes.maximum(3, 4) == 4
    least, most = sizes.minimum(s * 2, t + 1), sizes.maximum(t + 1, s * 2)
    assert repr_of(least) == "min(2*s0, s1 + 1)"
    assert least >= 3 and sizes.minimum(t + 1, s * 2) == least
    for values in ((2, 9), (9, 2), (4, 7)):
        expected = min(2 * values[0], values[1] + 1), max(2 * values[0], values[1] + 1)
        assert (evaluate(least, values), evaluate(most, values)) == expected
        assert (run(program(least), values), run(program(most), values)) == expected
        assert (substitute(least, values), substitute(most, values)) == expected
    assert parse(repr_of(least + most // 3)) == least + most // 3
    assert pickle.loads(pickle.dumps(least)) == least
    assert sizes.ceil_div(s * 64 + 1, 64) == s + 1


def test_equations_are_solved_where_that_takes_no_more_than_a_look():
    u = symbol(2)
    assert size_equations.solve(s - t * 2 + 1) == (0, t * 2 - 1) and size_equations.solve(t * 64 - u) == (2, t * 64)
    assert size_equations.solve(s // 4 * 4 - s) == (0, s // 4 * 4) and size_equations.solve(s - s // t * t) == (
        0,
        s // t * t,
    )
    assert size_equations.solve(s // 4 * 32 * t - s * 8 * t) == (0, s // 4 * 4) and size_equations.solve(
        s * t * t - t * t * 7
    ) == (0, 7)
    assert size_equations.solve(s * 2 - t * 3) is None and size_equations.solve(s - s // 2 - 7) is None


def test_what_is_remembered_holds_where_its_guards_do():
    ran = []

    @size_guards.remembered(2)
    def parts(n, by):
        ran.append(by)
        return "few" if n < 10 else "many"

    built = []

    @size_guards.remembered(2)
    def pinned(n):
        built.append(n)
        return int(n)

    for hints, expected in (((5,), "few"), ((9,), "few"), ((10,), "many"), ((2,), "few"), ((50,), "many")):
        with scope(hints) as asked:
            assert parts(s, 1) == expected and parts(s, 1) == expected
        assert [g.holds((9,)) for g in asked.guards] == [expected == "few"]
    assert ran == [1, 1]
    assert parts(3, 1) == parts(3, 1) == "few" and ran == [1, 1, 1]
    for n in range(100):
        with scope((n,)):
            assert pinned(s) == n
    assert len(built) == 100
    with scope((99,)):
        assert pinned(s) == 99 and len(built) == 100
    with scope((0,)):
        assert pinned(s) == 0 and len(built) == 101
    assert parts(3, 2) == parts(3, 3) == parts(3, 1) == "few" and ran == [1, 1, 1, 2, 3, 1]


def test_outside_of_scopes_uncertain_questions_are_errors():
    with pytest.raises(RuntimeError, match=r"\[size\] a comparison of a size that is not known here"):
        bool(s == 5)
    with pytest.raises(RuntimeError, match=r"\[size\] int of a size"):
        int(s)
    with pytest.raises(ValueError, match=r"\[size\] 's0 \*\* 2' is no size"):
        parse("s0 ** 2")
    assert str(s + 1) == "s0 + 1"


def test_equations_are_solved_for_symbols():
    u = symbol(2)
    assert size_equations.solved([s - 5], 2) == [5, t]
    assert size_equations.solved([s - t, t * 2 - u * 4], 3) == [u * 2, u * 2, u]
    assert size_equations.solved([s * 2 - 4, s * t - 6], 2) == [2, 3]
    assert size_equations.solved([s * t - 6], 2) == [s, t], "no symbol can be taken out"
    assert size_equations.solved([s * 2 - t], 2) == [s, s * 2]
