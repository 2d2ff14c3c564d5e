"""Random programs of views, reads and writes by every kind of index, against NumPy; where ints stand beside arrays, against
PyTorch, whose rule for the place of the indexed dimensions is another. And extents known only at run time: what they compile."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.runtime import recorder
from support import rounds

ROUNDS = rounds(60, 500, 5000)


class Program:
    """What one seed draws: a shape and some steps, each an index and what is done with it."""

    def __init__(self, seed, ints_beside_arrays=False):
        self.rng = np.random.default_rng([seed, 77])
        self.mixed = ints_beside_arrays
        self.shape = tuple(int(n) for n in self.rng.integers(1, 5, self.rng.integers(1, 4)))
        self.steps = [self._step() for _ in range(self.rng.integers(2, 6))]

    def _step(self):
        kind = self.rng.choice(["read", "write", "add", "view", "number"])
        return kind, self._index(self.shape), int(self.rng.integers(1 << 30))

    def _index(self, shape):
        """A tuple that indexes `shape`: slices, None, ..., ints, and arrays of ints or truth values."""
        rng, parts, dim = self.rng, [], 0
        has_arrays = rng.random() < 0.7
        takes_ints = self.mixed or not has_arrays
        width = int(rng.integers(1, 4))
        while dim < len(shape):
            n, kind = shape[dim], rng.random()
            if kind < 0.1:
                parts.append(None)
                continue
            if kind < 0.35 or (not takes_ints and kind < 0.5):
                start, stop = sorted(int(k) for k in rng.integers(-n - 1, n + 2, 2))
                parts.append(slice(start, stop, int(rng.integers(1, 3))) if rng.random() < 0.7 else slice(None))
            elif kind < 0.55 and takes_ints:
                parts.append(int(rng.integers(-n, n)))
            elif has_arrays and kind < 0.85:
                parts.append(rng.integers(-n, n, [(width,), (width,), (1,), (2, width)][rng.integers(4)]))
            elif has_arrays and not any(isinstance(p, np.ndarray) for p in parts):
                dims = int(rng.integers(1, len(shape) - dim + 1))
                parts.append(rng.random(shape[dim : dim + dims]) < 0.5)
                dim += dims - 1
                has_arrays = False  # its length fits no other array
            else:
                parts.append(slice(None))
            dim += 1
            if rng.random() < 0.08:
                parts.append(...)
                break
        return tuple(parts)

    def run(self, library):
        """All values read, and what is left at the end; or the step that was refused."""
        made = np.array if library is np else library.tensor
        x = made(np.arange(1.0, 1 + np.prod(self.shape)).reshape(self.shape))
        seen = []
        for kind, index, seed in self.steps:
            here = tuple(made(p) if isinstance(p, np.ndarray) else p for p in index)
            try:
                part = x[here]
            except IndexError:
                seen.append("refused")
                continue
            values = made(np.random.default_rng(seed).integers(100, 999, tuple(part.shape)).astype(float))
            if kind == "write":
                x[here] = values
            elif kind == "number":
                x[here] = float(seed % 50)
            elif kind == "add":
                x[here] += values
            elif kind == "view" and part.ndim and not any(isinstance(p, np.ndarray) for p in index):
                part[:1] = 7.0
            seen.append(np.array(x[here] if library is np else x[here].numpy()))
        seen.append(np.array(x if library is np else x.numpy()))
        return seen


def same(mine, theirs, seed):
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs):
        assert isinstance(a, str) == isinstance(b, str), (seed, a, b)
        if not isinstance(a, str):
            np.testing.assert_array_equal(a, b, err_msg=str(seed))


@pytest.mark.accept("IDX-04", "IDX-08")
def test_programs_of_indices_against_numpy():
    refused = 0
    for seed in range(ROUNDS):
        program = Program(seed)
        wanted = program.run(np)
        refused += any(isinstance(x, str) for x in wanted)
        same(program.run(fb), wanted, seed)
    assert refused < ROUNDS / 2


@pytest.mark.accept("IDX-04", "IDX-08")
def test_programs_of_indices_against_pytorch():
    torch = pytest.importorskip("torch")
    for seed in range(ROUNDS):
        program = Program(seed, ints_beside_arrays=True)
        same(program.run(fb), program.run(torch), seed)


# ---- extents known at run time only --------------------------------------------------------------------------------

READ = {
    "masked": lambda x, m: (x[m] * 2 + 1).sum().item(),
    "nonzero": lambda x, m: (m.nonzero().sum() * 3).item(),
    "unique": lambda x, m: fb.unique((x * m * 10).round()).sum().item(),
    "written": lambda x, m: (x.masked_fill(m, 0.0)[m] + 1).sum().item(),
}


@pytest.mark.accept("RED-18", "IDX-04")
@pytest.mark.parametrize("name", READ)
def test_changing_counts_build_a_bounded_number_of_programs(name):
    """A hundred rounds, each with another count: two, and then one for all counts."""
    rng = np.random.default_rng(0)
    built = []
    for count in rng.permutation(200)[:100] + 2:
        x = rng.standard_normal(300).astype(np.float32)
        mask = np.zeros(300, bool)
        mask[rng.permutation(300)[:count]] = True
        before = recorder.stats()["builds"]
        found = READ[name](fb.tensor(x), fb.tensor(mask))
        built.append(recorder.stats()["builds"] - before)
        if name == "masked":
            np.testing.assert_allclose(found, (x[mask] * 2 + 1).sum(dtype=np.float64), rtol=1e-3, atol=1e-3)
    assert sum(built) <= 6 and not any(built[20:])
