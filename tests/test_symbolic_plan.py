"""Programs with symbols end to end: plans, guards, variants, caches, the baseline tier."""

from __future__ import annotations

import random

from flambeau.compiler.options import Options
from flambeau.compiler.plans.arena import ALIGN, Arenas
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from flambeau.dialects.size import evaluate, symbol
from flambeau.dialects.size_guards import scope
from symbolic import check, record

s, t = symbol(0), symbol(1)


def chain(x, y):
    return find("exp")(find("neg")(x)) + y, find("flip")(x * y, axes=(0,))


def test_one_plan_serves_many_sizes():
    graph = record(chain, ((s, 64), float32), ((s, 64), float32), hints=(40,))
    outcome = check(graph, [(n,) for n in (40, 32, 77, 1000, 9000)])
    assert len(outcome.plans) == 1 and not outcome.pins


# ---- memory


def layers(x):
    """Temporaries of several sizes, few of them alive at a time."""
    for _ in range(4):
        x = find("flip")(find("exp")(find("flip")(x, axes=(0,))), axes=(1,))
    return x


def test_the_symbolic_arena_never_overlaps_live_blocks():
    for seed in range(200):
        rng = random.Random(seed)
        with scope((7, 11)):
            arena, blocks = Arenas(), []
            for time in range(30):
                for block in [b for b in blocks if b[3] == time]:
                    arena.give(block[0], block[1])
                size = rng.choice([64 * s, 4 * s, s * t * 4, s * 256 + t * 64, (s - 2) * 64, 100, 4096, s * 128 + 64])
                blocks.append((arena.take(size), size, time, time + rng.randint(1, 8)))
            placed = [(arena.offset(b[0], b[1]), *b[1:]) for b in blocks]
        for values in [(2, 2), (7, 11), (3, 500), (900, 2)]:
            total = evaluate(arena.size, values)
            regions = [(evaluate(o, values), evaluate(n, values), a, b) for o, n, a, b in placed]
            for k, (offset, size, born, dies) in enumerate(regions):
                assert offset % ALIGN == 0 and offset + size <= total
                for other, length, begin, end in regions[:k]:
                    if begin < dies and born < end and size and length:
                        assert offset + size <= other or other + length <= offset


def test_temporaries_reuse_memory_whatever_the_sizes():
    arena = Arenas()
    with scope((5,)):
        first = arena.take(s * 256)
        arena.give(first, s * 256)
        small = arena.take(s * 64)
        again = arena.take(s * 192)
        arena.give(small, s * 64)
        arena.give(again, s * 192)
        arena.take(s * 512)
        assert evaluate(arena.size, (5,)) == 5 * 512


def test_layers_run_in_the_memory_of_two():
    graph = record(layers, ((s, 64), float32), hints=(33,))
    outcome = check(graph, [(33,), (40,), (128,)], options=Options(mode="blocking", strict_sizes=True, fuse=False))
    plan = outcome.executable.ready((128,))
    assert plan.arena_bytes == 2 * 128 * 64 * 4
