"""Functions of tensors that are no layers: einsum, cdist, distributions' log_prob and sampling, Flambeau beside PyTorch and JAX.

    python benchmarks/surface.py [--processor] [name ...]

As users do: data comes from NumPy and results go back there, every time. All are in one process, on one thread, and take turns;
medians in milliseconds, of processor time where asked. PyTorch runs eagerly, JAX what `jax.jit` compiles; Flambeau is called as
PyTorch is. Blocking compilation; everything was done three times before.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import flambeau as fb
import numpy as np
import turns
from transforms import find_jax
from turns import Step, beside_peers, find_torch

TURN, TURNS = 0.05, 15
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


ATTENTION = (normal(8, 8, 64, 32), normal(8, 8, 64, 32))
CHAIN = (normal(64, 128), normal(128, 256), normal(256, 32))
BATCH = (normal(64, 32, 48), normal(64, 48, 40))
POINTS, CENTRES = normal(512, 16), normal(256, 16)
X, LOC, SCALE = normal(1000, 16), normal(16), np.abs(normal(16)) + 0.5
LOGITS, CLASSES = normal(1000, 10), RNG.integers(0, 10, 1000)
_ROOT = np.tril(normal(16, 16)) / 4 + np.eye(16, dtype=np.float32)
COVARIANCE = (_ROOT @ _ROOT.T).astype(np.float32)
SHARE = np.abs(normal(1000)) + 0.5


def _mixed(jnp: Any, x: Any, y: Any) -> Any:
    """Euclidean distances by a product of matrices, as `cdist` computes them."""
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * (x @ y.T)
    return jnp.sqrt(jnp.maximum(squares, 0))


def _gathered(jax: Any, logits: Any, classes: Any) -> Any:
    return jax.numpy.take_along_axis(jax.nn.log_softmax(logits), classes[:, None], 1)[:, 0]


def _drawn(kind: str) -> Callable[..., Any]:
    """Samples in JAX, by a key that is split as users do."""

    def draw(jax: Any, key: Any, *given: Any) -> Any:
        key, now = jax.random.split(key)
        if kind == "normal":
            return key, given[0] + given[1] * jax.random.normal(now, (1000, 16))
        if kind == "gamma":
            return key, jax.random.gamma(now, given[0])
        return key, jax.random.categorical(now, given[0])

    return draw


#: name -> (of PyTorch and Flambeau, of JAX, arguments); JAX's samplers take a key and give the next one.
TASKS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "einsum bhqd,bhkd->bhqk": (
        lambda m, q, k: m.einsum("bhqd,bhkd->bhqk", q, k),
        lambda j, q, k: j.numpy.einsum("bhqd,bhkd->bhqk", q, k),
        ATTENTION,
    ),
    "einsum ij,jk,kl->il": (
        lambda m, *x: m.einsum("ij,jk,kl->il", *x),
        lambda j, *x: j.numpy.einsum("ij,jk,kl->il", *x),
        CHAIN,
    ),
    "einsum bij,bjk->ik": (
        lambda m, *x: m.einsum("bij,bjk->ik", *x),
        lambda j, *x: j.numpy.einsum("bij,bjk->ik", *x),
        BATCH,
    ),
    "cdist": (lambda m, x, y: m.cdist(x, y), lambda j, x, y: _mixed(j.numpy, x, y), (POINTS, CENTRES)),
    "cdist p=1": (
        lambda m, x, y: m.cdist(x, y, 1.0),
        lambda j, x, y: j.numpy.abs(x[:, None] - y).sum(-1),
        (POINTS, CENTRES),
    ),
    "log_prob Normal": (
        lambda m, x, a, b: m.distributions.Normal(a, b).log_prob(x),
        lambda j, x, a, b: j.scipy.stats.norm.logpdf(x, a, b),
        (X, LOC, SCALE),
    ),
    "log_prob Categorical": (
        lambda m, logits, k: m.distributions.Categorical(logits=logits).log_prob(k),
        _gathered,
        (LOGITS, CLASSES),
    ),
    "log_prob MultivariateNormal": (
        lambda m, x, a, c: m.distributions.MultivariateNormal(a, c).log_prob(x),
        lambda j, x, a, c: j.scipy.stats.multivariate_normal.logpdf(x, a, c),
        (X, LOC, COVARIANCE),
    ),
    "sample Normal": (
        lambda m, a, b: m.distributions.Normal(a, b).sample((1000,)),
        _drawn("normal"),
        (LOC, SCALE),
    ),
    "sample Gamma": (lambda m, a: m.distributions.Gamma(a, m.ones_like(a)).sample(), _drawn("gamma"), (SHARE,)),
    "sample Categorical": (
        lambda m, x: m.distributions.Categorical(logits=x).sample(),
        _drawn("categorical"),
        (LOGITS,),
    ),
}


def torch_like(m: ModuleType, name: str) -> Step:
    run, _, data = TASKS[name]

    def step() -> np.ndarray:
        return run(m, *map(m.from_numpy, data)).numpy()

    return warmed(step)


def jax_step(jax: ModuleType, name: str) -> Step:
    _, make, data = TASKS[name]
    run = jax.jit(lambda *given: make(jax, *given))
    if not name.startswith("sample"):
        return warmed(lambda: np.asarray(run(*data)))
    key = [jax.random.key(0)]

    def step() -> np.ndarray:
        key[0], found = run(key[0], *data)
        return np.asarray(found)

    return warmed(step)


def warmed(step: Step) -> Step:
    for _ in range(3):
        step()
    return step


def main() -> None:
    fb.set_num_threads(1)
    names = [name for name in sys.argv[1:] if name != "--processor"]
    if "--processor" in sys.argv:
        turns.clock = time.process_time
    torch, jax = find_torch(), find_jax()
    if jax:
        import jax.scipy.stats
    for name in names or TASKS:
        with fb.compiler_options(mode="blocking"):
            found = beside_peers(name, torch_like, jax_step, (fb, torch, jax), TURN, TURNS)
        better = min([t for k, t in found.items() if k != "Flambeau"], default=None)
        ratio = "" if better is None else f"{better / found['Flambeau']:9.2f} x the better"
        print(f"{name:28}" + "".join(f"{k:>12}{t / 1e3:9.3f}" for k, t in found.items()) + ratio, flush=True)


if __name__ == "__main__":
    main()
