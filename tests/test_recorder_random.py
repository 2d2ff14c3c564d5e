"""Random programs of pure, view and in-place calls against NumPy, which aliases by itself, flushed anywhere or never."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import recorder_toy as T
from flambeau.runtime import recorder as R


@pytest.fixture(autouse=True)
def toy():
    with T.installed():
        yield


class Program:
    """Two machines side by side: tensors and arrays that must stay equal."""

    def __init__(self, seed: int, flush_rate: float) -> None:
        self.random, self.flush_rate = random.Random(seed), flush_rate
        self.pairs = [self.new() for _ in range(3)]

    def new(self):
        array = np.float32([[self.random.randrange(-8, 8) for _ in range(4)] for _ in range(4)])
        if self.random.random() < 0.2:
            return T.shared(array), array
        return T.tensor(array), array.copy()

    def pick(self, shape=None):
        found = [p for p in self.pairs if shape is None or p[1].shape == shape]
        return self.random.choice(found) if found else None

    def step(self) -> None:
        getattr(self, self.random.choice(STEPS))()
        del self.pairs[: max(0, len(self.pairs) - 8)]
        if self.random.random() < self.flush_rate:
            R.flush()

    def add(self):
        x = self.pick()
        y = self.pick(x[1].shape)
        self.pairs.append((x[0] + y[0], x[1] + y[1]))

    def scale(self):
        x, k = self.pick(), self.random.choice((0.5, 1.0, -1.0, 0.25))
        self.pairs.append((x[0] * k, x[1] * np.float32(k)))

    def view(self):
        x = self.pick()
        shape = self.random.choice(((4, 4), (16,), (2, 8), (8, 2)))
        if x[1].size == 16 and x[1].flags.c_contiguous:
            self.pairs.append((x[0].reshape(shape), x[1].reshape(shape)))

    def rows(self):
        x = self.pick()
        if x[1].ndim and len(x[1]) > 1:
            start = self.random.randrange(len(x[1]) - 1)
            self.pairs.append((x[0].rows((start,), 2), x[1][start : start + 2]))

    def detach(self):
        x = self.pick()
        self.pairs.append((x[0].detach(), x[1]))

    def add_(self):
        x = self.pick()
        y = self.pick(x[1].shape)
        x[0].add_(y[0])
        x[1].__iadd__(y[1].copy())
        np.clip(x[1], -64, 64, out=x[1])
        CLIP(x[0])

    def mul_(self):
        x = self.pick()
        x[0].mul_(0.5)
        np.multiply(x[1], np.float32(0.5), out=x[1])

    def drop(self):
        if len(self.pairs) > 3:
            self.pairs.pop(self.random.randrange(len(self.pairs)))

    def fresh(self):
        self.pairs.append(self.new())

    def read(self):
        self.check(self.pick())

    def check(self, pair):
        np.testing.assert_array_equal(T.value(pair[0]), pair[1])


STEPS = ["add", "add", "scale", "view", "rows", "detach", "add_", "add_", "mul_", "drop", "fresh", "read"]


def clip_rule(function, operands, statics, mode):
    run, results, writes = T.inplace_rule(lambda old, _: np.clip(old, np.float32(-64), np.float32(64)))(
        function, [*operands, ("scalar", "float")], statics, mode
    )

    def clip(base, *, starts=()):
        return run(base, None, starts=starts)

    clip.inplace = True
    return clip, results, writes


CLIP = R.Function("clip_", (("x", "tensor", R.REQUIRED),), "inplace", clip_rule)


@pytest.mark.parametrize("flush_rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_agree_with_numpy_wherever_they_are_cut(seed, flush_rate):
    for part in range(4):
        program = Program(seed * 4 + part, flush_rate)
        for _ in range(60):
            program.step()
        for pair in program.pairs:
            program.check(pair)


def test_random_programs_with_a_bound_on_the_length_of_traces():
    R.set_limits(max_ops=7)
    for seed in range(12):
        program = Program(1000 + seed, 0.0)
        for _ in range(60):
            program.step()
        for pair in program.pairs:
            program.check(pair)
