"""One semantics: random programs give the same bits wherever they are cut, on every tier, on any threads."""

import random

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.runtime import recorder
from support import every_size_by_itself

UNARY = [
    fb.exp, fb.tanh, fb.sigmoid, fb.relu, fb.abs, fb.neg, fb.sin, fb.cos, F.gelu, fb.floor, fb.erf, fb.expm1,
    lambda x: fb.log(fb.abs(x) + 1), lambda x: fb.sqrt(fb.abs(x)), lambda x: x**2, lambda x: fb.rsqrt(x * x + 1),
    lambda x: F.softmax(x, -1), lambda x: F.log_softmax(x, 0), lambda x: F.layer_norm(x, x.shape[-1:]),
]  # fmt: skip
BINARY = [
    fb.add, fb.sub, fb.mul, fb.maximum, fb.minimum, lambda x, y: x / (fb.abs(y) + 1),
    lambda x, y: fb.where(x > y, x, y),
    fb.fmod, fb.remainder, fb.floor_divide,
]  # fmt: skip
REDUCE = [fb.sum, fb.mean, fb.amax, fb.amin, fb.prod]
VIEW = [
    lambda x: x.t(), lambda x: x[1:], lambda x: x[:, ::2], lambda x: x.reshape(-1)[None], lambda x: x.flip(0),
    lambda x: x[0][None], lambda x: x.expand(2, *x.shape)[1],
]  # fmt: skip
INPLACE = [
    lambda x, r: x.add_(r.uniform(-1, 1)), lambda x, r: x.mul_(r.uniform(0.5, 1)), lambda x, r: x[0].mul_(0.5),
    lambda x, r: x.t().add_(0.25), lambda x, r: x.clamp_(-3, 3),
]  # fmt: skip


def program(seed: int, cut, shape: tuple[int, int] | None = None, nans: bool = False) -> list[np.ndarray]:
    """Run a random program; `cut()` is called after every op and may flush. Returns everything it computed. `nans`: the data
    holds NaNs of several signs and payloads."""
    r = random.Random(seed)
    rng = np.random.default_rng(seed)
    usual = r.choice([(3, 5), (7, 4), (1, 9), (17, 33), (2, 70), (66, 3), (5, 4100)])
    shape = shape or usual
    dtype = r.choice([np.float32, np.float32, np.float64])
    make = lambda *s: fb.tensor(poisoned(rng, rng.standard_normal(s).astype(dtype), nans))  # noqa: E731
    leaves = [make(*shape).requires_grad_(), make(*shape).requires_grad_()]
    opt = r.choice([fb.optim.SGD, fb.optim.Adam, fb.optim.AdamW])(leaves, lr=0.01)
    kept = []
    for _ in range(r.randint(1, 3)):
        pool = [*leaves, make(*shape)]
        for _ in range(r.randint(4, 14)):
            x = r.choice(pool)
            kind = r.random()
            if kind < 0.45:
                y = r.choice(UNARY)(x)
            elif kind < 0.7:
                other = r.choice([p for p in pool if p.shape == x.shape])
                y = r.choice(BINARY)(x, other)
            elif kind < 0.8:
                y = x - r.choice(REDUCE)(x, r.choice([0, 1]), keepdim=True)
            elif kind < 0.88:
                y = r.choice(VIEW)(x)
                y = y * 1 if 0 not in y.shape else x * 2
            elif kind < 0.94:
                y = fb.tanh(x @ (x.t() * 0.1)) if x.shape[0] < 100 else x * 0.5
            else:
                y = r.choice(INPLACE)(x * 1.5, r)
            pool.append(y)
            cut()
        loss = pool[-1].mean() + (leaves[0] * pool[2]).tanh().sum()
        cut()
        opt.zero_grad()
        loss.backward()
        cut()
        kept += [loss.detach(), *(p.grad.clone() for p in leaves if p.grad is not None)]
        opt.step()
        cut()
        kept += [p.detach().clone() for p in leaves]
    return [k.numpy().copy() for k in kept]


def poisoned(rng, x, nans):
    """`x` with a few elements made NaN, one of them in the last lane."""
    if nans:
        width = x.dtype.itemsize * 8
        exponent = 0x7FC0 if width == 32 else 0x7FF8
        odd = rng.integers(1, 1 << 16, 3) + (exponent << (width - 16)) + (rng.integers(0, 2, 3) << (width - 1))
        x.reshape(-1)[[0, x.size // 2, -1]] = odd.astype(f"u{width // 8}").view(x.dtype)
    return x


def bits(arrays):
    return [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]


def random_cut(seed):
    r = random.Random(seed)
    return lambda: fb.flush() if r.random() < 0.3 else None


@pytest.mark.parametrize(("seed", "nans"), [*((s, False) for s in range(24)), *((s, True) for s in range(8))])
def test_random_programs_agree_to_the_bit(seed, nans):
    run = lambda cut: bits(program(seed, cut, nans=nans))  # noqa: E731
    expected = run(lambda: None)
    assert run(lambda: None) == expected, "second run, from the trie"
    assert run(fb.flush) == expected, "flushed after every op"
    assert run(random_cut(seed)) == expected, "flushed at random points"
    with fb.compiler_options(mode="off"):
        assert run(lambda: None) == expected, "baseline tier"
    threads = fb.get_num_threads()
    fb.set_num_threads(1 if threads > 1 else 2)
    try:
        assert run(lambda: None) == expected, "another number of threads"
    finally:
        fb.set_num_threads(threads)


@pytest.mark.parametrize("seed", range(100, 106))
def test_python_rules_agree_with_the_trie_on_every_hit(seed):
    expected = bits(program(seed, lambda: None))
    with fb.shadow_mode():
        assert bits(program(seed, lambda: None)) == expected


@pytest.mark.parametrize("seed", range(200, 208))
def test_sizes_that_change_give_the_bits_of_each_by_itself(seed):
    r = random.Random(seed)
    rows, columns = r.choice([(True, True), (True, False), (False, True)])
    fixed = r.randint(2, 9)
    sizes = [2, 3, 5, 4, 1, 7, 66, r.randint(8, 64)]
    shapes = [(n if rows else fixed, m if columns else fixed) for n, m in zip(sizes, r.sample(sizes, len(sizes)))]
    with every_size_by_itself():
        expected = [bits(program(seed, lambda: None, shape)) for shape in shapes]
    for cut in (lambda: None, random_cut(seed), fb.flush):
        assert [bits(program(seed, cut, shape)) for shape in shapes] == expected
        assert recorder.stats()["patterns"] > 0, "sizes became symbols"
    with fb.compiler_options(mode="off"):
        assert [bits(program(seed, lambda: None, shape)) for shape in shapes] == expected, "baseline tier"
    with fb.shadow_mode():
        assert [bits(program(seed, lambda: None, shape)) for shape in shapes] == expected, "rules run again"
